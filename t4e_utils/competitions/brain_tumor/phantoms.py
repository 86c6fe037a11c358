"""Seeded phantom patients, written as BraTS21 NIfTI folders and RSNA DICOM folders.

A phantom has what the notebooks need of a patient: four contrasts, a tumour with its labels (1
necrosis, 2 oedema, 4 enhancing rim), and an MGMT label. This label shows in the oedema's texture
and the rim's thickness, but not in the tumour's volume or mean brightness. Scans are
skull-stripped: background is exactly 0. Arrays are `(D, H, W)`, affines map to RAS mm. The same
seed gives the same bytes, whatever the number of processes.

    python -m t4e_utils.competitions.brain_tumor.phantoms ROOT --n-train 48 --label-signal 0
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from t4e_utils import T4EError
from t4e_utils.phantoms.cohort import PhantomError, write_cohort
from t4e_utils.phantoms.head import TUMOUR_ML
from t4e_utils.phantoms.head_scans import make_patient, make_series
from t4e_utils.scans.dicom_writing import write_dicom_series
from t4e_utils.scans.nifti import write_nifti

DRAWING = 1  # grows when the same configuration no longer gives the same files
BRATS_NAMES = {"FLAIR": "flair", "T1w": "t1", "T1wCE": "t1ce", "T2w": "t2"}
# the challenge tells everybody to leave these out: no phantom bears their name
FAULTY_IDS = (109, 123, 709)
# how file numbers run along the slices
FILE_ORDERS = ("ascending", "ascending", "descending", "interleaved")


@dataclass(frozen=True)
class PhantomConfig:
    """Which phantoms to draw. The defaults are the demo."""

    seed: int = 0
    size: int = 64  # voxels per side of the annotated volumes; the series' matrices follow
    n_brats: int = 32  # annotated patients who are in no RSNA set
    n_overlap: int = 4  # annotated patients who are in an RSNA set as well
    n_train: int = 48  # RSNA patients with a label
    n_test: int = 12  # RSNA patients without
    # s: an ideal reader's AUC is (1 + s) / 2; at 0 labels are independent of the images
    label_signal: float = 1.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            PhantomError: a value makes no data set.
        """
        counts = {
            name: getattr(self, name)
            for name in ("seed", "n_brats", "n_overlap", "n_train", "n_test")
        }
        for name, value in counts.items():
            if value < 0:
                raise PhantomError(f"{name} is {value}: give 0 or more.")
        if not 32 <= self.size <= 512:
            raise PhantomError(f"size is {self.size}: give 32 to 512 voxels per side.")
        if not 0 <= self.label_signal <= 1:
            raise PhantomError(
                f"label_signal is {self.label_signal}: give a number from 0 (none) to 1 (full)."
            )
        if self.n_overlap > self.n_train + self.n_test:
            n_rsna = self.n_train + self.n_test
            raise PhantomError(
                f"n_overlap is {self.n_overlap}, but there are {n_rsna} RSNA patients: give fewer."
            )


@dataclass(frozen=True)
class Member:
    """A patient of a cohort before it is drawn."""

    patient_id: str
    seed: int
    label: int
    tumour_ml: float
    is_annotated: bool
    split: str  # "train", "test" or "": in no RSNA set


def plan_cohort(config: PhantomConfig) -> list[Member]:
    """List the patients of a configuration, sorted by id.

    Labels are balanced in each set, and both classes of a set have the same distribution of tumour
    volumes.
    """
    rng = np.random.default_rng([config.seed, 0])
    groups = {"": config.n_brats, "train": config.n_train, "test": config.n_test}
    total = sum(groups.values())
    allowed = np.setdiff1d(np.arange(max(1011, 2 * total)), FAULTY_IDS)
    numbers = iter(rng.choice(allowed, total, replace=False))
    members = []
    for split, n in groups.items():
        labels = (np.arange(n) + rng.integers(2)) % 2
        volumes = _spread_volumes(labels, rng)
        for label, tumour_ml in zip(labels, volumes, strict=True):
            number = int(next(numbers))
            seed = int(np.random.default_rng([config.seed, 1, number]).integers(2**31))
            members.append(
                Member(f"{number:05d}", seed, int(label), float(tumour_ml), split == "", split)
            )
    return sorted(_share(members, config), key=lambda member: member.patient_id)


