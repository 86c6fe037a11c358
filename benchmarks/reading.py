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
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom

from t4e_utils.scans.dicom_elements import KEYWORDS
from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.dicom_walk import read_header
from t4e_utils.scans.dicom_writing import write_dicom_series
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.nifti import read_nifti, write_nifti
from t4e_utils.scans.volume import Volume
from t4e_utils.tables.run import versions

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


if __name__ == "__main__":
    main()
