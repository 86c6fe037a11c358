"""Tables of patients and series are counted and measured as they are."""

import numpy as np
import pandas as pd
import pytest
from helpers.pictures import legend_of

from t4e_utils.figures import cohort, style
from t4e_utils.figures.palette import FigureError, Palette


def test_series_are_counted_by_type_and_rare_matrices_are_one():
    table = pd.DataFrame(
        {
            "patient_id": [str(i) for i in range(9)],
            "series": "FLAIR",
            "n_slices": range(9),
            "plane": ["axial"] * 8 + [None],
            "rows": [512] * 3 + [10, 11, 12, 13, 14, None],
            "columns": 512,
            "spacing_slice_mm": np.nan,
            "spacing_row_mm": 1.0,
            "transfer_syntax": None,
        }
    )
    axes = cohort.series_overview(table, title="Phantoms").axes
    assert legend_of(axes[3]) == ["axial", "unknown"]
    assert [patch.get_width() for patch in axes[3].patches] == [8, 1]
    assert legend_of(axes[4])[0] == "512 × 512"
    assert legend_of(axes[4])[-1] == "other"
    assert sum(patch.get_width() for patch in axes[4].patches) == 9
    assert sorted(axes[0].collections[0].get_offsets()[:, 1]) == list(range(9))


def test_labels_are_counted_with_those_that_are_missing():
    axes = cohort.label_balance(pd.DataFrame({"label": [0, 1, 1, np.nan]})).axes[0]
    assert [patch.get_width() for patch in axes.patches] == [1, 2, 1]
    assert [text.get_text() for text in axes.texts] == ["1  (25%)", "2  (50%)", "1  (25%)"]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "unmethylated",
        "methylated",
        "no label",
    ]


def test_folds_count_patients_once_with_or_without_labels():
    slices = pd.DataFrame(
        {"patient_id": ["a", "a", "b", "c"], "fold": [0, 0, 0, 1], "label": [1, 1, 0, 0]}
    )
    labelled, plain = (
        cohort.folds(slices).axes[0],
        cohort.folds(slices.drop(columns="label")).axes[0],
    )
    assert [patch.get_height() for patch in labelled.patches] == [1, 1, 1, 0]
    assert [patch.get_height() for patch in plain.patches] == [2, 1]


def test_sets_of_patients_overlap_where_they_share_patients():
    axes = cohort.patient_overlap(list("abcdd"), list("cdefg"), names=("BraTS21", "RSNA")).axes[0]
    first, second, shared = axes.patches
    assert (first.get_x(), first.get_width()) == (0, 4)
    assert (second.get_x(), second.get_width()) == (2, 5)
    assert (shared.get_x(), shared.get_width()) == (2, 2)
    assert axes.get_title(loc="left") == "2 patients are in both; 2 only in BraTS21, 3 only in RSNA"


def test_tumours_without_volume_have_no_share():
    figure = cohort.region_sizes(pd.DataFrame({"wt_ml": [0.0, 40.0], "et_ml": [0.0, 10.0]}))
    assert figure.axes[2].collections[0].get_offsets().tolist() == [[0, 0], [40, 0.25]]
    assert figure.axes[0].get_title(loc="left") == "WT: median 20 ml"


def test_sizes_of_several_studies_do_not_make_more_patients():
    table = pd.DataFrame({"patient_id": ["a", "a", "b"], "wt_ml": 1.0, "et_ml": 1.0})
    figure = cohort.region_sizes(table)
    assert figure.get_suptitle() == "Tumours of 2 patients in 3 studies"
    assert figure.axes[0].get_ylabel() == "studies"
    figure = cohort.region_sizes(table[1:])
    assert figure.get_suptitle() == "Tumours of 2 patients"


def test_the_most_frequent_value_is_on_top():
    axes = cohort.counts(["a", "b", "b"], title="Problems").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a"]
    assert axes.yaxis_inverted()


def test_a_single_region_has_sizes_and_no_share():
    style.set_palette(Palette(regions=("Kidney",), finding="kidney"))
    figure = cohort.region_sizes(pd.DataFrame({"kidney_ml": [10.0, 30.0]}))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Kidney: median 20 ml"]
    assert figure.get_suptitle() == "Kidneys of 2 patients"


def test_sizes_without_a_region_stop_with_a_sentence():
    with pytest.raises(FigureError, match="no column 'et_ml'"):
        cohort.region_sizes(pd.DataFrame({"wt_ml": [1.0]}))
    style.set_palette(Palette())
    with pytest.raises(FigureError, match="no column 'region_ml'"):
        cohort.region_sizes(pd.DataFrame({"size": [1.0]}))
