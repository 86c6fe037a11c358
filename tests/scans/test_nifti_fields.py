"""NIfTI headers that say something unusable beside something usable, and those that claim much."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.dicom_series import codes

from t4e_utils.scans.geometry import ROUNDING_VOXELS
from t4e_utils.scans.nifti import nifti_header, read_nifti
from t4e_utils.scans.nifti_fields import parse_header
from t4e_utils.scans.problems import VolumeError
from t4e_utils.scans.volume import Volume

NAN, INF = np.nan, np.inf
SHAPE = (4, 5, 6)
OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.1, -0.2, 3.0) * (0.5, 0.75, 3.0), (20.0, -30.0, 7.0)
)
KINDS = [nib.Nifti1Image, nib.Nifti2Image]


def values(dtype: type = np.int16) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 100, SHAPE).astype(dtype)


def written(
    path: Path, *, kind=nib.Nifti1Image, order: str = "<", extensions=(), cut: int = 0, **fields
) -> Path:
    """Write a file of which sform and qform say `OBLIQUE`, and then change its header as it is.

    Args:
        path: `.nii` or `.nii.gz`.
        kind: NIfTI-1 or NIfTI-2.
        order: of the bytes.
        extensions: bytes of each.
        cut: bytes that are lost between the header and the values.
        fields: numbers of the header; of an array (index, number) pairs.
    """
    image = kind(values(), None, kind.header_class(endianness=order))
    image.set_data_dtype(np.int16)
    image.set_sform(OBLIQUE, 1)
    image.set_qform(OBLIQUE, 1)
    image.header.set_xyzt_units("mm")
    image.header.extensions.extend(nib.nifti1.Nifti1Extension(4, data) for data in extensions)
    plain = path.with_name("plain.nii")
    nib.save(image, plain)
    data, size = plain.read_bytes(), kind.header_class.sizeof_hdr
    header = kind.header_class(data[:size], order, check=False)
    for name, value in fields.items():
        if isinstance(value, dict):
            for index, number in value.items():
                header[name][index] = number
        else:
            header[name] = value
    data = header.binaryblock + data[size + cut :]
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


@pytest.fixture
def good(tmp_path) -> Volume:
    """What all files of `written` are, whatever one statement of their header says."""
    volume = read_nifti(written(tmp_path / "good.nii"))
    assert codes(volume) == []
    return volume


def assert_read_as(path: Path, expected: Volume, *found: str) -> Volume:
    """Compare a file with a volume, its codes with those found, and its header with it."""
    volume, header = read_nifti(path), nifti_header(path)
    np.testing.assert_array_equal(volume.array, expected.array)
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-4)
    assert codes(volume) == list(found)
    assert header["problems"] == volume.meta["problems"]
    assert (header["n_slices"], header["rows"], header["columns"]) == volume.array.shape
    np.testing.assert_array_equal(header["affine"], volume.affine)
    return volume


# Extensions


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("lengths", [(1,), (150,), (190,), (70_000,), (20, 200_000, 3)])
def test_the_values_begin_after_extensions_of_any_length(
    tmp_path, good, kind, order, suffix, lengths
):
    extensions = [b"<AFNI_attributes>" + b" " * n for n in lengths]
    path = written(tmp_path / f"scan{suffix}", kind=kind, order=order, extensions=extensions)
    volume = assert_read_as(path, good)
    image = nib.load(path)
    assert len(image.header.extensions) == len(lengths)
    assert volume.array.sum() == np.asarray(image.dataobj).sum()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_an_extension_with_a_damaged_length_is_not_in_the_way(tmp_path, good, suffix):
    for length in (0, 7, 1 << 30, -16):
        path = written(tmp_path / "plain.nii", extensions=[b"JSON" * 50])
        data = bytearray(path.read_bytes())
        data[352:356] = length.to_bytes(4, "little", signed=True)
        path = tmp_path / f"scan{suffix}"
        path.write_bytes(gzip.compress(data, mtime=0) if suffix.endswith("gz") else data)
        assert_read_as(path, good)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("offset", [0, 100, -1, 1 << 40])
@pytest.mark.parametrize("extensions", [(), (b"JSON" * 70, b"XML")])
def test_an_offset_that_is_no_place_is_replaced_by_the_end_of_the_header(
    tmp_path, good, kind, suffix, offset, extensions
):
    path = tmp_path / f"scan{suffix}"
    written(path, kind=kind, extensions=extensions, vox_offset=offset)
    assert_read_as(path, good, "bad_value")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("offset", [NAN, INF, 352.5, 353, 368, 5000])
def test_the_length_of_a_file_shows_where_its_values_begin(tmp_path, good, suffix, offset):
    path = written(tmp_path / f"scan{suffix}", vox_offset=offset)
    assert_read_as(path, good, "bad_value")


def test_an_offset_that_was_not_moved_by_an_extension_is_put_right(tmp_path, good):
    path = written(tmp_path / "scan.nii.gz", extensions=[b"x" * 200], vox_offset=352)
    volume = assert_read_as(path, good, "bad_value")
    assert "begin at byte 352 and do at 560" in volume.meta["problems"][0].sentence


def test_a_header_without_the_four_bytes_for_extensions_is_read(tmp_path, good):
    assert_read_as(written(tmp_path / "scan.nii", vox_offset=0, cut=4), good, "bad_value")
    assert_read_as(written(tmp_path / "scan.nii", vox_offset=348, cut=4), good)


# Where the volume lies: one statement is enough


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "fields",
    [
        {"srow_x": 0, "srow_y": 0, "srow_z": 0},
        {"srow_y": 0},
        {"srow_x": {1: NAN}},
        {"srow_z": {3: INF}},
        {"srow_x": {3: 3e9}},
        {"srow_x": 1, "srow_y": 1, "srow_z": 1},
    ],
    ids=["zeros", "a row of zeros", "NaN", "infinite", "too far", "flat"],
)
def test_an_sform_that_cannot_be_used_gives_way_to_the_qform(tmp_path, good, kind, order, fields):
    path = written(tmp_path / "scan.nii", kind=kind, order=order, **fields)
    volume = assert_read_as(path, good, "bad_affine")
    assert "The sform cannot be used." in volume.meta["problems"][0].sentence
    assert volume.meta["problems"][0].sentence.endswith("The qform is taken.")


@pytest.mark.parametrize(
    "fields",
    [
        {"quatern_b": 0.9, "quatern_c": 0.9, "quatern_d": 0.9},
        {"quatern_b": NAN},
        {"pixdim": {2: 0}},
        {"pixdim": {1: NAN}},
        {"pixdim": {3: 5e9}},
        {"qoffset_z": INF},
    ],
    ids=["too long", "NaN", "no size", "size NaN", "size too large", "infinitely far"],
)
def test_a_qform_that_cannot_be_used_gives_way_to_the_sform(tmp_path, good, fields):
    volume = assert_read_as(written(tmp_path / "scan.nii.gz", **fields), good, "bad_affine")
    assert "The qform cannot be used." in volume.meta["problems"][0].sentence
    assert volume.meta["problems"][0].sentence.endswith("The sform is taken.")


def test_what_neither_states_is_refused(tmp_path):
    path = written(tmp_path / "scan.nii", srow_x=0, quatern_b=2)
    for read in (read_nifti, nifti_header):
        with pytest.raises(
            VolumeError, match=r"The sform cannot be used\..* invertible"
        ) as refused:
            read(path)
        assert refused.value.code == "bad_affine"
    path = written(tmp_path / "scan.nii", sform_code=0, quatern_b=2)
    with pytest.raises(VolumeError, match=r"quaternion is \(2, .*\), longer than 1. Correct"):
        read_nifti(path)
    path = written(tmp_path / "scan.nii", sform_code=0, qform_code=0, pixdim={1: 0})
    with pytest.raises(
        VolumeError, match=r"voxel sizes are \[0.0, 0.75, 3.0\]: they must be"
    ) as refused:
        read_nifti(path)
    assert refused.value.code == "bad_affine"


@pytest.mark.parametrize("change", [{"qoffset_x": 25}, {"quatern_d": 0}, {"pixdim": {1: 0.6}}])
def test_of_two_places_that_differ_the_sform_is_taken(tmp_path, good, change):
    volume = assert_read_as(written(tmp_path / "scan.nii", **change), good, "bad_affine")
    assert "voxels apart: the sform is taken." in volume.meta["problems"][0].sentence


def test_a_place_is_the_same_by_sform_alone_and_by_qform_alone(tmp_path, good):
    assert_read_as(written(tmp_path / "scan.nii", qform_code=0), good)
    assert_read_as(written(tmp_path / "scan.nii", sform_code=0), good)


@pytest.mark.parametrize("tilt", [0, 1e-4, 3e-4, 1e-3, 3e-3, 0.03])
def test_a_tilt_that_a_quaternion_can_hardly_hold_is_one_place(tilt):
    rng, shape = np.random.default_rng(0), (240, 240, 155)
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header["vox_offset"] = 352
    for _ in range(20):
        turn = nib.eulerangles.euler2mat(*(rng.normal(size=3) * tilt))
        affine = nib.affines.from_matvec(turn @ np.diag([-1, -1, 1.0]), rng.uniform(-200, 200, 3))
        header.set_sform(affine, 1)
        header.set_qform(affine, 1)
        problems: list = []
        parse_header(header.binaryblock + bytes(196), Path("scan.nii"), problems)
        assert problems == []


def test_a_turn_by_180_degrees_that_lost_its_last_digits_is_one(tmp_path):
    fields = {"quatern_b": 0, "quatern_c": 0, "quatern_d": 1.00001, "sform_code": 0}
    volume = read_nifti(written(tmp_path / "scan.nii", **fields))
    expected = np.diag([3.0, -0.75, -0.5])[:, [0, 1, 2]]
    np.testing.assert_allclose(volume.affine[[2, 1, 0], :3], expected, atol=1e-5)
    assert codes(volume) == ["bad_value"]
    fields["quatern_d"] = 1 + 1e-7
    assert codes(read_nifti(written(tmp_path / "scan.nii", **fields))) == []


@pytest.mark.parametrize(("qfac", "sign"), [(0, 1), (NAN, 1), (5, 1), (-3, -1)])
def test_a_qfac_that_is_none_keeps_its_sign(tmp_path, qfac, sign):
    path = written(tmp_path / "scan.nii", sform_code=0, pixdim={0: qfac})
    expected = read_nifti(written(tmp_path / "right.nii", sform_code=0, pixdim={0: sign}))
    assert_read_as(path, expected, "bad_value")


def test_voxel_sizes_lose_their_sign(tmp_path, good):
    assert_read_as(written(tmp_path / "a.nii", sform_code=0, pixdim={1: -0.5}), good, "bad_value")
    assert_read_as(written(tmp_path / "b.nii", qform_code=0, pixdim={1: -0.5}), good, "bad_value")
    path = written(tmp_path / "c.nii", sform_code=0, qform_code=0, pixdim={3: -3})
    volume = read_nifti(path)
    assert (volume.spacing_mm, codes(volume)) == ((3.0, 0.75, 0.5), ["bad_value", "no_orientation"])


@pytest.mark.parametrize("size", [0, NAN, 0.6])
def test_voxel_sizes_that_the_sform_contradicts_are_reported(tmp_path, good, size):
    path = written(tmp_path / "scan.nii", qform_code=0, pixdim={2: size})
    volume = assert_read_as(path, good, "bad_value")
    assert f"{size:g} x 3, those of the sform 0.5 x 0.75 x 3" in volume.meta["problems"][0].sentence


@pytest.mark.parametrize(("code", "found"), [(5, []), (17, ["bad_value"])])
def test_a_code_beyond_the_list_is_still_a_statement(tmp_path, good, code, found):
    assert_read_as(written(tmp_path / "scan.nii", sform_code=code), good, *found)


def test_a_negative_code_is_none(tmp_path, good):
    path = written(tmp_path / "scan.nii", sform_code=-1, srow_x=0)
    assert_read_as(path, good, "bad_value")


def test_one_slice_needs_no_thickness(tmp_path):
    path = written(tmp_path / "scan.nii", dim={0: 2}, sform_code=0, pixdim={3: 0})
    volume = read_nifti(path)
    assert (volume.array.shape, volume.spacing_mm) == ((1, 5, 4), pytest.approx((1, 0.75, 0.5)))
    assert "[0.5, 0.75, 1.0] are taken" in volume.meta["problems"][1].sentence


# Lengths


@pytest.mark.parametrize("unit", [0, 2, 10, 192])
def test_lengths_are_mm_where_nothing_else_is_said(tmp_path, good, unit):
    assert_read_as(written(tmp_path / "scan.nii", xyzt_units=unit), good)


@pytest.mark.parametrize("unit", [1, 3, 5, 7])
def test_a_unit_that_makes_no_sense_is_taken_as_mm(tmp_path, good, unit):
    """1 is metre and 3 micrometre; voxels of 0.5 m or 0.5 micrometres are no scan's."""
    volume = assert_read_as(written(tmp_path / "scan.nii", xyzt_units=unit), good, "bad_value")
    assert "taken as mm" in volume.meta["problems"][0].sentence


