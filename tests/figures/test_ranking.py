"""Curves, bars and tables show the numbers they are given, and every figure of merit stands with
its n.
"""

import numpy as np
import pandas as pd
import pytest
from helpers.pictures import legend_of, line
from matplotlib.colors import to_hex, to_rgba

from t4e_utils.annotations.regions import area_shares
from t4e_utils.figures import cohort, outcome, ranking, selection, style
from t4e_utils.metrics import intervals

RANDOM = np.random.default_rng(1)
LABELS = np.repeat([0, 1], [30, 25])
SCORES = np.clip(RANDOM.normal(0.45 + 0.15 * LABELS, 0.15), 0, 1)


def test_an_roc_curve_is_that_of_the_scores_with_interval_and_n():
    axes = ranking.roc(LABELS, {"FLAIR": SCORES, "mean": SCORES}, n_bootstrap=30).axes[0]
    fpr, tpr, _ = roc_curve(LABELS, SCORES)
    found = intervals.auc_summary(LABELS, SCORES)
    said = f"mean {found['auc']:.2f} [{found['ci95'][0]:.2f}, {found['ci95'][1]:.2f}], n = 55"
    assert legend_of(axes)[0] == "chance"
    assert legend_of(axes)[2] == said
    assert np.array_equal(line(axes, said).get_xydata(), np.column_stack([fpr, tpr]))
    assert np.array_equal(line(axes, "chance").get_xydata(), [[0, 0], [1, 1]])
    assert len(axes.collections) == 1
    assert to_hex(axes.collections[0].get_facecolor()[0]) == style.SERIES_COLOURS["mean"].lower()


def test_patients_without_a_score_are_left_out_and_not_counted():
    scores = SCORES.copy()
    scores[:5] = np.nan
    said = legend_of(ranking.roc(LABELS, scores, n_bootstrap=10).axes[0])[1]
    assert said.endswith("n = 50")
    assert said.startswith(f"{roc_auc(LABELS[5:], SCORES[5:]):.2f} [")


def test_a_type_of_one_class_has_no_curve():
    one_class = np.where(LABELS == 1, SCORES, np.nan)
    assert (
        len(
            legend_of(
                ranking.roc(LABELS, {"FLAIR": one_class, "mean": SCORES}, n_bootstrap=10).axes[0]
            )
        )
        == 2
    )
    assert ranking.auc_text(np.ones(3), np.ones(3)) == "AUC not defined, n = 3"


def test_the_roc_band_is_that_of_resampled_curves():
    labels, scores = np.array([0, 0, 0, 1, 1]), np.array([0.1, 0.5, 0.4, 0.45, 0.9])
    generator, rates, curves = np.random.default_rng(3), np.linspace(0, 1, 101), []
    for _ in range(40):
        negative, positive = generator.choice(scores[:3], 3), generator.choice(scores[3:], 2)
        curve = []
        for (
            rate
            # the best true positive rate within the false positives allowed, between points on a
            # straight line
        ) in rates:
            points = sorted(
                {(np.mean(negative >= t), np.mean(positive >= t)) for t in (*scores, 2.0)}
            )
            left = max(p for p in points if p[0] <= rate + 1e-12)
            right = min((p for p in points if p[0] > rate + 1e-12), default=left)
            share = (rate - left[0]) / (right[0] - left[0]) if right != left else 0
            curve.append(left[1] + share * (right[1] - left[1]))
        curves.append(curve)
    band = intervals.roc_band(labels, scores, n_bootstrap=40, seed=3)
    assert band == pytest.approx(np.percentile(curves, (2.5, 97.5), axis=0))


def test_chance_aucs_have_the_mean_and_spread_of_mann_and_whitney():
    drawn = intervals.chance_aucs(46, 41, n_draws=4000)
    assert drawn.mean() == pytest.approx(0.5, abs=0.005)
    assert drawn.std() == pytest.approx(np.sqrt((46 + 41 + 1) / (12 * 46 * 41)), rel=0.05)
    assert np.array_equal(drawn, intervals.chance_aucs(46, 41, n_draws=4000))
    assert set(intervals.chance_aucs(1, 1, n_draws=50)) == {0.0, 1.0}


