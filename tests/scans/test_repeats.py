"""Several volumes at the same places: one is kept whole, none is made of two."""

from __future__ import annotations

import tracemalloc
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom_series import (
    SPACING,
    array_of,
    codes,
    enhanced_mr,
    position,
    read_alike,
    written,
    written_with,
)
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless

from t4e_utils.scans import dicom_series
from t4e_utils.scans.volume import Volume

REAL = Path(__file__).parents[3] / "shared" / "data"
N = 5  # slices of each volume
SCANS = array_of((2, N, 4, 6))
BY_SLICE = list(product(range(N), range(2)))  # slice and volume, as scanners number echoes
BY_VOLUME = [(k, v) for v, k in product(range(2), range(N))]


def two_volumes(
    folder: Path, tell: Callable[[int, int], dict], order=BY_SLICE, *, missing=()
) -> Path:
    """Write the slices k of two volumes v at the same places, with the attributes of `tell(v, i)`.

    Images are numbered in order, and missing ones leave a gap in the numbers.
    """
    images = [
        (SCANS[v, k], {"ImagePositionPatient": position(k), "InstanceNumber": i + 1, **tell(v, i)})
        for i, (k, v) in enumerate(order)
        if (k, v) not in missing
    ]
    return written_with(folder, images)


def sentences(volume: Volume) -> str:
    return " ".join(problem.sentence for problem in volume.meta["problems"])


TELL = {  # what differs, and which volume is the one to keep
    "echo time": (lambda v, i: {"EchoTime": [90, 20][v]}, 1),
    "echo number": (lambda v, i: {"EchoNumbers": v + 1}, 0),
    "image type": (lambda v, i: {"ImageType": ["ORIGINAL", "PRIMARY", "PM"[v], "ND"]}, 1),
    "complex component": (lambda v, i: {"ComplexImageComponent": ["REAL", "MAGNITUDE"][v]}, 1),
    "b-value": (lambda v, i: {"DiffusionBValue": [1000.0, 0.0][v]}, 1),
    "inversion time": (lambda v, i: {"InversionTime": [500, 800][v]}, 0),
    "temporal position": (lambda v, i: {"TemporalPositionIdentifier": 2 - v}, 1),
    "trigger time": (lambda v, i: {"TriggerTime": [0, 31.5][v]}, 0),
    "acquisition number": (lambda v, i: {"AcquisitionNumber": 2 - v}, 1),
    "kernel": (lambda v, i: {"ConvolutionKernel": ["B70s", "B30s"][v]}, 0),
    "repetition time": (lambda v, i: {"RepetitionTime": [2000, 500][v]}, 0),
    "tube voltage": (lambda v, i: {"KVP": [140, 80][v]}, 0),
    "sequence name": (lambda v, i: {"SequenceName": ["*ep_b0", "*ep_b1000#1"][v]}, 0),
    "series description": (lambda v, i: {"SeriesDescription": ["T2", "T1"][v]}, 0),
    "slice thickness": (lambda v, i: {"SliceThickness": [5, 3][v]}, 0),
    "series number": (lambda v, i: {"SeriesNumber": 9 - v, "SeriesInstanceUID": f"1.2.{i}"}, 1),
    "slope": (lambda v, i: {"RescaleSlope": [2, 1][v], "RescaleIntercept": 0}, 0),
    "acquisition time": (
        lambda v, i: {"AcquisitionTime": ["101500.5", "091500"][v], "InstanceNumber": None},
        1,
    ),
    "content time": (lambda v, i: {"ContentTime": f"10{i:02d}00.5", "InstanceNumber": None}, 0),
    "instance number": (lambda v, i: {}, 0),
    "file number": (lambda v, i: {"InstanceNumber": 1}, 0),
}