@pytest.mark.parametrize(("unit", "factor"), [(1, 1e-3), (3, 1e3)])
def test_lengths_in_another_unit_are_brought_to_mm(tmp_path, good, unit, factor):
    affine = OBLIQUE.copy()
    affine[:3] *= factor
    image = nib.Nifti1Image(values(), affine)
    image.set_qform(affine, 1)
    image.header["xyzt_units"] = unit
    nib.save(image, tmp_path / "scan.nii.gz")
    assert_read_as(tmp_path / "scan.nii.gz", good)


@pytest.mark.parametrize(
    ("factor", "said"),
    [(1000, "500 x 750 x 3000 mm apart"), (0.005, "0.0025 x 0.00375 x 0.015 mm apart")],
)
def test_voxels_of_no_scan_are_reported(tmp_path, factor, said):
    nib.save(nib.Nifti1Image(values(), OBLIQUE * [*[factor] * 3, 1]), tmp_path / "scan.nii")
    for problems in (
        read_nifti(tmp_path / "scan.nii").meta["problems"],
        nifti_header(tmp_path / "scan.nii")["problems"],
    ):
        assert said in " ".join(problem.sentence for problem in problems)
        assert {problem.code for problem in problems} == {"bad_value"}


def test_a_place_that_is_far_away_is_reported(tmp_path):
    affine = OBLIQUE.copy()
    affine[0, 3] = 3e6
    nib.save(nib.Nifti1Image(values(), affine), tmp_path / "scan.nii")
    (problem,) = read_nifti(tmp_path / "scan.nii").meta["problems"]
    assert (problem.code, "3e+06 mm from the origin" in problem.sentence) == ("bad_value", True)


