"""What a drawn picture says, and a volume to draw."""

import numpy as np

from t4e_utils.scans import geometry
from t4e_utils.scans.volume import Volume


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


def asymmetric_volume(plane="axial", spacing=(4.0, 1.5, 1.0)):
    """A block of tissue with one bright voxel near the patient's left, front and top."""
    volume = np.zeros((12, 16, 20))
    volume[2:10, 3:14, 4:17] = 100
    # axial display: slices upwards, rows backwards, columns to the patient's left
    volume[8, 4, 15] = 500
    array, affine = geometry.reorient(volume, geometry.display_affine("axial", spacing), plane)
    return Volume(array, geometry.spacing_of(affine), affine)
