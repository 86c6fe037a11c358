"""Compressed pixels: the end of the decoding process is an error and not the end of the run."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from helpers.dicom_series import array_of, written

from t4e_utils.scans import dicom_decoding
from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.problems import VolumeError

SIZE = 40 * 30 * 2  # bytes of an image


@pytest.fixture
def series(tmp_path) -> tuple[np.ndarray, Path]:
    array = array_of((3, 40, 30))
    return array, written(tmp_path / "s", array, compress="rle")


def test_pixels_come_back_as_they_were(series):
    array, folder = series
    for i in range(3):
        np.testing.assert_array_equal(
            dicom_decoding.decode(folder / f"Image-{i + 1}.dcm", SIZE), array[i]
        )


def test_what_cannot_be_decoded_says_so_and_the_next_file_is_read(series, tmp_path):
    array, folder = series
    (tmp_path / "no image").write_text("no image")
    with pytest.raises(dicom_decoding.DecodingError, match="TransferSyntaxUID"):
        dicom_decoding.decode(tmp_path / "no image", SIZE)
    np.testing.assert_array_equal(dicom_decoding.decode(folder / "Image-1.dcm", SIZE), array[0])


def test_a_decoder_that_died_between_two_files_is_started_anew(series):
    array, folder = series
    dicom_decoding.decode(folder / "Image-1.dcm", SIZE)
    process = dicom_decoding._decoder(os.getpid())._process
    process.kill()
    process.wait()
    np.testing.assert_array_equal(dicom_decoding.decode(folder / "Image-2.dcm", SIZE), array[1])


def test_a_file_that_takes_too_long_ends_the_decoder_and_is_refused(series, monkeypatch):
    array, folder = series
    dicom_decoding.decode(folder / "Image-1.dcm", SIZE)
    ask = dicom_decoding._ask

    def slow(process, *request):
        process.wait()
        return ask(process, *request)

    monkeypatch.setattr(dicom_decoding, "SECONDS", 0.0)
    monkeypatch.setattr(dicom_decoding, "SECONDS_PER_MB", 0.0)
    monkeypatch.setattr(dicom_decoding, "_ask", slow)
    with pytest.raises(VolumeError, match="the decoder broke down, exit status -9") as refused:
        read_dicom_series(folder / "Image-1.dcm")
    assert refused.value.code == "damaged"
    monkeypatch.undo()
    np.testing.assert_array_equal(dicom_decoding.decode(folder / "Image-2.dcm", SIZE), array[1])


def test_a_decoder_that_cannot_start_says_what_to_check(series, monkeypatch, tmp_path):
    _, folder = series
    (tmp_path / "broken" / "pydicom").mkdir(parents=True)
    (tmp_path / "broken" / "pydicom" / "__init__.py").write_text("raise ImportError('broken')")
    monkeypatch.syspath_prepend(tmp_path / "broken")
    with pytest.raises(
        dicom_decoding.DecodingError,
        match="does not start: check that this Python can import pydicom",
    ):
        dicom_decoding._Decoder().decode(folder / "Image-1.dcm", SIZE)


def test_threads_take_turns(series):
    array, folder = series
    with ThreadPoolExecutor(4) as threads:
        for i, pixels in enumerate(
            threads.map(
                dicom_decoding.decode,
                [folder / f"Image-{1 + i % 3}.dcm" for i in range(24)],
                [SIZE] * 24,
            )
        ):
            np.testing.assert_array_equal(pixels, array[i % 3])


def test_another_process_has_a_decoder_of_its_own(series):
    array, folder = series
    dicom_decoding.decode(folder / "Image-1.dcm", SIZE)
    with get_context("spawn").Pool(1) as pool:
        np.testing.assert_array_equal(
            pool.apply(dicom_decoding.decode, (folder / "Image-1.dcm", SIZE)), array[0]
        )
    np.testing.assert_array_equal(dicom_decoding.decode(folder / "Image-2.dcm", SIZE), array[1])
