"""How far is the preparation of data from what it cannot do without? And does its memory grow?

    python -m benchmarks.preparation --brats data/brats21 --rsna data/rsna --patients 8

02: annotated volumes to slices, against decoding the same NIfTI files with nibabel and encoding and
writing the same PNG files with OpenCV, in as many processes; the two take turns, the median over
the turns counts. 04: series to sequences with the full segmenter (random weights), against the time
spent in its forward passes, both of the same call. Without folders phantoms of 128 voxels a side
are drawn. Fewer patients than asked for are taken again under other names. The memory is the peak
of one process that prepares so many patients one after the other.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import resource
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from t4e_utils.competitions.brain_tumor import data as brain_tumor
from t4e_utils.competitions.brain_tumor.folders import find_series
from t4e_utils.competitions.brain_tumor.phantoms import PhantomConfig, write_phantoms
from t4e_utils.competitions.brain_tumor.rules import SliceRule
from t4e_utils.sampling.cutting import cut_patient, cut_patients
from t4e_utils.tables.run import versions

RULE = SliceRule()
N_BRATS = 1251  # patients of BraTS 2021


def cohort(files: pd.DataFrame, n_patients: int) -> pd.DataFrame:
    """Return the files of so many patients; if there are fewer, again under other ids."""
    own = [part for _, part in files.groupby("patient_id")]
    return pd.concat(
        [
            part.assign(patient_id=f"{i:05d}")
            for i, part in zip(range(n_patients), itertools.cycle(own), strict=False)
        ]
    )


def bare_patient(paths: list[str], pictures: list[Path], folder: Path) -> None:
    folder.mkdir(parents=True)
    for path in paths:
        np.asanyarray(nib.load(path).dataobj)
    for i, picture in enumerate(pictures):
        (folder / f"{i}.png").write_bytes(cv2.imencode(".png", np.load(picture))[1])


def compare_02(files: pd.DataFrame, *, n_jobs: int, turns: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        # the workers are there from now on
        slices, _ = cut_patients(files, root / "slices", root=root, rule=RULE, n_jobs=n_jobs)
        kept = slices[slices["is_kept"]]
        arrays = root / "arrays"
        arrays.mkdir()
        jobs = []
        for patient, own in kept.groupby("patient_id"):
            pictures = []
            for i, path in enumerate(own["path"]):
                pictures.append(arrays / f"{patient}_{i}.npy")
                np.save(pictures[-1], cv2.imread(str(root / path), cv2.IMREAD_UNCHANGED))
            jobs.append(
                (patient, files.loc[files["patient_id"] == patient, "path"].tolist(), pictures)
            )
        seconds = {"bare": [], "ours": [], "bare, processor": [], "ours, processor": []}
        # to new folders: renaming onto a file that is there waits for the disk
        for turn in range(turns):
            since = time.perf_counter()
            Parallel(n_jobs=n_jobs)(
                delayed(bare_patient)(paths, pictures, root / f"bare{turn}" / patient)
                for patient, paths, pictures in jobs
            )
            seconds["bare"].append(time.perf_counter() - since)
            since = time.perf_counter()
            cut_patients(files, root / f"slices{turn}", root=root, rule=RULE, n_jobs=n_jobs)
            seconds["ours"].append(time.perf_counter() - since)
            used = time.process_time()
            for patient, paths, pictures in jobs:
                bare_patient(paths, pictures, root / f"bare{turn} alone" / patient)
            seconds["bare, processor"].append(time.process_time() - used)
            used = time.process_time()
            cut_patients(files, root / f"slices{turn} alone", root=root, rule=RULE, n_jobs=1)
            seconds["ours, processor"].append(time.process_time() - used)
    n = files["patient_id"].nunique()
    print(f"02: {n} patients, {len(kept)} pictures of {len(slices)} slices")
    for kind, said in (
        ("", f"seconds with {n_jobs} processes"),
        (", processor", "processor seconds in one process"),
    ):
        bare, ours = (statistics.median(seconds[name + kind]) / n for name in ("bare", "ours"))
        print(
            f"02: {said}: ours {ours:.2f} a patient, decoding and encoding {bare:.2f}, ratio "
            f"{ours / bare:.2f}"
        )


def peak_mb(files: pd.DataFrame) -> float:
    """Prepare patients one after the other in a new process and return its peak."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as worker:
        return worker.submit(_peak, files).result()


