"""In what order the images of a volume are, and where it lies."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.dicom_series import (
    SPACING,
    array_of,
    codes,
    edit,
    position,
    read_alike,
    setting,
    without,
    written,
    written_with,
)

from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.geometry import spacing_of
from t4e_utils.scans.reading import series_header


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


def placed(folder, places, **attributes):
    """Write slices whose positions are `places`, in LPS mm; return the slices and the folder."""
    array = array_of((len(places), 4, 6))
    images = [
        (pixels, {**attributes, "ImagePositionPatient": place})
        for pixels, place in zip(array, places, strict=True)
    ]
    return array, written_with(folder, images)


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("lost", [(0,), (2,), (5,), (1, 2), (0, 1, 2, 4)])
def test_a_position_that_is_missing_is_taken_from_the_neighbours(tmp_path, lost, direction):
    places = [None if k in lost else position(direction * k) for k in range(6)]
    array, folder = placed(tmp_path / "s", places)
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, array[::direction])
    np.testing.assert_allclose(volume.spacing_mm, SPACING)
    # the first slice in display order lies lowest
    np.testing.assert_allclose(volume.affine[:3, 3], (40, -30, 20 + min(0, direction) * 15))
    assert (volume.meta["sorted_by"], codes(volume)) == ("position", ["missing_values"])
    assert f"position of {len(lost)} of 6 slices" in volume.meta["problems"][0].sentence


def test_a_position_is_missing_between_unevenly_placed_slices(tmp_path):
    """Slices 2 and 3 of a tilted stack: between its neighbours, and on the way between them."""
    z = [0, 3, None, 11, 14]
    places = [None if mm is None else [0, mm / 3, mm] for mm in z]
    array, folder = placed(tmp_path / "s", places)
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert codes(volume) == ["gantry_tilt", "missing_values", "uneven_spacing"]


NUMBERS = (3, 1, 5, 6, 2, 4)  # that do not follow the positions


@pytest.mark.parametrize(
    ("lost", "names", "order", "code"),
    [
        (2, "123456", [0, 1, 2, 3, 4, 5], "missing_values"),  # the names follow them
        (2, "fdbeac", [0, 1, 2, 3, 4, 5], "missing_values"),  # there is one gap
        (5, "fdbeac", [0, 1, 2, 3, 4, 5], "no_positions"),
        (0, "fdbeac", [1, 2, 3, 4, 5, 0], "no_positions"),
    ],
)
def test_without_numbers_that_fit_a_slice_goes_into_the_gap_or_to_the_end(
    tmp_path, lost, names, order, code
):
    array, folder = placed(tmp_path / "s", [None if k == lost else position(k) for k in range(6)])
    edit(folder, lambda dataset, i: setattr(dataset, "InstanceNumber", NUMBERS[i]))
    for i, name in enumerate(names):
        (folder / f"Image-{i + 1}.dcm").rename(folder / name)
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, array[order])
    assert (volume.meta["sorted_by"], codes(volume)) == ("position", [code])


def test_one_position_is_not_enough_for_the_others(tmp_path):
    array, folder = placed(tmp_path / "s", [None, None, position(2), None])
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert (volume.meta["sorted_by"], codes(volume)) == ("instance number", ["no_positions"])


def test_a_number_that_two_slices_share_does_not_make_the_others_useless(tmp_path):
    array, folder = placed(tmp_path / "s", [None] * 5)
    edit(folder, lambda dataset, i: setattr(dataset, "InstanceNumber", (1, 2, 3, 3, 5)[i]))
    for i, name in enumerate(("905", "304", "203", "502", "101")):
        (folder / f"Image-{i + 1}.dcm").rename(folder / name)
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array[[0, 1, 4]], array[[0, 1, 4]])
    assert volume.meta["sorted_by"] == "instance number"


@pytest.mark.parametrize("keyword", ["SliceThickness", "SpacingBetweenSlices"])
@pytest.mark.parametrize("mm", ["0.003", "5e9", "-5e9", "3000"])
def test_a_distance_of_slices_that_none_have_is_left_out(tmp_path, keyword, mm):
    array, folder = placed(tmp_path / "s", [None] * 4, SpacingBetweenSlices=4, SliceThickness=4)
    edit(folder, setting(**{keyword: mm}))
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, array)
    # the other one is taken
    assert volume.spacing_mm[0] == 4.0
    is_first = keyword == "SpacingBetweenSlices"
    assert codes(volume) == [*(["bad_value"] if is_first else []), "no_positions"]


@pytest.mark.parametrize(
    "spacing", [[0.0005, 0.00075], ["5e9", "5e9"], [-0.5, 0.75], [0, 0], [937.5, 937.5]]
)
def test_a_pixel_spacing_that_no_scan_has_is_left_out(tmp_path, spacing):
    array, folder = placed(tmp_path / "s", [position(k) for k in range(4)], PixelSpacing=spacing)
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.spacing_mm, (3, 1, 1))
    assert codes(volume) == ["bad_value", "no_spacing"]
    assert "is not a distance of 0.01 to 50 mm" in volume.meta["problems"][0].sentence
    header = series_header(folder)
    assert (header["plane"], header["spacing_row_mm"]) == ("axial", None)


def test_one_slice_with_another_unit_takes_the_spacing_of_the_others(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(folder, setting(PixelSpacing=[0.0005, 0.00075]), only=(1,))
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.spacing_mm, SPACING)
    assert codes(volume) == ["bad_value", "missing_values"]


@pytest.mark.parametrize("step", [0.003, 0.004, -0.004, 900])
def test_slices_that_are_at_no_distance_of_slices_keep_their_order(tmp_path, step):
    array, folder = placed(tmp_path / "s", [[0, 0, step * k] for k in range(6)])
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, array[:: int(np.sign(step))])
    np.testing.assert_allclose(volume.spacing_mm, SPACING)  # as stated
    assert (volume.meta["sorted_by"], codes(volume)) == ("position", ["no_spacing"])
    assert "by their positions, which is no distance" in volume.meta["problems"][0].sentence
    assert series_header(folder)["spacing_slice_mm"] is None


def test_echoes_in_metres_are_told_apart(tmp_path):
    places = [[0, 0, 0.003 * (i // 2)] for i in range(6)]
    array, folder = placed(tmp_path / "s", places)
    edit(folder, lambda dataset, i: setattr(dataset, "EchoTime", 20 + i % 2))
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, array[::2])
    assert codes(volume) == ["no_spacing", "several_volumes"]


@pytest.mark.parametrize("x", ["2e9", "-2e9", "nan", "inf"])
def test_positions_outside_of_every_scanner_say_nothing(tmp_path, x):
    array, folder = placed(tmp_path / "s", [position(k) for k in range(4)])
    for path in folder.iterdir():  # pydicom writes no NaN
        data = path.read_bytes()
        at = data.index(b"-40.0")
        length = int.from_bytes(data[at - 2 : at], "little")
        value = f"{x}\\0\\1".ljust(length).encode()
        path.write_bytes(data[:at] + value + data[at + length :])
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.spacing_mm, SPACING)
    assert (volume.meta["sorted_by"], codes(volume)) == (
        "instance number",
        ["bad_value", "no_positions"],
    )


def test_one_position_outside_of_every_scanner_is_taken_from_the_neighbours(tmp_path):
    places = [position(k) for k in range(4)]
    places[1] = ["2000000000", "0", "0"]
    array, folder = placed(tmp_path / "s", places)
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.spacing_mm, SPACING)
    assert codes(volume) == ["bad_value", "missing_values"]


@pytest.mark.parametrize("across", [0, 0.1, 0.7])
def test_positions_that_move_along_the_plane_do_not_give_the_order(tmp_path, across):
    array, folder = placed(tmp_path / "s", [[3 * k, 0, -across * k] for k in range(6)])
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.spacing_mm, SPACING)
    assert (volume.meta["sorted_by"], codes(volume)) == ("instance number", ["same_position"])
    assert "move along the plane of the images" in volume.meta["problems"][0].sentence