@pytest.mark.parametrize("name", TELL)
@pytest.mark.parametrize("order", [BY_SLICE, BY_VOLUME], ids=["by slice", "by volume"])
def test_of_two_volumes_one_is_kept_whatever_tells_them_apart(tmp_path, name, order):
    tell, kept = TELL[name]
    volume = read_alike(two_volumes(tmp_path / "s", tell, order))
    np.testing.assert_array_equal(volume.array, SCANS[kept] * (2 if name == "slope" else 1))
    np.testing.assert_allclose(volume.spacing_mm, SPACING)
    assert codes(volume) == ["several_volumes"]
    assert f"2 volumes, which differ in {name}: 5 of 10 images were kept" in sentences(volume)


def test_what_tells_volumes_apart_goes_before_the_order_of_their_numbers(tmp_path):
    numbers = [3, 9, 1, 12, 5, 7, 2, 11, 4, 10]  # of no order
    folder = two_volumes(
        tmp_path / "s", lambda v, i: {"KVP": [140, 80][v], "InstanceNumber": numbers[i]}
    )
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, SCANS[0])
    assert "(tube voltage 140)" in sentences(volume)


def test_a_description_longer_than_allowed_is_compared_without_a_warning(tmp_path):
    with warnings.catch_warnings(action="ignore"):  # of pydicom, which writes it all the same
        folder = two_volumes(
            tmp_path / "s", lambda v, i: {"SeriesDescription": f"{'long ' * 14}{v}"}
        )
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, SCANS[0])
    assert codes(volume) == ["several_volumes"]


def test_what_was_measured_is_kept_rather_than_what_was_derived_from_it(tmp_path):
    kinds = (["DERIVED", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "M"])
    folder = two_volumes(tmp_path / "s", lambda v, i: {"ImageType": kinds[v]})
    np.testing.assert_array_equal(read_alike(folder).array, SCANS[1])


@pytest.mark.parametrize("hole", range(N))
@pytest.mark.parametrize(
    ("tell", "order"),
    [
        (lambda v, i: {"EchoTime": [20, 90][v]}, BY_SLICE),
        (lambda v, i: {}, BY_SLICE),
        (lambda v, i: {}, BY_VOLUME),
    ],
    ids=["echoes", "numbers by slice", "numbers by volume"],
)
def test_a_volume_with_a_missing_slice_gives_way_to_a_whole_one(tmp_path, tell, order, hole):
    volume = read_alike(two_volumes(tmp_path / "s", tell, order, missing=[(hole, 0)]))
    np.testing.assert_array_equal(volume.array, SCANS[1])
    assert codes(volume) == ["several_volumes"]


def test_missing_slices_are_not_taken_from_the_other_volume(tmp_path):
    folder = two_volumes(
        tmp_path / "s", lambda v, i: {"EchoTime": [20, 90][v]}, missing=[(1, 0), (3, 1)]
    )
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, SCANS[0][[0, 2, 3, 4]])
    assert codes(volume) == ["gap", "several_volumes"]


def test_volumes_that_differ_in_two_respects_are_all_told_apart(tmp_path):
    scans = array_of((2, 3, N, 4, 6))  # phase and magnitude, three echoes
    images = [
        (
            scans[kind, echo, k],
            {
                "ImagePositionPatient": position(k),
                "ImageType": ["ORIGINAL", "PRIMARY", "PM"[kind]],
                "EchoTime": 10 * (echo + 1),
            },
        )
        for k, echo, kind in product(range(N), range(3), range(2))
    ]
    volume = read_alike(written_with(tmp_path / "all", images))
    np.testing.assert_array_equal(volume.array, scans[1, 0])
    assert "6 volumes, which differ in echo time, image type: 5 of 30" in sentences(volume)
    del images[7]  # slice 1 of the magnitude of the first echo
    volume = read_alike(written_with(tmp_path / "hole", images))
    np.testing.assert_array_equal(volume.array, scans[1, 1])


