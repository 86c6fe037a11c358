"""Whatever form a scan has, it is read alike; real scans lie the right way up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.volumes import full_range, volume_of, write_series

from t4e_utils import T4EError
from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.geometry import PLANES, plane_of, spacing_of
from t4e_utils.scans.nifti import read_nifti, write_nifti
from t4e_utils.scans.reading import read_each, read_series, series_header

REAL = Path(__file__).parents[3] / "shared" / "data" / "real"
needs_scans = pytest.mark.skipif(not REAL.is_dir(), reason="the real scans are not there")


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_a_series_in_display_comes_back_as_it_was_in_every_dtype(tmp_path, plane, dtype):
    volume = volume_of(full_range(dtype), plane=plane)
    for back in (
        read_dicom_series(write_series(volume, tmp_path / "dicom")),
        read_nifti(write_nifti(volume, tmp_path / "scan.nii")).to_plane(plane),
    ):
        assert back.array.dtype == dtype
        np.testing.assert_array_equal(back.array, volume.array)
        np.testing.assert_allclose(back.affine, volume.affine, atol=1e-5)


def test_of_several_scans_those_are_read_that_can_be_and_all_problems_are_kept(tmp_path):
    write_series(volume_of(full_range()), tmp_path / "good")
    write_series(volume_of(full_range(shape=(6, 4, 5))), tmp_path / "odd")
    (tmp_path / "odd" / "Image-3.dcm").unlink()
    volumes, problems = read_each(
        read_series, {name: str(tmp_path / name) for name in ("good", "odd", "gone")}
    )
    assert list(volumes) == ["good", "odd"]
    assert [(problem.code, problem.path) for problem in problems] == [
        ("gap", str(tmp_path / "odd")),
        ("no_files", str(tmp_path / "gone")),
    ]


@pytest.mark.parametrize("read", [read_series, series_header])
def test_an_unknown_source_is_refused(tmp_path, read):
    with pytest.raises(T4EError, match="source = 'png' is not known: choose from dicom, jpg"):
        read(tmp_path, source="png")


@needs_scans
@pytest.mark.parametrize(
    ("series", "contrast", "plane"),
    [
        ("FLAIR", "flair", "coronal"),
        ("T1w", "t1", "sagittal"),
        ("T1wCE", "t1ce", "axial"),
        ("T2w", "t2", "axial"),
    ],
)
def test_a_real_volume_cut_in_a_plane_is_the_dicom_series_of_that_plane(series, contrast, plane):
    dicom = read_dicom_series(REAL / "rsna" / "train" / "91001" / series)
    cut = read_nifti(
        REAL / "brats21" / "BraTS2021_90001" / f"BraTS2021_90001_{contrast}.nii.gz"
    ).to_plane(plane)
    assert dicom.plane == plane
    np.testing.assert_array_equal(dicom.array, np.maximum(cut.array[::3], 0))
    np.testing.assert_allclose(dicom.affine @ (1, 1, 1, 1), cut.affine @ (3, 1, 1, 1))


@needs_scans
@pytest.mark.parametrize(
    ("series", "shape"),
    [
        ("FLAIR", (26, 256, 208)),
        ("T1w", (26, 224, 256)),
        ("T1wCE", (26, 224, 256)),
        ("T2w", (26, 256, 224)),
    ],
)
def test_a_raw_clinical_series_is_read_without_problems(series, shape):
    folder = REAL / "rsna" / "test" / "90002" / series
    volume = read_dicom_series(folder)
    assert volume.array.shape == shape
    assert (volume.plane, volume.meta["problems"]) == ("axial", ())
    assert volume.spacing_mm == pytest.approx((5.5, 0.898, 0.898), abs=1e-3)
    header = series_header(folder)
    assert (header["plane"], header["rows"], header["columns"]) == ("axial", *shape[1:])
    assert header["spacing_slice_mm"] == pytest.approx(5.5, abs=1e-3)


@needs_scans
def test_the_forehead_is_on_top_and_the_vertex_last_in_a_raw_axial_series():
    array = read_dicom_series(REAL / "rsna" / "test" / "90002" / "T1w").array.astype(float)
    eyes = array[9]  # between the eyes lies the nose, which is brighter than the air beside it
    assert eyes[:40, 100:150].mean() > eyes[:40, :30].mean()
    head_area = (array > 100).sum(axis=(1, 2))
    assert head_area[-1] < head_area[13]


@needs_scans
@pytest.mark.parametrize("case", ["BraTS2021_00006", "BraTS2021_90001"])
def test_a_real_segmentation_is_read_as_labels_on_the_grid_of_its_scan(case):
    labels = read_nifti(
        REAL / "brats21" / case / f"{case}_seg.nii.gz", labels=True, allowed=(0, 1, 2, 4)
    )
    scan = read_nifti(REAL / "brats21" / case / f"{case}_flair.nii.gz")
    assert labels.array.dtype == np.uint8
    assert labels.array.shape == scan.array.shape == (155, 240, 240)
    np.testing.assert_allclose(labels.affine, scan.affine)
    assert (scan.array[labels.array > 0] != 0).mean() > 0.99
    assert (plane_of(scan.affine), spacing_of(scan.affine)) == ("axial", (1.0, 1.0, 1.0))