def test_the_chance_picture_marks_what_was_observed_and_how_often_chance_reaches_it():
    axes = ranking.chance_auc(87, observed={"T4E": 0.607}, n_draws=2000).axes[0]
    share = (intervals.chance_aucs(46, 41, n_draws=2000) >= 0.607).mean()
    assert "87 patients, 46 positive" in axes.get_title(loc="left")
    assert f"T4E: 0.607, reached by chance in {share:.1%}" in legend_of(axes)
    assert axes.lines[0].get_xdata()[0] == 0.607


def test_calibration_draws_shares_intervals_and_numbers():
    axes = ranking.calibration(LABELS, SCORES, n_bins=4).axes[0]
    rows = intervals.calibration_table(LABELS, SCORES, n_bins=4)
    expected = [[row["predicted"], row["observed"]] for row in rows]
    assert np.allclose(line(axes, "observed").get_xydata(), expected)
    assert [text.get_text() for text in axes.texts] == [str(row["n"]) for row in rows]
    assert np.allclose(
        [segment[:, 1] for segment in axes.collections[0].get_segments()],
        [[r["low"], r["high"]] for r in rows],
    )


def test_probabilities_stand_with_their_class_and_n():
    axes = ranking.probabilities_by_class(LABELS, {"FLAIR": SCORES}).axes[0]
    negative, positive = (group.get_offsets()[:, 1] for group in axes.collections)
    assert sorted(negative) == sorted(SCORES[LABELS == 0])
    assert sorted(positive) == sorted(SCORES[LABELS == 1])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["FLAIR\nn = 55"]


def test_chunks_are_drawn_from_the_lowest_to_the_highest_sorted_by_patient():
    chunks = pd.DataFrame(
        {"patient_id": list("bbaa"), "probability": [0.9, 0.7, 0.1, 0.4], "label": [1, 1, 0, 0]}
    )
    axes = ranking.chunk_spread(chunks).axes[0]
    assert np.allclose(
        [segment[:, 1] for segment in axes.collections[0].get_segments()], [[0.1, 0.4], [0.7, 0.9]]
    )
    assert np.allclose(axes.collections[2].get_offsets(), [[0, 0.25], [1, 0.8]])
    assert "median spread 0.25, n = 2" in axes.get_title(loc="left")


def test_patients_with_one_chunk_have_no_spread():
    chunks = pd.DataFrame({"patient_id": list("aabc"), "probability": [0.1, 0.4, 0.7, 0.2]})
    assert "median spread 0.30, n = 1" in ranking.chunk_spread(chunks).axes[0].get_title(loc="left")
    assert "one chunk a patient" in ranking.chunk_spread(chunks[1:]).axes[0].get_title(loc="left")


def test_agreement_shows_spearman_above_and_scatter_below():
    table = pd.DataFrame(
        {"FLAIR": [0.1, 0.2, 0.3, 0.9], "T2w": [0.2, 0.3, 0.8, 0.9], "T1w": [np.nan] * 4}
    )
    axes = np.reshape(ranking.series_agreement(table, series=["FLAIR", "T2w", "T1w"]).axes, (3, 3))
    assert axes[0, 1].texts[0].get_text() == "1.00"
    assert axes[0, 2].texts[0].get_text() == "–"
    assert np.array_equal(axes[1, 0].collections[0].get_offsets(), table[["FLAIR", "T2w"]])


def test_area_shares_are_of_the_brain_and_zero_without_one():
    measures = pd.DataFrame(
        {"slice": [0, 1], "brain_area": [0, 200], "wt_area": [0, 50], "et_area": [0, 10]}
    )
    shares = area_shares(measures)
    assert shares["WT"].tolist() == [0, 0.25]
    assert shares["ET"].tolist() == [0, 0.05]


def test_the_area_profile_marks_threshold_and_kept_slices():
    measures = pd.DataFrame(
        {
            "slice": [3, 4, 5, 6],
            "brain_area": 100,
            "wt_area": [0, 5, 20, 9],
            "et_area": 0,
            "n_components": [0, 1, 1, 7],
            "is_kept": [False, True, True, False],
        }
    )
    axes = selection.area_profile(measures, threshold=0.025, max_components=5).axes[0]
    assert line(axes, "WT").get_ydata().tolist() == [0, 0.05, 0.2, 0.09]
    assert line(axes, "threshold 0.025").get_ydata() == [0.025, 0.025]
    assert line(axes, "2 of 4 slices kept").get_xdata().tolist() == [4, 5]
    assert line(axes, "more than 5 separate tumours").get_xdata().tolist() == [6]


