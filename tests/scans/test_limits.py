"""Files that claim or unfold to more than is read: refused before memory is taken for them."""

from __future__ import annotations

import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from helpers.dicom_series import array_of, codes, deflated, edit, setting, written
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.images import read_jpeg_series
from t4e_utils.scans.limits import LARGEST_FILE, LARGEST_IMAGE, refuse_too_large
from t4e_utils.scans.problems import VolumeError
from t4e_utils.scans.reading import series_header

READS = pytest.mark.parametrize("read", [read_dicom_series, series_header])
MEGABYTE = 1 << 20


def unfolding(path: Path, n_bytes: int, **attributes) -> None:
    """Make a deflated file whose pixels are so many zeros."""
    dataset = pydicom.dcmread(path)
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.PixelData = b""
    dataset.save_as(path)
    inflated = deflated(path)
    start = 144 + struct.unpack("<I", inflated[140:144])[0]
    elements = zlib.decompress(inflated[start:], -zlib.MAX_WBITS)[:-4] + struct.pack("<I", n_bytes)
    stream = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    with path.open("wb") as file:
        file.write(inflated[:start] + stream.compress(elements))
        for _ in range(n_bytes // MEGABYTE):
            file.write(stream.compress(bytes(MEGABYTE)))
        file.write(stream.compress(bytes(n_bytes % MEGABYTE)) + stream.flush())


def refusal_and_peak(read, path: Path) -> tuple[VolumeError, int]:
    tracemalloc.start()
    with pytest.raises(VolumeError, match="take it out of the folder") as refused:
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return refused.value, peak


@READS
def test_zeros_that_were_deflated_are_not_inflated(tmp_path, read):
    path = written(tmp_path / "s", array_of((1, 4, 6))) / "Image-1.dcm"
    unfolding(path, 200 * MEGABYTE, Rows=10_000, Columns=10_485)
    refused, peak = refusal_and_peak(read, path)
    assert (refused.code, refused.path) == ("too_large", str(path))
    assert peak < 100 * MEGABYTE


@READS
def test_a_deflated_file_is_inflated_no_further_than_its_header_says(tmp_path, read):
    path = written(tmp_path / "s", array_of((1, 4, 6))) / "Image-1.dcm"
    unfolding(path, 200 * MEGABYTE)
    tracemalloc.start()
    result = read(path)
    assert tracemalloc.get_traced_memory()[1] < 100 * MEGABYTE
    tracemalloc.stop()
    problems = result["problems"] if isinstance(result, dict) else result.meta["problems"]
    assert [problem.code for problem in problems] == ["bad_value"]
    assert "209715152 were left out" in problems[0].sentence


@READS
def test_a_whole_number_of_images_beyond_the_limit_is_not_inflated(tmp_path, read):
    path = written(tmp_path / "s", array_of((1, 4, 4))) / "Image-1.dcm"
    unfolding(path, 200 * MEGABYTE)  # 6,553,600 images of 32 bytes
    refused, peak = refusal_and_peak(read, path)
    assert refused.code == "too_large"
    assert peak < 100 * MEGABYTE


@READS
def test_tiny_images_in_a_large_file_are_not_all_kept(tmp_path, read):
    path = written(tmp_path / "s", array_of((1, 1, 2))) / "Image-1.dcm"
    dataset = pydicom.dcmread(path)
    dataset.PixelData = bytes(4 * MEGABYTE)
    dataset.save_as(path)
    with pytest.raises(VolumeError, match="holds 1048576 x 1 x 2 pixels") as refused:
        read(path)
    assert refused.value.code == "too_large"


def test_a_deflated_image_of_many_frames_is_read(tmp_path):
    array = array_of((30, 64, 64))
    path = written(tmp_path / "s", array[:1]) / "Image-1.dcm"
    edit(path.parent, setting(NumberOfFrames=30, PixelData=array.tobytes()))
    path.write_bytes(deflated(path))
    np.testing.assert_array_equal(read_dicom_series(path).array, array)
    assert series_header(path)["n_slices"] == 30


@READS
@pytest.mark.parametrize(
    "syntax", [RLELossless, JPEGBaseline8Bit, JPEGLSLossless, JPEG2000Lossless]
)
def test_a_compressed_image_of_20000_x_20000_is_not_decoded(tmp_path, read, syntax):
    folder = written(tmp_path / "s", array_of((1, 4, 6)))

    def change(dataset, _):
        dataset.Rows = dataset.Columns = 20_000
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([bytes(1000)])
        dataset["PixelData"].VR = "OB"

    edit(folder, change)
    refused, peak = refusal_and_peak(read, folder)
    assert refused.code == "too_large"
    assert peak < MEGABYTE


def test_a_stream_that_is_larger_than_its_header_says_is_refused_by_the_decoder(tmp_path):
    folder = written(tmp_path / "s", array_of((2, 64, 64), np.uint8, high=200), compress="rle")
    stream = cv2.imencode(".jp2", np.zeros((4000, 4000), np.uint8))[1].tobytes()
    assert len(stream) < 1000

    def change(dataset, _):
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
        dataset.PixelData = encapsulate([stream])

    edit(folder, change, only=(1,))
    volume = read_dicom_series(folder)
    assert (len(volume.array), codes(volume)) == (1, ["damaged"])


@READS
@pytest.mark.parametrize(
    "attributes",
    [
        {"Rows": 65535, "Columns": 65535},
        {"NumberOfFrames": 2_000_000_000},
        {"Rows": 1, "Columns": 1, "NumberOfFrames": 10_000_000},
    ],
)
def test_headers_that_claim_more_than_is_read_are_refused(tmp_path, read, attributes):
    folder = written(tmp_path / "s", array_of((1, 4, 6)))
    edit(folder, setting(**attributes))
    refused, peak = refusal_and_peak(read, folder)
    assert refused.code == "too_large"
    assert peak < MEGABYTE


@READS
def test_one_file_that_is_too_large_costs_its_slice_only(tmp_path, read):
    folder = written(tmp_path / "s", array_of())
    edit(folder, setting(Rows=65535, Columns=65535), only=(4,))
    result = read(folder)
    problems = result["problems"] if isinstance(result, dict) else result.meta["problems"]
    assert [problem.code for problem in problems] == ["too_large"]


@READS
def test_a_file_of_many_gigabytes_is_not_read(tmp_path, read):
    folder = written(tmp_path / "s", array_of((1, 4, 6)))
    os.truncate(folder / "Image-1.dcm", 3 << 30)  # takes no place on the disk
    refused, peak = refusal_and_peak(read, folder)
    assert refused.code == "too_large"
    assert peak < MEGABYTE


@READS
def test_a_file_that_was_zipped_is_no_image(tmp_path, read):
    path = written(tmp_path / "s", array_of((1, 4, 6))) / "Image-1.dcm"
    path.write_bytes(zlib.compress(path.read_bytes() + bytes(50 * MEGABYTE), wbits=31))
    with pytest.raises(VolumeError, match="no image"):
        read(path)


def test_sound_images_are_within_the_limits():
    refuse_too_large(Path("a"), 500, 1024, 1024, 2)
    refuse_too_large(Path("a"), 1, 8192, 8192, 4)
    assert LARGEST_IMAGE * 4 < LARGEST_FILE
    with pytest.raises(VolumeError, match=r"2000 x 1024 x 1024 pixels, 4\.2 GB"):
        refuse_too_large(Path("a"), 2000, 1024, 1024, 2)


@pytest.mark.parametrize("side", [8300, 10_000, 20_000])
def test_a_jpeg_of_many_pixels_is_refused_by_its_header(tmp_path, side):
    data = bytearray(cv2.imencode(".jpg", np.zeros((8, 8), np.uint8))[1].tobytes())
    place = data.index(b"\xff\xc0")  # start of frame: length, bits, rows, columns
    data[place + 5 : place + 9] = struct.pack(">HH", side, side)
    (tmp_path / "1.jpg").write_bytes(data)
    for read in (read_jpeg_series, lambda folder: series_header(folder, source="jpg")):
        refused, peak = refusal_and_peak(read, tmp_path)
        assert refused.code == "too_large"
        assert peak < MEGABYTE


def test_a_png_under_the_name_of_a_jpeg_has_the_same_limit(tmp_path):
    data = bytearray(cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1].tobytes())
    data[16:24] = struct.pack(">II", 9000, 9000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "1.jpg").write_bytes(data)
    refused, _ = refusal_and_peak(read_jpeg_series, tmp_path)
    assert refused.code == "too_large"
