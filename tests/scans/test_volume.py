"""What is written is read again, in every plane, orientation and dtype.

Real scans lie the right way up.
"""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest

from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.dicom_writing import write_dicom_series
from t4e_utils.scans.geometry import PLANES, display_directions, plane_of, reorient, spacing_of
from t4e_utils.scans.images import read_jpeg_series, write_jpeg_series
from t4e_utils.scans.nifti import read_nifti, write_nifti
from t4e_utils.scans.problems import VolumeError
from t4e_utils.scans.reading import read_each, read_series, series_header
from t4e_utils.scans.volume import Volume

REAL = Path(__file__).parents[3] / "shared" / "data" / "real"
needs_scans = pytest.mark.skipif(not REAL.is_dir(), reason="the real scans are not there")
SHAPE = (3, 4, 5)
SPACING = (3.0, 0.5, 0.75)
SIGNED_PERMUTATIONS = [
    np.eye(3)[list(order)] * signs
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]
OBLIQUE = np.linalg.qr(np.array([[1.0, 0.2, -0.1], [0.1, 1.0, 0.3], [0.2, -0.3, 1.0]]))[0]
DIRECTIONS = [
    *SIGNED_PERMUTATIONS,
    OBLIQUE,
    *(OBLIQUE @ display_directions(plane) for plane in PLANES),
]


def volume_of(
    array: np.ndarray, directions: np.ndarray | None = None, *, plane: str = "axial"
) -> Volume:
    affine = np.eye(4)
    affine[:3, :3] = (display_directions(plane) if directions is None else directions) * SPACING
    affine[:3, 3] = (-12.5, 30.25, 7.125)
    return Volume(array, SPACING, affine)


