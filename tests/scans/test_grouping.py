"""Which images of a folder belong together; copies, and values that say nothing."""

from __future__ import annotations

import shutil
from math import cos, sin
from pathlib import Path

import numpy as np
import pytest
from helpers.dicom_series import (
    SPACING,
    array_of,
    codes,
    edit,
    enhanced_mr,
    position,
    read_alike,
    setting,
    without,
    written,
    written_with,
)

from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.reading import series_header


def shuffled(folder: Path, seed: int) -> None:
    """Rename files, so that they are read in another order."""
    files = sorted(folder.iterdir())
    for path, i in zip(files, np.random.default_rng(seed).permutation(len(files)), strict=True):
        path.rename(folder / f"{'abcdefghijklmnop'[i]}.dcm")


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("mixed_orientations", setting(ImageOrientationPatient=[1, 0, 0, 0, 0, -1])),
        ("mixed_spacing", setting(PixelSpacing=[0.6, 0.6])),
        ("mixed_series", setting(SeriesInstanceUID="1.2.3")),
    ],
)
def test_the_largest_group_of_like_images_is_kept(tmp_path, code, change):
    array = array_of((7, 4, 6))
    folder = written(tmp_path / "s", array)
    edit(folder, change, only=(0, 2, 3))
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array[[1, 4, 5, 6]])
    assert code in codes(volume)
    assert "3 of 7 images have another" in " ".join(
        problem.sentence for problem in volume.meta["problems"]
    )


