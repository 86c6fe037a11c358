"""What a drawn picture says."""


def legend_of(holder):
    """Return the entries of the legend of axes or of a figure."""
    return [
        text.get_text()
        for text in (
            holder.get_legend() if hasattr(holder, "get_legend") else holder.legends[0]
        ).get_texts()
    ]


def line(axes, label):
    """Return the line with this label."""
    return next(each for each in axes.lines if each.get_label() == label)
