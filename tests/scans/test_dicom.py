"""One DICOM file: values, encodings, frames, and what is no grey image."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom_series import (
    SPACING,
    array_of,
    codes,
    deflated,
    edit,
    enhanced_mr,
    setting,
    written,
)
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
)

from benchmarks import fuzz_kinds
from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.problems import VolumeError
from t4e_utils.scans.reading import series_header


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
    np.testing.assert_array_equal(
        read_dicom_series(folder).array, np.array([7, 0, 500, 60000])[array]
    )


def test_a_slope_of_zero_leaves_the_values_as_they_are_and_is_reported(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(folder, setting(RescaleSlope=0, RescaleIntercept=3))
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array + 3)
    assert codes(volume) == ["bad_value"]
    assert volume.meta["problems"] == series_header(folder)["problems"]


def test_an_inverted_series_is_turned_over_between_its_own_ends(tmp_path):
    array = array_of(low=10, high=900)
    folder = written(tmp_path / "s", array)
    edit(folder, setting(PhotometricInterpretation="MONOCHROME1"))
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(
        volume.array, int(array.min()) + int(array.max()) - array.astype(int)
    )


def test_an_inverted_series_with_a_slope_is_turned_over_too(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(
        folder,
        setting(PhotometricInterpretation="MONOCHROME1", RescaleSlope=0.25, RescaleIntercept=0),
    )
    values = array * 0.25
    np.testing.assert_allclose(
        read_dicom_series(folder).array, values.min() + values.max() - values, rtol=1e-6
    )


def padded_series(folder: Path, stored: int, **tags: tuple[str, int]) -> tuple[np.ndarray, Path]:
    """Write a signed series whose first row is padding.

    Tags are given with their value representation.
    """
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


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
)
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


def test_a_deflated_file_is_read(tmp_path):
    array = array_of((1, 4, 6))
    path = written(tmp_path / "s", array) / "Image-1.dcm"
    path.write_bytes(deflated(path))
    np.testing.assert_array_equal(read_dicom_series(path).array, array)


def with_other_pixels(dataset: Dataset, data: bytes, syntax: str) -> None:
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([data])
    dataset["PixelData"].VR = "OB"


def test_a_compression_without_decoder_is_refused(tmp_path):
    folder = written(tmp_path / "s", array_of())
    edit(folder, lambda dataset, i: with_other_pixels(dataset, b"abcd", "1.2.840.10008.1.2.4.100"))
    with pytest.raises(
        VolumeError, match=r"None of the 5 files .* no decoder for MPEG2"
    ) as refused:
        read_dicom_series(folder)
    assert refused.value.code == "no_decoder"


def test_compressed_pixels_that_are_damaged_are_refused(tmp_path):
    folder = written(tmp_path / "s", array_of(), compress="rle")
    edit(
        folder,
        lambda dataset, i: with_other_pixels(dataset, b"\1\0\0\0" * 32, "1.2.840.10008.1.2.5"),
    )
    with pytest.raises(VolumeError, match="cannot be decoded") as refused:
        read_dicom_series(folder)
    assert refused.value.code == "damaged"


def test_colour_images_are_refused(tmp_path):
    folder = written(tmp_path / "s", array_of(dtype=np.uint8, high=255))

    def colour(dataset: Dataset, _: int) -> None:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = (
            3,
            "RGB",
            0,
        )
        dataset.PixelData *= 3

    edit(folder, colour)
    with pytest.raises(VolumeError, match="has colours") as refused:
        read_dicom_series(folder)
    assert refused.value.code == "colour_image"


def test_a_mosaic_of_slices_is_read_as_one_image_and_reported(tmp_path):
    array = array_of((1, 4, 6))
    folder = written(tmp_path / "s", array)
    edit(folder, setting(ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]))
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert codes(volume) == ["mosaic"]
    assert series_header(folder)["problems"] == volume.meta["problems"]


@pytest.mark.parametrize("name", fuzz_kinds.COMPRESSED)
def test_compressed_pixels_are_read(tmp_path, name):
    bits = fuzz_kinds.BITS_STORED.get(name, 16)
    smooth = np.add.outer(np.arange(2), np.add.outer(np.arange(40), np.arange(30)))
    array = (smooth * 3).astype(np.uint8 if bits == 8 else np.uint16)
    folder = written(tmp_path / "s", array)
    for path in folder.iterdir():
        fuzz_kinds.compress(path, name)
    volume = read_dicom_series(folder)
    assert volume.meta["transfer_syntax"] not in (None, "Explicit VR Little Endian")
    np.testing.assert_allclose(volume.array, array, atol=3 if bits == 8 else 0)  # 8 bits: lossy
    assert (volume.array.dtype, codes(volume)) == (array.dtype, [])


def test_a_jpeg_of_12_bits_has_no_decoder(tmp_path):
    folder = written(tmp_path / "s", array_of((1, 40, 30)))
    edit(folder, setting(BitsStored=12, HighBit=11))
    edit(folder, lambda dataset, i: with_other_pixels(dataset, b"abcd", JPEGExtended12Bit))
    with pytest.raises(
        VolumeError, match=r"no decoder for JPEG Extended .* exported uncompressed"
    ) as refused:
        read_dicom_series(folder)
    assert refused.value.code == "no_decoder"


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
def test_frames_are_sorted_by_their_own_positions(tmp_path, order):
    array = array_of((4, 5, 6))
    enhanced_mr(array, order).save_as(tmp_path / "IM1", enforce_file_format=True)
    volume = read_dicom_series(tmp_path)
    np.testing.assert_array_equal(volume.array, array)  # sagittal from right to left
    assert (volume.plane, volume.meta["sorted_by"], codes(volume)) == ("sagittal", "position", [])
    np.testing.assert_allclose(volume.spacing_mm, SPACING)
    header = series_header(tmp_path)
    assert (header["n_files"], header["plane"], header["spacing_slice_mm"]) == (
        1,
        "sagittal",
        pytest.approx(3.0),
    )


def test_frames_have_slopes_of_their_own(tmp_path):
    array = array_of((3, 5, 6))
    enhanced_mr(array, [2, 0, 1], slopes=[0.5, 1.5, 2.5]).save_as(
        tmp_path / "IM1", enforce_file_format=True
    )
    expected = array * np.array([0.5, 1.5, 2.5])[:, None, None] + 1
    np.testing.assert_allclose(read_dicom_series(tmp_path).array, expected, rtol=1e-6)


def test_a_multi_frame_image_of_one_frame_has_its_geometry(tmp_path):
    enhanced_mr(array_of((1, 5, 6)), [0]).save_as(tmp_path / "IM1", enforce_file_format=True)
    volume = read_dicom_series(tmp_path)
    assert volume.plane == "sagittal"
    np.testing.assert_allclose(volume.spacing_mm, (9.0, 0.5, 0.75))