def test_a_repetition_of_some_slices_is_left_out(tmp_path):
    folder = two_volumes(
        tmp_path / "s", lambda v, i: {}, BY_VOLUME, missing=[(0, 1), (3, 1), (4, 1)]
    )
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, SCANS[0])
    assert codes(volume) == ["several_volumes"]


def test_two_parts_of_one_volume_that_overlap_in_a_slice_are_both_kept(tmp_path):
    images = [
        (pixels, {"ImagePositionPatient": position(k + 4 * v), "AcquisitionNumber": v + 1})
        for v, scan in enumerate(SCANS)
        for k, pixels in enumerate(scan)
    ]
    volume = read_alike(written_with(tmp_path / "s", images))
    np.testing.assert_array_equal(volume.array, [*SCANS[0], *SCANS[1][1:]])
    assert "1 images lie where another one lies" in sentences(volume)


def test_images_that_nothing_tells_apart_are_one_for_each_place(tmp_path):
    folder = two_volumes(tmp_path / "s", lambda v, i: {"InstanceNumber": 1})
    for i, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / ("ab"[i % 2] * (i + 1)))
    volume = read_alike(folder)
    assert len(volume.array) == N
    np.testing.assert_allclose(volume.spacing_mm, SPACING)
    assert "5 images lie where another one lies, and their headers do not" in sentences(volume)


@pytest.mark.parametrize("n", [1, 3])
def test_a_localizer_at_other_places_is_no_part_of_the_volume(tmp_path, n):
    scouts = [
        (SCANS[1, k], {"ImagePositionPatient": position(-20 + 7 * k), "ImageType": kind})
        for k, kind in enumerate([["ORIGINAL", "PRIMARY", "LOCALIZER"]] * n)
    ]
    images = [
        (SCANS[0, k], {"ImagePositionPatient": position(k), "ImageType": ["ORIGINAL", "PRIMARY"]})
        for k in range(N)
    ]
    volume = read_alike(written_with(tmp_path / "s", scouts + images))
    np.testing.assert_array_equal(volume.array, SCANS[0])
    assert codes(volume) == ["several_volumes"]


def test_one_slice_with_another_image_type_in_its_place_is_kept(tmp_path):
    images = [
        (
            SCANS[0, k],
            {"ImagePositionPatient": position(k), "ImageType": ["ORIGINAL", f"{k == 2}".upper()]},
        )
        for k in range(N)
    ]
    volume = read_alike(written_with(tmp_path / "s", images))
    np.testing.assert_array_equal(volume.array, SCANS[0])
    assert codes(volume) == []


def test_echoes_that_lie_a_little_apart_are_told_apart_too(tmp_path):
    folder = two_volumes(
        tmp_path / "s",
        lambda v, i: {"EchoTime": [20, 90][v], "ImagePositionPatient": position(i // 2 + v / 60)},
    )
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, SCANS[0])
    assert codes(volume) == ["several_volumes"]


@pytest.mark.parametrize("place", [None, [0, 0, 0], [7, 8, 9]])
def test_echoes_are_told_apart_where_positions_say_nothing(tmp_path, place):
    folder = two_volumes(
        tmp_path / "s", lambda v, i: {"EchoTime": [20, 90][v], "ImagePositionPatient": place}
    )
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, SCANS[0])
    assert "several_volumes" in codes(volume)


def test_positions_that_make_sense_without_the_other_echo_are_used(tmp_path):
    """Two repetitions of one echo, and an echo whose positions move along its plane."""
    repeated = [
        (SCANS[v, k], {"ImagePositionPatient": position(k), "EchoTime": 20})
        for v, k in product(range(2), range(N))
    ]
    scattered = [
        (SCANS[1, k], {"ImagePositionPatient": [900 * k, 0, 20 + 4 * k], "EchoTime": 90})
        for k in range(N)
    ]
    volume = read_alike(written_with(tmp_path / "s", repeated + scattered))
    np.testing.assert_array_equal(volume.array, SCANS[0])
    assert codes(volume) == ["several_volumes", "several_volumes"]


