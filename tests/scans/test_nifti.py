"""NIfTI files with everything that tools and networks do to them."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.dicom_series import codes
from helpers.volumes import DIRECTIONS, volume_of

from benchmarks.memory import READ_NIFTI, peak_above_imports
from t4e_utils.scans.geometry import reorient
from t4e_utils.scans.nifti import nifti_header, read_nifti, write_nifti
from t4e_utils.scans.problems import VolumeError
from t4e_utils.scans.volume import Volume

LAYOUT = np.diag([-1.0, -2.0, 3.0, 1.0])  # as BraTS: x to the left, y to the back, z up


def saved(
    path: Path,
    array: np.ndarray,
    affine: np.ndarray | None = LAYOUT,
    kind=nib.Nifti1Image,
    **header,
) -> Path:
    nib.save(kind(array, affine), path)
    if header:
        patch(path, **header)
    return path


def patch(path: Path, **fields) -> None:
    """Change header fields of an uncompressed file, which nibabel would put right when saving."""
    data = path.read_bytes()
    header = nib.Nifti1Header(data[:348])
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + data[348:])


def array_of(dtype: type = np.int16, shape: tuple[int, ...] = (4, 5, 6)) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 100, shape).astype(dtype)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_x_y_z_become_column_row_slice(tmp_path, suffix, kind):
    array = array_of()
    volume = read_nifti(saved(tmp_path / f"scan{suffix}", array, kind=kind))
    np.testing.assert_array_equal(volume.array, array.transpose(2, 1, 0))
    assert volume.spacing_mm == (3.0, 2.0, 1.0)
    assert codes(volume) == []


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
def test_the_dtype_of_the_file_is_kept(tmp_path, dtype):
    assert read_nifti(saved(tmp_path / "scan.nii.gz", array_of(dtype))).array.dtype == dtype


def test_doubles_become_single_precision(tmp_path):
    assert (
        read_nifti(saved(tmp_path / "scan.nii", array_of(np.float64) / 3)).array.dtype == np.float32
    )


def test_big_endian_files_are_read(tmp_path):
    array = array_of()
    image = nib.Nifti1Image(array, LAYOUT, nib.Nifti1Header(endianness=">"))
    nib.save(image, tmp_path / "scan.nii")
    volume = read_nifti(tmp_path / "scan.nii")
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.array, array.transpose(2, 1, 0))


def test_slope_and_intercept_are_applied(tmp_path):
    array = array_of()
    volume = read_nifti(saved(tmp_path / "scan.nii", array, scl_slope=0.5, scl_inter=-3))
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array, array.transpose(2, 1, 0) * 0.5 - 3)


@pytest.mark.parametrize("shape", [(4, 5, 6, 1), (4, 5, 6, 1, 1)])
def test_one_volume_in_four_dimensions_is_one_volume(tmp_path, shape):
    array = array_of(shape=shape)
    volume = read_nifti(saved(tmp_path / "scan.nii.gz", array))
    np.testing.assert_array_equal(volume.array, array.reshape(4, 5, 6).transpose(2, 1, 0))


def test_a_single_slice_is_a_volume(tmp_path):
    assert read_nifti(saved(tmp_path / "scan.nii", array_of(shape=(4, 5)))).array.shape == (1, 5, 4)


@pytest.mark.parametrize("shape", [(4, 5, 6, 2), (4, 5, 6, 1, 3)])
def test_several_volumes_are_refused(tmp_path, shape):
    with pytest.raises(VolumeError, match=r"is \(4, 5, 6, .*\), not one volume") as refused:
        read_nifti(saved(tmp_path / "scan.nii.gz", array_of(shape=shape)))
    assert refused.value.code == "not_3d"


@pytest.mark.parametrize(
    "dtype",
    [np.complex64, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])],
    ids=["complex", "colours"],
)
def test_values_that_are_not_grey_are_refused(tmp_path, dtype):
    with pytest.raises(VolumeError, match="only grey images are scans") as refused:
        read_nifti(saved(tmp_path / "scan.nii.gz", np.zeros((4, 5, 6), dtype)))
    assert refused.value.code == "colour_image"


def test_values_that_are_not_finite_become_zero_and_are_reported(tmp_path):
    array = array_of(np.float32)
    array[0, 0, :3] = np.nan, np.inf, -np.inf
    volume = read_nifti(saved(tmp_path / "scan.nii.gz", array))
    assert codes(volume) == ["not_finite"]
    assert "3 values" in volume.meta["problems"][0].sentence
    np.testing.assert_array_equal(
        volume.array, np.nan_to_num(array, posinf=0, neginf=0).transpose(2, 1, 0)
    )


def test_a_signalling_nan_is_scaled_without_a_warning(tmp_path):
    array = np.ones((4, 5, 6), np.float32)
    array.view(np.uint32)[1, 2, 3] = 0x7F800001
    path = saved(tmp_path / "scan.nii", array)
    patch(path, scl_slope=2.0, scl_inter=0.0)
    volume = read_nifti(path)
    assert codes(volume) == ["not_finite"]
    assert (np.count_nonzero(volume.array), volume.array.max()) == (119, 2.0)


def test_numbers_too_large_for_single_precision_become_zero(tmp_path):
    array = array_of(np.float64)
    array[1, 1, 1] = 1e300
    assert codes(read_nifti(saved(tmp_path / "scan.nii", array))) == ["not_finite"]


# Labels


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_whole_numbers_of_any_dtype_are_labels(tmp_path, dtype):
    array = np.array([0, 1, 2, 4], dtype).reshape(2, 2, 1)
    volume = read_nifti(saved(tmp_path / "seg.nii.gz", array), labels=True, allowed=(0, 1, 2, 4))
    assert volume.array.dtype == np.uint8
    np.testing.assert_array_equal(volume.array[0], [[0, 2], [1, 4]])


@pytest.mark.parametrize("value", [0.5, -1, 256])
def test_other_numbers_are_no_labels(tmp_path, value):
    array = np.array([0, 1, value], np.float32).reshape(3, 1, 1)
    with pytest.raises(VolumeError, match="not whole numbers of 0 to 255") as refused:
        read_nifti(saved(tmp_path / "seg.nii.gz", array), labels=True)
    assert refused.value.code == "not_labels"


def test_labels_that_are_not_allowed_are_named(tmp_path):
    array = np.array([0, 1, 3, 7], np.uint8).reshape(4, 1, 1)
    with pytest.raises(
        VolumeError, match=r"labels \[3, 7\] are not known, only \[0, 1, 2, 4\] are"
    ) as refused:
        read_nifti(saved(tmp_path / "seg.nii.gz", array), labels=True, allowed=(0, 1, 2, 4))
    assert refused.value.code == "unknown_labels"


# Place


def test_lengths_in_metres_become_millimetres(tmp_path):
    image = nib.Nifti1Image(array_of(), np.diag([-0.001, -0.002, 0.003, 1.0]))
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "scan.nii")
    assert read_nifti(tmp_path / "scan.nii").spacing_mm == pytest.approx((3.0, 2.0, 1.0))


def test_an_orientation_that_is_not_stated_is_reported(tmp_path):
    path = saved(tmp_path / "scan.nii", array_of(), sform_code=0, qform_code=0)
    volume = read_nifti(path)
    assert codes(volume) == ["no_orientation"]
    assert volume.plane == "axial"


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_an_affine_that_is_none_is_refused(tmp_path, value):
    path = saved(tmp_path / "scan.nii", array_of(), srow_x=[value] * 4)
    for read in (read_nifti, nifti_header):
        with pytest.raises(VolumeError, match="must be 4x4, finite and invertible") as refused:
            read(path)
        assert refused.value.code == "bad_affine"


# Damage


@pytest.mark.parametrize("share", [0.2, 0.7, 0.999])
def test_a_truncated_file_is_refused(tmp_path, share):
    rng = np.random.default_rng(0)
    whole = saved(
        tmp_path / "whole.nii.gz", rng.normal(size=(20, 20, 20)).astype(np.float32)
    ).read_bytes()
    for name, data in (("cut.nii.gz", whole), ("cut.nii", gzip.decompress(whole))):
        path = tmp_path / name
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(VolumeError, match="get it again") as refused:
            read_nifti(path)
        assert refused.value.code == "truncated"


@pytest.mark.parametrize(
    "data",
    [b"", b"no NIfTI", b"no NIfTI" * 100, gzip.compress(b"no NIfTI" * 100, mtime=0)],
    ids=["empty", "short", "text", "packed text"],
)
def test_a_file_that_is_no_nifti_is_refused(tmp_path, data):
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(data)
    for read in (read_nifti, nifti_header):
        with pytest.raises(VolumeError, match="no NIfTI image") as refused:
            read(path)
        assert refused.value.code == "damaged"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        VolumeError, match=r"gone\.nii\.gz: The file cannot be read \(No such file"
    ) as refused:
        read_nifti(tmp_path / "gone.nii.gz")
    assert refused.value.code == "no_files"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: path.symlink_to("gone.nii"), "No such file"),
    ],
    ids=["folder", "link to itself", "link to nothing"],
)
def test_what_is_no_file_is_named(tmp_path, make, said):
    make(tmp_path / "scan.nii.gz")
    for read in (read_nifti, nifti_header):
        with pytest.raises(VolumeError, match=f"cannot be read .{said}") as refused:
            read(tmp_path / "scan.nii.gz")
        assert refused.value.code == "no_files"


@pytest.mark.parametrize(
    ("name", "dtype", "options"),
    [("scan.nii.gz", np.int16, ""), ("scan.nii", np.float64, ", labels=True, allowed=range(100)")],
    ids=["packed", "labels"],
)
def test_reading_takes_less_than_three_times_the_memory_of_the_array(
    tmp_path, name, dtype, options
):
    array = np.zeros((256, 256, 160), dtype)
    array[::2] = 3
    path = saved(tmp_path / name, array, np.eye(4))
    expression = f"read_nifti({str(path)!r}{options}).array"
    peak, size = peak_above_imports(READ_NIFTI, expression)
    assert size == array.size * (1 if options else 2)
    assert size <= peak < 3 * size


# Headers and writing


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_says_what_reading_says(tmp_path, suffix):
    affine = LAYOUT[:, [1, 2, 0, 3]]  # stored as (y, z, x)
    path = saved(tmp_path / f"scan{suffix}", array_of(), affine)
    header, volume = nifti_header(path), read_nifti(path)
    assert (header["rows"], header["columns"]) == volume.array.shape[1:]
    spacing = [header[f"spacing_{name}_mm"] for name in ("slice", "row", "column")]
    assert tuple(spacing) == volume.spacing_mm == (3.0, 2.0, 1.0)
    assert (header["plane"], header["n_files"], header["bits_stored"], header["modality"]) == (
        "axial",
        1,
        16,
        None,
    )


def test_a_written_file_says_millimetres_and_scanner_coordinates(tmp_path):
    write_nifti(Volume(array_of(), (1.0, 1.0, 1.0), np.eye(4)), tmp_path / "new" / "scan.nii.gz")
    image = nib.load(tmp_path / "new" / "scan.nii.gz")
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.header["sform_code"] > 0
    assert image.shape == (6, 5, 4)


def test_masks_are_written_as_bytes(tmp_path):
    path = write_nifti(
        Volume(array_of() > 50, (1.0, 1.0, 1.0), np.eye(4)), tmp_path / "mask.nii.gz"
    )
    assert nib.load(path).get_data_dtype() == np.uint8


@pytest.mark.parametrize("dtype", [np.int64, np.complex64])
def test_dtypes_without_a_place_in_nifti_are_refused(tmp_path, dtype):
    with pytest.raises(VolumeError, match="has no place in NIfTI") as refused:
        write_nifti(Volume(array_of(dtype), (1.0, 1.0, 1.0), np.eye(4)), tmp_path / "scan.nii")
    assert refused.value.code == "out_of_range"


@pytest.mark.parametrize("directions", DIRECTIONS)
def test_a_nifti_file_of_any_orientation_comes_back_in_axial_display(tmp_path, directions):
    volume = volume_of(array_of(), directions)
    back = read_nifti(write_nifti(volume, tmp_path / "scan.nii.gz"))
    array, affine = reorient(volume.array, volume.affine, "axial")
    np.testing.assert_array_equal(back.array, array)
    np.testing.assert_allclose(back.affine, affine, atol=1e-5)
    assert back.plane == "axial"
    assert back.meta["problems"] == ()
