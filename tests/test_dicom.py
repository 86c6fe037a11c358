"""Reading DICOM series with everything that scanners, anonymisers and file systems do to them."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from t4e_utils.geometry import display_affine, plane_of, spacing_of
from t4e_utils.problems import CODES, VolumeError, merged, warnings_as_problems
from t4e_utils.volumes import Volume, read_dicom_series, series_header, write_dicom_series

SHARED = Path(__file__).parents[2] / "shared" / "data"
ODD = SHARED / "odd_dicom"
needs_files = pytest.mark.skipif(not ODD.is_dir(), reason="the collection of odd DICOM files is not there")
SPACING = (3.0, 0.5, 0.75)


def array_of(shape=(5, 4, 6), dtype=np.uint16, low=0, high=4000) -> np.ndarray:
    return np.random.default_rng(7).integers(low, high, shape).astype(dtype)


def written(folder: Path, array: np.ndarray, *, plane: str = "axial", **options) -> Path:
    affine = display_affine(plane, SPACING)
    affine[:3, 3] = (40.0, -30.0, 20.0)
    names = {"patient_id": "00001", "series_description": "FLAIR", **options}
    write_dicom_series(Volume(array, SPACING, affine), folder, **names)
    return folder


def edit(folder: Path, change: Callable[[Dataset, int], None], *, only: tuple[int, ...] | None = None) -> None:
    """Change the header of the files with the given numbers, counted from 0."""
    for i in range(len(list(folder.iterdir()))) if only is None else only:
        path = folder / f"Image-{i + 1}.dcm"
        dataset = pydicom.dcmread(path)
        change(dataset, i)
        dataset.save_as(path)


def setting(**attributes) -> Callable[[Dataset, int], None]:
    return lambda dataset, i: [setattr(dataset, name, value) for name, value in attributes.items()]


def without(*keywords: str) -> Callable[[Dataset, int], None]:
    return lambda dataset, i: [delattr(dataset, keyword) for keyword in keywords if keyword in dataset]


def codes(volume: Volume) -> list[str]:
    found = [problem.code for problem in volume.meta["problems"]]
    assert set(found) <= set(CODES)
    return found


# Order


def test_slices_are_sorted_by_position_whatever_their_names_and_numbers(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(folder, lambda dataset, i: setattr(dataset, "InstanceNumber", (3 * i) % 5))
    for i, name in enumerate("cebad"):
        (folder / f"Image-{i + 1}.dcm").rename(folder / name)
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.meta["sorted_by"] == "position"
    assert codes(volume) == []


@pytest.mark.parametrize(
    ("missing", "sorted_by", "order"),
    [
        (("ImagePositionPatient",), "instance number", [4, 3, 2, 1, 0]),
        (("ImagePositionPatient", "InstanceNumber"), "file number", [0, 1, 2, 3, 4]),
    ],
)
def test_without_positions_numbers_give_the_order(tmp_path, missing, sorted_by, order):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(folder, lambda dataset, i: setattr(dataset, "InstanceNumber", 100 - i))
    edit(folder, without(*missing))
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array[order])
    assert volume.meta["sorted_by"] == sorted_by
    assert codes(volume) == ["no_positions"]
    np.testing.assert_allclose(volume.spacing_mm, SPACING)


def test_without_any_number_names_give_the_order(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(folder, without("ImagePositionPatient", "InstanceNumber"))
    for i, name in enumerate(["a", "b", "c", "d", "e"]):
        (folder / f"Image-{i + 1}.dcm").rename(folder / name)
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.meta["sorted_by"] == "file name"


def test_file_numbers_are_compared_as_numbers(tmp_path):
    array = array_of((12, 3, 4))
    folder = written(tmp_path / "s", array)
    edit(folder, without("ImagePositionPatient", "InstanceNumber"))
    np.testing.assert_array_equal(read_dicom_series(folder).array, array)


def test_positions_that_are_all_the_same_do_not_give_the_order(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(folder, setting(ImagePositionPatient=[0, 0, 0]))
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.meta["sorted_by"] == "instance number"
    assert codes(volume) == ["same_position"]
    assert volume.spacing_mm[0] == SPACING[0]


# Geometry


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_plane_spacing_and_place_are_read_from_the_header(tmp_path, plane):
    volume = read_dicom_series(written(tmp_path / "s", array_of(), plane=plane))
    assert volume.plane == volume.meta["plane"] == plane
    np.testing.assert_allclose(volume.spacing_mm, SPACING)
    np.testing.assert_allclose(volume.affine[:3, 3], (40.0, -30.0, 20.0))
    np.testing.assert_allclose(spacing_of(volume.affine), volume.spacing_mm)


def test_an_axial_header_written_by_hand_has_its_affine(tmp_path):
    folder = written(tmp_path / "s", array_of((2, 4, 6)))
    edit(folder, setting(ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PixelSpacing=[0.5, 0.75]))
    edit(folder, lambda dataset, i: setattr(dataset, "ImagePositionPatient", [-100, -120, 10 + 3 * i]))
    expected = [[0, 0, -0.75, 100], [0, -0.5, 0, 120], [3, 0, 0, 10], [0, 0, 0, 1]]
    np.testing.assert_allclose(read_dicom_series(folder).affine, expected)


def test_an_image_turned_by_180_degrees_is_turned_back(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(folder, setting(ImageOrientationPatient=[-1, 0, 0, 0, -1, 0]))
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array[:, ::-1, ::-1])


def test_spacing_is_the_distance_of_positions_not_the_thickness(tmp_path):
    folder = written(tmp_path / "s", array_of())
    edit(folder, setting(SliceThickness=1.0, SpacingBetweenSlices=9.0))
    assert read_dicom_series(folder).spacing_mm[0] == pytest.approx(3.0)


def test_a_missing_slice_is_reported(tmp_path):
    folder = written(tmp_path / "s", array_of((8, 4, 6)))
    (folder / "Image-4.dcm").unlink()
    (folder / "Image-5.dcm").unlink()
    volume = read_dicom_series(folder)
    assert codes(volume) == ["gap"]
    assert "about 2: the distance is 3 mm, but 9 mm at most" in volume.meta["problems"][0].sentence
    assert volume.spacing_mm[0] == pytest.approx(3.0)


def test_a_slice_that_is_there_twice_is_kept_and_reported(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    (folder / "copy.dcm").write_bytes((folder / "Image-2.dcm").read_bytes())
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array[[0, 1, 1, 2, 3, 4]])
    assert codes(volume) == ["same_position"]
    assert volume.spacing_mm[0] == pytest.approx(3.0)


def test_uneven_distances_are_reported(tmp_path):
    folder = written(tmp_path / "s", array_of((4, 4, 6)))
    edit(folder, lambda dataset, i: setattr(dataset, "ImagePositionPatient", [0, 0, [0, 3, 6, 10][i]]))
    volume = read_dicom_series(folder)
    assert codes(volume) == ["uneven_spacing"]
    assert volume.spacing_mm[0] == pytest.approx(3.0)


def test_a_tilted_gantry_is_reported_and_stays_in_the_affine(tmp_path):
    folder = written(tmp_path / "s", array_of())
    edit(folder, lambda dataset, i: setattr(dataset, "ImagePositionPatient", [0, i, 4 * i]))
    volume = read_dicom_series(folder)
    assert codes(volume) == ["gantry_tilt"]
    assert "14.0 degrees" in volume.meta["problems"][0].sentence
    np.testing.assert_allclose(volume.affine[:3, 0], [0, -1, 4], atol=1e-9)
    assert volume.plane == "axial"


def test_without_orientation_a_series_is_taken_for_axial_and_this_is_reported(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array, plane="sagittal")
    edit(folder, without("ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices"))
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert (volume.plane, volume.spacing_mm) == ("axial", (1.0, 1.0, 1.0))
    assert codes(volume) == ["no_orientation", "no_positions", "no_spacing", "no_spacing"]


@pytest.mark.parametrize("cosines", [[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0], [1, 0, 0, 0.5, 0.8, 0]])
def test_directions_that_span_no_plane_are_left_out(tmp_path, cosines):
    folder = written(tmp_path / "s", array_of())
    edit(folder, setting(ImageOrientationPatient=cosines))
    volume = read_dicom_series(folder)
    assert set(codes(volume)) == {"bad_value", "no_orientation", "no_positions"}


def test_a_header_value_that_is_no_number_is_left_out(tmp_path):
    folder = written(tmp_path / "s", array_of())
    path = folder / "Image-1.dcm"
    path.write_bytes(path.read_bytes().replace(b"3.00000000", b"3.0x0y0z00"))
    volume = read_dicom_series(folder)
    assert {"bad_value", "warning"} >= set(codes(volume))
    assert "SpacingBetweenSlices is not a number" in " ".join(p.sentence for p in volume.meta["problems"])


# Values


def test_signed_pixels_stay_signed(tmp_path):
    array = array_of(dtype=np.int16, low=-2000, high=2000)
    volume = read_dicom_series(written(tmp_path / "s", array))
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, array)


def test_whole_slope_and_intercept_keep_integers(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(folder, setting(RescaleSlope=2, RescaleIntercept=-1024))
    volume = read_dicom_series(folder)
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, array.astype(int) * 2 - 1024)


def test_values_that_outgrow_16_bits_become_float(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(folder, setting(RescaleSlope=100, RescaleIntercept=-5))
    volume = read_dicom_series(folder)
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, array.astype(int) * 100 - 5)


def test_each_slice_has_its_own_slope(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(folder, lambda dataset, i: setting(RescaleSlope=0.5 + i, RescaleIntercept=i)(dataset, i))
    volume = read_dicom_series(folder)
    expected = np.stack([image * (0.5 + i) + i for i, image in enumerate(array.astype(float))])
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array, expected, rtol=1e-6)


def test_a_table_of_values_is_looked_up(tmp_path):
    array = array_of(high=4)
    folder = written(tmp_path / "s", array)
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [4, 0, 16])
    table.add_new("LUTData", "US", [7, 0, 500, 60000])
    table.ModalityLUTType = "US"
    edit(folder, setting(ModalityLUTSequence=Sequence([table])))
    np.testing.assert_array_equal(read_dicom_series(folder).array, np.array([7, 0, 500, 60000])[array])


def test_a_slope_of_zero_is_taken_as_written(tmp_path):
    folder = written(tmp_path / "s", array_of())
    edit(folder, setting(RescaleSlope=0, RescaleIntercept=3))
    assert (read_dicom_series(folder).array == 3).all()


def test_an_inverted_series_is_turned_over_between_its_own_ends(tmp_path):
    array = array_of(low=10, high=900)
    folder = written(tmp_path / "s", array)
    edit(folder, setting(PhotometricInterpretation="MONOCHROME1"))
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, int(array.min()) + int(array.max()) - array.astype(int))


def test_an_inverted_series_with_a_slope_is_turned_over_too(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(folder, setting(PhotometricInterpretation="MONOCHROME1", RescaleSlope=0.25, RescaleIntercept=0))
    values = array * 0.25
    np.testing.assert_allclose(read_dicom_series(folder).array, values.min() + values.max() - values, rtol=1e-6)


def padded_series(folder: Path, stored: int, **tags: tuple[str, int]) -> tuple[np.ndarray, Path]:
    """Write a signed series whose first row is padding; tags are given with their value representation."""
    array = array_of(dtype=np.int16, low=100, high=1000)
    array[:, 0] = stored
    written(folder, array)
    edit(folder, lambda dataset, i: [dataset.add_new(name, *value) for name, value in tags.items()])
    return array, folder


def test_padding_of_zero_stays_black(tmp_path):
    array, folder = padded_series(tmp_path / "s", 0, PixelPaddingValue=("SS", 0))
    np.testing.assert_array_equal(read_dicom_series(folder).array, array)


@pytest.mark.parametrize("padding", [("SS", -2000), ("US", 65536 - 2000)])
def test_padding_outside_of_the_patient_becomes_background(tmp_path, padding):
    array, folder = padded_series(tmp_path / "s", -2000, PixelPaddingValue=padding)
    edit(folder, setting(RescaleIntercept=-500, RescaleSlope=1))
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array[:, 1:], array[:, 1:] - 500)
    assert (volume.array[:, 0] == array[:, 1:].min() - 500).all()


@pytest.mark.parametrize("limit", [-2010, -1990])
def test_padding_can_be_a_range_and_is_not_inverted(tmp_path, limit):
    tags = {"PixelPaddingValue": ("SS", -2000), "PixelPaddingRangeLimit": ("SS", limit)}
    array, folder = padded_series(tmp_path / "s", limit, **tags)
    edit(folder, setting(PhotometricInterpretation="MONOCHROME1"))
    volume, inside = read_dicom_series(folder), array[:, 1:]
    assert (volume.array[:, 0] == 0).all()
    np.testing.assert_array_equal(volume.array[:, 1:], inside.min() + inside.max() - inside)


# Files


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_files_without_suffix_preamble_and_meta_header_are_read(tmp_path, syntax):
    array = array_of()
    folder = written(tmp_path / "s", array)
    for path in sorted(folder.iterdir()):
        dataset = pydicom.dcmread(path)
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        bare = Dataset()
        bare.update(dataset)
        buffer = BytesIO()
        is_implicit, is_little = syntax.is_implicit_VR, syntax.is_little_endian
        pydicom.dcmwrite(buffer, bare, implicit_vr=is_implicit, little_endian=is_little)
        path.with_suffix("").write_bytes(buffer.getvalue())
        path.unlink()
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.meta["transfer_syntax"] == syntax.name


def test_run_length_compression_is_read(tmp_path):
    array = array_of((3, 40, 60))
    volume = read_dicom_series(written(tmp_path / "s", array, compress="rle"))
    np.testing.assert_array_equal(volume.array, array)
    assert volume.meta["transfer_syntax"] == "RLE Lossless"


def deflated(path: Path) -> bytes:
    dataset, buffer = pydicom.dcmread(path), BytesIO()
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(buffer)
    return buffer.getvalue()


def test_a_deflated_file_is_read(tmp_path):
    array = array_of((1, 4, 6))
    path = written(tmp_path / "s", array) / "Image-1.dcm"
    path.write_bytes(deflated(path))
    np.testing.assert_array_equal(read_dicom_series(path).array, array)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda path: path.write_bytes(b"this is no DICOM file, but long enough to be one " * 20), "no_pixels"),
        (lambda path: path.write_bytes(b""), "no_pixels"),
        (lambda path: path.write_bytes(path.read_bytes()[:-7]), "truncated"),
        (lambda path: path.write_bytes(path.read_bytes()[:500]), "no_pixels"),
        (lambda path: path.write_bytes(deflated(path)[:-20]), "damaged"),
    ],
)
def test_one_unreadable_file_is_reported_and_the_others_are_read(tmp_path, damage, code):
    array = array_of()
    folder = written(tmp_path / "s", array)
    damage(folder / "Image-5.dcm")
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array[:4])
    assert [code] == [c for c in codes(volume) if c != "warning"]
    assert volume.meta["n_files"] == 5
    with pytest.raises(VolumeError) as refused:
        read_dicom_series(folder / "Image-5.dcm")
    assert refused.value.code == code


def test_equal_problems_of_many_files_are_one(tmp_path):
    folder = written(tmp_path / "s", array_of())
    for i in (1, 3, 4):
        (folder / f"Image-{i}.dcm").write_bytes(b"text")
    problems = read_dicom_series(folder).meta["problems"]
    assert len(problems) == 1
    assert problems[0].sentence.endswith("(and 2 more files)")


def with_other_pixels(dataset: Dataset, data: bytes, syntax: str) -> None:
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([data])
    dataset["PixelData"].VR = "OB"


def test_a_compression_without_decoder_is_refused(tmp_path):
    folder = written(tmp_path / "s", array_of())
    edit(folder, lambda dataset, i: with_other_pixels(dataset, b"abcd", "1.2.840.10008.1.2.4.100"))
    with pytest.raises(VolumeError, match=r"None of the 5 files .* no decoder for MPEG2") as refused:
        read_dicom_series(folder)
    assert refused.value.code == "no_decoder"


def test_compressed_pixels_that_are_damaged_are_refused(tmp_path):
    folder = written(tmp_path / "s", array_of(), compress="rle")
    edit(folder, lambda dataset, i: with_other_pixels(dataset, b"\1\0\0\0" * 32, "1.2.840.10008.1.2.5"))
    with pytest.raises(VolumeError, match="cannot be decoded") as refused:
        read_dicom_series(folder)
    assert refused.value.code == "damaged"


def test_compressed_pixels_without_a_transfer_syntax_are_refused(tmp_path):
    folder = written(tmp_path / "s", array_of((1, 40, 60)), compress="rle")
    path = folder / "Image-1.dcm"
    meta_end = 144 + int.from_bytes(path.read_bytes()[140:144], "little")
    path.write_bytes(path.read_bytes()[meta_end:])
    with pytest.raises(VolumeError, match="compressed, but the file does not say how") as refused:
        read_dicom_series(folder)
    assert refused.value.code == "no_decoder"


def test_colour_images_are_refused(tmp_path):
    folder = written(tmp_path / "s", array_of(dtype=np.uint8, high=255))

    def colour(dataset: Dataset, _: int) -> None:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
        dataset.PixelData *= 3

    edit(folder, colour)
    with pytest.raises(VolumeError, match="has colours") as refused:
        read_dicom_series(folder)
    assert refused.value.code == "colour_image"


def test_what_the_reader_warns_about_becomes_a_problem(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(folder, lambda dataset, i: setattr(dataset, "PixelData", dataset.PixelData + bytes(10)), only=(2,))
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert codes(volume) == ["warning"]
    assert "excess padding" in volume.meta["problems"][0].sentence


def test_different_kinds_of_refusal_have_one_code_for_the_series(tmp_path):
    folder = written(tmp_path / "s", array_of((2, 3, 4)))
    (folder / "Image-1.dcm").write_bytes(b"text")
    (folder / "Image-2.dcm").write_bytes((folder / "Image-2.dcm").read_bytes()[:-3])
    with pytest.raises(VolumeError, match="None of the 2 files is a readable image") as refused:
        read_dicom_series(folder)
    assert (refused.value.code, refused.value.path) == ("no_images", str(folder))


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_a_folder_with_nothing_in_it_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    for read in (read_dicom_series, series_header):
        with pytest.raises(VolumeError, match="correct the path") as refused:
            read(tmp_path / name)
        assert refused.value.code == "no_files"


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    folder = written(tmp_path / "s", array_of())
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "more").mkdir()
    volume = read_dicom_series(folder)
    assert codes(volume) == []
    assert volume.meta["n_files"] == 5


def test_an_error_comes_back_whole_from_another_process():
    error = VolumeError("damaged", "a/b", "It is damaged.")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.code, copy.path, str(copy)) == ("damaged", "a/b", "a/b: It is damaged.")
    assert merged([copy.as_problem()] * 3)[0].sentence == "It is damaged. (and 2 more files)"


def test_only_what_a_reader_says_to_its_user_becomes_a_problem(tmp_path):
    problems = []

    def read() -> None:
        with warnings_as_problems(tmp_path, problems):
            warnings.warn("padded\n  twice", UserWarning, stacklevel=1)
            warnings.warn("old", DeprecationWarning, stacklevel=1)

    with pytest.warns(DeprecationWarning, match="old"):
        read()
    assert [problem.sentence for problem in problems] == ["The reader warned: padded twice"]


def test_nothing_that_identifies_a_person_is_kept(tmp_path):
    folder = written(tmp_path / "s", array_of())
    secret = {"PatientName": "Doe^Jane", "PatientID": "4711", "PatientBirthDate": "19700101"}
    edit(folder, setting(**secret))
    text = repr(read_dicom_series(folder).meta) + repr(series_header(folder))
    assert not any(value in text for value in secret.values())


# Several series in one folder


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("mixed_orientations", setting(ImageOrientationPatient=[1, 0, 0, 0, 0, -1])),
        ("mixed_spacing", setting(PixelSpacing=[0.6, 0.6])),
        ("mixed_series", setting(SeriesInstanceUID="1.2.3")),
    ],
)
def test_the_largest_group_of_like_images_is_kept(tmp_path, code, change):
    array = array_of((7, 4, 6))
    folder = written(tmp_path / "s", array)
    edit(folder, change, only=(0, 2, 3))
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array[[1, 4, 5, 6]])
    assert code in codes(volume)
    assert "3 of 7 images have another" in " ".join(problem.sentence for problem in volume.meta["problems"])


def test_images_of_another_size_are_left_out(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    written(folder, array_of((2, 9, 9)), name_pattern="other-{}.dcm")
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert codes(volume) == ["mixed_sizes"]


def test_the_largest_group_is_the_largest_in_all_respects_together(tmp_path):
    array = array_of((5, 9, 9))
    folder = written(tmp_path / "s", array)
    other = written(tmp_path / "o", array_of((8, 4, 6)))
    edit(other, setting(ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), only=(0, 1, 2, 3))
    for path in other.iterdir():
        path.rename(folder / f"o{path.name}")
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert codes(volume) == ["mixed_sizes"]


def test_a_series_identifier_of_its_own_in_each_file_says_nothing(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(folder, lambda dataset, i: setattr(dataset, "SeriesInstanceUID", f"1.2.{i}"))
    np.testing.assert_array_equal(read_dicom_series(folder).array, array)


# Multi-frame


def enhanced_mr(array: np.ndarray, order: list[int], *, slopes: list[float] | None = None) -> Dataset:
    """Return an enhanced MR image with its frames in a given order, positions for each frame and the rest shared."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = EnhancedMRImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3.4"
    dataset.Modality, dataset.NumberOfFrames = "MR", len(order)
    dataset.Rows, dataset.Columns = array.shape[1:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.75], 9.0
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = Sequence([orientation]), Sequence([measures])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = Sequence()
    for k in order:
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = [-30 + 3 * k, 5, 7]
        frame.PlanePositionSequence = Sequence([position])
        if slopes:
            values = Dataset()
            values.RescaleSlope, values.RescaleIntercept = slopes[k], 1
            frame.PixelValueTransformationSequence = Sequence([values])
        dataset.PerFrameFunctionalGroupsSequence.append(frame)
    dataset.PixelData = array[order].astype("<u2").tobytes()
    return dataset


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
def test_frames_are_sorted_by_their_own_positions(tmp_path, order):
    array = array_of((4, 5, 6))
    enhanced_mr(array, order).save_as(tmp_path / "IM1", enforce_file_format=True)
    volume = read_dicom_series(tmp_path)
    np.testing.assert_array_equal(volume.array, array)  # sagittal from right to left
    assert (volume.plane, volume.meta["sorted_by"], codes(volume)) == ("sagittal", "position", [])
    np.testing.assert_allclose(volume.spacing_mm, SPACING)
    header = series_header(tmp_path)
    assert (header["n_files"], header["plane"], header["spacing_slice_mm"]) == (1, "sagittal", pytest.approx(3.0))


