"""Stored slices are read from tables and made of what a data set gives."""

import cv2
import numpy as np
import pandas as pd

from t4e_utils.figures import stored, style
from t4e_utils.figures.palette import Palette
from t4e_utils.sampling.pictures import Picture


def test_rows_of_a_table_become_pictures_with_spacing_plane_and_slice(tmp_path):
    channels = np.zeros((4, 5, 3), np.uint8)
    channels[..., 0], channels[1, 2, 1], channels[1, 3, 2] = 9, 255, 255
    cv2.imwrite(str(tmp_path / "a.png"), channels[..., ::-1])
    rows = pd.DataFrame({"path": ["a.png"], "row_mm": 2.0, "column_mm": 1.0, "slice": 7})
    (picture,) = stored.pictures_of(rows.assign(plane="axial"), tmp_path)
    assert np.array_equal(picture.channels, channels)
    assert (picture.names, picture.title) == (("image", "WT", "ET"), "slice 7")
    assert (picture.spacing_mm, picture.plane) == ((2.0, 1.0), "axial")


def test_what_a_data_set_gives_becomes_pictures():
    own = Picture(np.ones((4, 6, 1), np.uint8), ("image",))
    masks = np.zeros((3, 4, 6), bool)
    masks[2, 1, 1] = True
    channels = np.arange(3 * 4 * 6, dtype=np.uint8).reshape(3, 4, 6)
    items = [own, {"inputs": channels[:1], "targets": masks.astype(np.uint8)}]
    items += [{"inputs": channels[:1], "targets": np.ones(2)}, channels]
    items += [{"inputs": channels, "targets": np.float32(1)}, np.moveaxis(channels, 0, -1)]
    found = stored.as_pictures(items)
    assert found[0] is own
    assert found[1].names == ("image", "WT", "ET", "region 3")
    assert np.array_equal(found[1].masks, masks)
    assert found[2].names == ("image",)
    assert all(np.array_equal(each.image, channels[0]) for each in found[1:])
    assert all(each.names == ("image", "WT", "ET") for each in found[3:])


def test_a_figure_of_16_bit_slices_does_not_claim_8_bits():
    slices = [Picture(np.ones((4, 6, 1), dtype), ("image",)) for dtype in (np.uint8, np.uint16)]
    assert stored.stated("one", slices[:1]) == "one · grey values 0 to 255"
    assert stored.stated("", slices) == "each from its darkest to its brightest value"


def test_examples_are_taken_in_equal_steps():
    assert stored.in_steps(range(10), 4).tolist() == [0, 3, 6, 9]
    assert stored.in_steps([5, 8], 4).tolist() == [5, 8]
    assert stored.in_steps([], 4).tolist() == []


def test_the_extent_holds_the_largest_slice_each_way():
    shapes = {(4, 6, 1): (2.0, 1.0), (3, 20, 1): (1.0, 0.5)}
    slices = [Picture(np.ones(s, np.uint8), ("image",), mm) for s, mm in shapes.items()]
    assert stored.extent_mm(slices) == (8.0, 10.0)


def test_names_of_stored_slices_are_those_of_the_palette(tmp_path):
    style.set_palette(Palette(regions=("vessel",)))
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 5, 3), np.uint8))
    rows = pd.DataFrame({"path": ["a.png"], "row_mm": 1, "column_mm": 1, "plane": "axial"})
    assert stored.pictures_of(rows.assign(slice=1), tmp_path)[0].names == ("image", "vessel")
