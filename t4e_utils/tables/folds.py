"""Folds of patients.

Who is train, who chooses the checkpoint (tune), who is held out, and that nobody stands on two
sides. A split is always of patients, never of their series or slices. Their ids are strings.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from t4e_utils import T4EError
from t4e_utils.tables import CatalogError
from t4e_utils.tables.ids import key_of, spelled_as
from t4e_utils.tables.user_tables import number


class LeakError(T4EError):
    """A patient stands on both sides of a split."""


def make_folds(
    ids: Sequence[str],
    *,
    n_folds: int,
    seed: int,
    labels: Sequence[Hashable] | None = None,
    groups: Sequence[Hashable] | None = None,
) -> np.ndarray:
    """Deal patients into folds: shuffled, stratified by label, of like size.

    Without groups, patients of one label are dealt one after the other, and the next label goes on
    where the last stopped. So folds differ by at most one in each label and in all. With groups,
    the largest are dealt first, each to the fold that has least of what it brings.

    Args:
        ids: patients, or what else is dealt, such as studies, without repeats.
        n_folds: number of folds, 2 or more.
        seed: order of the shuffle; the result does not depend on the order of `ids`.
        labels: one per id, numbers or text; without them nothing is stratified.
        groups: one per id, such as the patient of a study; equal ones stay in one fold.

    Returns:
        Fold of each id, (N,) int.

    Raises:
        CatalogError: fewer ids or groups than folds, an id more than once (6 is 00006), or one
            without a group.
    """
    ids = np.asarray(ids, dtype=str)
    keys = pd.Series([key_of(one) for one in ids], dtype=object)
    if (repeated := keys[keys.duplicated(keep=False)]).size:
        same = ", ".join(ids[repeated.index[repeated == repeated.iloc[0]]])
        raise CatalogError(
            f"A patient stands more than once in the list to be dealt into folds ({same}): give "
            "one row per patient, and no two ids of one number."
        )
    of_row, names = pd.factorize(pd.Series(ids if groups is None else list(groups)), sort=True)
    if (of_row < 0).any():
        raise CatalogError(f"{ids[of_row.argmin()]} has no group: give one to each id.")
    if not 2 <= n_folds <= len(names):
        what = "patients" if groups is None else "groups"
        raise CatalogError(
            f"n_folds = {n_folds} does not fit {len(names)} {what}: choose 2 to {len(names)} folds."
        )
    strata = np.zeros(len(ids), int) if labels is None else np.asarray(labels)
    generator = np.random.default_rng(seed)
    if groups is not None:
        return _deal_groups(of_row, strata, n_folds, generator)[of_row]
    by_id = np.argsort(ids)
    shuffled = by_id[generator.permutation(len(ids))]
    ordered = shuffled[np.argsort(strata[shuffled], kind="stable")]
    folds = np.empty(len(ids), int)
    folds[ordered] = np.arange(len(ids)) % n_folds
    return folds


def _deal_groups(
    groups: np.ndarray, strata: np.ndarray, n_folds: int, generator: np.random.Generator
) -> np.ndarray:
    """Return the fold of each group, (G,) int; `groups` gives the group of each row, 0 to G - 1."""
    names, of_row = np.unique(strata, return_inverse=True)
    counts = np.zeros((groups.max() + 1, len(names) + 1), int)  # by stratum, and in all
    np.add.at(counts, (groups, of_row), 1)
    counts[:, -1] = counts.sum(1)
    weighted = counts * (1000 * len(groups) // counts.sum(0))  # a rare stratum counts as much
    order = generator.permutation(len(counts))
    held, folds = np.zeros((n_folds, len(names) + 1), int), np.empty(len(counts), int)
    for group in order[np.argsort(-counts[order, -1], kind="stable")]:
        # whole numbers, so that ties are the same on every machine; an empty fold has 0
        folds[group] = fold = int(np.argmin(held @ weighted[group]))
        held[fold] += counts[group]
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

    The held-out fold chooses nothing unless `select_on` is "outer".

    Args:
        patients: columns patient_id and fold; label and group, if there are any. One row per
            patient, or per study with its patient as group: equal groups stay together.
        fold: held out.
        select_share: part of the training patients that choose the checkpoint, 0 to below 1. With
            fewer than four training patients, or a share of 0, nobody chooses.
        seed: of the inner split, which does not look at the held-out patients.
        select_on: "inner", or "outer" for comparison with those who let the held-out patients
            choose.

    Raises:
        CatalogError: nobody is in this fold, or nobody outside it.
        LeakError: the table puts a patient or a group on two sides.
    """
    is_held_out = patients["fold"] == fold
    training, held_out = patients[~is_held_out], patients.loc[is_held_out, "patient_id"].tolist()
    if not held_out or training.empty:
        raise CatalogError(
            f"Fold {fold} cannot be held out: the folds are {sorted(set(patients['fold']))}; "
            "choose one of them."
        )
    if "group" in patients:
        sides = patients["group"].groupby(is_held_out).unique()
        assert_disjoint(sides[False], sides[True], what=f"fold {fold}")
    if select_on == "outer":
        return FoldSplit(fold, training["patient_id"].tolist(), held_out, held_out, select_on)
    train, tune = _inner_split(training, share=select_share, seed=seed)
    assert_disjoint(train, tune, what="the inner split")
    assert_disjoint([*train, *tune], held_out, what=f"fold {fold}")
    return FoldSplit(fold, train, tune, held_out, select_on if tune else "last epoch")