def test_an_echo_without_positions_is_not_put_between_the_slices_of_the_other(tmp_path):
    folder = two_volumes(
        tmp_path / "s",
        lambda v, i: {"EchoTime": [20, 90][v]} | ({} if v else {"ImagePositionPatient": None}),
    )
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, SCANS[1])
    assert (volume.meta["sorted_by"], codes(volume)) == ("position", ["several_volumes"])


def test_images_of_one_slice_at_several_times_are_no_stack(tmp_path):
    images = [
        (pixels, {"ImagePositionPatient": position(0), "TriggerTime": 40.0 * i})
        for i, pixels in enumerate(SCANS[0])
    ]
    volume = read_alike(written_with(tmp_path / "s", images))
    np.testing.assert_array_equal(volume.array, SCANS[0][:1])
    assert "5 volumes, which differ in trigger time: 1 of 5 images" in sentences(volume)


def test_no_time_of_day_is_in_what_is_said(tmp_path):
    tell, _ = TELL["acquisition time"]
    volume = read_alike(two_volumes(tmp_path / "s", tell))
    assert "differ in acquisition time" in sentences(volume)
    assert "1500" not in sentences(volume)


def enhanced(path: Path, order: list[tuple[int, int]], tell: Callable[[int, int], dict]) -> None:
    """Write frames of two volumes into one file, each with functional groups of `tell`."""
    dataset = enhanced_mr(SCANS[0], [k for k, _ in order])
    dataset.PixelData = np.stack([SCANS[v, k] for k, v in order]).astype("<u2").tobytes()
    for (k, v), frame in zip(order, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        for group, attributes in tell(k, v).items():
            item = Dataset()
            item.update(attributes)
            setattr(frame, group, Sequence([item]))
    dataset.save_as(path, enforce_file_format=True)


FRAMES_TELL = {
    "echo time": (lambda k, v: {"MREchoSequence": {"EffectiveEchoTime": [90.0, 20.0][v]}}, 1),
    "b-value": (lambda k, v: {"MRDiffusionSequence": {"DiffusionBValue": [1000.0, 0.0][v]}}, 1),
    "image type": (
        lambda k, v: {"MRImageFrameTypeSequence": {"FrameType": ["ORIGINAL", "PRIMARY", "PM"[v]]}},
        1,
    ),
    "temporal position": (
        lambda k, v: {"FrameContentSequence": {"TemporalPositionIndex": 2 - v}},
        1,
    ),
    "stack": (lambda k, v: {"FrameContentSequence": {"StackID": "ab"[v]}}, 0),
    "dimension index 3": (
        lambda k, v: {"FrameContentSequence": {"DimensionIndexValues": [1, k + 1, v + 1]}},
        0,
    ),
    "slope": (
        lambda k, v: {
            "PixelValueTransformationSequence": {"RescaleSlope": [2, 1][v], "RescaleIntercept": 0}
        },
        0,
    ),
    "instance number": (lambda k, v: {}, 0),
}


@pytest.mark.parametrize("name", FRAMES_TELL)
@pytest.mark.parametrize("order", [BY_SLICE, BY_VOLUME], ids=["by slice", "by volume"])
def test_of_two_volumes_in_one_file_one_is_kept(tmp_path, name, order):
    tell, kept = FRAMES_TELL[name]
    enhanced(tmp_path / "IM1", order, tell)
    volume = read_alike(tmp_path)
    np.testing.assert_array_equal(volume.array, SCANS[kept] * (2 if name == "slope" else 1))
    np.testing.assert_allclose(volume.spacing_mm, SPACING)
    assert f"2 volumes, which differ in {name}: 5 of 10" in sentences(volume)


def test_of_two_files_with_a_volume_each_the_first_by_number_is_kept(tmp_path):
    for v, number in enumerate((2, 1)):
        dataset = enhanced_mr(SCANS[v], list(range(N)))
        dataset.SOPInstanceUID, dataset.InstanceNumber = f"1.2.{v}", number
        dataset.save_as(tmp_path / f"IM{v}", enforce_file_format=True)
    volume = read_alike(tmp_path)
    np.testing.assert_array_equal(volume.array, SCANS[1])
    assert "differ in number of the file" in sentences(volume)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real scans are not there")
def test_a_field_map_in_the_file_of_its_magnitude_is_left_out():
    (folder,) = (REAL / "aneurysms" / "series").glob("*37830649623")
    (path,) = folder.iterdir()
    dataset = pydicom.dcmread(path)
    groups = dataset.PerFrameFunctionalGroupsSequence
    slopes = [group.PixelValueTransformationSequence[0].RescaleSlope for group in groups]
    z = [group.PlanePositionSequence[0].ImagePositionPatient[2] for group in groups]
    is_first = np.array(slopes) == slopes[0]
    assert is_first.sum() == len(set(z)) == 32
    volume = read_alike(folder)
    expected = dataset.pixel_array[is_first][np.argsort(np.array(z)[is_first])] * slopes[0]
    np.testing.assert_allclose(volume.array, expected, rtol=1e-6)
    assert (volume.spacing_mm, codes(volume)) == (pytest.approx((4, 4, 4)), ["several_volumes"])


@pytest.mark.skipif(not REAL.is_dir(), reason="the real scans are not there")
def test_two_real_images_of_one_place_give_one_slice():
    volume = read_alike(REAL / "haemorrhage" / "odd" / "same_position")
    assert volume.array.shape == (1, 128, 128)
    assert codes(volume) == ["no_spacing", "several_volumes"]


def test_many_repetitions_are_told_apart_by_their_order(tmp_path):
    scans = array_of((6, 3, 4, 6))
    images = [
        (scans[v, k], {"ImagePositionPatient": position(k)}) for v, k in product(range(6), range(3))
    ]
    volume = read_alike(written_with(tmp_path / "s", images))
    np.testing.assert_array_equal(volume.array, scans[0])
    assert "6 volumes, which differ in instance number: 3 of 18" in sentences(volume)


def test_one_volume_is_left_as_it_is(tmp_path):
    array = array_of()
    volume = read_alike(written(tmp_path / "s", array))
    np.testing.assert_array_equal(volume.array, array)
    assert codes(volume) == []


def test_of_a_large_series_only_the_pixels_that_are_kept_are_in_memory(tmp_path, monkeypatch):
    array = array_of((10, 4, 256, 256))
    images = [
        (array[v, k], {"ImagePositionPatient": position(k), "TemporalPositionIdentifier": v + 1})
        for v, k in product(range(10), range(4))
    ]
    folder = written_with(tmp_path / "s", images)
    monkeypatch.setattr(dicom_series, "LARGE_SERIES", array.nbytes // 2)
    tracemalloc.start()
    volume = dicom_series.read_dicom_series(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(volume.array, array[0])
    assert codes(volume) == ["several_volumes"]
    assert peak < 3 * volume.array.nbytes


def test_a_volume_with_damaged_pixels_gives_way_also_in_a_large_series(tmp_path, monkeypatch):
    folder = two_volumes(tmp_path / "s", TELL["echo number"][0], BY_VOLUME)
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        if path.name == "Image-2.dcm":
            items = bytearray(dataset.PixelData)
            # no image has so many segments
            at = items.index(b"\xfe\xff\x00\xe0", 8) + 8
            items[at] = 15
            dataset.PixelData = bytes(items)
        dataset.save_as(path)
    monkeypatch.setattr(dicom_series, "LARGE_SERIES", 0)
    volume = dicom_series.read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, SCANS[1])
    assert codes(volume) == ["damaged", "several_volumes"]
