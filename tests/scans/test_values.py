"""What the pixels of an image mean, by the tags of that image."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom_series import array_of, codes, edit, setting, written
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian

from benchmarks import fuzz_kinds
from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.problems import VolumeError
from t4e_utils.scans.reading import series_header

TWELVE = setting(BitsStored=12, HighBit=11)


def of_cells(folder: Path, cells: np.ndarray, **attributes) -> Path:
    """Write arrays of 8, 16 or 32 bits, or floats, as they are."""
    written(folder, np.zeros(cells.shape, np.uint16))
    bits = cells.dtype.itemsize * 8
    name = {"f4": "FloatPixelData", "f8": "DoubleFloatPixelData"}.get(
        cells.dtype.str[1:], "PixelData"
    )

    def change(dataset: Dataset, i: int) -> None:
        dataset.BitsAllocated = dataset.BitsStored = bits
        dataset.HighBit, dataset.PixelRepresentation = bits - 1, int(cells.dtype.kind == "i")
        del dataset.PixelData
        setattr(dataset, name, cells[i].tobytes())
        if name == "PixelData":
            dataset["PixelData"].VR = "OW"
        else:
            del dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)

    edit(folder, change)
    return folder


def tagged(**tags: tuple[str, object]):
    """Return a change that sets attributes with their value representation."""
    return lambda dataset, i: [dataset.add_new(name, *value) for name, value in tags.items()]


def test_each_image_is_turned_over_by_its_own_tag(tmp_path):
    array = array_of(low=0, high=3000)
    array[:, 0] = 0  # black in every image
    stored = array.copy()
    stored[[1, 3]] = 4095 - array[[1, 3]]
    folder = written(tmp_path / "s", stored)
    edit(folder, TWELVE)
    edit(folder, setting(PhotometricInterpretation="MONOCHROME1"), only=(1, 3))
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.dtype == np.uint16


def test_inverted_images_with_slopes_of_their_own_meet_the_black_of_the_others(tmp_path):
    array = array_of(low=0, high=500).astype(int) * 4
    array[:, 0] = 0
    stored = array.copy()
    stored[0], stored[1], stored[2] = array[0] // 2, (2000 - array[1]) // 4, 4000 - array[2]
    folder = written(tmp_path / "s", stored.astype(np.uint16))
    slopes = (2, 4, 1, 1, 1)
    edit(folder, lambda dataset, i: setting(RescaleSlope=slopes[i])(dataset, i))
    edit(folder, setting(PhotometricInterpretation="MONOCHROME1", RescaleIntercept=0), only=(2,))
    edit(folder, setting(PhotometricInterpretation="MONOCHROME1", RescaleIntercept=2000), only=(1,))
    np.testing.assert_array_equal(read_dicom_series(folder).array, array)


@pytest.mark.parametrize(
    ("dtype", "bits", "cell", "value", "limit"),
    [
        (np.uint16, 16, 63536, ("SS", -2000), None),
        (np.uint16, 16, 63536, ("US", 63536), None),
        (np.int16, 16, -2000, ("US", 63536), None),
        (np.uint16, 12, 2096, ("SS", -2000), None),  # -2000 in the 12 bits that are stored
        (np.uint16, 12, 63536, ("SS", -2000), None),  # in all 16, of which 12 are stored
        (np.uint16, 12, 63536, ("US", 63536), None),
        (np.int16, 12, -2000, ("US", 63536), None),
        (np.int16, 12, -2000, ("US", 2096), None),
        (np.int16, 12, 2096, ("SS", -2000), None),  # stored without its sign
        (np.uint16, 16, 63540, ("SS", -2000), ("SS", -1990)),
        (np.uint16, 16, 63540, ("SS", -1990), ("SS", -2000)),
        (np.int16, 16, -1995, ("US", 63536), ("US", 63546)),
        (np.uint16, 16, 65530, ("SS", -2000), ("SS", 0)),  # over the end and on from 0
        (np.uint8, 8, 255, ("SS", -1), None),
        (np.uint8, 8, 60, ("US", 0), ("US", 90)),
        (np.uint8, 8, 90, ("US", 130), ("US", 0)),
        (np.uint16, 16, 63540, ("SS", -2000), ("US", 63546)),
        (np.int16, 16, -1995, ("SS", -2000), ("US", 63546)),
        (np.uint32, 32, 2**32 - 7, ("SS", -7), None),
    ],
)
def test_padding_is_found_however_its_sign_is_written(tmp_path, dtype, bits, cell, value, limit):
    array = array_of(low=140, high=160).astype(dtype)
    array[:, 0] = np.array(cell).astype(dtype)
    folder = of_cells(tmp_path / "s", array, BitsStored=bits, HighBit=bits - 1)
    edit(folder, tagged(PixelPaddingValue=value))
    if limit:
        edit(folder, tagged(PixelPaddingRangeLimit=limit))
    expected = array.astype(np.int64)
    expected[:, 0] = 0
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, expected)
    assert volume.array.dtype == np.uint16


@pytest.mark.parametrize(
    ("dtype", "bits", "value"),
    [
        (np.uint16, 12, ("US", 63536)),  # 2096 modulo 2^12, but no cell holds 63536
        (np.uint16, 12, ("US", 65535)),
        (np.uint8, 8, ("US", 63536)),
        (np.uint8, 8, ("SS", -2000)),
    ],
)
def test_what_cannot_be_padding_is_none(tmp_path, dtype, bits, value):
    array = array_of(low=0, high=2**bits).astype(dtype)
    array[:, 1, :4] = (2096 % 2**bits, 2**bits - 1, 48, 63536 % 2**bits)
    folder = of_cells(tmp_path / "s", array, BitsStored=bits, HighBit=bits - 1)
    edit(folder, tagged(PixelPaddingValue=value))
    np.testing.assert_array_equal(read_dicom_series(folder).array, array)


def test_a_range_that_covers_every_image_is_no_padding(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(folder, tagged(PixelPaddingValue=("US", 0), PixelPaddingRangeLimit=("US", 4095)))
    np.testing.assert_array_equal(read_dicom_series(folder).array, array)


def test_each_image_has_its_own_padding(tmp_path):
    array = array_of(low=100, high=900)
    array[0, 0], array[1, 0], array[2, 0] = 65535, 7, 7
    folder = written(tmp_path / "s", array)
    edit(folder, tagged(PixelPaddingValue=("US", 65535)), only=(0,))
    edit(folder, tagged(PixelPaddingValue=("US", 7)), only=(1,))
    expected = array.copy()
    expected[0, 0] = expected[1, 0] = 0
    np.testing.assert_array_equal(read_dicom_series(folder).array, expected)


def test_padding_stays_black_in_inverted_images_among_upright_ones(tmp_path):
    array = array_of(low=100, high=900)
    array[:, 1] = 100
    stored = array.copy()
    stored[1] = 1000 - array[1]
    stored[:, 0] = 65535
    folder = written(tmp_path / "s", stored)
    edit(folder, tagged(PixelPaddingValue=("SS", -1)))
    edit(folder, setting(PhotometricInterpretation="MONOCHROME1"), only=(1,))
    expected = array.copy()
    expected[:, 0] = 0
    np.testing.assert_array_equal(read_dicom_series(folder).array, expected)


@pytest.mark.parametrize("compress", [None, "rle"])
@pytest.mark.parametrize(("dtype", "low"), [(np.uint16, 0), (np.int16, -2048)])
def test_bits_at_the_top_of_a_cell_are_shifted_down(tmp_path, compress, dtype, low):
    array = array_of((3, 40, 30), dtype, low, low + 4096)
    folder = written(tmp_path / "s", (array << 4).astype(dtype), compress=compress)
    edit(folder, setting(BitsStored=12, HighBit=15))
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.dtype == dtype
    assert codes(volume) == ["bad_value"]
    assert series_header(folder)["problems"] == volume.meta["problems"]


def test_padding_of_bits_at_the_top_of_a_cell_is_found(tmp_path):
    array = array_of(dtype=np.int16, low=100, high=2048)
    array[:, 0] = -2000
    folder = written(tmp_path / "s", array << 4)
    edit(folder, setting(BitsStored=12, HighBit=15))
    edit(folder, tagged(PixelPaddingValue=("SS", -2000)))
    array[:, 0] = 0
    np.testing.assert_array_equal(read_dicom_series(folder).array, array)


@pytest.mark.parametrize(("stored", "high"), [(12, 15), (12, 7), (16, 11), (16, 20)])
def test_a_high_bit_that_the_pixels_disprove_is_reported_and_left_out(tmp_path, stored, high):
    array = array_of(low=0, high=4096)
    folder = written(tmp_path / "s", array)
    edit(folder, setting(BitsStored=stored, HighBit=high))
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert codes(volume) == ["bad_value"]


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_bits_above_those_stored_are_left_out_and_reported(tmp_path, dtype):
    array = array_of(dtype=dtype, high=2048)
    cells = array.copy()
    cells[2, 0] |= 1 << 14  # such as an overlay
    folder = written(tmp_path / "s", cells)
    edit(folder, TWELVE)
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert codes(volume) == ["bad_value"]
    assert "BitsStored" in volume.meta["problems"][0].sentence


def with_table(entries: list[int], first: tuple[str, int], bits: int = 16):
    def change(dataset: Dataset, _: int) -> None:
        table = Dataset()
        table.add_new("LUTDescriptor", first[0], [len(entries), first[1], bits])
        table.add_new("LUTData", "US", entries)
        table.ModalityLUTType = "US"
        dataset.ModalityLUTSequence = Sequence([table])

    return change


def test_a_table_goes_before_the_slope_and_padding_before_the_table(tmp_path):
    array = array_of(low=1, high=4)
    array[:, 0] = 3000
    folder = written(tmp_path / "s", array)
    edit(folder, with_table([7, 11, 500], ("US", 1)))
    edit(folder, setting(RescaleSlope=5, RescaleIntercept=9))
    edit(folder, tagged(PixelPaddingValue=("US", 3000)))
    expected = np.array([0, 7, 11, 500])[np.where(array == 3000, 0, array)]
    np.testing.assert_array_equal(read_dicom_series(folder).array, expected)


@pytest.mark.parametrize("first", [("SS", -2), ("US", 65534)])
def test_a_table_may_begin_below_zero(tmp_path, first):
    array = array_of(dtype=np.int16, low=-4, high=4)
    folder = written(tmp_path / "s", array)
    edit(folder, with_table([70, 11, 500, 60000], first))
    expected = np.array([70, 11, 500, 60000])[np.clip(array + 2, 0, 3)]
    np.testing.assert_array_equal(read_dicom_series(folder).array, expected)


def test_one_image_of_a_series_may_have_a_table(tmp_path):
    array = array_of(low=0, high=4)
    folder = written(tmp_path / "s", array)
    edit(folder, with_table([7, 0, 500, 60000], ("US", 0)), only=(2,))
    expected = array.copy()
    expected[2] = np.array([7, 0, 500, 60000])[array[2]]
    np.testing.assert_array_equal(read_dicom_series(folder).array, expected)


@pytest.mark.parametrize("read", [read_dicom_series, series_header])
def test_a_damaged_table_is_refused(tmp_path, read):
    folder = written(tmp_path / "s", array_of((1, 4, 6)))

    def cut(dataset: Dataset, i: int) -> None:
        with_table([1, 2, 3], ("US", 0))(dataset, i)
        dataset.ModalityLUTSequence[0].LUTDescriptor = [9, 0, 16]

    edit(folder, cut)
    with pytest.raises(VolumeError, match="table of values cannot be used") as refused:
        read(folder)
    assert refused.value.code == "damaged"


@pytest.mark.parametrize(
    ("dtype", "low", "high", "expected"),
    [
        (np.uint8, 0, 256, np.uint8),
        (np.int8, -128, 128, np.int8),
        (np.uint32, 0, 60000, np.uint16),
        (np.int32, -30000, 30000, np.int16),
        (np.int32, -100_000, 100_000, np.float32),
        (np.float32, -5, 5, np.float32),
        (np.float64, -5, 5, np.float32),
    ],
)
def test_cells_of_any_size_are_read(tmp_path, dtype, low, high, expected):
    array = np.random.default_rng(7).uniform(low, high, (4, 4, 6)).astype(dtype)
    volume = read_dicom_series(of_cells(tmp_path / "s", array))
    np.testing.assert_array_equal(volume.array, array.astype(expected))
    assert volume.array.dtype == expected


def test_words_of_32_bits_are_read_in_big_endian_too(tmp_path):
    array = array_of(high=60000).astype(np.uint32)
    folder = of_cells(tmp_path / "s", array)
    for i, path in enumerate(sorted(folder.iterdir())):
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        dataset.PixelData = array[i].astype(">u4").tobytes()
        pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=False)
    np.testing.assert_array_equal(read_dicom_series(folder).array, array)


def test_bytes_in_big_endian_have_padding_too(tmp_path):
    array = array_of((3, 4, 6), np.uint8, low=20, high=200)
    array[:, 0] = 7
    folder = of_cells(tmp_path / "s", array)
    edit(folder, tagged(PixelPaddingValue=("US", 7)))
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        dataset["PixelData"].VR = "OB"
        pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=False)
    array[:, 0] = 0
    np.testing.assert_array_equal(read_dicom_series(folder).array, array)


def test_single_bits_are_read(tmp_path):
    array = array_of((3, 4, 6), high=2)
    folder = written(tmp_path / "s", array)
    edit(folder, setting(BitsAllocated=1, BitsStored=1, HighBit=0))
    edit(
        folder,
        lambda dataset, i: setattr(
            dataset, "PixelData", np.packbits(array[i], bitorder="little").tobytes() + b"\0"
        ),
    )
    np.testing.assert_array_equal(read_dicom_series(folder).array, array)


def test_cells_of_12_bits_are_refused(tmp_path):
    folder = written(tmp_path / "s", array_of((1, 4, 6)))
    edit(folder, setting(BitsAllocated=12, BitsStored=12, HighBit=11, PixelData=bytes(36)))
    with pytest.raises(VolumeError, match="cannot be decoded"):
        read_dicom_series(folder)


def test_floats_that_are_not_finite_are_set_to_0_and_reported(tmp_path):
    array = np.arange(24, dtype=np.float32).reshape(1, 4, 6)
    stored = array.copy()
    stored[0, 0, 1:3] = np.nan, np.inf
    folder = of_cells(tmp_path / "s", stored)
    volume = read_dicom_series(folder)
    array[0, 0, 1:3] = 0
    np.testing.assert_array_equal(volume.array, array)
    assert codes(volume) == ["not_finite"]


@pytest.mark.parametrize(("dtype", "name"), [(np.float32, "Float"), (np.float64, "DoubleFloat")])
def test_floats_have_padding_of_their_own(tmp_path, dtype, name):
    array = np.arange(24, dtype=dtype).reshape(1, 4, 6) + 1
    array[0, 0] = -1e9
    attributes = {f"{name}PixelPaddingValue": -1e9, f"{name}PixelPaddingRangeLimit": -1e8}
    folder = of_cells(tmp_path / "s", array, **attributes)
    array[0, 0] = 0
    np.testing.assert_array_equal(read_dicom_series(folder).array, array)


def test_signed_and_unsigned_images_of_one_series_keep_their_values(tmp_path):
    array = array_of(dtype=np.int16, low=-500, high=3000)
    array[1] = abs(array[1])
    folder = written(tmp_path / "s", array)
    edit(folder, setting(PixelRepresentation=0), only=(1,))
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.dtype == np.int16


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        (name, bits)
        for name in fuzz_kinds.COMPRESSED
        for bits in (8, 12, 16)
        if bits == fuzz_kinds.BITS_STORED.get(name, bits)
    ],
)
def test_signed_pixels_keep_their_sign_and_padding_when_compressed(tmp_path, name, bits):
    smooth = np.add.outer(np.arange(2), np.add.outer(np.arange(40), np.arange(30)))
    array = (smooth - 40).astype(np.int8 if bits == 8 else np.int16)
    array[:, :8, :8] = -60
    folder = of_cells(tmp_path / "s", array, BitsStored=bits, HighBit=bits - 1)
    for path in folder.iterdir():
        fuzz_kinds.compress(path, name)
    edit(folder, tagged(PixelPaddingValue=("US", 65536 - 60)))
    array[:, :8, :8] = array[:, 8:].min()
    is_lossy = name in fuzz_kinds.BITS_STORED
    np.testing.assert_allclose(read_dicom_series(folder).array, array, atol=2 if is_lossy else 0)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"RescaleSlope": 2, "RescaleIntercept": -1024},
        {"RescaleSlope": 0.5, "RescaleIntercept": 0},
        {"PhotometricInterpretation": "MONOCHROME1", "RescaleSlope": 2, "RescaleIntercept": 0},
        {"BitsStored": 12, "HighBit": 11},
    ],
)
@pytest.mark.parametrize("in_one_file", [False, True])
def test_reading_takes_no_more_than_three_times_the_memory_of_the_array(
    tmp_path, attributes, in_one_file
):
    array = array_of((40, 96, 96))
    folder = written(tmp_path / "s", array[:1] if in_one_file else array)
    edit(folder, setting(**attributes))
    if in_one_file:
        edit(folder, setting(NumberOfFrames=len(array), PixelData=array.tobytes()))
    read_dicom_series(folder)
    tracemalloc.start()
    volume = read_dicom_series(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert volume.array.shape == array.shape
    assert peak < 3 * volume.array.nbytes


def test_frames_without_groups_of_their_own_are_counted_as_they_are_read(tmp_path):
    array = array_of((6, 4, 6))
    folder = written(tmp_path / "s", array[:1])
    edit(folder, setting(NumberOfFrames=6, PixelData=array.tobytes()))
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert series_header(folder)["n_slices"] == 6
