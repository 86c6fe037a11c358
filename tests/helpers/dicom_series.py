"""Small DICOM series for tests, written and then changed as scanners and anonymisers do."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
)

from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.dicom_writing import write_dicom_series
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.problems import CODES
from t4e_utils.scans.reading import series_header
from t4e_utils.scans.volume import Volume

SPACING = (3.0, 0.5, 0.75)


def array_of(shape=(5, 4, 6), dtype=np.uint16, low=0, high=4000) -> np.ndarray:
    return np.random.default_rng(7).integers(low, high, shape).astype(dtype)


def written(folder: Path, array: np.ndarray, *, plane: str = "axial", **options) -> Path:
    affine = display_affine(plane, SPACING)
    affine[:3, 3] = (40.0, -30.0, 20.0)
    names = {"patient_id": "00001", "series_description": "T1", **options}
    write_dicom_series(Volume(array, SPACING, affine), folder, **names)
    return folder


def edit(
    folder: Path, change: Callable[[Dataset, int], None], *, only: tuple[int, ...] | None = None
) -> None:
    """Change the header of the files with the given numbers, counted from 0."""
    for i in range(len(list(folder.iterdir()))) if only is None else only:
        path = folder / f"Image-{i + 1}.dcm"
        dataset = pydicom.dcmread(path)
        change(dataset, i)
        dataset.save_as(path)


def setting(**attributes) -> Callable[[Dataset, int], None]:
    return lambda dataset, i: [setattr(dataset, name, value) for name, value in attributes.items()]


def without(*keywords: str) -> Callable[[Dataset, int], None]:
    return lambda dataset, i: [
        delattr(dataset, keyword) for keyword in keywords if keyword in dataset
    ]


def codes(volume: Volume) -> list[str]:
    found = [problem.code for problem in volume.meta["problems"]]
    assert set(found) <= set(CODES)
    return found


def as_syntax(path: Path, syntax: str) -> None:
    """Write a DICOM file of 16 bits again in an uncompressed transfer syntax."""
    dataset = pydicom.dcmread(path)
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(path, dataset)


def deflated(path: Path) -> bytes:
    """Return a DICOM file with all its elements compressed."""
    dataset, buffer = pydicom.dcmread(path), BytesIO()
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(buffer)
    return buffer.getvalue()


def enhanced_mr(
    array: np.ndarray, order: list[int], *, slopes: list[float] | None = None
) -> Dataset:
    """Return an enhanced MR image with its frames in a given order, positions for each frame and
    the rest shared.
    """
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = EnhancedMRImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3.4"
    dataset.Modality, dataset.NumberOfFrames = "MR", len(order)
    dataset.Rows, dataset.Columns = array.shape[1:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = (
        1,
        "MONOCHROME2",
        0,
    )
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.75], 9.0
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = (
        Sequence([orientation]),
        Sequence([measures]),
    )
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


def written_with(folder: Path, images: list[tuple[np.ndarray, dict]]) -> Path:
    """Write images (H, W) of one axial series as `Image-1.dcm` and so on, as `written` does.

    Each has attributes of its own; one that is None is left out.
    """
    written(folder, images[0][0][None])
    template = pydicom.dcmread(folder / "Image-1.dcm")
    for i, (pixels, attributes) in enumerate(images):
        dataset = copy(template)
        own = {
            "InstanceNumber": i + 1,
            "SOPInstanceUID": f"1.2.826.0.1.{i + 1}",
            "ImagePositionPatient": position(i),
            "PixelData": pixels.astype("<u2").tobytes(),
        }
        for keyword, value in {**own, **attributes}.items():
            if value is not None:
                setattr(dataset, keyword, value)
            elif keyword in dataset:
                delattr(dataset, keyword)
        dataset.save_as(folder / f"Image-{i + 1}.dcm")
    return folder


def position(k: float) -> list[float]:
    """Return where slice k of an axial series that `written` writes lies, in LPS mm."""
    return [-40.0, 30.0, 20.0 + SPACING[0] * k]


def read_alike(folder: Path) -> Volume:
    """Read a series; what its headers say of it must be the same."""
    volume, header = read_dicom_series(folder), series_header(folder)
    assert header["n_slices"] == len(volume.array)
    assert header["problems"] == volume.meta["problems"]
    return volume