def _peak(files: pd.DataFrame) -> float:
    with tempfile.TemporaryDirectory() as folder:
        for patient, own in files.groupby("patient_id"):
            cut_patient(
                patient,
                dict(zip(own["series"], own["path"], strict=True)),
                Path(folder),
                root=Path(folder),
                rule=RULE,
            )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_output(files: pd.DataFrame) -> None:
    """Cut the patients that there are.

    Print the size of the pictures, and of the table that all of BraTS 2021 would have.
    """
    with tempfile.TemporaryDirectory() as folder:
        table, _ = cut_patients(files, Path(folder), root=Path(folder), rule=RULE, n_jobs=1)
        sizes = [path.stat().st_size for path in Path(folder).rglob("*.png")]
    n = table["patient_id"].nunique()
    rows = N_BRATS * len(table) // n
    print(
        f"02: {len(sizes) / n:.0f} pictures of {sum(sizes) / len(sizes) / 1e3:.1f} kB a "
        f"patient, from {sum(os.path.getsize(path) for path in files['path']) / n / 1e6:.1f} MB; "
        f"the table of {N_BRATS} such patients has {rows} rows, "
        f"{table.memory_usage(deep=True, index=False).sum() / len(table) * rows / 1e6:.0f} MB "
        "in memory"
    )


def compare_04(series: pd.DataFrame) -> None:
    import torch

    from t4e_utils.competitions.brain_tumor.rules import SeriesRule
    from t4e_utils.competitions.brain_tumor.segmenter import SegmenterSettings
    from t4e_utils.competitions.brain_tumor.sequences import Preparer, write_sequences
    from t4e_utils.learning.networks import build

    class Timed(torch.nn.Module):
        """A segmenter that knows how long it worked, and how many slices it saw."""

        def __init__(self):
            super().__init__()
            self.recipe = SegmenterSettings().recipe(RULE.percentiles, "fp32")
            self.network = build(self.recipe).to(memory_format=torch.channels_last)
            self.seconds, self.n_slices = 0.0, 0

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            """Logits, timed."""
            since = time.perf_counter()
            logits = self.network(images)
            self.seconds, self.n_slices = (
                self.seconds + time.perf_counter() - since,
                self.n_slices + len(images),
            )
            return logits

    segmenter = Timed().eval()
    preparer = Preparer(segmenter, SeriesRule())
    with tempfile.TemporaryDirectory() as folder:
        since = time.perf_counter()
        root = Path(folder)
        found, _ = write_sequences(series, preparer, root, root=root, provenance={})
        seconds = time.perf_counter() - since
    print(
        f"04: {len(series)} series, {segmenter.n_slices} slices segmented, "
        f"{int(found['is_kept'].sum())} written; {torch.get_num_threads()} threads: "
        f"{seconds:.1f} s, of which forward passes {segmenter.seconds:.1f} s, ratio "
        f"{seconds / segmenter.seconds:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--brats", type=Path)
    parser.add_argument("--rsna", type=Path)
    parser.add_argument("--patients", type=int, default=8)
    parser.add_argument("--series", type=int, default=3, help="of 04; 0: leave it out")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--turns", type=int, default=3)
    chosen = parser.parse_args()
    print(
        f"{date.today()}, {os.cpu_count()} cores of {platform.processor() or platform.machine()}; "
        + ", ".join(f"{name} {version}" for name, version in versions().items())
    )
    with tempfile.TemporaryDirectory() as folder:
        if chosen.brats is None or chosen.rsna is None:
            write_phantoms(
                Path(folder) / "phantoms",
                PhantomConfig(size=128, n_brats=2, n_overlap=0, n_train=2, n_test=0),
            )
        brats = chosen.brats or Path(folder) / "phantoms" / "brats21"
        rsna = chosen.rsna or Path(folder) / "phantoms" / "rsna"
        files = brain_tumor.brats_files(brats)
        compare_02(cohort(files, chosen.patients), n_jobs=chosen.jobs, turns=chosen.turns)
        measure_output(files)
        for n_patients in (1, chosen.patients, 3 * chosen.patients):
            print(
                f"02: peak of a process that prepares {n_patients} patients: "
                f"{peak_mb(cohort(files, n_patients)):.0f} MB"
            )
        if chosen.series:
            series = find_series(rsna, split="train", series=brain_tumor.CONTRASTS)
            compare_04(series.head(chosen.series))


if __name__ == "__main__":
    main()
