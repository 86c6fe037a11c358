"""The pieces of pictures: small files, groups of dots, colours and names of the palette."""

import io

import numpy as np
import pandas as pd
import pytest
from helpers.pictures import asymmetric_volume
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from t4e_utils.figures import scans, style
from t4e_utils.figures.palette import FigureError, Palette


def test_jupyter_gets_a_small_png_with_the_colours_of_the_picture():
    volume = asymmetric_volume()
    labels = np.where(volume.array > 400, 4, np.where(volume.array > 50, 2, 0))
    figure = scans.patient_overview(
        {"FLAIR": volume}, labels=labels, regions={"WT": (2, 4), "ET": (4,)}, percentiles=(0, 100)
    )
    full = io.BytesIO()
    figure.savefig(full, dpi=100)
    shown = figure._repr_png_()
    assert len(shown) < 0.7 * len(full.getvalue())
    before = np.asarray(Image.open(full).convert("RGB"), dtype=int)
    after = np.asarray(Image.open(io.BytesIO(shown)).convert("RGB"), dtype=int)
    assert before.shape == after.shape
    difference = np.abs(before - after).max(axis=-1)
    assert difference.mean() < 1
    assert difference[np.ptp(before, axis=-1) > 40].mean() < 3  # what is coloured


def test_a_name_is_drawn_as_it_is_whatever_matplotlib_could_read_in_it():
    name = r"$\frac{$ a_1$ \$ {x} %"  # as mathematics it is an error

    @style.styled
    def draw():
        figure = style.new_figure(title=style.title_of({"patient_id": name}))
        axes = figure.add_subplot()
        axes.set(title=name, xlabel=name)
        axes.barh([name, "b"], [1, 2], label=name)
        axes.legend()
        axes.text(0, 0, name)
        return figure

    figure = draw()
    assert figure._repr_png_()
    found = [text for text in figure.findobj(Text) if name in text.get_text()]
    assert len(found) >= 6
    assert not any(text.get_parse_math() for text in found)


def test_a_picture_of_two_colours_keeps_them():
    chosen = style._few_colours(np.array([[0, 0, 0], [230, 159, 0]], np.uint8), np.array([9, 1]))
    assert [230, 159, 0] in chosen.tolist()
    assert len(chosen) <= 256


def test_dots_draw_finite_values_median_and_middle_half():
    axes = Figure().add_subplot()
    style.dots(axes, [1.0, 2.0, 3.0, np.nan, 10.0], 5, colour="red")
    drawn = axes.collections[0].get_offsets()
    assert sorted(drawn[:, 1]) == [1, 2, 3, 10]
    assert (np.abs(drawn[:, 0] - 5) <= 0.16).all()
    assert axes.lines[0].get_ydata().tolist() == [1.75, 4.75]
    assert axes.lines[1].get_ydata().tolist() == [2.5, 2.5]


def test_a_group_without_values_draws_nothing():
    axes = Figure().add_subplot()
    style.dots(axes, [np.nan], 0, colour="red")
    assert not axes.collections
    assert not axes.lines


def test_known_names_keep_their_colours_and_others_differ(palette):
    colours = style.colours_of(["kidney", "ET", "cyst"])
    assert colours["ET"] == palette.colours["ET"]
    assert len(set(colours.values())) == 3


def test_rows_are_called_by_what_they_share():
    rows = pd.DataFrame({"patient_id": "00006", "series": ["FLAIR", "T2w"], "plane": "axial"})
    assert style.title_of(rows) == "Patient 00006 · axial"
    assert style.title_of(rows[:1].assign(slice=7)) == "Patient 00006 · FLAIR · axial · slice 7"
    assert style.title_of(rows.iloc[0]) == "Patient 00006 · FLAIR · axial"
    assert style.title_of(rows[["patient_id"]][:0]) == ""


def test_masks_without_a_name_are_numbered():
    assert style.region_names(1) == ("WT",)
    assert style.region_names(3) == ("WT", "ET", "region 3")


def test_the_regions_of_a_table_are_those_of_the_palette():
    table = pd.DataFrame(columns=["brain_area", "wt_area", "et_area", "other_area"])
    assert style.regions_in(table, "_area") == ["WT", "ET"]
    with pytest.raises(FigureError, match="no column 'et_area'"):
        style.regions_in(table[["wt_area"]], "_area")
    style.set_palette(Palette(foreground="brain"))
    assert style.regions_in(table, "_area") == ["wt", "et", "other"]