def test_images_of_another_size_are_left_out(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    written(folder, array_of((2, 9, 9)), name_pattern="other-{}.dcm")
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert codes(volume) == ["mixed_sizes"]


def test_the_largest_group_is_the_largest_in_all_respects_together(tmp_path):
    array = array_of((5, 9, 9))
    folder = written(tmp_path / "s", array)
    other = written(tmp_path / "o", array_of((8, 4, 6)))
    edit(other, setting(ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), only=(0, 1, 2, 3))
    for path in other.iterdir():
        path.rename(folder / f"o{path.name}")
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert codes(volume) == ["mixed_sizes"]


def test_a_series_identifier_of_its_own_in_each_file_says_nothing(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(folder, lambda dataset, i: setattr(dataset, "SeriesInstanceUID", f"1.2.{i}"))
    np.testing.assert_array_equal(read_dicom_series(folder).array, array)


def test_copies_are_left_out(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    for path in list(folder.iterdir()):
        shutil.copy(path, folder / f"{path.stem} (1).dcm")
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine @ (4, 0, 0, 1), (40, -30, 20 + 4 * 3, 1))
    assert codes(volume) == ["copies"]
    assert "5 of 10 images are copies" in volume.meta["problems"][0].sentence


def test_a_slice_that_is_there_twice_is_read_once(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    (folder / "copy.dcm").write_bytes((folder / "Image-2.dcm").read_bytes())
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert codes(volume) == ["copies"]


def test_copies_with_identifiers_of_their_own_are_left_out_too(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", np.concatenate([array, array]))
    same = lambda dataset, i: setting(  # noqa: E731
        InstanceNumber=i % 5 + 1, ImagePositionPatient=position(i % 5)
    )(dataset, i)
    edit(folder, same)
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert codes(volume) == ["several_volumes"]


def test_a_position_that_was_written_with_fewer_digits_is_the_same_place(tmp_path):
    places = [[-40.0, 30.0, 12.3456 + 2.7 * k] for k in range(4)]
    rounded = [[round(mm, 1) for mm in place] for place in places]
    array = array_of((8, 4, 6))
    images = [
        (pixels, {"ImagePositionPatient": place})
        for pixels, place in zip(array, places + rounded, strict=True)
    ]
    volume = read_alike(written_with(tmp_path / "s", images))
    np.testing.assert_array_equal(volume.array, array[:4])
    assert volume.spacing_mm[0] == pytest.approx(2.7)
    assert codes(volume) == ["several_volumes"]


def test_thin_slices_far_from_the_others_are_slices_of_their_own(tmp_path):
    z = [0, 0.15, 0.3, 0.45, 90, 180]
    array = array_of((6, 4, 6))
    images = [
        (pixels, {"ImagePositionPatient": [0, 0, mm]}) for pixels, mm in zip(array, z, strict=True)
    ]
    volume = read_alike(written_with(tmp_path / "s", images))
    np.testing.assert_array_equal(volume.array, array)
    assert volume.spacing_mm[0] == pytest.approx(0.15)
    assert codes(volume) == ["gap"]


def test_a_copied_file_of_many_frames_is_left_out(tmp_path):
    array = array_of()
    for name in ("a", "b"):
        enhanced_mr(array, [0, 1, 2, 3, 4]).save_as(tmp_path / name, enforce_file_format=True)
    volume = read_alike(tmp_path)
    np.testing.assert_array_equal(volume.array, array)
    assert codes(volume) == ["copies"]


def test_one_identifier_for_all_images_makes_no_copies(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(folder, setting(SOPInstanceUID="1.2.3"))
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert codes(volume) == []


def test_identifiers_that_tell_different_echoes_apart_are_no_copies(tmp_path):
    images = [
        (
            pixels,
            {"SOPInstanceUID": "1.2.3", "EchoTime": 10 + i % 2, "InstanceNumber": None}
            | {"ImagePositionPatient": position(i // 2)},
        )
        for i, pixels in enumerate(array_of((6, 4, 6)))
    ]
    volume = read_alike(written_with(tmp_path / "s", images))
    np.testing.assert_array_equal(volume.array, [pixels for pixels, _ in images[::2]])
    assert codes(volume) == ["several_volumes"]


@pytest.mark.parametrize(
    "uids",
    [
        ["1.1", "1.1", "1.2", "1.3", "1.4"],
        ["1.1", None, "1.2", "1.3", "1.4"],
        ["1.1", "1.1", None, "1.1", "1.1"],
    ],
)
def test_series_identifiers_that_most_images_have_for_themselves_say_nothing(tmp_path, uids):
    array = array_of()
    images = [
        (pixels, {"ImagePositionPatient": position(k), "SeriesInstanceUID": uid})
        for k, (pixels, uid) in enumerate(zip(array, uids, strict=True))
    ]
    volume = read_alike(written_with(tmp_path / "s", images))
    np.testing.assert_array_equal(volume.array, array)
    assert codes(volume) == []


def test_copies_do_not_make_identifiers_of_their_own_a_series(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(folder, lambda dataset, i: setattr(dataset, "SeriesInstanceUID", f"1.2.{i}"))
    for path in list(folder.iterdir()):
        shutil.copy(path, folder / f"{path.stem} (1).dcm")
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert codes(volume) == ["copies"]


@pytest.mark.parametrize(
    ("stated", "taken"),
    [
        ((0.9375, 0.9375, 0.937499, 0.937499, 0.9375), 0.9375),
        ((0.94, 0.9375, 0.9375, 0.9375, 0.9375), 0.9375),
        ((0.488281, 0.49, 0.49, 0.488281, 0.49), 0.49),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_spacing_that_differs_by_rounding_leaves_no_slice_out(tmp_path, stated, taken, seed):
    array = array_of()
    images = [
        (pixels, {"ImagePositionPatient": position(k), "PixelSpacing": [stated[k], stated[k]]})
        for k, pixels in enumerate(array)
    ]
    folder = written_with(tmp_path / "s", images)
    shuffled(folder, seed)
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.spacing_mm == pytest.approx((SPACING[0], taken, taken))
    assert codes(volume) == ["mixed_spacing"]
    assert "state a slightly other pixel spacing" in volume.meta["problems"][0].sentence


@pytest.mark.parametrize("seed", range(4))
def test_which_orientation_most_images_have_does_not_depend_on_their_order(tmp_path, seed):
    """Of images turned further and further, each is near its neighbours and far from the ends."""
    angles = [0.004 * k for k in range(9)]
    images = [
        (
            pixels,
            {
                "ImagePositionPatient": position(k),
                "ImageOrientationPatient": [cos(a), sin(a), 0, -sin(a), cos(a), 0],
            },
        )
        for k, (pixels, a) in enumerate(zip(array_of((9, 4, 6)), angles, strict=True))
    ]
    folder = written_with(tmp_path / "s", images)
    shuffled(folder, seed)
    volume = read_alike(folder)
    # the first with two others within 0.01 on either side
    np.testing.assert_array_equal(volume.array, [pixels for pixels, _ in images[:5]])
    assert codes(volume) == ["mixed_orientations"]


@pytest.mark.parametrize("i", [0, 2, 4])
@pytest.mark.parametrize("keyword", ["PixelSpacing", "ImageOrientationPatient"])
def test_what_one_slice_does_not_state_is_taken_from_the_others(tmp_path, keyword, i):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(folder, without(keyword), only=(i,))
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.spacing_mm, SPACING)
    np.testing.assert_allclose(volume.affine[:3, 3], (40, -30, 20))
    assert codes(volume) == ["missing_values"]
    assert "of 1 of 5 images is not stated" in volume.meta["problems"][0].sentence
    header = series_header(folder)
    assert (header["plane"], header["spacing_row_mm"]) == ("axial", 0.5)


@pytest.mark.parametrize("lost", [(0,), (3,), (5,), (1, 2), (0, 1, 2, 4)])
def test_a_position_of_zeros_that_is_off_the_line_of_the_others_is_none(tmp_path, lost):
    array = array_of((6, 4, 6))
    images = [
        (pixels, {"ImagePositionPatient": [0, 0, 0] if k in lost else position(k)})
        for k, pixels in enumerate(array)
    ]
    volume = read_alike(written_with(tmp_path / "s", images))
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine[:3, 3], (40, -30, 20))
    assert codes(volume) == ["bad_value", "missing_values"]
    assert f"of {len(lost)} of 6 slices is 0, 0, 0" in volume.meta["problems"][0].sentence


def test_a_position_of_zeros_on_the_line_of_the_others_is_one(tmp_path):
    array = array_of((6, 4, 6))
    places = [[0.05 * (k % 2), (k - 2) / 3, 3 * (k - 2)] for k in range(6)]
    places[2] = [0, 0, 0]
    images = [
        (pixels, {"ImagePositionPatient": place})
        for pixels, place in zip(array, places, strict=True)
    ]
    volume = read_alike(written_with(tmp_path / "s", images))
    np.testing.assert_array_equal(volume.array, array)
    assert "bad_value" not in codes(volume)
