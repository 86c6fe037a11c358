"""Undamaged files of every kind that the package reads, and what reads them, for the fuzzing."""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

import cv2
import gdcm
import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from t4e_utils import T4EError
from t4e_utils.competitions.brain_tumor.download import take_brats
from t4e_utils.sampling import pictures
from t4e_utils.scans import dicom_series, dicom_writing, nifti, reading
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.volume import Volume
from t4e_utils.tables import store, user_tables
from t4e_utils.tables.provenance import is_finished
from t4e_utils.workflow import download, executed, report

SHAPE = (3, 24, 20)
COMPRESSED = {
    "JPEG baseline": gdcm.TransferSyntax.JPEGBaselineProcess1,
    "JPEG extended": gdcm.TransferSyntax.JPEGExtendedProcess2_4,
    "JPEG lossless": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    "JPEG-LS": gdcm.TransferSyntax.JPEGLSLossless,
    "JPEG 2000": gdcm.TransferSyntax.JPEG2000Lossless,
    "RLE": gdcm.TransferSyntax.RLELossless,
}
BITS_STORED = {"JPEG baseline": 8, "JPEG extended": 8}  # there is no decoder for 12 bits


RECIPE = {"kind": "image", "backbone": "test_byobnet", "size": 32}


@dataclass(frozen=True)
class Kind:
    """Files of one kind: how they are called, their undamaged bytes, and what reads them."""

    name: str  # of the file
    files: list[bytes]
    readers: Sequence[Callable[[Path], object]]  # the first one's outcome is counted


def _folder_of(path: Path) -> Volume:
    return dicom_series.read_dicom_series(path.parent)


SERIES_READERS = (dicom_series.read_dicom_series, reading.series_header, _folder_of)


def compress(path: Path, name: str) -> None:
    """Compress the pixels of a DICOM file in place, as one of `COMPRESSED`."""
    reader, writer, change = (
        gdcm.ImageReader(),
        gdcm.ImageWriter(),
        gdcm.ImageChangeTransferSyntax(),
    )
    reader.SetFileName(str(path))
    if not reader.Read():
        raise ValueError(f"{path} cannot be read.")
    change.SetTransferSyntax(gdcm.TransferSyntax(COMPRESSED[name]))
    change.SetInput(reader.GetImage())
    if not change.Change():
        raise ValueError(f"{path} cannot be compressed as {name}.")
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(path))
    if not writer.Write():
        raise ValueError(f"{path} cannot be written.")


def _array(dtype: type, bits: int) -> np.ndarray:
    """Return a smooth picture with some noise: pure noise does not compress."""
    z, y, x = np.indices(SHAPE)
    picture = (
        0.4
        + 0.3 * np.sin(x / 4 + z) * np.cos(y / 5)
        + np.random.default_rng(0).normal(0, 0.02, SHAPE)
    )
    return (picture * (2**bits - 1 if np.dtype(dtype).kind == "u" else 2**15 - 1)).astype(dtype)


def _dicom(folder: Path, dtype: type, *, bits: int | None = None) -> Path:
    bits = bits or np.dtype(dtype).itemsize * 8
    affine = display_affine("axial", (3.0, 0.5, 0.75))
    volume = Volume(_array(dtype, bits), (3.0, 0.5, 0.75), affine)
    dicom_writing.write_dicom_series(volume, folder, patient_id="00001", series_description="FLAIR")
    path = folder / "Image-2.dcm"
    dataset = pydicom.dcmread(path)
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.RescaleSlope, dataset.RescaleIntercept = 2, -5
    dataset.save_as(path)
    return path


def _as(path: Path, syntax: str) -> bytes:
    dataset, buffer = pydicom.dcmread(path), BytesIO()
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(
        buffer, dataset, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian
    )
    return buffer.getvalue()


def _multi_frame(folder: Path) -> bytes:
    dataset, buffer = pydicom.dcmread(_dicom(folder, np.uint16)), BytesIO()
    dataset.NumberOfFrames, dataset.PixelData = SHAPE[0], _array(np.uint16, 16).tobytes()
    frames = []
    for z in range(SHAPE[0]):
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, 3 * z]
        frame.PlanePositionSequence = pydicom.Sequence([position])
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = pydicom.Sequence(frames)
    dataset.save_as(buffer)
    return buffer.getvalue()


def _nifti(folder: Path) -> Iterator[bytes]:
    for dtype, kind in (
        (np.int16, nib.Nifti1Image),
        (np.float32, nib.Nifti1Image),
        (np.uint8, nib.Nifti2Image),
    ):
        path, affine = folder / "scan.nii", np.diag([-1.0, -2.0, 3.0, 1.0])
        image = kind(_array(dtype, 8).T, affine)
        image.set_qform(affine, 1)
        if dtype != np.int16:
            image.header.extensions.append(nib.nifti1.Nifti1Extension(4, b"<AFNI>" * 60))
        nib.save(image, path)
        yield path.read_bytes()
        yield gzip.compress(path.read_bytes(), mtime=0)