@pytest.mark.parametrize("place", [{"srow_x": {0: 5e9}}, {"srow_x": {3: 2e9}}])
def test_lengths_that_are_none_are_refused(tmp_path, place):
    path = written(tmp_path / "scan.nii", qform_code=0, **place)
    for read in (read_nifti, nifti_header):
        with pytest.raises(VolumeError, match="finite and invertible") as refused:
            read(path)
        assert refused.value.code == "bad_affine"


# Slope and intercept


@pytest.mark.parametrize(
    ("slope", "intercept", "found"),
    [(0, 0, []), (0, 7, []), (NAN, NAN, []), (NAN, 0, []), (INF, 0, ["bad_value"])]
    + [(NAN, 7, ["bad_value"]), (1, NAN, ["bad_value"]), (1, -INF, ["bad_value"])],
)
def test_a_slope_that_is_none_leaves_the_values_as_stored(tmp_path, good, slope, intercept, found):
    path = written(tmp_path / "scan.nii", scl_slope=slope, scl_inter=intercept)
    assert assert_read_as(path, good, *found).array.dtype == np.int16


def test_an_intercept_that_is_none_leaves_the_slope(tmp_path, good):
    volume = read_nifti(written(tmp_path / "scan.nii.gz", scl_slope=2, scl_inter=NAN))
    np.testing.assert_array_equal(volume.array, good.array * np.float32(2))
    assert codes(volume) == ["bad_value"]
    assert "intercept is nan: taken as 0" in volume.meta["problems"][0].sentence