def _inner_split(training: pd.DataFrame, *, share: float, seed: int) -> tuple[list[str], list[str]]:
    ids = training["patient_id"].tolist()
    labels, groups = (
        training[name].tolist() if name in training else None for name in ("label", "group")
    )
    n = len(set(groups or ids))
    if share <= 0 or n < 4:
        return ids, []
    n_parts = max(2, n // max(1, round(share * n)))
    parts = make_folds(ids, n_folds=n_parts, seed=seed, labels=labels, groups=groups)
    chosen = dict(zip(ids, parts == 0, strict=True))
    return [patient for patient in ids if not chosen[patient]], [
        patient for patient in ids if chosen[patient]
    ]


def assert_disjoint(first: Iterable[Any], second: Iterable[Any], *, what: str) -> None:
    """Raise when a patient stands in both, however the id is spelled: 6 is 00006.

    Raises:
        LeakError: naming the patients as `first` does.
    """
    spelled = {key_of(patient): str(patient) for patient in first}
    both = sorted(spelled[key] for key in spelled.keys() & {key_of(patient) for patient in second})
    if both:
        shown = ", ".join(both[:5]) + (" ..." if len(both) > 5 else "")
        raise LeakError(
            f"{len(both)} patients stand on both sides of {what}: {shown}. Their figures would "
            "be about training data; mend the split."
        )


def folds_of(
    ids: Iterable[str],
    table: pd.DataFrame,
    *,
    path: str | Path,
    linked: Mapping[str, str] | None = None,
) -> list[int]:
    """Return the fold of each patient from a table, however their ids are spelled there.

    Args:
        ids: whose folds.
        table: patient_id and value (the fold as text), from `user_tables.read_ids`. The folds of
            others may be missing.
        path: of the table, for messages.
        linked: groups of patients who are one, from `duplicates.shared_images`.

    Raises:
        CatalogError: a patient has no fold, or something else than a whole number from 0.
        LeakError: patients of one group are in several folds.
    """
    ids = list(ids)
    spelled, _ = spelled_as(table["patient_id"], ids, path=path)
    values = dict(zip(spelled, table["value"], strict=True))
    if missing := [patient for patient in ids if not values.get(patient)]:
        raise CatalogError(
            f"{path} has no fold for {len(missing)} patients, such as {missing[0]}: complete "
            "it, or exclude them."
        )
    numbers = {patient: number(values[patient]) for patient in ids}
    for patient, fold in numbers.items():
        if not (fold >= 0 and fold.is_integer()):
            raise CatalogError(
                f"{path} gives {patient} the fold {values[patient]!r}: a fold must be a whole "
                "number from 0."
            )
    first = {}
    for patient in ids:
        one = first.setdefault((linked or {}).get(patient, patient), patient)
        if numbers[one] != numbers[patient]:
            raise LeakError(
                f"{path} puts {one} into fold {numbers[one]:.0f} and {patient} into fold "
                f"{numbers[patient]:.0f}, but both have the same images: give them one fold, or "
                "exclude one of them."
            )
    return [int(numbers[patient]) for patient in ids]
