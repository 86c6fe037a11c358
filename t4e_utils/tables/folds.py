"""Folds of patients.

Who is train, who chooses the checkpoint, who is held out, and that nobody stands on two sides.

Patient ids are strings. A split is always of patients, never of their series or slices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from t4e_utils import T4EError


class FoldError(T4EError):
    """Patients cannot be split as asked."""


class LeakError(T4EError):
    """A patient stands on both sides of a split."""


def make_folds(
    patient_ids: Sequence[str], *, n_folds: int, seed: int, labels: Sequence[int] | None = None
) -> np.ndarray:
    """Deal patients into folds: shuffled, stratified by label, sizes equal to within one.

    Patients of one label are dealt one after the other, and the next label goes on where the last
    stopped; so folds differ by at most one patient in each label and in all.

    Args:
        patient_ids: one entry a patient, without repeats.
        n_folds: number of folds, 2 or more.
        seed: order of the shuffle; the result does not depend on the order of `patient_ids`.
        labels: one a patient; without them nothing is stratified.

    Returns:
        Fold of each patient, (N,) int.

    Raises:
        FoldError: fewer patients than folds, or an id more than once.
    """
    ids = np.asarray(patient_ids, dtype=str)
    if len(set(ids)) != len(ids):
        raise FoldError(
            "A patient stands more than once in the list to be dealt into folds: give one row "
            "a patient."
        )
    if not 2 <= n_folds <= len(ids):
        raise FoldError(
            f"n_folds = {n_folds} does not fit {len(ids)} patients: choose 2 to {len(ids)} folds."
        )
    strata = np.zeros(len(ids), int) if labels is None else np.asarray(labels)
    generator = np.random.default_rng(seed)
    by_id = np.argsort(ids)
    shuffled = by_id[generator.permutation(len(ids))]
    dealt = shuffled[np.argsort(strata[shuffled], kind="stable")]
    folds = np.empty(len(ids), int)
    folds[dealt] = np.arange(len(ids)) % n_folds
    return folds


@dataclass(frozen=True)
class FoldSplit:
    """Who trains, who chooses the checkpoint, and who is held out and only scored."""

    fold: int
    train: list[str]
    tune: list[str]  # empty: nobody chooses, the last epoch is taken
    held_out: list[str]
    select_on: str

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of patients, for a card or a table."""
        return {
            "n_train": len(self.train),
            "n_tune": len(self.tune),
            "n_held_out": len(self.held_out),
        }


def split_fold(
    patients: pd.DataFrame, fold: int, *, select_share: float, seed: int, select_on: str = "inner"
) -> FoldSplit:
    """Split patients for the training of one fold.

    The held-out fold chooses nothing unless it is asked to.

    Args:
        patients: columns patient_id and fold, and label if there is one. One row a patient.
        fold: held out.
        select_share: part of the training patients that choose the checkpoint, 0 to below 1. With
            fewer than four training patients, or a share of 0, nobody chooses.
        seed: of the inner split, which does not look at the held-out patients.
        select_on: "inner", or "outer" for comparison with those who let the held-out patients
            choose.

    Raises:
        FoldError: nobody is in this fold, or nobody outside it.
    """
    is_held_out = patients["fold"] == fold
    training, held_out = patients[~is_held_out], patients.loc[is_held_out, "patient_id"].tolist()
    if not held_out or training.empty:
        raise FoldError(
            f"Fold {fold} cannot be held out: the folds are {sorted(set(patients['fold']))}; "
            "choose one of them."
        )
    if select_on == "outer":
        return FoldSplit(fold, training["patient_id"].tolist(), held_out, held_out, select_on)
    train, tune = _inner_split(training, share=select_share, seed=seed)
    assert_disjoint(train, tune, what="the inner split")
    assert_disjoint([*train, *tune], held_out, what=f"fold {fold}")
    return FoldSplit(fold, train, tune, held_out, select_on if tune else "last epoch")


def _inner_split(training: pd.DataFrame, *, share: float, seed: int) -> tuple[list[str], list[str]]:
    ids = training["patient_id"].tolist()
    if share <= 0 or len(ids) < 4:
        return ids, []
    n_parts = max(2, len(ids) // max(1, round(share * len(ids))))
    labels = training["label"].tolist() if "label" in training else None
    parts = make_folds(ids, n_folds=n_parts, seed=seed, labels=labels)
    chosen = dict(zip(ids, parts == 0, strict=True))
    return [patient for patient in ids if not chosen[patient]], [
        patient for patient in ids if chosen[patient]
    ]


def assert_disjoint(first: Iterable[str], second: Iterable[str], *, what: str) -> None:
    """Raise when a patient stands in both.

    Raises:
        LeakError: naming the patients.
    """
    both = sorted(set(first) & set(second))
    if both:
        shown = ", ".join(both[:5]) + (" ..." if len(both) > 5 else "")
        raise LeakError(
            f"{len(both)} patients stand on both sides of {what}: {shown}. Their figures would "
            "be about training data; mend the split."
        )
