"""JPEG series: ordered by number, made grey, and nothing made up from damaged files."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from helpers.jpeg_series import write_jpeg_series
from helpers.volumes import SHAPE, full_range, volume_of

from t4e_utils.scans.images import jpeg_series_header, read_jpeg_series
from t4e_utils.scans.problems import VolumeError
from t4e_utils.scans.reading import read_series, series_header


def test_jpeg_slices_come_back_nearly_as_they_were(tmp_path):
    smooth = np.stack([cv2.resize(image, (40, 30)) for image in full_range(np.uint8, (12, 3, 4))])
    write_jpeg_series(volume_of(smooth), tmp_path)
    back = read_jpeg_series(tmp_path)
    assert np.abs(back.array.astype(int) - smooth).max() < 12
    assert (back.plane, back.spacing_mm, back.meta["sorted_by"]) == (
        "axial",
        (1.0, 1.0, 1.0),
        "file number",
    )


def test_jpeg_files_are_ordered_by_number_and_made_grey(tmp_path):
    for number in (2, 10, 1):
        cv2.imwrite(
            str(tmp_path / f"Image-{number}.jpg"), np.full((8, 9, 3), number * 20, np.uint8)
        )
    assert np.abs(read_jpeg_series(tmp_path).array[:, 0, 0] - np.array([20, 40, 200])).max() <= 1


def test_odd_jpeg_files_are_left_out_and_reported(tmp_path):
    write_jpeg_series(volume_of(full_range(np.uint8)), tmp_path)
    (tmp_path / "Image-7.jpg").write_bytes(b"no image")
    cv2.imwrite(str(tmp_path / "Image-8.jpg"), np.zeros((9, 9), np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    volume = read_series(tmp_path, source="jpg")
    assert volume.array.shape == SHAPE
    assert [problem.code for problem in volume.meta["problems"]] == ["damaged", "mixed_sizes"]


def test_a_jpeg_that_ends_too_early_is_left_out_and_not_filled_up_with_grey(tmp_path):
    write_jpeg_series(volume_of(full_range(np.uint8, (3, 40, 50))), tmp_path)
    path = tmp_path / "Image-2.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    assert cv2.imread(str(path)) is not None  # the decoder takes it
    volume = read_jpeg_series(tmp_path)
    assert len(volume.array) == 2
    assert [(problem.code, problem.path) for problem in volume.meta["problems"]] == [
        ("truncated", str(path))
    ]


def test_a_folder_without_readable_jpeg_is_refused(tmp_path):
    (tmp_path / "Image-1.jpg").write_bytes(b"no image")
    for read in (read_jpeg_series, lambda folder: series_header(folder, source="jpg")):
        with pytest.raises(VolumeError, match="cannot be decoded") as refused:
            read(tmp_path)
        assert refused.value.code == "damaged"


def test_the_header_of_a_jpeg_series_knows_size_only(tmp_path):
    write_jpeg_series(volume_of(full_range(np.uint8)), tmp_path)
    header = series_header(tmp_path, source="jpg")
    assert (header["n_files"], header["rows"], header["columns"], header["bits_stored"]) == (
        3,
        4,
        5,
        8,
    )
    assert header["plane"] is header["spacing_slice_mm"] is header["modality"] is None


def claim(path, side: int) -> None:
    """Change the size that a JPEG image states (ITU-T T.81 B.2.2); its pixels stay few."""
    data = bytearray(path.read_bytes())
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = side.to_bytes(2, "big") * 2
    path.write_bytes(data)


@pytest.mark.parametrize("side", [8200, 20_000, 65_000])
def test_an_image_that_claims_too_many_pixels_is_left_out_and_reported(tmp_path, side):
    write_jpeg_series(volume_of(full_range(np.uint8)), tmp_path)
    claim(tmp_path / "Image-2.jpg", side)  # the one in the middle
    volume, header = read_jpeg_series(tmp_path), jpeg_series_header(tmp_path)
    assert volume.array.shape == (2, 4, 5)
    assert (header["n_slices"], header["rows"], header["columns"]) == volume.array.shape
    for problems in (volume.meta["problems"], header["problems"]):
        assert [(each.code, each.path) for each in problems] == [
            ("too_large", str(tmp_path / "Image-2.jpg"))
        ]
    assert "more than 67,108,864 pixels" in problems[0].sentence


def test_a_series_of_claims_is_refused(tmp_path):
    write_jpeg_series(volume_of(full_range(np.uint8, (1, 4, 5))), tmp_path)
    claim(tmp_path / "Image-1.jpg", 20_000)
    for read in (read_jpeg_series, jpeg_series_header):
        with pytest.raises(VolumeError, match="claims more than") as refused:
            read(tmp_path)
        assert refused.value.code == "too_large"


def test_a_file_that_cannot_be_opened_costs_itself(tmp_path):
    write_jpeg_series(volume_of(full_range(np.uint8)), tmp_path)
    (tmp_path / "Image-2.jpg").unlink()
    (tmp_path / "Image-2.jpg").symlink_to("Image-2.jpg")
    volume, header = read_jpeg_series(tmp_path), jpeg_series_header(tmp_path)
    assert (len(volume.array), header["n_slices"]) == (2, 2)
    (problem,) = volume.meta["problems"]
    assert problem in header["problems"]
    assert "cannot be read (Too many levels of symbolic links)" in problem.sentence


@pytest.mark.parametrize(
    "data", [b"", b"\x89PNG\r\n\x1a\n" + bytes(40), b"BM" + bytes(60), b"II*\0"]
)
def test_a_file_with_the_start_of_another_image_is_damaged(tmp_path, data):
    write_jpeg_series(volume_of(full_range(np.uint8)), tmp_path)
    (tmp_path / "Image-9.jpg").write_bytes(data)
    (problem,) = read_jpeg_series(tmp_path).meta["problems"]
    assert (problem.code, problem.path) == ("damaged", str(tmp_path / "Image-9.jpg"))
