"""Odd and damaged files of public collections: read as they are, or refused with a code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_series import codes

from t4e_utils.geometry import plane_of
from t4e_utils.problems import VolumeError
from t4e_utils.volumes import read_dicom_series

ODD = Path(__file__).parents[2] / "shared" / "data" / "odd_dicom"
pytestmark = pytest.mark.skipif(not ODD.is_dir(), reason="the collection of odd DICOM files is not there")


def test_all_transfer_syntaxes_give_the_same_image():
    volumes = [read_dicom_series(path) for path in sorted((ODD / "transfer_syntaxes").glob("*.dcm"))]
    assert len({volume.meta["transfer_syntax"] for volume in volumes}) == 7
    for volume in volumes[1:]:
        np.testing.assert_array_equal(volume.array, volumes[0].array)


@pytest.mark.parametrize(
    ("folder", "plane", "n_slices", "spacing_mm", "expected"),
    [
        ("failing/gantrytilting/001", "axial", 4, 5.0, ["gantry_tilt"]),
        ("failing/notavolume/001", "axial", 4, 1.0, ["no_spacing", "same_position"]),
        ("failing/slicecount/001", "sagittal", 2, 1.0, []),
        ("failing/sliceincrement/001", "axial", 4, 5.0, ["gap"]),
        ("failing/sliceincrement/002", "axial", 4, 0.778, ["gantry_tilt", "gap"]),
        ("failing/sliceorientation/001", "sagittal", 2, 3.3, ["mixed_spacing"]),
        ("generic/anatomical/001", "sagittal", 4, 1.0, []),
        ("generic/anatomical/001_implicit", "sagittal", 4, 1.0, []),
        ("generic/anatomical/002_non_isotropic", "axial", 4, 0.5, []),
        ("philips_enhanced/anatomical/001", "sagittal", 8, 1.2, []),
        ("philips_enhanced/anatomical/001_implicit", "sagittal", 8, 1.0, []),
        ("siemens_multiframe/anatomical/001", "axial", 8, 0.9, []),
    ],
)
def test_geometries_of_the_collection(folder, plane, n_slices, spacing_mm, expected):
    volume = read_dicom_series(ODD / "geometry" / folder)
    assert (volume.plane, len(volume.array)) == (plane, n_slices)
    assert volume.spacing_mm[0] == pytest.approx(spacing_mm, abs=1e-3)
    assert codes(volume) == expected


def test_compressed_series_of_the_collection_are_equal():
    names = ("compressed", "compressed_j2k", "compressed_jpeg", "compressed_jpegls", "compressed_rle")
    first, *others = (read_dicom_series(ODD / "geometry" / "generic" / name / "001") for name in names)
    for other in others:
        np.testing.assert_array_equal(other.array, first.array)
        np.testing.assert_allclose(other.affine, first.affine)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("MR_truncated", "truncated"),
        ("JPEG2000-embedded-sequence-delimiter", "damaged"),
        ("badVR", "damaged"),
        ("SC_rgb_rle_16bit", "colour_image"),
        ("ExplVR_BigEnd", "colour_image"),
        ("no_meta", "no_pixels"),
        ("meta_missing_tsyntax", "no_pixels"),
        ("rtplan_truncated", "no_pixels"),
        ("UN_sequence", "no_pixels"),
    ],
)
def test_damaged_files_of_the_collection_are_refused_with_a_code(name, code):
    with pytest.raises(VolumeError) as refused:
        read_dicom_series(ODD / "damaged" / f"{name}.dcm")
    assert refused.value.code == code


def test_one_image_in_eight_encodings_of_the_collection_is_the_same():
    names = ["", "_RLE", "_bigendian", "_expb", "_implicit", "_jp2klossless", "_jpeg_ls_lossless", "_padded"]
    images = [read_dicom_series(ODD / "damaged" / f"MR_small{name}.dcm").array for name in names]
    for image in images[1:]:
        np.testing.assert_array_equal(image, images[0])


def test_an_oblique_series_is_named_and_measured():
    volume = read_dicom_series(ODD / "oblique_t1")
    assert (volume.plane, codes(volume)) == ("axial", [])
    np.testing.assert_allclose(volume.spacing_mm, (0.667, 0.667, 0.7), atol=1e-3)
    assert plane_of(volume.to_plane("coronal").affine) == "coronal"