def test_kept_slices_are_counted_and_patients_without_any_are_named():
    table = pd.DataFrame(
        {
            "patient_id": ["a", "a", "b", "b"],
            "series": ["FLAIR", "FLAIR", "T2w", "FLAIR"],
            "is_kept": [1, 1, 1, 0],
        }
    )
    axes = selection.slices_kept(
        table, by=("series",), patients=["a", "b", "c"], groups=["FLAIR", "T2w"]
    ).axes[0]
    assert np.array_equal(axes.images[0].get_array(), [[2, 0], [0, 1], [0, 0]])
    assert axes.get_xlabel() == "none kept: a T2w, b FLAIR, c FLAIR, c T2w"
    assert axes.get_title(loc="left") == "Slices kept: 3 of 3 patients"


def test_many_patients_are_sorted_by_their_slices_and_only_some_zeros_named():
    table = pd.DataFrame(
        {"patient_id": [f"{i:03d}" for i in range(40) for _ in range(i)], "series": "FLAIR"}
    )
    axes = selection.slices_kept(
        table, by=("series",), patients=[f"{i:03d}" for i in range(50)]
    ).axes[0]
    assert axes.images[0].get_array()[:, 0].tolist() == [*range(39, -1, -1), *[0] * 10]
    assert axes.get_xlabel().replace("\n", " ").endswith("and 5 more")


def test_chunks_are_windows_and_what_is_missing_is_hatched():
    axes = selection.chunk_windows([(0, 20)], 20, length=35).axes[0]
    slices_bar, missing = axes.patches
    assert (slices_bar.get_x(), slices_bar.get_width()) == (0, 20)
    assert (missing.get_x(), missing.get_width(), missing.get_hatch()) == (20, 15, "////")
    assert axes.get_title(loc="left") == "1 chunk of 35 from 20 slices"


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
    figure = cohort.tumour_sizes(pd.DataFrame({"wt_ml": [0.0, 40.0], "et_ml": [0.0, 10.0]}))
    assert figure.axes[2].collections[0].get_offsets().tolist() == [[0, 0], [40, 0.25]]
    assert figure.axes[0].get_title(loc="left") == "WT: median 20 ml"


def test_the_most_frequent_value_is_on_top():
    axes = cohort.counts(["a", "b", "b"], title="Problems").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a"]
    assert axes.yaxis_inverted()


def test_a_funnel_shows_what_is_lost_and_regained():
    axes = outcome.funnel({"in": 20, "read": 15, "predicted": 20}).axes[0]
    assert [patch.get_width() for patch in axes.patches] == [20, 15, 20]
    assert [text.get_text() for text in axes.texts] == ["20", "15", "−5", "20", "+5"]


def test_a_patient_story_ends_in_the_mean_of_the_types_that_have_a_prediction():
    stored = np.full((3, 6, 6, 3), 200, np.uint8)
    figure = outcome.patient_story(
        {"FLAIR": stored, "T1w": stored[:0]},
        {"FLAIR": 0.6, "T1w": np.nan},
        n=2,
        n_slices={"FLAIR": 26},
        fallbacks={"FLAIR": "largest tumour"},
    )
    axes = np.reshape(figure.axes, (2, 3))
    assert axes[0, 2].get_title() == "patient: 0.600"
    assert axes[0, 2].patches[0].get_width() == 0.6
    assert axes[1, 2].texts[0].get_text() == "no prediction"
    assert axes[0, 0].get_ylabel() == "FLAIR\n3 of 26 kept\nlargest tumour"
    assert axes[1, 0].texts[0].get_text() == "no slice was kept"