def array_of(dtype: type = np.uint16, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    kind = np.iinfo(dtype)
    return np.random.default_rng(11).integers(kind.min, kind.max, shape, endpoint=True, dtype=dtype)


def write_series(volume: Volume, folder: Path, **options) -> Path:
    write_dicom_series(
        volume, folder, **{"patient_id": "00001", "series_description": "T1w", **options}
    )
    return folder


# Round trips


@pytest.mark.parametrize("directions", DIRECTIONS)
def test_a_dicom_series_of_any_orientation_comes_back_in_display(tmp_path, directions):
    volume = volume_of(array_of(), directions)
    back = read_dicom_series(write_series(volume, tmp_path))
    array, affine = reorient(volume.array, volume.affine, volume.plane)
    np.testing.assert_array_equal(back.array, array)
    np.testing.assert_allclose(back.affine, affine, atol=1e-5)
    np.testing.assert_allclose(back.spacing_mm, spacing_of(affine), atol=1e-6)
    assert back.meta["problems"] == ()


@pytest.mark.parametrize("directions", DIRECTIONS)
def test_a_nifti_file_of_any_orientation_comes_back_in_axial_display(tmp_path, directions):
    volume = volume_of(array_of(), directions)
    back = read_nifti(write_nifti(volume, tmp_path / "scan.nii.gz"))
    array, affine = reorient(volume.array, volume.affine, "axial")
    np.testing.assert_array_equal(back.array, array)
    np.testing.assert_allclose(back.affine, affine, atol=1e-5)
    assert back.plane == "axial"
    assert back.meta["problems"] == ()


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_a_series_in_display_comes_back_as_it_was_in_every_dtype(tmp_path, plane, dtype):
    volume = volume_of(array_of(dtype), plane=plane)
    for back in (
        read_dicom_series(write_series(volume, tmp_path / "dicom")),
        read_nifti(write_nifti(volume, tmp_path / "scan.nii")).to_plane(plane),
    ):
        assert back.array.dtype == dtype
        np.testing.assert_array_equal(back.array, volume.array)
        np.testing.assert_allclose(back.affine, volume.affine, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_run_length_compression_loses_nothing(tmp_path, dtype):
    volume = volume_of(array_of(dtype, (2, 33, 47)))
    np.testing.assert_array_equal(
        read_dicom_series(write_series(volume, tmp_path, compress="rle")).array, volume.array
    )


def test_slices_of_an_odd_number_of_bytes_are_padded_and_read(tmp_path):
    volume = volume_of(array_of(np.uint8, (2, 3, 5)))
    back = read_dicom_series(write_series(volume, tmp_path))
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.meta["problems"] == ()


def test_a_turned_view_is_written_as_its_copy(tmp_path):
    volume = volume_of(array_of()).to_plane("sagittal")
    back = read_dicom_series(write_series(volume, tmp_path))
    np.testing.assert_array_equal(back.array, volume.array)


def test_big_endian_arrays_are_written_right(tmp_path):
    array = array_of()
    back = read_dicom_series(write_series(volume_of(array.astype(">u2")), tmp_path))
    np.testing.assert_array_equal(back.array, array)


def test_equal_volumes_give_equal_files_and_other_names_other_identifiers(tmp_path):
    volume = volume_of(array_of())
    for name in ("a", "b"):
        write_series(volume, tmp_path / name)
        write_nifti(volume, tmp_path / f"{name}.nii.gz")
    write_series(volume, tmp_path / "c", series_description="T2w")
    write_series(volume, tmp_path / "d", uid_seed="2")
    first = {name: (tmp_path / name / "Image-1.dcm").read_bytes() for name in "abcd"}
    assert first["a"] == first["b"]
    headers = [pydicom.dcmread(tmp_path / name / "Image-1.dcm") for name in "acd"]
    assert len({header.SeriesInstanceUID for header in headers}) == 3
    assert len({header.StudyInstanceUID for header in headers}) == 1
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_written_files_say_where_they_lie_in_dicom_terms(tmp_path):
    folder = write_series(volume_of(array_of(), plane="coronal"), tmp_path)
    header = pydicom.dcmread(folder / "Image-2.dcm")
    assert header.ImageOrientationPatient == [1, 0, 0, 0, 0, -1]
    assert header.ImagePositionPatient == [12.5, -30.25 + 3.0, 7.125]
    assert header.PixelSpacing == [0.5, 0.75]
    assert (header.InstanceNumber, header.PatientID, header.SeriesDescription) == (
        2,
        "00001",
        "T1w",
    )


def test_jpeg_slices_come_back_nearly_as_they_were(tmp_path):
    smooth = np.stack([cv2.resize(image, (40, 30)) for image in array_of(np.uint8, (12, 3, 4))])
    write_jpeg_series(volume_of(smooth), tmp_path)
    back = read_jpeg_series(tmp_path)
    assert np.abs(back.array.astype(int) - smooth).max() < 12
    assert (back.plane, back.spacing_mm, back.meta["sorted_by"]) == (
        "axial",
        (1.0, 1.0, 1.0),
        "file number",
    )


# JPEG series


def test_jpeg_files_are_ordered_by_number_and_made_grey(tmp_path):
    for number in (2, 10, 1):
        cv2.imwrite(
            str(tmp_path / f"Image-{number}.jpg"), np.full((8, 9, 3), number * 20, np.uint8)
        )
    assert np.abs(read_jpeg_series(tmp_path).array[:, 0, 0] - np.array([20, 40, 200])).max() <= 1


def test_odd_jpeg_files_are_left_out_and_reported(tmp_path):
    write_jpeg_series(volume_of(array_of(np.uint8)), tmp_path)
    (tmp_path / "Image-7.jpg").write_bytes(b"no image")
    cv2.imwrite(str(tmp_path / "Image-8.jpg"), np.zeros((9, 9), np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    volume = read_series(tmp_path, source="jpg")
    assert volume.array.shape == SHAPE
    assert [problem.code for problem in volume.meta["problems"]] == ["damaged", "mixed_sizes"]


def test_a_jpeg_that_ends_too_early_is_left_out_and_not_filled_up_with_grey(tmp_path):
    write_jpeg_series(volume_of(array_of(np.uint8, (3, 40, 50))), tmp_path)
    path = tmp_path / "Image-2.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    assert cv2.imread(str(path)) is not None  # the decoder takes it
    volume = read_jpeg_series(tmp_path)
    assert len(volume.array) == 2
    assert [(problem.code, problem.path) for problem in volume.meta["problems"]] == [
        ("truncated", str(path))
    ]


def test_of_several_scans_those_are_read_that_can_be_and_all_problems_are_kept(tmp_path):
    write_series(volume_of(array_of()), tmp_path / "good")
    write_series(volume_of(array_of(shape=(6, 4, 5))), tmp_path / "odd")
    (tmp_path / "odd" / "Image-3.dcm").unlink()
    volumes, problems = read_each(
        read_series, {name: str(tmp_path / name) for name in ("good", "odd", "gone")}
    )
    assert list(volumes) == ["good", "odd"]
    assert [(problem.code, problem.path) for problem in problems] == [
        ("gap", str(tmp_path / "odd")),
        ("no_files", str(tmp_path / "gone")),
    ]


def test_a_folder_without_readable_jpeg_is_refused(tmp_path):
    (tmp_path / "Image-1.jpg").write_bytes(b"no image")
    for read in (read_jpeg_series, lambda folder: series_header(folder, source="jpg")):
        with pytest.raises(VolumeError, match="cannot be decoded") as refused:
            read(tmp_path)
        assert refused.value.code == "damaged"


def test_the_header_of_a_jpeg_series_knows_size_only(tmp_path):
    write_jpeg_series(volume_of(array_of(np.uint8)), tmp_path)
    header = series_header(tmp_path, source="jpg")
    assert (header["n_files"], header["rows"], header["columns"], header["bits_stored"]) == (
        3,
        4,
        5,
        8,
    )
    assert header["plane"] is header["spacing_slice_mm"] is header["modality"] is None


# Volumes


def test_a_volume_turned_to_a_plane_says_so(tmp_path):
    volume = read_dicom_series(write_series(volume_of(array_of()), tmp_path))
    turned = volume.to_plane("coronal")
    assert (turned.plane, turned.meta["plane"], turned.array.shape) == (
        "coronal",
        "coronal",
        (4, 3, 5),
    )
    assert turned.spacing_mm == pytest.approx((0.5, 3.0, 0.75))
    assert volume.plane == "axial"
    np.testing.assert_array_equal(turned.to_plane("axial").array, volume.array)


def test_arrays_that_are_read_lie_in_memory_in_order(tmp_path):
    volume = volume_of(array_of(), SIGNED_PERMUTATIONS[-1])
    assert read_dicom_series(write_series(volume, tmp_path / "s")).array.flags.c_contiguous
    assert read_nifti(write_nifti(volume, tmp_path / "scan.nii")).array.flags.c_contiguous


@pytest.mark.parametrize("read", [read_series, series_header])
def test_an_unknown_source_is_refused(tmp_path, read):
    with pytest.raises(ValueError, match="source = 'png' is not known: choose from dicom, jpg"):
        read(tmp_path, source="png")


@pytest.mark.parametrize("dtype", [np.float32, np.int32, bool])
def test_dicom_refuses_what_it_has_no_place_for(tmp_path, dtype):
    with pytest.raises(VolumeError, match="DICOM takes uint8, uint16 or int16") as refused:
        write_series(volume_of(np.zeros(SHAPE, dtype)), tmp_path)
    assert refused.value.code == "out_of_range"


def test_dicom_refuses_rows_and_columns_that_are_not_perpendicular(tmp_path):
    volume = volume_of(array_of())
    volume.affine[:3, 1] += volume.affine[:3, 2]
    with pytest.raises(VolumeError, match="not perpendicular") as refused:
        write_series(volume, tmp_path)
    assert refused.value.code == "bad_affine"


def test_a_compression_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(ValueError, match="compress = 'jpeg' is not known"):
        write_series(volume_of(array_of()), tmp_path, compress="jpeg")


def test_jpeg_refuses_more_than_8_bits(tmp_path):
    with pytest.raises(VolumeError, match=r"use intensity\.to_uint8"):
        write_jpeg_series(volume_of(array_of()), tmp_path)


# Real scans


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
