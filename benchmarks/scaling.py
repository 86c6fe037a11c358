"""Does the work of 01, 02, 04 and 06 grow with the number of patients, and with nothing else?

    python -m benchmarks.scaling --patients 10 100 1000

Ten phantoms of 32 voxels a side, drawn once; more patients are hard links to them under other ids.
Each stage runs in a process of its own, on one core, with tiny networks and for 04 and 06 one
series a patient, after a first call on two patients that loads libraries and is not counted.
Seconds are those of the processor; the memory is the peak of the process; written is what the stage
leaves on disk. The smallest cohort is repeated, and the median counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pandas as pd

from t4e_utils.competitions.brain_tumor import data as brain_tumor
from t4e_utils.competitions.brain_tumor.folders import find_series
from t4e_utils.competitions.brain_tumor.phantoms import PhantomConfig, write_phantoms
from t4e_utils.tables.inventory import take_inventory
from t4e_utils.tables.run import versions
from t4e_utils.tables.store import write_table

ROOT = Path(__file__).parents[1]
N_DRAWN = 10
ONE_CONTRAST = ("FLAIR",)  # of 04 and 06, whose series are independent of each other
STAGES = ("01 inventory", "02 slices", "04 sequences", "06 prediction")


def draw(root: Path) -> Path:
    """Draw ten annotated and ten test patients."""
    write_phantoms(
        root / "drawn",
        PhantomConfig(size=32, n_brats=N_DRAWN, n_overlap=0, n_train=0, n_test=N_DRAWN),
        n_jobs=1,
    )
    return root / "drawn"


def multiply(drawn: Path, target: Path, n_patients: int) -> None:
    """Link the drawn patients again and again, under new ids."""
    for kind, prefix in (("brats21", "BraTS2021_"), ("rsna/test", "")):
        sources = sorted(path for path in (drawn / kind).iterdir() if path.is_dir())
        for number in range(n_patients):
            source, name = sources[number % N_DRAWN], f"{prefix}{number:05d}"
            for file in source.rglob("*.*"):
                link = (
                    target
                    / kind
                    / name
                    / file.relative_to(source).with_name(file.name.replace(source.name, name))
                )
                if file.is_file():
                    link.parent.mkdir(parents=True, exist_ok=True)
                    os.link(file, link)


def inventory(data: Path, run: Path) -> None:
    for table, source in (
        (brain_tumor.test_series(data / "rsna"), "dicom"),
        (brain_tumor.brats_files(data / "brats21"), "nifti"),
    ):
        found, _ = take_inventory(table, source=source, n_jobs=1)
        write_table(found, run / f"{source}.parquet")


def slices(data: Path, run: Path) -> None:
    from t4e_utils.competitions.brain_tumor.rules import SliceRule
    from t4e_utils.sampling.cutting import cut_patients

    files = brain_tumor.brats_files(data / "brats21")
    table, _ = cut_patients(files, run / "slices", root=run, rule=SliceRule(), n_jobs=1)
    write_table(table, run / "slices.parquet")


def tiny_preparer():
    from t4e_utils.competitions.brain_tumor.rules import SeriesRule
    from t4e_utils.competitions.brain_tumor.segmenter import SegmenterSettings
    from t4e_utils.competitions.brain_tumor.sequences import Preparer
    from t4e_utils.learning.networks import build

    settings = SegmenterSettings("tu-test_resnet", (16, 12, 8, 8, 8), 32)
    return Preparer(build(settings.recipe((0.5, 99.5), "fp32")).eval(), SeriesRule())


def sequences(data: Path, run: Path) -> None:
    from t4e_utils.competitions.brain_tumor.sequences import write_sequences
    from t4e_utils.sampling.chunks import chunk_table

    preparer = tiny_preparer()
    series = find_series(data / "rsna", split="test", series=ONE_CONTRAST)
    found, _ = write_sequences(series, preparer, run / "slices", root=run, provenance={})
    length, stride = preparer.rule.sequence_length, preparer.rule.chunk_stride
    write_table(chunk_table(found, length=length, stride=stride), run / "chunks.parquet")
    write_table(found, run / "slices.parquet")


def prediction(data: Path, run: Path) -> None:
    from t4e_utils.competitions.brain_tumor.classifier import ClassifierSettings
    from t4e_utils.competitions.brain_tumor.prediction import Predictor
    from t4e_utils.learning.networks import build
    from t4e_utils.prediction.sequences import SequenceReading

    settings, preparer = ClassifierSettings("test_nfnet", 8, classifier_size=32), tiny_preparer()
    classifier = build(settings.recipe((0.5, 99.5), "fp32")).eval()
    reading = SequenceReading(preparer.rule.chunk_stride)
    predictor = Predictor(preparer, {name: [classifier] for name in ONE_CONTRAST}, reading)
    found, _ = predictor.predict_all(brain_tumor.test_series(data / "rsna"))
    write_table(found, run / "predictions.parquet")


WORK: dict[str, Callable[[Path, Path], None]] = dict(
    zip(STAGES, (inventory, slices, sequences, prediction), strict=True)
)


def measure(stage: str, data: Path, warm: Path) -> dict[str, float]:
    """Do a stage's work in this process, first on the patients that do not count."""
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        WORK[stage](warm, Path(first))
        since, used = time.perf_counter(), time.process_time()
        WORK[stage](data, Path(second))
        seconds, processor = time.perf_counter() - since, time.process_time() - used
        written = sum(path.stat().st_size for path in Path(second).rglob("*") if path.is_file())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": seconds,
        "processor": processor,
        "written_mb": written / 1e6,
        "peak_mb": peak,
    }


def in_own_process(stage: str, data: Path, warm: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.scaling", "--measure", stage, str(data), str(warm)]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--repeats", type=int, default=3, help="of the smallest cohort")
    parser.add_argument(
        "--measure", nargs=3, metavar=("STAGE", "DATA", "WARM"), help=argparse.SUPPRESS
    )
    chosen = parser.parse_args()
    if chosen.measure:
        stage, data, warm = chosen.measure
        print(json.dumps(measure(stage, Path(data), Path(warm))))
        return
    named = ", ".join(f"{name} {version}" for name, version in versions().items())
    print(
        f"{date.today()}, {os.cpu_count()} cores of "
        f"{platform.processor() or platform.machine()}; {named}"
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        drawn = draw(root)
        multiply(drawn, root / "warm", 2)
        for n_patients in chosen.patients:
            multiply(drawn, root / str(n_patients), n_patients)
            for stage in STAGES:
                n_repeats = chosen.repeats if n_patients == min(chosen.patients) else 1
                found = [
                    in_own_process(stage, root / str(n_patients), root / "warm")
                    for _ in range(n_repeats)
                ]
                rows.append(
                    {
                        "stage": stage,
                        "patients": n_patients,
                        **{key: statistics.median(each[key] for each in found) for key in found[0]},
                    }
                )
    table = pd.DataFrame(rows).sort_values(["stage", "patients"], ignore_index=True)
    for name in ("seconds", "processor"):
        table[name] = 1000 * table[name] / table["patients"]
    table["written_mb"] *= 1000 / table["patients"]
    table["to first"] = table["processor"] / table.groupby("stage")["processor"].transform("first")
    table.columns = [
        "stage",
        "patients",
        "ms/patient",
        "CPU ms/patient",
        "kB written/patient",
        "peak MB",
        "CPU to first",
    ]
    print(table.to_string(index=False, float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