def test_frames_have_slopes_of_their_own(tmp_path):
    array = array_of((3, 5, 6))
    enhanced_mr(array, [2, 0, 1], slopes=[0.5, 1.5, 2.5]).save_as(tmp_path / "IM1", enforce_file_format=True)
    expected = array * np.array([0.5, 1.5, 2.5])[:, None, None] + 1
    np.testing.assert_allclose(read_dicom_series(tmp_path).array, expected, rtol=1e-6)


def test_a_multi_frame_image_of_one_frame_has_its_geometry(tmp_path):
    enhanced_mr(array_of((1, 5, 6)), [0]).save_as(tmp_path / "IM1", enforce_file_format=True)
    volume = read_dicom_series(tmp_path)
    assert volume.plane == "sagittal"
    np.testing.assert_allclose(volume.spacing_mm, (9.0, 0.5, 0.75))


# Headers


def test_a_header_says_what_reading_says(tmp_path):
    folder = written(tmp_path / "s", array_of((9, 4, 6)), plane="coronal")
    assert series_header(folder) == {
        "n_files": 9,
        "plane": "coronal",
        "rows": 4,
        "columns": 6,
        "spacing_slice_mm": pytest.approx(3.0),
        "spacing_row_mm": pytest.approx(0.5),
        "spacing_column_mm": pytest.approx(0.75),
        "modality": "MR",
        "transfer_syntax": "Explicit VR Little Endian",
        "bits_stored": 16,
    }


