"""Odd and damaged files of public collections: read as they are, or refused with a code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom_series import codes
from pydicom.dataset import Dataset

from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.geometry import plane_of
from t4e_utils.scans.problems import VolumeError
from t4e_utils.scans.reading import series_header
from t4e_utils.scans.volume import Volume

ODD = Path(__file__).parents[3] / "shared" / "data" / "odd_dicom"
# one image, eight encodings
MR_SMALL = (
    "",
    "_RLE",
    "_bigendian",
    "_expb",
    "_implicit",
    "_jp2klossless",
    "_jpeg_ls_lossless",
    "_padded",
)
GEOMETRY = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
)
GROUPS = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
)
pytestmark = pytest.mark.skipif(
    not ODD.is_dir(), reason="the collection of odd DICOM files is not there"
)


def test_all_transfer_syntaxes_give_the_same_image():
    volumes = [
        read_dicom_series(path) for path in sorted((ODD / "transfer_syntaxes").glob("*.dcm"))
    ]
    assert len({volume.meta["transfer_syntax"] for volume in volumes}) == 7
    for volume in volumes[1:]:
        np.testing.assert_array_equal(volume.array, volumes[0].array)


BAD_FRAMES = ["no_spacing", "same_position", "warning"]
N_FILES = {"geometry/failing/notavolume/001": 4, "geometry/failing/sliceorientation/001": 4}
NO_GEOMETRY = ["no_orientation", "no_positions", "no_spacing", "no_spacing"]
READ = {  # slices, plane, distance of slices in mm, problems
    "geometry/failing/gantrytilting/001": (4, "axial", 5.0, ["gantry_tilt"]),
    # four images of one place, one after the other
    "geometry/failing/notavolume/001": (1, "axial", 1.0, ["no_spacing", "several_volumes"]),
    "geometry/failing/slicecount/001": (2, "sagittal", 1.0, []),
    "geometry/failing/sliceincrement/001": (4, "axial", 5.0, ["gap"]),
    "geometry/failing/sliceincrement/002": (4, "axial", 0.778, ["gantry_tilt", "gap"]),
    "geometry/failing/sliceorientation/001": (2, "sagittal", 3.3, ["mixed_spacing"]),
    "geometry/generic/anatomical/001": (4, "sagittal", 1.0, []),
    "geometry/generic/anatomical/001_implicit": (4, "sagittal", 1.0, []),
    "geometry/generic/anatomical/002_non_isotropic": (4, "axial", 0.5, []),
    "geometry/philips_enhanced/anatomical/001": (8, "sagittal", 1.2, []),
    "geometry/philips_enhanced/anatomical/001_implicit": (8, "sagittal", 1.0, []),
    "geometry/siemens_multiframe/anatomical/001": (8, "axial", 0.9, []),
    "geometry/generic/compressed/001": (4, "sagittal", 1.0, []),
    "geometry/generic/compressed_j2k/001": (4, "sagittal", 1.0, []),
    "geometry/generic/compressed_jpeg/001": (4, "sagittal", 1.0, []),
    "geometry/generic/compressed_jpegls/001": (4, "sagittal", 1.0, []),
    "geometry/generic/compressed_rle/001": (4, "sagittal", 1.0, []),
    "oblique_t1": (32, "axial", 0.667, []),
    "wrong_modality_tag": (17, "axial", 2.0, []),
    **{f"transfer_syntaxes/{i}.dcm": (1, "axial", 3.6, ["mosaic"]) for i in range(1, 10)},
    **{f"damaged/MR_small{end}.dcm": (1, "axial", 0.8, []) for end in MR_SMALL if end != "_padded"},
    "damaged/MR_small_padded.dcm": (1, "axial", 0.8, ["warning"]),
    "damaged/CT_small.dcm": (1, "axial", 5.0, []),
    "damaged/693_J2KI.dcm": (1, "axial", 20.0, []),
    "damaged/J2K_pixelrep_mismatch.dcm": (1, "axial", 5.0, []),
    "damaged/JPEG2000.dcm": (1, "axial", 1.0, ["no_orientation", "no_positions", "no_spacing"]),
    "damaged/JPEGLSNearLossless_08.dcm": (1, "axial", 1.0, NO_GEOMETRY),
    "damaged/JPEGLSNearLossless_16.dcm": (1, "axial", 1.0, NO_GEOMETRY),
    "damaged/image_dfl.dcm": (1, "axial", 1.0, NO_GEOMETRY),
    # says that it has 1A frames
    "damaged/badVR.dcm": (15, "axial", 1.0, [*["bad_value"] * 2, *BAD_FRAMES]),
    "damaged/liver_1frame.dcm": (1, "axial", 1.0, []),
}
REFUSED = {
    "geometry/generic/rgb/001": "colour_image",
    "damaged/ExplVR_BigEnd.dcm": "colour_image",
    "damaged/ExplVR_BigEndNoMeta.dcm": "no_pixels",
    "damaged/ExplVR_LitEndNoMeta.dcm": "no_pixels",
    "damaged/GDCMJ2K_TextGBR.dcm": "colour_image",
    "damaged/JPEG-lossy.dcm": "no_decoder",
    "damaged/JPEG2000-embedded-sequence-delimiter.dcm": "damaged",
    "damaged/JPGExtended.dcm": "no_decoder",
    "damaged/MR_truncated.dcm": "truncated",
    "damaged/SC_rgb_rle_16bit.dcm": "colour_image",
    "damaged/SC_rgb_rle_16bit_2frame.dcm": "colour_image",
    "damaged/UN_sequence.dcm": "no_pixels",
    "damaged/empty_charset_LEI.dcm": "no_pixels",
    "damaged/meta_missing_tsyntax.dcm": "no_pixels",
    "damaged/no_meta.dcm": "no_pixels",
    "damaged/no_meta_group_length.dcm": "no_pixels",
    "damaged/rtplan_truncated.dcm": "no_pixels",
}
SINGLE_FILES = ("damaged", "transfer_syntaxes")


def scans() -> set[str]:
    """Every series folder of the collection, and every file of the folders that hold single
    files.
    """
    files = [
        path.relative_to(ODD) for path in ODD.rglob("*") if path.is_file() and path.suffix != ".txt"
    ]
    return {str(path if path.parts[0] in SINGLE_FILES else path.parent) for path in files}


def test_every_file_and_series_of_the_collection_is_in_one_of_the_tables():
    assert scans() == {*READ, *REFUSED}
    assert not {*READ} & {*REFUSED}


@pytest.mark.parametrize("name", READ)
@pytest.mark.filterwarnings("ignore:The pixel data is 8320 bytes long")  # of the padded file
@pytest.mark.filterwarnings("ignore:Invalid value for VR IS")
def test_a_readable_scan_of_the_collection_has_the_voxels_that_pydicom_gives(name):
    n_slices, plane, slice_mm, expected = READ[name]
    volume = read_dicom_series(ODD / name)
    assert (len(volume.array), volume.plane, codes(volume)) == (n_slices, plane, expected)
    assert volume.spacing_mm[0] == pytest.approx(slice_mm, abs=1e-3)
    header = series_header(ODD / name)
    assert (header["plane"], header["n_slices"], header["rows"], header["columns"]) == (
        None if "no_orientation" in expected else plane,
        *volume.array.shape,
    )
    assert header["problems"] == volume.meta["problems"]
    slices = [image for path in files_of(name) for image in pydicom_slices(path)]
    assert len(slices) == N_FILES.get(name, n_slices)
    if expected == []:
        for pixels, place in slices:
            read = at_places(volume, place(*np.indices(pixels.shape)))
            np.testing.assert_allclose(
                read[~np.isnan(pixels)], pixels[~np.isnan(pixels)], rtol=1e-6
            )
    else:  # the places are odd or unknown: each slice is one of those, perhaps turned
        for image in volume.array:
            assert any(
                np.array_equal(image, turned) for pixels, _ in slices for turned in turns(pixels)
            )


def files_of(name: str) -> list[Path]:
    path = ODD / name
    return [path] if path.is_file() else sorted(path.iterdir())


def pydicom_slices(path: Path) -> Iterator[tuple[np.ndarray, Callable | None]]:
    """Yield the rescaled values of each frame as pydicom gives them, NaN for padding, and a
    function from row and column to the place in LPS mm.
    """
    dataset = pydicom.dcmread(path, force=True)
    if path.name == "badVR.dcm":
        dataset.NumberOfFrames = 15
    frames = (
        np.atleast_3d(dataset.pixel_array)
        if dataset.pixel_array.ndim == 3
        else dataset.pixel_array[None]
    )
    shared = dataset.get("SharedFunctionalGroupsSequence", [Dataset()])[0]
    for pixels, own in zip(
        frames,
        dataset.get("PerFrameFunctionalGroupsSequence", [Dataset()] * len(frames)),
        strict=False,
    ):
        found = {}
        groups = [
            level[name].value[0] for level in (shared, own) for name in GROUPS if name in level
        ]
        for item in (dataset, *groups):
            found.update({key: item[key].value for key in GEOMETRY if key in item})
        pixels = np.where(pixels == dataset.get("PixelPaddingValue"), np.nan, pixels)
        values = pixels * float(found.get("RescaleSlope", 1)) + float(
            found.get("RescaleIntercept", 0)
        )
        yield values, place_of(found) if {*GEOMETRY[:3]} <= {*found} else None


def place_of(found: dict) -> Callable:
    position, cosines, (row_mm, column_mm) = (np.array(found[key], float) for key in GEOMETRY[:3])

    def place(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        return (
            position
            + column[..., None] * column_mm * cosines[:3]
            + row[..., None] * row_mm * cosines[3:]
        )

    return place


def at_places(volume: Volume, lps: np.ndarray) -> np.ndarray:
    ras = np.concatenate([lps * (-1, -1, 1), np.ones((*lps.shape[:2], 1))], axis=2)
    return volume.array[
        tuple(np.rint(np.einsum("ij,rcj->irc", np.linalg.inv(volume.affine), ras)[:3]).astype(int))
    ]


def turns(pixels: np.ndarray) -> Iterator[np.ndarray]:
    for image in (pixels, pixels.T):
        yield from (image, image[::-1], image[:, ::-1], image[::-1, ::-1])


@pytest.mark.parametrize("name", REFUSED)
def test_an_unreadable_scan_of_the_collection_is_refused_with_its_code(name):
    with pytest.raises(VolumeError) as refused:
        read_dicom_series(ODD / name)
    assert refused.value.code == REFUSED[name]


def test_compressed_series_of_the_collection_are_equal():
    names = (
        "compressed",
        "compressed_j2k",
        "compressed_jpeg",
        "compressed_jpegls",
        "compressed_rle",
    )
    first, *others = (
        read_dicom_series(ODD / "geometry" / "generic" / name / "001") for name in names
    )
    for other in others:
        np.testing.assert_array_equal(other.array, first.array)
        np.testing.assert_allclose(other.affine, first.affine)


def test_one_image_in_eight_encodings_of_the_collection_is_the_same():
    images = [read_dicom_series(ODD / "damaged" / f"MR_small{end}.dcm").array for end in MR_SMALL]
    for image in images[1:]:
        np.testing.assert_array_equal(image, images[0])


def test_an_oblique_series_is_named_and_measured():
    volume = read_dicom_series(ODD / "oblique_t1")
    assert (volume.plane, codes(volume)) == ("axial", [])
    np.testing.assert_allclose(volume.spacing_mm, (0.667, 0.667, 0.7), atol=1e-3)
    assert plane_of(volume.to_plane("coronal").affine) == "coronal"
