"""Folds: dealt evenly whatever the order, and nobody on two sides."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t4e_utils.tables import folds
from t4e_utils.tables.catalog import CatalogError

# as dealt before there were groups
EARLIER_WITH_LABELS = [0, 0, 2, 0, 2, 1, 1, 2, 1, 1, 0, 2]
EARLIER = [2, 0, 0, 2, 1, 1, 0]


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
        CatalogError, match="n_folds = 5 does not fit 3 patients: choose 2 to 3 folds"
    ):
        folds.make_folds(ids(3), n_folds=5, seed=0)
    with pytest.raises(CatalogError, match="n_folds = 1 does not fit"):
        folds.make_folds(ids(3), n_folds=1, seed=0)
    for twice in (["00001", "00001"], ["00001", "00002", "1"]):
        with pytest.raises(CatalogError, match=rf"more than once .* \(00001, {twice[-1]}\): give"):
            folds.make_folds(twice, n_folds=2, seed=0)


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
    with pytest.raises(CatalogError, match=r"Fold 5 cannot be held out: the folds are \[0, 1, 2\]"):
        folds.split_fold(cohort(9), 5, select_share=0.2, seed=0)
    with pytest.raises(CatalogError, match="Fold 0 cannot be held out"):
        folds.split_fold(cohort(9).assign(fold=0), 0, select_share=0.2, seed=0)


def test_patients_on_both_sides_are_named():
    folds.assert_disjoint(ids(3), ["00003"], what="the split")
    with pytest.raises(
        folds.LeakError,
        match=r"6 patients stand on both sides of the split: 00000, 00001, 00002, 00003, 00004 "
        r"\.\.\.",
    ):
        folds.assert_disjoint(ids(6), ids(6), what="the split")


def test_a_patient_is_on_both_sides_however_the_id_is_spelled():
    with pytest.raises(folds.LeakError, match=r"2 patients stand on both .* the split: 13\.0, 6"):
        folds.assert_disjoint(["6", "13.0", "8"], ["00006", "00013"], what="the split")
    folds.assert_disjoint(["6", "ID_6"], ["60", "06a", "ID_06"], what="the split")


def fold_table(**folds_by_id) -> pd.DataFrame:
    return pd.DataFrame({"patient_id": list(folds_by_id), "value": list(folds_by_id.values())})


def test_folds_of_a_table_are_whole_numbers_and_others_may_have_none():
    table = fold_table(**{"6": "0.0", "8.0": "1", "00010": "2,0", "11": ""})
    assert folds.folds_of(["00010", "00006", "00008"], table, path="folds.csv") == [2, 0, 1]
    with pytest.raises(CatalogError, match=r"folds\.csv has no fold for 2 patients, such as 00011"):
        folds.folds_of(["00006", "00011", "00012"], table, path="folds.csv")


@pytest.mark.parametrize("fold", ["0.5", "-1", "one", "1e400"])
def test_a_fold_that_is_no_whole_number_is_refused(fold):
    with pytest.raises(
        CatalogError, match=f"gives 00006 the fold '{fold}': a fold must be a whole"
    ):
        folds.folds_of(["00006"], fold_table(**{"6": fold}), path="folds.csv")


def test_a_fold_table_that_parts_two_ids_of_one_patient_is_a_leak():
    linked, table = {"00006": "00006", "00008": "00006"}, fold_table(**{"6": "1", "8": "0"})
    with pytest.raises(
        folds.LeakError,
        match=r"csv puts 00006 into fold 1 and 00008 into fold 0, but both have the same",
    ):
        folds.folds_of(["00006", "00008"], table, path="folds.csv", linked=linked)
    table = fold_table(**{"6": "1", "8": "1", "9": "0"})
    found = folds.folds_of(["00009", "00006", "00008"], table, path="folds.csv", linked=linked)
    assert found == [0, 1, 1]


def test_folds_without_groups_are_those_of_earlier_versions():
    dealt = folds.make_folds(ids(12), n_folds=3, seed=4, labels=np.arange(12) % 2)
    assert dealt.tolist() == EARLIER_WITH_LABELS
    assert folds.make_folds(ids(7), n_folds=3, seed=0).tolist() == EARLIER


def slow_groups(groups, labels, n_folds, seed):
    """The same rule in plain words: dictionaries, fractions left out by whole weights."""
    names, kinds = sorted(set(groups)), sorted(set(labels))
    of_group = {
        name: [k for g, k in zip(groups, labels, strict=True) if g == name] for name in names
    }
    weights = {kind: 1000 * len(groups) // labels.count(kind) for kind in kinds}
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    order.sort(key=lambda name: -len(of_group[name]))
    in_fold = {fold: [] for fold in range(n_folds)}
    fold_of = {}
    for name in order:
        own = of_group[name]
        costs = [
            1000 * len(held) * len(own)
            + sum(weights[kind] * held.count(kind) * own.count(kind) for kind in kinds)
            for held in in_fold.values()
        ]
        fold_of[name] = costs.index(min(costs))
        in_fold[fold_of[name]] += own
    return [fold_of[name] for name in groups]


@given(
    rows=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=2, max_size=60),
    n_folds=st.integers(2, 5),
    seed=st.integers(0, 3),
)
@settings(max_examples=80, deadline=None)
def test_groups_stay_together_fill_every_fold_and_are_dealt_as_the_slow_rule_says(
    rows, n_folds, seed
):
    groups, labels = [f"p{group:02d}" for group, _ in rows], [label for _, label in rows]
    if len(set(groups)) < 2:
        return
    n_folds = min(n_folds, len(set(groups)))
    options = {"n_folds": n_folds, "seed": seed}
    dealt = folds.make_folds(ids(len(rows)), labels=labels, groups=groups, **options)
    assert dealt.tolist() == slow_groups(groups, labels, n_folds, seed)
    assert len({*zip(groups, dealt.tolist(), strict=True)}) == len(set(groups))
    assert set(dealt.tolist()) == set(range(n_folds))
    turned = folds.make_folds(
        ids(len(rows))[::-1], labels=labels[::-1], groups=groups[::-1], **options
    )
    assert turned.tolist() == dealt.tolist()[::-1]
    plain = folds.make_folds(ids(len(rows)), groups=groups, **options)
    sizes = np.bincount(plain, minlength=n_folds)
    assert sizes.max() - sizes.min() <= max(Counter(groups).values())


def test_groups_of_a_study_are_stratified_as_well_as_those_of_scikit_learn():
    from sklearn.model_selection import StratifiedGroupKFold

    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(200), generator.integers(1, 7, 200))
    labels = (generator.random(len(groups)) < generator.beta(0.3, 0.7, 200)[groups]).astype(int)
    own = folds.make_folds(ids(len(groups)), n_folds=5, seed=0, labels=labels, groups=groups)
    other = np.empty(len(groups), int)
    parts = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(groups, labels, groups)
    for fold, (_, held_out) in enumerate(parts):
        other[held_out] = fold
    for is_counted in (labels == 0, labels == 1, labels >= 0):
        own_counts, other_counts = (np.bincount(f[is_counted]) for f in (own, other))
        assert np.ptp(own_counts) <= max(3, np.ptp(other_counts))


def test_groups_that_cannot_be_dealt_are_refused():
    with pytest.raises(CatalogError, match="n_folds = 3 does not fit 2 groups: choose 2 to 2"):
        folds.make_folds(ids(4), n_folds=3, seed=0, groups=["a", "a", "b", "b"])
    for nothing in (None, float("nan")):
        with pytest.raises(CatalogError, match="00002 has no group: give one to each id"):
            folds.make_folds(ids(3), n_folds=2, seed=0, groups=["a", "b", nothing])


def test_groups_stay_on_one_side_of_the_inner_split_too():
    studies = pd.DataFrame({"patient_id": ids(40), "group": np.arange(40) // 4})
    studies["fold"] = folds.make_folds(ids(40), n_folds=2, seed=0, groups=studies["group"])
    split = folds.split_fold(studies, 0, select_share=0.2, seed=0)
    sides = [
        set(studies["group"][studies["patient_id"].isin(side)])
        for side in (split.train, split.tune, split.held_out)
    ]
    assert [len(side) for side in sides] == [4, 1, 5]
    assert len(set.union(*sides)) == 10
    few = studies[studies["group"].isin([*sides[2], *sorted(sides[0])[:3]])]
    assert folds.split_fold(few, 0, select_share=0.2, seed=0).tune == []


def test_a_fold_table_that_cuts_a_group_is_a_leak():
    studies = pd.DataFrame({"patient_id": ids(4), "group": ["a", "a", "b", "b"]})
    with pytest.raises(folds.LeakError, match="2 patients stand on both sides of fold 1: a, b"):
        folds.split_fold(studies.assign(fold=[0, 1, 0, 1]), 1, select_share=0, seed=0)
