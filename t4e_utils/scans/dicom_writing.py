"""Write volumes as DICOM MR series that any viewer opens.

Arrays are `(D, H, W)`, affines map (slice, row, column) to RAS mm; DICOM's positions and directions
are LPS.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, RLELossless, generate_uid

from t4e_utils import T4EError
from t4e_utils.scans.geometry import LPS_TO_RAS
from t4e_utils.scans.problems import VolumeError
from t4e_utils.scans.volume import Volume

DTYPES = (np.uint8, np.uint16, np.int16)
NOT_PERPENDICULAR = 1e-4  # largest cosine between rows and columns


def write_dicom_series(
    volume: Volume,
    folder: str | Path,
    *,
    patient_id: str,
    series_description: str,
    name_pattern: str = "Image-{}.dcm",
    uid_seed: str = "",
    compress: str | None = None,
) -> None:
    """Write a volume as a DICOM MR series, one file per slice, numbered from 1 in their order.

    Args:
        volume: uint8, uint16 or int16, stored as it is, without rescaling; rows and columns
            perpendicular.
        folder: made if missing; files of the same names are replaced.
        patient_id: DICOM PatientID; with `series_description` and `uid_seed` it fixes all
            identifiers, so that equal input gives equal files.
        series_description: DICOM SeriesDescription.
        name_pattern: file name with `{}` for the number.
        uid_seed: something more that tells this series from others of the same names.
        compress: None or "rle".

    Raises:
        VolumeError: a dtype that DICOM has no place for, or rows and columns that are not
            perpendicular.
        T4EError: another compression.
    """
    if compress not in (None, "rle"):
        raise T4EError(f"compress = {compress!r} is not known: choose from None, 'rle'.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    dataset = _series_dataset(volume, folder, (patient_id, series_description, uid_seed))
    for i, image in enumerate(volume.array):
        dataset.InstanceNumber = i + 1
        dataset.ImagePositionPatient = _decimals(volume.affine[:3] @ (i, 0, 0, 1) * LPS_TO_RAS)
        uid = generate_uid(entropy_srcs=[dataset.SeriesInstanceUID, str(i)])
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
        data = image.astype(image.dtype.newbyteorder("<"), copy=False).tobytes()
        dataset.PixelData = data + b"\0" * (len(data) % 2)
        if compress == "rle":
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        dataset.save_as(folder / name_pattern.format(i + 1), enforce_file_format=True)


def _series_dataset(volume: Volume, folder: Path, names: tuple[str, str, str]) -> Dataset:
    """Return what all slices share; refuse what the format cannot hold."""
    array, affine = volume.array, volume.affine
    if array.dtype.newbyteorder("=") not in DTYPES:
        sentence = f"DICOM takes uint8, uint16 or int16, not {array.dtype}: convert it."
        raise VolumeError("out_of_range", folder, sentence)
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    along_column, along_row = (affine[:3, :3] / steps).T[1:] * LPS_TO_RAS
    if abs(along_row @ along_column) > NOT_PERPENDICULAR:
        sentence = "Rows and columns are not perpendicular: resample the volume first."
        raise VolumeError("bad_affine", folder, sentence)
    patient_id, description, _ = names
    bits = array.dtype.itemsize * 8
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
    dataset.PatientID = dataset.PatientName = patient_id
    dataset.Modality, dataset.SeriesDescription = "MR", description
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[patient_id, "study"])
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=[patient_id, "frame of reference"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=list(names))
    dataset.ImageOrientationPatient = _decimals([*along_row, *along_column])
    dataset.PixelSpacing = _decimals(steps[1:])
    dataset.SliceThickness = dataset.SpacingBetweenSlices = _decimals(steps[:1])[0]
    dataset.Rows, dataset.Columns = array.shape[1:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, int(array.dtype.kind == "i")
    return dataset


def _decimals(values: np.ndarray | list[float]) -> list[str]:
    """Return numbers as DICOM decimal strings, of 16 characters at most."""
    return [f"{value:.8f}"[:16] for value in np.asarray(values, dtype=float) + 0.0]