# Axes and types


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("dim", "found"),
    [
        ({0: 0}, ["bad_value"]),
        ({0: -5}, ["bad_value"]),
        ({0: 300}, ["bad_value"]),
        ({0: 3 << 8}, ["bad_value"]),
        ({0: 4, 4: 1}, []),
        ({0: 4, 4: 0}, ["bad_value"]),
        ({0: 7, 4: 1, 5: 0, 6: 1, 7: 0}, ["bad_value"]),
        ({0: 3, 4: 0, 5: -7}, []),
    ],
)
def test_sizes_of_axes_are_read_where_they_are_usable(tmp_path, good, kind, dim, found):
    path = written(tmp_path / "scan.nii", kind=kind, dim=dim)
    assert_read_as(path, good, *found)


@pytest.mark.parametrize("dim", [{1: 0}, {3: -6}, {0: 1}, {0: 4, 4: 2}, {0: 4, 4: -2}])
def test_sizes_that_are_none_of_one_volume_are_refused(tmp_path, dim):
    path = written(tmp_path / "scan.nii", dim=dim)
    for read in (read_nifti, nifti_header):
        with pytest.raises(VolumeError, match="not one volume") as refused:
            read(path)
        assert refused.value.code == "not_3d"


def test_the_size_of_the_header_may_be_missing(tmp_path, good):
    for kind in KINDS:
        for order in "<>":
            path = written(tmp_path / "scan.nii", kind=kind, order=order, sizeof_hdr=0)
            assert_read_as(path, good)


def test_numbers_that_nobody_uses_do_not_matter(tmp_path, good):
    fields = {"cal_min": NAN, "cal_max": INF, "toffset": NAN, "bitpix": 7, "slice_code": 99}
    assert_read_as(written(tmp_path / "scan.nii", descrip=b"\xff" * 80, **fields), good)


