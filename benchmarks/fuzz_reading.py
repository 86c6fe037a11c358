"""Fuzzing of the readers: what they make of damaged bytes.

Small DICOM and NIfTI files, half of the DICOM files compressed, are changed at random and read in a
child process with a memory limit. A mutant may be read or refused with a `VolumeError`; any other
exception, a hang or the death of the child is a failure.

    python -m benchmarks.fuzz_reading --mutants 20000 --seed 0
"""

from __future__ import annotations

import argparse
import gzip
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import gdcm
import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from t4e_utils.scans import dicom_series, dicom_writing, nifti, reading
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.problems import CODES, VolumeError
from t4e_utils.scans.volume import Volume

ROOT = Path(__file__).parents[1]
MEMORY_LIMIT = 2 << 30  # bytes of address space of the child
HANG_SECONDS = 5.0
START_SECONDS = 60.0  # imports of the child
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
NUMBERS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFE,
    0xFFFFFFFF,
)


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


def originals(folder: Path) -> dict[str, list[bytes]]:
    """Return undamaged files by kind: "dicom", "dicom compressed" and "nifti"."""
    native, compressed = [], []
    for dtype in (np.uint8, np.uint16, np.int16):
        native += [_dicom(folder, dtype).read_bytes()]
    for syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
        native.append(_as(_dicom(folder, np.uint16), syntax))
    native += [
        _as(_dicom(folder, np.uint16), ImplicitVRLittleEndian)[128 + 4 :],
        _multi_frame(folder),
    ]
    for name in COMPRESSED:
        bits = BITS_STORED.get(name, 16)
        path = _dicom(folder, np.uint8 if bits == 8 else np.uint16, bits=bits)
        compress(path, name)
        compressed.append(path.read_bytes())
    return {"dicom": native, "dicom compressed": compressed, "nifti": list(_nifti(folder))}


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