def _spread_volumes(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Tumour volumes in ml, spread evenly over `TUMOUR_ML` in each class, with jitter."""
    volumes = np.empty(len(labels))
    for label in (0, 1):
        n = np.count_nonzero(labels == label)
        ranks = (rng.permutation(n) + rng.uniform(0, 1, n)) / max(n, 1)
        volumes[labels == label] = TUMOUR_ML[0] + (TUMOUR_ML[1] - TUMOUR_ML[0]) * ranks
    return volumes


def _share(members: list[Member], config: PhantomConfig) -> list[Member]:
    """Give `n_overlap` RSNA patients, a quarter of them test patients, an annotated scan too."""
    n_test = max(min(config.n_test, -(-config.n_overlap // 4)), config.n_overlap - config.n_train)
    left = {"train": config.n_overlap - n_test, "test": n_test, "": 0}
    shared = []
    for member in members:
        shared.append(replace(member, is_annotated=True) if left[member.split] > 0 else member)
        left[member.split] -= 1
    return shared


def write_phantoms(
    root: str | Path, config: PhantomConfig | None = None, *, n_jobs: int = -1
) -> bool:
    """Draw a cohort into `root/brats21` and `root/rsna`.

    Beside them are `phantoms.json` (the configuration) and `test_labels.csv` (what a competition
    keeps to itself).

    Args:
        root: folder to make; nothing that is there is ever changed.
        config: which phantoms; None is the demo.
        n_jobs: processes, -1 for all cores. The files do not depend on it.

    Returns:
        True if drawn now, False if the same phantoms were there.

    Raises:
        PhantomError: `root` holds other phantoms, or something else.
        WriteError: there is no room for them, or the folder cannot be written to.
    """
    config = config or PhantomConfig()
    draw = partial(_draw, config=config, n_jobs=n_jobs)
    return write_cohort(Path(root), {"drawing": DRAWING, **asdict(config)}, draw)


def _draw(root: Path, *, config: PhantomConfig, n_jobs: int) -> None:
    members = plan_cohort(config)
    jobs = [delayed(_write_member)(root, member, config) for member in members]
    for _ in tqdm(
        Parallel(n_jobs, return_as="generator")(jobs), "phantoms", len(jobs), mininterval=5
    ):
        pass
    _write_tables(root, members)


def _write_member(root: Path, member: Member, config: PhantomConfig) -> None:
    """Write the annotated volumes and DICOM series of one patient, as far as planned."""
    how = dict(size=config.size, label_signal=config.label_signal, tumour_ml=member.tumour_ml)
    if member.is_annotated:
        name = f"BraTS2021_{member.patient_id}"
        folder = root / "brats21" / name
        folder.mkdir(parents=True)
        patient = make_patient(member.seed, member.label, **how)
        for contrast, volume in patient.contrasts.items():
            write_nifti(volume, folder / f"{name}_{BRATS_NAMES[contrast]}.nii.gz")
        write_nifti(patient.labels, folder / f"{name}_seg.nii.gz")
    if member.split:
        rng = np.random.default_rng([member.seed, 5])
        for contrast, volume in make_series(member.seed, member.label, **how).items():
            folder = root / "rsna" / member.split / member.patient_id / contrast
            write_dicom_series(
                volume, folder, patient_id=member.patient_id, series_description=contrast
            )
            _renumber(folder, len(volume.array), str(rng.choice(FILE_ORDERS)))


def _renumber(folder: Path, n: int, order: str) -> None:
    """Rename `Image-1.dcm` ... so that the numbers run along the slices as `order` says."""
    position = np.arange(n)
    orders = {
        "ascending": position,
        "descending": position[::-1],
        "interleaved": np.r_[position[::2], position[1::2]],
    }
    if order == "ascending":
        return
    for slice_index in position:
        (folder / f"Image-{slice_index + 1}.dcm").rename(folder / f"{slice_index}.moving")
    for number, slice_index in enumerate(orders[order], start=1):
        (folder / f"{slice_index}.moving").rename(folder / f"Image-{number}.dcm")


def _write_tables(root: Path, members: Sequence[Member]) -> None:
    (root / "rsna").mkdir(exist_ok=True)
    train, test = ([m for m in members if m.split == split] for split in ("train", "test"))
    _write_csv(root / "rsna" / "train_labels.csv", ((m.patient_id, m.label) for m in train))
    _write_csv(root / "rsna" / "sample_submission.csv", ((m.patient_id, 0.5) for m in test))
    _write_csv(root / "test_labels.csv", ((m.patient_id, m.label) for m in test))


def _write_csv(path: Path, rows: Iterable[tuple[str, float]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("BraTS21ID", "MGMT_value"), *rows])


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw phantoms from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m t4e_utils.competitions.brain_tumor.phantoms",
        description="Draw phantom patients.",
    )
    parser.add_argument("root", type=Path, help="folder to make")
    for field in fields(PhantomConfig):
        name, default = field.name.replace("_", "-"), field.default
        parser.add_argument(
            f"--{name}", type=type(default), default=default, help=f"default {default}"
        )
    parser.add_argument("--n-jobs", type=int, default=-1, help="processes, default -1: all cores")
    chosen = vars(parser.parse_args(arguments))
    root, n_jobs = chosen.pop("root"), chosen.pop("n_jobs")
    try:
        drawn = write_phantoms(root, PhantomConfig(**chosen), n_jobs=n_jobs)
    except T4EError as error:
        raise SystemExit(str(error)) from None
    print(f"{root}: {'drawn' if drawn else 'the same phantoms were there, nothing done'}.")


if __name__ == "__main__":
    main()