@pytest.mark.parametrize("code", [0, 3, 999, -1])
def test_a_type_that_is_not_known_is_named(tmp_path, code):
    path = written(tmp_path / "scan.nii", datatype=code)
    for read in (read_nifti, nifti_header):
        with pytest.raises(VolumeError, match=f"The data type {code} is not known") as refused:
            read(path)
        assert refused.value.code == "damaged"


# Lengths of files


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_bytes_after_the_values_are_passed_over_and_reported(tmp_path, good, suffix):
    data = written(tmp_path / "scan.nii").read_bytes() + bytes(77)
    path = tmp_path / f"more{suffix}"
    path.write_bytes(gzip.compress(data, mtime=0) if suffix.endswith("gz") else data)
    volume = read_nifti(path)
    np.testing.assert_array_equal(volume.array, good.array)
    assert [problem.sentence for problem in volume.meta["problems"]] == [
        "The file has 77 bytes after its values: they are passed over."
    ]


def test_a_file_packed_in_several_parts_is_one(tmp_path, good):
    data = written(tmp_path / "scan.nii").read_bytes()
    parts = [
        gzip.compress(data[start : start + 150], mtime=0) for start in range(0, len(data), 150)
    ]
    (tmp_path / "parts.nii.gz").write_bytes(b"".join(parts) + bytes(512))  # padded as by tar
    assert_read_as(tmp_path / "parts.nii.gz", good)


def test_a_wrong_check_sum_is_noticed(tmp_path):
    path = written(tmp_path / "scan.nii.gz")
    data = bytearray(path.read_bytes())
    data[-8] ^= 1  # RFC 1952, CRC32
    path.write_bytes(data)
    with pytest.raises(VolumeError, match="CRC check failed") as refused:
        read_nifti(path)
    assert refused.value.code == "truncated"


def test_a_file_that_was_cut_is_noticed_by_its_header_where_it_is_not_packed(tmp_path):
    path = written(tmp_path / "scan.nii")
    path.write_bytes(path.read_bytes()[:-1])
    for read in (read_nifti, nifti_header):
        with pytest.raises(VolumeError, match=r"ends before its \(6, 5, 4\) values") as refused:
            read(path)
        assert refused.value.code == "truncated"


# Claims


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("datatype", [2, 4, 16, 64])
@pytest.mark.parametrize("sizes", [(1200,) * 3, (30_000,) * 3, (1024, 1024, 1025)])
def test_a_claim_beyond_the_bound_is_refused_before_anything_is_read(
    tmp_path, suffix, datatype, sizes
):
    dim = dict(enumerate((3, *sizes)))
    path = written(tmp_path / f"scan{suffix}", dim=dim, datatype=datatype)
    for read in (read_nifti, nifti_header):
        with pytest.raises(
            VolumeError, match=f"holds {sizes[0]} x .*, more than 1,073,741,824"
        ) as refused:
            read(path)
        assert refused.value.code == "too_large"


def test_a_long_ct_is_within_the_bound(tmp_path):
    path = written(tmp_path / "scan.nii.gz", dim={1: 512, 2: 512, 3: 2000}, datatype=16)
    assert nifti_header(path)["n_slices"] == 2000
    with pytest.raises(VolumeError, match="ends before its") as refused:
        read_nifti(path)
    assert refused.value.code == "truncated"


def test_packed_zeros_are_not_unpacked(tmp_path):
    """A header of 4 MB of values, and 200 MB of zeros in 200 kB: a child of little memory."""
    path = written(tmp_path / "zeros.nii", dim={1: 128, 2: 128, 3: 128}, vox_offset=352)
    with gzip.open(tmp_path / "zeros.nii.gz", "wb", 1) as file:
        file.write(path.read_bytes())
        for _ in range(200):
            file.write(bytes(1 << 20))
    script = (
        "import resource, sys; from t4e_utils.scans.nifti import read_nifti;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "said = read_nifti(sys.argv[1]).meta['problems'][0].sentence;"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, said)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "zeros.nii.gz")]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "16777216 or more bytes after its values" in said
    assert int(said.split()[0]) < 60_000  # kB


def test_memory_that_is_not_there_is_a_sentence(tmp_path, monkeypatch):
    def no_memory(*args):
        raise MemoryError

    monkeypatch.setattr("t4e_utils.scans.nifti.empty_for_display", no_memory)
    with pytest.raises(VolumeError, match=r"no memory for \(6, 5, 4\) values") as refused:
        read_nifti(written(tmp_path / "scan.nii"))
    assert refused.value.code == "too_large"


def test_rounding_is_less_than_what_moves_a_mask():
    assert 0 < ROUNDING_VOXELS < 0.5
