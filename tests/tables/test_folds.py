"""Folds: dealt evenly whatever the order, and nobody on two sides."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t4e_utils.tables import folds


def ids(n: int) -> list[str]:
    return [f"{i:05d}" for i in range(n)]


def cohort(n: int, n_folds: int = 3) -> pd.DataFrame:
    """Patients with alternating labels, dealt into folds."""
    table = pd.DataFrame({"patient_id": ids(n), "label": np.arange(n) % 2})
    return table.assign(
        fold=folds.make_folds(table["patient_id"], n_folds=n_folds, seed=0, labels=table["label"])
    )


@given(
    labels=st.lists(st.integers(0, 1), min_size=2, max_size=60),
    n_folds=st.integers(2, 7),
    seed=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_folds_are_equal_to_within_one_patient_in_all_and_for_each_label(labels, n_folds, seed):
    n_folds = min(n_folds, len(labels))
    dealt = folds.make_folds(ids(len(labels)), n_folds=n_folds, seed=seed, labels=labels)
    for group in (dealt, dealt[np.array(labels) == 0], dealt[np.array(labels) == 1]):
        sizes = [Counter(group.tolist())[fold] for fold in range(n_folds)]
        assert max(sizes) - min(sizes) <= 1


def test_folds_depend_on_the_seed_and_not_on_the_order_of_patients():
    labels = dict(zip(ids(20), np.arange(20) % 2, strict=True))
    first = dict(
        zip(
            labels,
            folds.make_folds(list(labels), n_folds=4, seed=1, labels=list(labels.values())),
            strict=True,
        )
    )
    turned = list(labels)[::-1]
    again = dict(
        zip(
            turned,
            folds.make_folds(turned, n_folds=4, seed=1, labels=[labels[p] for p in turned]),
            strict=True,
        )
    )
    other = dict(
        zip(
            labels,
            folds.make_folds(list(labels), n_folds=4, seed=2, labels=list(labels.values())),
            strict=True,
        )
    )
    assert first == again
    assert first != other


def test_folds_that_cannot_be_dealt_are_refused():
    with pytest.raises(
        folds.FoldError, match="n_folds = 5 does not fit 3 patients: choose 2 to 3 folds"
    ):
        folds.make_folds(ids(3), n_folds=5, seed=0)
    with pytest.raises(folds.FoldError, match="n_folds = 1 does not fit"):
        folds.make_folds(ids(3), n_folds=1, seed=0)
    with pytest.raises(folds.FoldError, match="more than once"):
        folds.make_folds(["00001", "00001"], n_folds=2, seed=0)


def test_a_fold_has_three_groups_that_share_nobody_and_miss_nobody():
    patients = cohort(30)
    split = folds.split_fold(patients, 1, select_share=0.2, seed=0)
    groups = [split.train, split.tune, split.held_out]
    assert sorted(patient for group in groups for patient in group) == ids(30)
    assert split.counts == {"n_train": 16, "n_tune": 4, "n_held_out": 10}
    assert set(split.held_out) == set(patients.loc[patients["fold"] == 1, "patient_id"])
    assert split.select_on == "inner"


def test_the_inner_split_does_not_see_the_labels_of_held_out_patients():
    patients = cohort(30)
    swapped = patients.assign(
        label=np.where(patients["fold"] == 1, 1 - patients["label"], patients["label"])
    )
    assert folds.split_fold(patients, 1, select_share=0.2, seed=0) == folds.split_fold(
        swapped, 1, select_share=0.2, seed=0
    )


def test_with_outer_selection_the_held_out_patients_choose_and_all_others_are_fitted():
    split = folds.split_fold(cohort(30), 1, select_share=0.2, seed=0, select_on="outer")
    assert split.tune == split.held_out
    assert len(split.train) == 20
    assert split.select_on == "outer"


@pytest.mark.parametrize(("n", "share"), [(30, 0.0), (4, 0.2)])
def test_without_a_share_or_with_few_patients_nobody_chooses(n, share):
    split = folds.split_fold(cohort(n, n_folds=2), 0, select_share=share, seed=0)
    assert split.tune == []
    assert split.select_on == "last epoch"


def test_a_fold_that_is_empty_or_holds_everybody_cannot_be_held_out():
    with pytest.raises(
        folds.FoldError, match=r"Fold 5 cannot be held out: the folds are \[0, 1, 2\]"
    ):
        folds.split_fold(cohort(9), 5, select_share=0.2, seed=0)
    with pytest.raises(folds.FoldError, match="Fold 0 cannot be held out"):
        folds.split_fold(cohort(9).assign(fold=0), 0, select_share=0.2, seed=0)


def test_patients_on_both_sides_are_named():
    folds.assert_disjoint(ids(3), ["00003"], what="the split")
    with pytest.raises(
        folds.LeakError,
        match=r"6 patients stand on both sides of the split: 00000, 00001, 00002, 00003, 00004 "
        r"\.\.\.",
    ):
        folds.assert_disjoint(ids(6), ids(6), what="the split")