def dicom(folder: Path) -> Kind:
    """Return series with native pixels."""
    native = [_dicom(folder, dtype).read_bytes() for dtype in (np.uint8, np.uint16, np.int16)]
    for syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
        native.append(_as(_dicom(folder, np.uint16), syntax))
    headless = _as(_dicom(folder, np.uint16), ImplicitVRLittleEndian)[128 + 4 :]
    return Kind("Image-2.dcm", [*native, headless, _multi_frame(folder)], SERIES_READERS)


def compressed_dicom(folder: Path) -> Kind:
    """Return series with compressed pixels."""
    files = []
    for name in COMPRESSED:
        bits = BITS_STORED.get(name, 16)
        path = _dicom(folder, np.uint8 if bits == 8 else np.uint16, bits=bits)
        compress(path, name)
        files.append(path.read_bytes())
    return Kind("Image-2.dcm", files, SERIES_READERS)


def volumes(folder: Path) -> Kind:
    """Return NIfTI files, plain and compressed."""
    read_labels = partial(nifti.read_nifti, labels=True)
    readers = (nifti.read_nifti, nifti.nifti_header, read_labels)
    return Kind("scan.nii", list(_nifti(folder)), readers)


def jpeg(folder: Path) -> Kind:
    """Return a series of JPEG files."""
    files = [
        cv2.imencode(".jpg", _array(np.uint8, 8)[0], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        for quality in (60, 95)
    ]
    readers = [partial(read, source="jpg") for read in (reading.read_series, reading.series_header)]
    return Kind("Image-2.jpg", [file.tobytes() for file in files], readers)


def user_table(folder: Path) -> Kind:
    """Return tables as people save them."""
    rows = [("00006", 1), ("00012", 0), ("NA", 1), ("00100", 0)]
    text = "BraTS21ID,MGMT_value\n" + "".join(f"{patient},{value}\n" for patient, value in rows)
    files = [
        text.encode(),
        text.replace(",", ";").encode("utf-8-sig"),
        text.encode("utf-16"),
        gzip.compress(text.replace("NA", "Mayr\u00e9").encode("latin-1"), mtime=0),
        *_parquet(pd.DataFrame(rows, columns=["BraTS21ID", "MGMT_value"])),
    ]
    labels = partial(user_tables.read_labels, id_column="BraTS21ID", label_column="MGMT_value")
    ids = partial(user_tables.read_ids, id_column="BraTS21ID", value_column="MGMT_value")
    return Kind("labels.csv", files, (labels, ids))


def _parquet(rows: pd.DataFrame) -> Iterator[bytes]:
    for compression in ("snappy", "zstd", None):
        buffer = BytesIO()
        rows.to_parquet(buffer, compression=compression)
        yield buffer.getvalue()


def submission(folder: Path) -> Kind:
    """Return what is handed in, or the report beside it."""
    rows = pd.DataFrame({"patient_id": ["00006", "NA"], "probability": [0.25, 1e-7]})
    told = rows.assign(fallback=["", "no series, could be read"])
    (folder / "submission_report.csv").write_bytes(told.to_csv(index=False).encode())
    files = [each.to_csv(index=False).encode() for each in (rows, told)]
    return Kind("submission.csv", [*files, *_parquet(rows)], (_submission_facts, _report_facts))


def _submission_facts(path: Path) -> dict:
    return report.submission_facts(path.parent, "06_submission")


def _report_facts(path: Path) -> dict:
    run = path.parent / "run"
    run.mkdir(exist_ok=True)
    shutil.copyfile(path, run / "submission_report.csv")
    (run / "submission.csv").write_text("patient_id,probability\n00006,0.5\n")
    return report.submission_facts(run, "06_submission")


def archive(folder: Path) -> Kind:
    """Return archives as they are downloaded, with an archive inside."""
    inner, members = BytesIO(), {"BraTS2021_00000_seg.nii.gz": next(_nifti(folder))}
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(f"BraTS2021_00000/{name}")
            entry.size = len(content)
            tar.addfile(entry, BytesIO(content))
    members |= {"train/00000/Image-1.dcm": bytes(2000), "task1.tar.gz": inner.getvalue()}
    files = []
    for compression in download.COMPRESSIONS:
        buffer = BytesIO()
        with zipfile.ZipFile(buffer, "w", compression) as opened:
            for name, content in members.items():
                opened.writestr(zipfile.ZipInfo(name), content, compression)
        files.append(buffer.getvalue())
    take = partial(_unpacked, take=take_brats, holds="BraTS2021_*/*_seg.nii.gz")
    return Kind("data.zip", files, (_unpacked, take))


def _unpacked(path: Path, **options: object) -> Path:
    """Unpack a copy, which is kept alone if it cannot be."""
    copy, place = path.with_name("copy.zip"), path.with_name("unpacked")
    shutil.copyfile(path, copy)
    place.mkdir()
    try:
        return download.unpack(copy, place / "data", **options)
    except T4EError:
        assert copy.read_bytes() == path.read_bytes()
        assert not [*place.iterdir()]
        raise
    finally:
        shutil.rmtree(place)


def table(folder: Path) -> Kind:
    """Return a table of a run."""
    rows = pd.DataFrame({"patient_id": ["00006", "00012"] * 20, "wt_area": np.arange(40.0)})
    path = store.write_table(rows, folder / "slices.parquet", provenance={"seed": 0})
    read = partial(store.read_table, made_by="01_eda", columns=["patient_id", "wt_area"])
    return Kind(path.name, [path.read_bytes()], (read, _is_finished))


def card(folder: Path) -> Kind:
    """Return scores of a stage."""
    scores = [store.Score("wt_dice", 0.9, (0.8, 0.95), 8, "patients")]
    path = store.write_scores(folder / "scores.json", "Segmentation", scores)
    readers = (store.read_scores, partial(store.read_json, made_by="03_train_seg"))
    return Kind(path.name, [path.read_bytes()], readers)


def picture(folder: Path) -> Kind:
    """Return a stored slice."""
    channels = _array(np.uint8, 8).transpose(1, 2, 0)
    path = pictures.write_picture(folder / "slice.png", channels)
    return Kind(path.name, [path.read_bytes()], (pictures.read_picture,))


def notebook(folder: Path) -> Kind:
    """Return an executed notebook."""
    times = {"start_time": "2026-01-01T10:00:00", "end_time": "2026-01-01T10:00:05"}
    output = {"output_type": "display_data", "data": {"text/html": "<b>n</b>"}, "metadata": {}}
    cell = {
        "cell_type": "code",
        "execution_count": 1,
        "id": "a",
        "source": "n = 1",
        "outputs": [output],
        "metadata": {"tags": ["report"], "papermill": times},
    }
    content = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return Kind("01_eda.ipynb", [json.dumps(content).encode()], (_notebook_facts,))


def model(folder: Path, *, suffix: str) -> Kind:
    """Return weights, their card, or the checkpoint of a training."""
    import torch  # takes seconds, which the other kinds do not need

    from t4e_utils.learning import checkpoints, networks, weights
    from t4e_utils.learning.plan import Progress

    network = networks.build(networks.Recipe(**RECIPE))
    best = folder / "best.safetensors"
    weights.save_weights(network, best, {"data": "phantoms"})
    torch.save(network.state_dict(), folder / "best.pth")
    progress = Progress(epoch=1, best_epoch=1, history=[{"epoch": 1, "valid_loss": 1.0}])
    state = {"progress": asdict(progress), "about": {}, "model": network.state_dict()}
    state |= {"phase": "all", "optimiser": {}, "schedule": None, "scaler": None}
    checkpoints.write_checkpoint(folder, {**state, "random": checkpoints.random_states()})
    path = folder / checkpoints.LAST if suffix == ".pt" else best.with_suffix(suffix)
    readers = {
        ".safetensors": (networks.load_network, weights.read_weights),
        ".json": (lambda card: networks.load_network(best), weights.read_card),
        ".pth": (weights.read_weights,),
        ".pt": (lambda last: checkpoints.read_checkpoint(folder),),
    }
    return Kind(path.name, [path.read_bytes()], readers[suffix])


KINDS = {
    "dicom": dicom,
    "dicom compressed": compressed_dicom,
    "nifti": volumes,
    "jpg": jpeg,
    "user table": user_table,
    "submission": submission,
    "archive": archive,
    "table": table,
    "card": card,
    "picture": picture,
    "notebook": notebook,
    "weights": partial(model, suffix=".safetensors"),
    "card of weights": partial(model, suffix=".json"),
    "weights of torch": partial(model, suffix=".pth"),
    "checkpoint": partial(model, suffix=".pt"),
}


def _is_finished(path: Path) -> bool:
    return is_finished(path, {"seed": 0}, root=path.parent)


def _notebook_facts(path: Path) -> list:
    found = executed.read(path)
    return [executed.span(found), executed.title_of(found), executed.tagged_pictures(found)]
