"""A folder of DICOM files: what is read, what is left out, and what the headers say."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.dicom_series import (
    array_of,
    as_syntax,
    codes,
    deflated,
    edit,
    enhanced_mr,
    read_alike,
    setting,
    without,
    written,
)
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.problems import VolumeError
from t4e_utils.scans.reading import series_header

SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)


@pytest.mark.parametrize(
    ("damage", "code", "sentence"),
    [
        (lambda path: b"no DICOM file, but long enough to be one " * 20, "no_pixels", "no image"),
        (lambda path: b"", "no_pixels", "The file is no image"),
        (lambda path: path.read_bytes()[:-7], "truncated", "The file has 41 of 48 bytes of pixels"),
        (lambda path: path.read_bytes()[:500], "no_pixels", "The file is no image"),
        (lambda path: deflated(path)[:-20], "truncated", "of 48 bytes of pixels"),
    ],
)
def test_one_unreadable_file_is_reported_and_the_others_are_read(tmp_path, damage, code, sentence):
    array = array_of()
    folder = written(tmp_path / "s", array)
    path = folder / "Image-5.dcm"
    path.write_bytes(damage(path))
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array[:4])
    assert [code] == [c for c in codes(volume) if c != "warning"]
    assert volume.meta["n_files"] == 5
    with pytest.raises(VolumeError, match=sentence) as refused:
        read_dicom_series(path)
    assert refused.value.code == code


def test_what_the_reader_warns_about_becomes_a_problem(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(
        folder,
        lambda dataset, i: setattr(dataset, "PixelData", dataset.PixelData + bytes(10)),
        only=(2,),
    )
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert codes(volume) == ["warning"]
    assert "excess padding" in volume.meta["problems"][0].sentence


def test_a_header_says_what_reading_says(tmp_path):
    folder = written(tmp_path / "s", array_of((9, 4, 6)), plane="coronal")
    assert series_header(folder) == {
        "n_files": 9,
        "n_slices": 9,
        "plane": "coronal",
        "rows": 4,
        "columns": 6,
        "spacing_slice_mm": pytest.approx(3.0),
        "spacing_row_mm": pytest.approx(0.5),
        "spacing_column_mm": pytest.approx(0.75),
        "modality": "MR",
        "transfer_syntax": "Explicit VR Little Endian",
        "bits_stored": 16,
        "problems": (),
    }


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda folder: (folder / "Image-4.dcm").unlink(), "gap"),
        (lambda folder: (folder / "Image-4.dcm").write_bytes(b"no image"), "no_pixels"),
        (
            lambda folder: edit(folder, setting(SeriesInstanceUID="1.2.3"), only=(8,)),
            "mixed_series",
        ),
        (lambda folder: edit(folder, without("ImagePositionPatient"), only=(2,)), "missing_values"),
    ],
)
def test_headers_show_the_problems_that_reading_shows(tmp_path, damage, code):
    folder = written(tmp_path / "s", array_of((9, 4, 6)))
    damage(folder)
    header, volume = series_header(folder), read_dicom_series(folder)
    assert header["problems"] == volume.meta["problems"]
    assert code in codes(volume)
    assert header["spacing_slice_mm"] == volume.spacing_mm[0]


def bare(dataset, i):
    del dataset.PixelData


def without_pixels_at_the_end(folder):
    """Take the pixels away, in a file whose header does not fit into what is read first."""
    edit(folder, lambda dataset, i: dataset.add_new(0x00091001, "OB", bytes(40_000)), only=(4,))
    edit(folder, bare, only=(4,))


def cut(folder, n):
    path = folder / "Image-5.dcm"
    path.write_bytes(path.read_bytes()[:-n])


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    ("damage", "n", "code"),
    [
        (lambda folder: edit(folder, bare, only=(4,)), 4, "no_pixels"),
        (without_pixels_at_the_end, 4, "no_pixels"),
        (lambda folder: edit(folder, setting(PixelData=b""), only=(4,)), 4, "truncated"),
        (lambda folder: cut(folder, 1), 4, "truncated"),
        (lambda folder: edit(folder, setting(Rows=5), only=(4,)), 4, "truncated"),
        (lambda folder: edit(folder, setting(NumberOfFrames=3), only=(4,)), 4, "truncated"),
        (lambda folder: edit(folder, without("BitsAllocated"), only=(4,)), 4, "damaged"),
        (lambda folder: edit(folder, setting(BitsStored=17), only=(4,)), 4, "damaged"),
        (lambda folder: edit(folder, without("PixelRepresentation"), only=(4,)), 4, "damaged"),
        (lambda folder: edit(folder, setting(PixelData=bytes(58)), only=(4,)), 5, "warning"),
    ],
)
def test_headers_count_the_slices_that_reading_gives(tmp_path, damage, n, code, syntax):
    folder = written(tmp_path / "s", array_of())
    for path in folder.iterdir():
        as_syntax(path, syntax)
    damage(folder)
    volume = read_alike(folder)
    assert (len(volume.array), codes(volume)) == (n, [code])


def test_headers_show_a_compression_without_decoder(tmp_path):
    def mpeg(dataset, i):
        dataset.file_meta.TransferSyntaxUID = MPEG2MPML
        dataset.PixelData = encapsulate([b"abcd"])
        dataset["PixelData"].VR = "OB"

    folder = written(tmp_path / "s", array_of())
    edit(folder, mpeg, only=(4,))
    volume = read_alike(folder)
    assert (len(volume.array), codes(volume)) == (4, ["no_decoder"])


def test_a_deflated_file_without_pixels_is_no_slice(tmp_path):
    folder = written(tmp_path / "s", array_of())
    edit(folder, bare, only=(4,))
    for path in folder.iterdir():
        path.write_bytes(deflated(path))
    volume = read_alike(folder)
    assert (len(volume.array), codes(volume)) == (4, ["no_pixels"])


def test_compressed_images_cannot_be_more_than_their_bytes_can_hold(tmp_path):
    folder = written(tmp_path / "s", array_of(), compress="rle")
    edit(folder, setting(NumberOfFrames=50_000), only=(4,))
    volume = read_alike(folder)
    assert (len(volume.array), codes(volume)) == (4, ["truncated"])


@pytest.mark.parametrize("n", [0, -3, 1, 4, None])
def test_a_number_of_frames_that_is_too_small_is_corrected(tmp_path, n):
    array = array_of()
    dataset = enhanced_mr(array, [0, 1, 2, 3, 4])
    dataset.NumberOfFrames = n
    dataset.save_as(tmp_path / "IM1", enforce_file_format=True)
    volume = read_alike(tmp_path)
    np.testing.assert_array_equal(volume.array, array)
    assert codes(volume) == ["bad_value"]
    assert "is not 5, of which there are pixels" in volume.meta["problems"][0].sentence


@pytest.mark.parametrize("n", [0, 1, 4, None])
@pytest.mark.parametrize("syntax", ["deflated", "rle"])
def test_a_number_of_frames_that_is_too_small_is_corrected_in_compressed_files_too(
    tmp_path, n, syntax
):
    array = array_of()
    dataset = enhanced_mr(array, [0, 1, 2, 3, 4])
    if syntax == "rle":
        dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.NumberOfFrames = n
    path = tmp_path / "IM1"
    dataset.save_as(path, enforce_file_format=True)
    if syntax == "deflated":
        path.write_bytes(deflated(path))
    volume = read_alike(tmp_path)
    np.testing.assert_array_equal(volume.array, array)
    assert codes(volume) == ["bad_value"]
    assert "is not 5, of which there are pixels" in volume.meta["problems"][0].sentence


def jpeg_file(path: Path, images: np.ndarray, n_stated: int, **options) -> None:
    """Write images (N, H, W) of 8 bits as frames that were compressed with loss."""
    streams = [cv2.imencode(".jpg", image)[1].tobytes() for image in images]
    dataset = enhanced_mr(images, list(range(len(images))))
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.NumberOfFrames = n_stated
    dataset.PixelData = encapsulate(streams, **options)
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)


def test_a_table_of_places_counts_compressed_images(tmp_path):
    images = array_of((3, 16, 16), np.uint8, high=200)
    expected = [
        cv2.imdecode(cv2.imencode(".jpg", image)[1], cv2.IMREAD_GRAYSCALE) for image in images
    ]
    jpeg_file(tmp_path / "IM1", images, 2)
    volume = read_alike(tmp_path)
    np.testing.assert_array_equal(volume.array, expected)
    assert codes(volume) == ["bad_value"]


def test_a_compressed_image_in_several_items_is_one_image(tmp_path):
    images = array_of((1, 16, 16), np.uint8, high=200)
    expected = cv2.imdecode(cv2.imencode(".jpg", images[0])[1], cv2.IMREAD_GRAYSCALE)
    jpeg_file(tmp_path / "IM1", images, 1, fragments_per_frame=2, has_bot=False)
    volume = read_alike(tmp_path)
    np.testing.assert_array_equal(volume.array, expected[None])
    assert codes(volume) == []


@pytest.mark.parametrize("n_bytes", [1, 30])
def test_a_compressed_file_that_ends_too_early_is_no_slice(tmp_path, n_bytes):
    array = array_of((5, 20, 30))
    folder = written(tmp_path / "s", array, compress="rle")
    path = folder / "Image-5.dcm"
    path.write_bytes(path.read_bytes()[: -8 - n_bytes])  # 8: what closes the items
    volume = read_alike(folder)
    np.testing.assert_array_equal(volume.array, array[:4])
    assert codes(volume) == ["truncated"]


@pytest.mark.parametrize("syntax", ["plain", "deflated"])
def test_bytes_that_follow_single_bits_are_no_images(tmp_path, syntax):
    array = array_of((3, 5, 5), high=2)
    dataset = enhanced_mr(array, [0, 1, 2])
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 1, 1, 0
    # 75 bits in 10 bytes
    dataset.PixelData = np.packbits(array.ravel(), bitorder="little").tobytes() + bytes(4)
    path = tmp_path / "IM1"
    dataset.save_as(path, enforce_file_format=True)
    if syntax == "deflated":
        path.write_bytes(deflated(path))
    np.testing.assert_array_equal(read_alike(tmp_path).array, array)


@pytest.mark.parametrize("n", [0, 2, 10])
def test_frames_are_counted_by_their_pixels_not_by_what_describes_them(tmp_path, n):
    array = array_of()
    dataset = enhanced_mr(array, [0, 1, 2, 3, 4])
    groups = list(dataset.PerFrameFunctionalGroupsSequence)
    dataset.PerFrameFunctionalGroupsSequence = (groups + groups)[:n]
    dataset.save_as(tmp_path / "IM1", enforce_file_format=True)
    volume = read_alike(tmp_path)
    np.testing.assert_array_equal(volume.array, array)
    expected = {0: ["no_positions"], 2: ["missing_values"], 10: []}
    assert codes(volume) == expected[n]


def test_a_header_of_no_image_is_refused(tmp_path):
    (tmp_path / "1").write_bytes(b"no image")
    (tmp_path / "2").write_bytes(b"no image either")
    with pytest.raises(VolumeError, match="None of the 2 files") as refused:
        series_header(tmp_path)
    assert refused.value.code == "no_pixels"


def test_a_header_without_geometry_leaves_it_open(tmp_path):
    folder = written(tmp_path / "s", array_of((2, 4, 6)))
    edit(folder, without("ImageOrientationPatient", "PixelSpacing"))
    header = series_header(folder)
    assert (header["plane"], header["spacing_slice_mm"], header["rows"]) == (None, None, 4)