def mutant(data: bytes, rng: np.random.Generator) -> bytes:
    """Return the bytes with one to four changes.

    Anywhere, in the header only, or in the last half, where the pixels are.
    """
    changed, n = bytearray(data), len(data)
    low, high = ((0, n), (0, min(600, n)), (n // 2, n), (n // 2, n))[rng.integers(4)]
    for _ in range(rng.integers(1, 5)):
        rng.choice(MUTATIONS)(changed, rng, lambda: int(rng.integers(low, high)))
    return bytes(changed)


def _flip_bits(data: bytearray, rng: np.random.Generator, place: Callable[[], int]) -> None:
    for _ in range(rng.integers(1, 9)):
        if (start := place()) < len(data):
            data[start] ^= 1 << int(rng.integers(8))


def _set_bytes(data: bytearray, rng: np.random.Generator, place: Callable[[], int]) -> None:
    start, n = place(), int(rng.integers(1, 17))
    data[start : start + n] = rng.bytes(len(data[start : start + n]))


def _set_number(data: bytearray, rng: np.random.Generator, place: Callable[[], int]) -> None:
    form = str(rng.choice(["<H", ">H", "<I", ">I"]))
    packed = struct.pack(form, int(rng.choice(NUMBERS)) & (2 ** (8 * struct.calcsize(form)) - 1))
    start = place()
    data[start : start + len(packed)] = packed


def _cut_end(data: bytearray, rng: np.random.Generator, place: Callable[[], int]) -> None:
    del data[place() :]


def _delete(data: bytearray, rng: np.random.Generator, place: Callable[[], int]) -> None:
    start = place()
    del data[start : start + int(rng.integers(1, 64))]


def _repeat(data: bytearray, rng: np.random.Generator, place: Callable[[], int]) -> None:
    start = place()
    data[start:start] = data[start : start + int(rng.integers(1, 64))]


def _move(data: bytearray, rng: np.random.Generator, place: Callable[[], int]) -> None:
    start, n, target = place(), int(rng.integers(1, 32)), place()
    piece = data[start : start + n]
    data[target : target + len(piece)] = piece


MUTATIONS = (
    _flip_bits,
    _flip_bits,
    _set_bytes,
    _set_number,
    _set_number,
    _cut_end,
    _delete,
    _repeat,
    _move,
)


def kind_of(i: int) -> str:
    """Return the kind of the i-th mutant.

    Of ten, three are native DICOM, three compressed and four NIfTI.
    """
    return ("dicom", "dicom compressed", "nifti")[(0, 1, 2, 0, 1, 2, 0, 1, 2, 2)[i % 10]]


def read_mutant(files: dict[str, list[bytes]], i: int, *, seed: int, folder: Path) -> str:
    """Write and read the i-th mutant; return "read" or the code it was refused with."""
    kind, rng = kind_of(i), np.random.default_rng([seed, i])
    data = mutant(files[kind][rng.integers(len(files[kind]))], rng)
    path = folder / ("scan.nii" if kind == "nifti" else "Image-2.dcm")
    path.write_bytes(data)
    reads = (
        (nifti.nifti_header, nifti.read_nifti, lambda p: nifti.read_nifti(p, labels=True))
        if kind == "nifti"
        else (
            reading.series_header,
            dicom_series.read_dicom_series,
            lambda p: dicom_series.read_dicom_series(p.parent),
        )
    )
    outcomes = [_outcome(read, path) for read in reads]
    return outcomes[1]


def _outcome(read: Callable[[Path], object], path: Path) -> str:
    try:
        volume = read(path)
    except VolumeError as error:
        if error.code not in CODES:
            raise
        return (
            "damaged, and the decoder broke down" if "broke down" in error.sentence else error.code
        )
    if isinstance(volume, Volume):
        assert volume.array.ndim == 3
        assert volume.array.size
        assert np.isfinite(volume.affine).all()
        assert {problem.code for problem in volume.meta["problems"]} <= set(CODES)
    return "read"


def child(start: int, stop: int, *, seed: int) -> None:
    """Read mutants one after the other, and print when each begins and how it ended."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("error")
    out, sys.stdout = sys.stdout, sys.stderr
    with tempfile.TemporaryDirectory() as name:
        series, nifti = Path(name) / "series", Path(name) / "nifti"
        nifti.mkdir()
        files = originals(series)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
        for i in range(start, stop):
            print(f"{i} begins", file=out, flush=True)
            try:
                outcome = read_mutant(
                    files, i, seed=seed, folder=nifti if kind_of(i) == "nifti" else series
                )
            except Exception as error:
                outcome = f"! {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            print(f"{i} {outcome}", file=out, flush=True)


def fuzz(n: int, *, seed: int) -> tuple[Counter, list[str]]:
    """Read n mutants in child processes.

    Returns:
        How often each (kind, outcome) occurred, and a sentence for each failure.
    """
    counts, failures, i = Counter(), [], 0
    while i < n:
        last, cause = _run_child(i, n, seed, counts, failures)
        if cause is None:
            break
        failures.append(f"mutant {last} ({kind_of(last)}): {cause}")
        counts[kind_of(last), "FAILED"] += 1
        i = last + 1
    return counts, failures


def _run_child(
    start: int, stop: int, seed: int, counts: Counter, failures: list[str]
) -> tuple[int, str | None]:
    """Return the last mutant that was begun, and what ended the child: None if it read all."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.fuzz_reading",
        "--child",
        str(start),
        str(stop),
        "--seed",
        str(seed),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
    ) as process:
        last, limit, rest = start, START_SECONDS, b""
        while True:
            if not select.select([process.stdout], [], [], limit)[0]:
                process.kill()
                return last, f"hangs for more than {limit:.0f} s"
            said = os.read(process.stdout.fileno(), 1 << 16)
            *lines, rest = (rest + said).split(b"\n")
            for line in lines:
                number, outcome = line.decode().split(" ", 1)
                last, limit = int(number), HANG_SECONDS
                if outcome.startswith("! "):
                    failures.append(f"mutant {last} ({kind_of(last)}): {outcome[2:]}")
                if outcome != "begins":
                    counts[kind_of(last), "FAILED" if outcome.startswith("! ") else outcome] += 1
            if not said:
                code = process.wait()
                return (
                    last,
                    None
                    if code == 0
                    else f"the child died ({signal.Signals(-code).name if code < 0 else code})",
                )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutants", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--child", type=int, nargs=2, metavar=("START", "STOP"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.child:
        child(*options.child, seed=options.seed)
        return 0
    start = time.perf_counter()
    counts, failures = fuzz(options.mutants, seed=options.seed)
    table = pd.Series(counts).unstack(0, fill_value=0)
    print(table.loc[table.sum(axis=1).sort_values(ascending=False).index].to_string())
    print(
        f"{sum(counts.values())} mutants in {time.perf_counter() - start:.0f} s, seed "
        f"{options.seed}, {len(failures)} failures"
    )
    print(*failures, sep="\n")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
