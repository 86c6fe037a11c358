"""Which images of a folder make a volume, in what order, and where it lies."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.dicom_series import SPACING, array_of, codes, edit, setting, without, written

from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.geometry import spacing_of


def test_slices_are_sorted_by_position_whatever_their_names_and_numbers(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(folder, lambda dataset, i: setattr(dataset, "InstanceNumber", (3 * i) % 5))
    for i, name in enumerate("cebad"):
        (folder / f"Image-{i + 1}.dcm").rename(folder / name)
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.meta["sorted_by"] == "position"
    assert codes(volume) == []


@pytest.mark.parametrize(
    ("missing", "sorted_by", "order"),
    [
        (("ImagePositionPatient",), "instance number", [4, 3, 2, 1, 0]),
        (("ImagePositionPatient", "InstanceNumber"), "file number", [0, 1, 2, 3, 4]),
    ],
)
def test_without_positions_numbers_give_the_order(tmp_path, missing, sorted_by, order):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(folder, lambda dataset, i: setattr(dataset, "InstanceNumber", 100 - i))
    edit(folder, without(*missing))
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array[order])
    assert volume.meta["sorted_by"] == sorted_by
    assert codes(volume) == ["no_positions"]
    np.testing.assert_allclose(volume.spacing_mm, SPACING)


def test_without_any_number_names_give_the_order(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(folder, without("ImagePositionPatient", "InstanceNumber"))
    for i, name in enumerate(["a", "b", "c", "d", "e"]):
        (folder / f"Image-{i + 1}.dcm").rename(folder / name)
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.meta["sorted_by"] == "file name"


def test_file_numbers_are_compared_as_numbers(tmp_path):
    array = array_of((12, 3, 4))
    folder = written(tmp_path / "s", array)
    edit(folder, without("ImagePositionPatient", "InstanceNumber"))
    np.testing.assert_array_equal(read_dicom_series(folder).array, array)


def test_positions_that_are_all_the_same_do_not_give_the_order(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(folder, setting(ImagePositionPatient=[0, 0, 0]))
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.meta["sorted_by"] == "instance number"
    assert codes(volume) == ["same_position"]
    assert volume.spacing_mm[0] == SPACING[0]


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_plane_spacing_and_place_are_read_from_the_header(tmp_path, plane):
    volume = read_dicom_series(written(tmp_path / "s", array_of(), plane=plane))
    assert volume.plane == volume.meta["plane"] == plane
    np.testing.assert_allclose(volume.spacing_mm, SPACING)
    np.testing.assert_allclose(volume.affine[:3, 3], (40.0, -30.0, 20.0))
    np.testing.assert_allclose(spacing_of(volume.affine), volume.spacing_mm)


def test_an_axial_header_written_by_hand_has_its_affine(tmp_path):
    folder = written(tmp_path / "s", array_of((2, 4, 6)))
    edit(folder, setting(ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PixelSpacing=[0.5, 0.75]))
    edit(
        folder,
        lambda dataset, i: setattr(dataset, "ImagePositionPatient", [-100, -120, 10 + 3 * i]),
    )
    expected = [[0, 0, -0.75, 100], [0, -0.5, 0, 120], [3, 0, 0, 10], [0, 0, 0, 1]]
    np.testing.assert_allclose(read_dicom_series(folder).affine, expected)


def test_an_image_turned_by_180_degrees_is_turned_back(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(folder, setting(ImageOrientationPatient=[-1, 0, 0, 0, -1, 0]))
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array[:, ::-1, ::-1])


def test_spacing_is_the_distance_of_positions_not_the_thickness(tmp_path):
    folder = written(tmp_path / "s", array_of())
    edit(folder, setting(SliceThickness=1.0, SpacingBetweenSlices=9.0))
    assert read_dicom_series(folder).spacing_mm[0] == pytest.approx(3.0)


def test_a_missing_slice_is_reported(tmp_path):
    folder = written(tmp_path / "s", array_of((8, 4, 6)))
    (folder / "Image-4.dcm").unlink()
    (folder / "Image-5.dcm").unlink()
    volume = read_dicom_series(folder)
    assert codes(volume) == ["gap"]
    assert "about 2: the distance is 3 mm, but 9 mm at most" in volume.meta["problems"][0].sentence
    assert volume.spacing_mm[0] == pytest.approx(3.0)


def test_a_slice_that_is_there_twice_is_kept_and_reported(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    (folder / "copy.dcm").write_bytes((folder / "Image-2.dcm").read_bytes())
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array[[0, 1, 1, 2, 3, 4]])
    assert codes(volume) == ["same_position"]
    assert volume.spacing_mm[0] == pytest.approx(3.0)


def test_uneven_distances_are_reported(tmp_path):
    folder = written(tmp_path / "s", array_of((4, 4, 6)))
    edit(
        folder,
        lambda dataset, i: setattr(dataset, "ImagePositionPatient", [0, 0, [0, 3, 6, 10][i]]),
    )
    volume = read_dicom_series(folder)
    assert codes(volume) == ["uneven_spacing"]
    assert volume.spacing_mm[0] == pytest.approx(3.0)


def test_a_tilted_gantry_is_reported_and_stays_in_the_affine(tmp_path):
    folder = written(tmp_path / "s", array_of())
    edit(folder, lambda dataset, i: setattr(dataset, "ImagePositionPatient", [0, i, 4 * i]))
    volume = read_dicom_series(folder)
    assert codes(volume) == ["gantry_tilt"]
    assert "14.0 degrees" in volume.meta["problems"][0].sentence
    np.testing.assert_allclose(volume.affine[:3, 0], [0, -1, 4], atol=1e-9)
    assert volume.plane == "axial"


def test_without_orientation_a_series_is_taken_for_axial_and_this_is_reported(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array, plane="sagittal")
    edit(
        folder,
        without(
            "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices"
        ),
    )
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert (volume.plane, volume.spacing_mm) == ("axial", (1.0, 1.0, 1.0))
    assert codes(volume) == ["no_orientation", "no_positions", "no_spacing", "no_spacing"]


@pytest.mark.parametrize(
    "cosines", [[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0], [1, 0, 0, 0.5, 0.8, 0]]
)
def test_directions_that_span_no_plane_are_left_out(tmp_path, cosines):
    folder = written(tmp_path / "s", array_of())
    edit(folder, setting(ImageOrientationPatient=cosines))
    volume = read_dicom_series(folder)
    assert set(codes(volume)) == {"bad_value", "no_orientation", "no_positions"}


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
