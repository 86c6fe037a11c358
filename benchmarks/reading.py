"""What reading costs beside the bare libraries, on the same files in the same run.

    python -m benchmarks.reading --repeats 15

Headers: of 2,000 slices as small as those of phantoms, beside `pydicom.dcmread` with the same
attributes as `specific_tags` and without pixels. DICOM: 200 uncompressed slices of 512 x 512 in 16
bits, read as a volume (sorted, checked, stacked) beside `pydicom.dcmread(f).pixel_array` of each
file. NIfTI: a volume of 155 x 240 x 240 beside `numpy.asarray(nibabel.load(f).dataobj)`. Of a file
that is not compressed nibabel only maps the bytes and reads none of them; there the values are
copied into memory, as reading means here. Runs take turns; the ratio is that of the medians, beside
the smallest and the largest of a turn. Times are those of the processor for headers, and of the
clock for all others.

Memory: the same 200 slices as files of several kinds, each read in a process of its own; how much
its peak resident memory lies above that after the imports, beside the bytes of the array. The
process that decodes compressed pixels is not counted; it holds one file at a time.
"""

from __future__ import annotations

import argparse
import platform
import re
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from pydicom.uid import RLELossless

from t4e_utils.scans.dicom_keywords import KEYWORDS
from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.dicom_walk import read_header
from t4e_utils.scans.dicom_writing import write_dicom_series
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.nifti import read_nifti, write_nifti
from t4e_utils.scans.volume import Volume
from t4e_utils.tables.run import versions

# what is changed in each file -> how the kind is called
KINDS = {
    "plain": {},
    "12 bits stored": {"BitsStored": 12, "HighBit": 11},
    "slope 2": {"RescaleSlope": 2, "RescaleIntercept": -1024},
    "slope 0.5, float32": {"RescaleSlope": 0.5, "RescaleIntercept": 0},
    "MONOCHROME1": {"PhotometricInterpretation": "MONOCHROME1"},
    "padding": {},
    "32 bits": {"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31},
    "RLE": {},
    "one file": {},
    "one file, RLE": {},
    "one file, MONOCHROME1, slope 2": {
        "PhotometricInterpretation": "MONOCHROME1",
        "RescaleSlope": 2,
        "RescaleIntercept": 0,
    },
}
HEADER_SHAPE, N_HEADERS = (40, 64, 64), 2000
DICOM_SHAPE, NIFTI_SHAPE = (200, 512, 512), (155, 240, 240)


def head(shape: tuple[int, int, int], dtype: type) -> Volume:
    """Return a ball of noise in black.

    Half of a scan is background, which is what makes it compress as scans do.
    """
    z, y, x = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in shape)]
    noise = np.random.default_rng(0).normal(600, 120, shape)
    return Volume(
        np.where(z * z + y * y + x * x < 0.8, noise, 0).clip(0).astype(dtype),
        (1.0, 1.0, 1.0),
        display_affine("axial"),
    )


def seconds(run: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return clock() - start


def compare(
    name: str,
    ours: Callable[[], object],
    bare: Callable[[], object],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    # the first finds cold caches
    times = np.array([(seconds(ours, clock), seconds(bare, clock)) for _ in range(repeats + 1)])[1:]
    (ours_s, bare_s), ratios = np.median(times, axis=0), times[:, 0] / times[:, 1]
    print(
        f"{name:<28}{ours_s * 1000:>10.0f}{bare_s * 1000:>10.0f}{ours_s / bare_s:>8.2f}"
        f"{ratios.min():>10.2f}{ratios.max():>9.2f}",
        flush=True,
    )


def compare_headers(folder: Path, repeats: int) -> None:
    for i in range(N_HEADERS // HEADER_SHAPE[0]):
        names = {"patient_id": f"{i:05d}", "series_description": "T1"}
        write_dicom_series(head(HEADER_SHAPE, np.uint16), folder / str(i), **names)
    files = sorted(folder.rglob("*.dcm"))
    compare(
        f"DICOM, {len(files)} headers",
        lambda: [read_header(f, [], with_pixels=False) for f in files],
        lambda: [
            pydicom.dcmread(f, specific_tags=list(KEYWORDS), stop_before_pixels=True) for f in files
        ],
        repeats,
        time.process_time,
    )


def write_kind(name: str, plain: list[Path], folder: Path) -> None:
    """Write a series as one of `KINDS`."""
    datasets = [pydicom.dcmread(file) for file in plain]
    pixels = [dataset.PixelData for dataset in datasets]
    if name.startswith("one file"):
        datasets = datasets[:1]
        datasets[0].NumberOfFrames, pixels = len(pixels), [b"".join(pixels)]
    for i, (dataset, data) in enumerate(zip(datasets, pixels, strict=True)):
        for keyword, value in KINDS[name].items():
            setattr(dataset, keyword, value)
        if name == "padding":
            dataset.add_new("PixelPaddingValue", "US", 0)
        if name == "32 bits":
            data = np.frombuffer(data, "<u2").astype("<u4").tobytes()
        dataset.PixelData = data
        if name.endswith("RLE"):
            dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        dataset.save_as(folder / f"Image-{i + 1}.dcm")


def peak_megabytes() -> float:
    """Return the peak resident memory of this process; after a fork it is not the parent's."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1e3


def memory_of(folder: Path) -> tuple[float, float]:
    """Return how far reading raises the peak of this process, and the size of the array, in MB."""
    before = peak_megabytes()
    array = read_dicom_series(folder).array
    return peak_megabytes() - before, array.nbytes / 1e6


def compare_memory(files: list[Path]) -> None:
    print(f"{'peak memory':<32}{'MB':>8}{'array, MB':>12}{'ratio':>8}")
    for name in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            write_kind(name, files, Path(folder))
            with get_context("spawn").Pool(1) as pool:
                peak, size = pool.apply(memory_of, (Path(folder),))
        print(f"{name:<32}{peak:>8.0f}{size:>12.0f}{peak / size:>8.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    named = versions()
    print(
        f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {named[name]}" for name in ("pydicom", "nibabel", "numpy"))
    )
    columns = f"{'ours, ms':>10}{'bare, ms':>10}{'ratio':>8}{'smallest':>10}{'largest':>9}"
    print(f"{f'median of {repeats}':<28}{columns}")
    with tempfile.TemporaryDirectory() as name:
        compare_headers(Path(name) / "small", repeats)
        folder = Path(name) / "series"
        write_dicom_series(
            head(DICOM_SHAPE, np.uint16), folder, patient_id="00001", series_description="T1"
        )
        files = sorted(folder.iterdir())
        compare(
            "DICOM, 200 slices",
            lambda: read_dicom_series(folder),
            lambda: [pydicom.dcmread(f).pixel_array for f in files],
            repeats,
        )
        for dtype in (np.int16, np.float32):
            for suffix, copy in ((".nii.gz", None), (".nii", True)):
                path = write_nifti(head(NIFTI_SHAPE, dtype), Path(name) / f"scan{suffix}")
                compare(
                    f"NIfTI, {np.dtype(dtype).name}, {suffix}",
                    lambda path=path: read_nifti(path),
                    lambda path=path, copy=copy: np.array(
                        np.asarray(nib.load(path).dataobj), copy=copy
                    ),
                    repeats,
                )
        compare_memory(files)


if __name__ == "__main__":
    main()
