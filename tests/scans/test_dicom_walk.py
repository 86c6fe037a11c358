"""The quick way through a header finds what pydicom finds."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom_series import array_of, edit, setting, written

from benchmarks import fuzz_kinds, fuzzing
from t4e_utils.scans import (
    dicom,
    dicom_checks,
    dicom_elements,
    dicom_keywords,
    dicom_telling,
    dicom_values,
    dicom_walk,
)
from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.problems import VolumeError


def frames_of(path: Path, *, with_pixels: bool) -> object:
    """Return all that is read of a file, or the code it is refused with."""
    problems = []
    try:
        frames, facts = dicom.read_file(path, problems, with_pixels=with_pixels)
    except VolumeError as error:
        return error.code
    fields = [
        {name: np.array(value).tolist() for name, value in vars(frame).items() if name != "told"}
        for frame in frames
    ]
    fields.append([frame.told() for frame in frames])
    return (
        fields,
        facts,
        sorted({problem.sentence for problem in problems if problem.code != "warning"}),
    )


@pytest.mark.filterwarnings("ignore")  # of pydicom, reading damaged files
def test_the_quick_way_through_a_header_finds_what_pydicom_finds_also_in_damaged_files(
    tmp_path, monkeypatch
):
    native = fuzz_kinds.dicom(tmp_path / "s").files
    path, walk, n_walked = tmp_path / "mutant.dcm", dicom_walk._walked, 0
    for i in range(240):
        data = native[i % len(native)]
        path.write_bytes(
            data if i < len(native) else fuzzing.mutant(data, np.random.default_rng([9, i]))
        )
        for with_pixels in (True, False):
            n_walked += walk(path, [], with_pixels) is not None
            quick = frames_of(path, with_pixels=with_pixels)
            monkeypatch.setattr(dicom_walk, "_walked", lambda *_: None)
            assert frames_of(path, with_pixels=with_pixels) == quick, f"mutant {i}"
            monkeypatch.setattr(dicom_walk, "_walked", walk)
    assert n_walked > 50


def test_the_quick_way_keeps_every_attribute_that_is_used():
    source = "".join(
        Path(module.__file__).read_text()
        for module in (dicom, dicom_checks, dicom_elements, dicom_telling, dicom_values, dicom_walk)
    )
    used = set(re.findall(r'\.(?:integer|numbers?|text)\("(\w+)"', source)) | set(
        re.findall(r'value_of\([\w.]+, "(\w+)"', source)
    )
    assert {"Rows", "RescaleSlope", "ModalityLUTSequence"} <= used <= set(dicom_keywords.KEYWORDS)


def test_bits_above_those_stored_are_left_out_as_pydicom_does(tmp_path):
    array = array_of((2, 4, 6), dtype=np.int16, low=-2048, high=2048)
    folder = written(tmp_path / "s", array & 0x0FFF)  # 12 bits stored, without their sign
    edit(folder, setting(BitsStored=12, HighBit=11))
    np.testing.assert_array_equal(read_dicom_series(folder).array, array)
    assert pydicom.dcmread(folder / "Image-1.dcm").pixel_array.tolist() == array[0].tolist()


def test_no_part_of_the_header_is_in_what_is_said_of_a_damaged_file(tmp_path):
    name = b"\x10\0\x20\0LO\x0a\0Meier^4711"
    path = tmp_path / "damaged.dcm"
    path.write_bytes(bytes(128) + b"DICM\x02\0\0\0UL\xc9\0" + name + bytes(400))
    with pytest.raises(VolumeError, match="cannot be read") as caught:
        dicom_walk.read_header(path, [], with_pixels=False)
    assert "Meier" not in str(caught.value)