def test_only_three_headers_are_read_if_they_agree(tmp_path):
    folder = written(tmp_path / "s", array_of((9, 4, 6)))
    for i in (2, 3, 4, 6, 7, 8):
        (folder / f"Image-{i}.dcm").write_bytes(b"not read")
    assert series_header(folder)["spacing_slice_mm"] == pytest.approx(3.0)


def test_all_headers_are_read_if_names_are_out_of_order(tmp_path):
    folder = written(tmp_path / "s", array_of((9, 4, 6)))
    for i, k in enumerate([4, 0, 7, 2, 8, 1, 6, 3, 5]):
        (folder / f"Image-{i + 1}.dcm").rename(folder / f"{k}.dcm")
    assert series_header(folder)["spacing_slice_mm"] == pytest.approx(3.0)


def test_a_header_of_no_image_is_refused(tmp_path):
    (tmp_path / "1").write_bytes(b"no image")
    (tmp_path / "2").write_bytes(b"no image either")
    with pytest.raises(VolumeError, match="None of the 2 files") as refused:
        series_header(tmp_path)
    assert refused.value.code == "no_pixels"


def test_a_header_without_geometry_leaves_it_open(tmp_path):
    folder = written(tmp_path / "s", array_of((2, 4, 6)))
    edit(folder, without("ImageOrientationPatient", "PixelSpacing"))
    header = series_header(folder)
    assert (header["plane"], header["spacing_slice_mm"], header["rows"]) == (None, None, 4)


