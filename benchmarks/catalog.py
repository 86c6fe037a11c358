"""Time and memory of the catalog step on a data set as large as RSNA-MICCAI.

All headers of all series, and again with nothing changed.

    python -m benchmarks.catalog --files 25000 100000 400000

Header-only files in 585 patients x 4 series (fewer patients for fewer files). Each MRI type has a
few series with headers of their own, of which all others are hard links: what is measured is the
work of the processor on files that the system has in memory, not the disk. The processor time is
that of all three calls, with starting the processes. The peak is the resident memory of the process
and its workers, added up, with what they share counted once for each.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pydicom

from t4e_utils.competitions.brain_tumor import folders
from t4e_utils.competitions.brain_tumor.data import SERIES
from t4e_utils.scans.dicom_writing import write_dicom_series
from t4e_utils.scans.geometry import PLANES, display_affine
from t4e_utils.scans.volume import Volume
from t4e_utils.tables import inventory

ROOT = Path(__file__).parents[1]
N_PATIENTS, FILES_A_SERIES = 585, 171  # 400,140 files
N_VARIANTS = 4  # series with headers of their own, per MRI type
# What files of the challenge carry beside the geometry: scanner settings and what is left of the
# description.
MORE = {
    "ImageType": ["DERIVED", "SECONDARY"],
    "AccessionNumber": "00001",
    "Manufacturer": "",
    "MRAcquisitionType": "2D",
    "ScanningSequence": ["SE", "IR"],
    "SequenceVariant": ["SK", "SP"],
    "ScanOptions": "FC",
    "RepetitionTime": 9000,
    "EchoTime": 125,
    "InversionTime": 2500,
    "NumberOfAverages": 1,
    "ImagingFrequency": 63.87,
    "ImagedNucleus": "1H",
    "EchoNumbers": 1,
    "MagneticFieldStrength": 1.5,
    "NumberOfPhaseEncodingSteps": 256,
    "EchoTrainLength": 16,
    "PercentSampling": 100,
    "PercentPhaseFieldOfView": 75,
    "PixelBandwidth": 122,
    "SpatialResolution": 0.43,
    "AcquisitionMatrix": [0, 256, 192, 0],
    "InPlanePhaseEncodingDirection": "ROW",
    "FlipAngle": 90,
    "SAR": 0.09,
    "PatientPosition": "HFS",
    "SeriesNumber": 3,
    "AcquisitionNumber": 1,
    "PositionReferenceIndicator": "",
    "SliceLocation": 12.5,
    "WindowCenter": 500,
    "WindowWidth": 1000,
    "LossyImageCompression": "00",
    "RescaleIntercept": 0,
    "RescaleSlope": 1,
    "RescaleType": "US",
}


def write_template(folder: Path, number: int) -> None:
    spacing = (1.0 + number % 3, 0.5, 0.5)
    affine = display_affine(PLANES[number % 3], spacing)
    volume = Volume(np.zeros((FILES_A_SERIES, 2, 2), np.uint16), spacing, affine)
    write_dicom_series(
        volume, folder, patient_id="00000", series_description="template", uid_seed=str(number)
    )
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.PixelData
        dataset.Rows = dataset.Columns = 512
        for keyword, value in MORE.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)


def write_tree(root: Path, n_files: int) -> int:
    """Write about n files below `root/rsna/train` and return how many there are."""
    templates = [root / "templates" / str(i) for i in range(N_VARIANTS * len(SERIES))]
    for i, folder in enumerate(templates):
        write_template(folder, i)
    n_patients = max(1, round(n_files / (FILES_A_SERIES * len(SERIES))))
    for patient in range(n_patients):
        for i, series in enumerate(SERIES):
            folder = root / "rsna" / "train" / f"{patient:05d}" / series
            folder.mkdir(parents=True)
            template = templates[(patient % N_VARIANTS) * len(SERIES) + i]
            for name in os.listdir(template):
                os.link(template / name, folder / name)
    return n_patients * len(SERIES) * FILES_A_SERIES


def scan(root: Path, n_jobs: int) -> dict:
    """Run the catalog step three times.

    As new, with nothing changed, and with one file taken away.
    """
    seconds = []
    for n_missing in (0, 0, 1):
        if n_missing:
            next((root / "rsna" / "train" / "00000" / SERIES[0]).iterdir()).unlink()
        start = time.perf_counter()
        found = folders.find_series(root / "rsna", split="train", series=SERIES)
        table, problems = inventory.take_inventory(
            found, n_jobs=n_jobs, cache=root / "headers.parquet"
        )
        seconds.append(time.perf_counter() - start)
    assert len(problems) <= 1
    return {"files": int(table["n_files"].sum()) + 1, "series": len(table), "seconds": seconds}


def measure(n_files: int, *, n_jobs: int, folder: str | None) -> dict:
    root = Path(tempfile.mkdtemp(dir=folder))
    try:
        write_tree(root, n_files)
        before = cpu_seconds()
        command = [
            sys.executable,
            "-m",
            "benchmarks.catalog",
            "--scan",
            str(root),
            "--jobs",
            str(n_jobs),
        ]
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            peak = 0
            while process.poll() is None:
                peak = max(peak, resident_bytes(process.pid))
                time.sleep(0.1)
            found = json.loads(process.stdout.read())
        return {**found, "cpu_s": cpu_seconds() - before, "peak_mb": peak / 1e6}
    finally:
        shutil.rmtree(root)


def cpu_seconds() -> float:
    """Return the processor time of all child processes that have ended, theirs included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def resident_bytes(pid: int) -> int:
    try:
        process = psutil.Process(pid)
        return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))
    except psutil.NoSuchProcess:
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--files",
        type=int,
        nargs="+",
        default=[25_000, 100_000, N_PATIENTS * len(SERIES) * FILES_A_SERIES],
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--folder",
        help="where the files are written for as long as it takes; the system's temporary "
        "folder if not given",
    )
    parser.add_argument("--scan", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.scan:
        print(json.dumps(scan(Path(options.scan), options.jobs)))
        return
    print(
        f"{'files':>8}{'series':>8}{'first, s':>10}{'unchanged, s':>14}"
        f"{'one changed, s':>16}{'CPU, s':>8}{'peak, MB':>10}"
    )
    for n_files in options.files:
        row = measure(n_files, n_jobs=options.jobs, folder=options.folder)
        first, again, changed = row["seconds"]
        print(
            f"{row['files']:>8}{row['series']:>8}{first:>10.1f}{again:>14.1f}{changed:>16.1f}{row['cpu_s']:>8.0f}{row['peak_mb']:>10.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
