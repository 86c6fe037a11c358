"""Attributes that are not usable are reported and taken for missing."""

from __future__ import annotations

import pytest
from helpers.dicom_series import array_of, codes, edit, setting, written

from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.problems import VolumeError
from t4e_utils.scans.reading import series_header


def test_a_header_value_that_is_no_number_is_left_out(tmp_path):
    folder = written(tmp_path / "s", array_of())
    path = folder / "Image-1.dcm"
    path.write_bytes(path.read_bytes().replace(b"3.00000000", b"3.0x0y0z00"))
    volume = read_dicom_series(folder)
    assert {"bad_value", "warning"} >= set(codes(volume))
    assert "SpacingBetweenSlices is not a number" in " ".join(
        p.sentence for p in volume.meta["problems"]
    )


def test_compressed_pixels_without_a_transfer_syntax_are_refused(tmp_path):
    folder = written(tmp_path / "s", array_of((1, 40, 60)), compress="rle")
    path = folder / "Image-1.dcm"
    meta_end = 144 + int.from_bytes(path.read_bytes()[140:144], "little")
    path.write_bytes(path.read_bytes()[meta_end:])
    with pytest.raises(VolumeError, match="compressed, but the file does not say how") as refused:
        read_dicom_series(folder)
    assert refused.value.code == "no_decoder"


@pytest.mark.parametrize("attributes", [{"NumberOfFrames": 2_000_000_000}, {"Rows": 65535}])
def test_a_header_that_promises_more_than_the_file_has_costs_no_memory(tmp_path, attributes):
    folder = written(tmp_path / "s", array_of((1, 4, 6)))
    edit(folder, setting(**attributes))
    for read in (read_dicom_series, series_header):
        with pytest.raises(VolumeError, match=r"The file has 48 of .* bytes of pixels") as refused:
            read(folder)
        assert refused.value.code == "truncated"


def test_nothing_that_identifies_a_person_is_kept(tmp_path):
    folder = written(tmp_path / "s", array_of())
    secret = {"PatientName": "Doe^Jane", "PatientID": "4711", "PatientBirthDate": "19700101"}
    edit(folder, setting(**secret))
    text = repr(read_dicom_series(folder).meta) + repr(series_header(folder))
    assert not any(value in text for value in secret.values())