# Files from public collections


@needs_files
def test_all_transfer_syntaxes_give_the_same_image():
    volumes = [read_dicom_series(path) for path in sorted((ODD / "transfer_syntaxes").glob("*.dcm"))]
    assert len({volume.meta["transfer_syntax"] for volume in volumes}) == 7
    for volume in volumes[1:]:
        np.testing.assert_array_equal(volume.array, volumes[0].array)


@needs_files
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


@needs_files
def test_compressed_series_of_the_collection_are_equal():
    names = ("compressed", "compressed_j2k", "compressed_jpeg", "compressed_jpegls", "compressed_rle")
    first, *others = (read_dicom_series(ODD / "geometry" / "generic" / name / "001") for name in names)
    for other in others:
        np.testing.assert_array_equal(other.array, first.array)
        np.testing.assert_allclose(other.affine, first.affine)


@needs_files
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


@needs_files
def test_one_image_in_eight_encodings_of_the_collection_is_the_same():
    names = ["", "_RLE", "_bigendian", "_expb", "_implicit", "_jp2klossless", "_jpeg_ls_lossless", "_padded"]
    images = [read_dicom_series(ODD / "damaged" / f"MR_small{name}.dcm").array for name in names]
    for image in images[1:]:
        np.testing.assert_array_equal(image, images[0])


@needs_files
def test_an_oblique_series_is_named_and_measured():
    volume = read_dicom_series(ODD / "oblique_t1")
    assert (volume.plane, codes(volume)) == ("axial", [])
    np.testing.assert_allclose(volume.spacing_mm, (0.667, 0.667, 0.7), atol=1e-3)
    assert plane_of(volume.to_plane("coronal").affine) == "coronal"