def test_a_patient_story_draws_each_series_in_its_own_proportions():
    stored = {
        "FLAIR": np.full((3, 6, 6, 3), 200, np.uint8),
        "T2w": np.full((2, 6, 6, 3), 200, np.uint8),
    }
    figure = outcome.patient_story(
        stored, {}, n=2, spacings_mm={"FLAIR": (3.0, 1.0)}, planes={"T2w": "axial"}
    )
    axes = np.reshape(figure.axes, (2, 3))
    assert [each.get_aspect() for each in axes[:, 0]] == [3.0, 1.0]
    assert [[text.get_text() for text in each.texts] for each in axes[:, 1]] == [
        [],
        ["R", "L", "A", "P"],
    ]


def test_the_slices_with_most_influence_are_shown_in_order():
    stored = np.full((4, 6, 6, 3), 200, np.uint8)
    figure = outcome.slice_influence(stored, [0.1, -0.5, 0.0, 0.3], positions=[10, 11, 13, 14], n=2)
    bars, *shown = figure.axes
    assert [patch.get_height() for patch in bars.patches] == [0.1, -0.5, 0.0, 0.3]
    assert [axes.get_title() for axes in shown] == ["slice 11: −0.50", "slice 14: +0.30"]
    assert bars.patches[1].get_facecolor() == to_rgba(style.CLASS_COLOURS[0])


def test_shares_of_test_and_out_of_fold_patients_each_add_up_to_one():
    axes = outcome.prediction_shift([0.1, 0.2, np.nan], [0.7, 0.8, 0.9]).axes[0]
    assert legend_of(axes) == ["out of fold, n = 2", "median 0.15", "test, n = 3", "median 0.80"]
    heights = [np.diff(patch.get_xy()[:, 0]) for patch in axes.patches]
    assert len(heights) == 2


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0 s"),
        (8.2, "8.2 s"),
        (59.96, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_are_said_the_way_people_do(seconds, said):
    assert outcome.duration(seconds) == said


def test_stages_are_timed_in_order():
    axes = outcome.stage_times({"01": 30.0, "02": 90.0}).axes[0]
    assert [patch.get_width() for patch in axes.patches] == [30, 90]
    assert axes.get_title(loc="left") == "Time of each stage: 2 min 00 s in all"


def test_fallbacks_are_listed_one_by_one():
    report = pd.DataFrame({"fallback": ["", "T1w: central slices; T2w: no readable series", None]})
    assert outcome.fallback_list(report) == [
        "none needed",
        "T1w: central slices",
        "T2w: no readable series",
        "none needed",
    ]


def test_the_step_between_kept_slices_is_said_where_there_is_one():
    measures = pd.DataFrame(
        {
            "slice": range(10),
            "brain_area": 100,
            "wt_area": [0, 9, 9, 9, 9, 9, 9, 9, 0, 0],
            "et_area": 0,
        }
    )
    kept = np.isin(np.arange(10), [1, 4, 7])
    assert line(
        selection.area_profile(measures, threshold=0.05, kept=kept).axes[0],
        "3 of 10 slices kept,\n1 in 3 of those above",
    )
    uneven = np.isin(np.arange(10), [1, 2, 7])
    assert line(
        selection.area_profile(measures, threshold=0.05, kept=uneven).axes[0], "3 of 10 slices kept"
    )


def test_chunks_lie_on_the_axis_of_the_series_where_its_slices_are():
    axes = selection.chunk_windows([(0, 3), (2, 4)], 4, length=3, positions=[5, 6, 9, 20]).axes[0]
    assert [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches] == [
        (4.5, 9.5),
        (8.5, 20.5),
    ]
    assert [each.get_xdata().tolist() for each in axes.lines] == [[5, 6, 9], [9, 20]]
    assert [text.get_text() for text in axes.texts] == ["3 slices", "2 slices"]


def test_chunks_of_each_type_have_a_panel_and_types_are_not_mixed():
    chunks = pd.DataFrame(
        {
            "patient_id": list("aabb"),
            "series": ["FLAIR", "T2w"] * 2,
            "probability": [0.1, 0.9, 0.2, 0.8],
            "label": [0, 0, 1, 1],
        }
    )
    flair, t2w = ranking.chunk_spread(chunks, by="series").axes
    assert flair.get_title(loc="left") == "FLAIR: one chunk a patient"
    assert flair.collections[2].get_offsets()[:, 1].tolist() == [0.1, 0.2]
    assert t2w.collections[2].get_offsets()[:, 1].tolist() == [0.8, 0.9]
