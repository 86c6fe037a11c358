"""Every figure of merit is that of its scores and stands with its n."""

import numpy as np
from helpers.pictures import legend_of, line
from matplotlib.colors import to_hex

from t4e_utils.figures import ranking
from t4e_utils.metrics import intervals
from t4e_utils.metrics.ranking import roc_auc, roc_curve

RANDOM = np.random.default_rng(1)
LABELS = np.repeat([0, 1], [30, 25])
SCORES = np.clip(RANDOM.normal(0.45 + 0.15 * LABELS, 0.15), 0, 1)


def test_an_roc_curve_is_that_of_the_scores_with_interval_and_n(palette):
    axes = ranking.roc(LABELS, {"FLAIR": SCORES, "mean": SCORES}).axes[0]
    fpr, tpr, _ = roc_curve(LABELS, SCORES)
    found = intervals.auc_summary(LABELS, SCORES)
    said = f"mean {found['auc']:.2f} [{found['ci95'][0]:.2f}, {found['ci95'][1]:.2f}], n = 55"
    assert legend_of(axes)[0] == "chance"
    assert legend_of(axes)[2] == said
    assert np.array_equal(line(axes, said).get_xydata(), np.column_stack([fpr, tpr]))
    assert np.array_equal(line(axes, "chance").get_xydata(), [[0, 0], [1, 1]])
    assert len(axes.collections) == 1
    assert to_hex(axes.collections[0].get_facecolor()[0]) == palette.colours["mean"].lower()


def test_patients_without_a_score_are_left_out_and_not_counted():
    scores = SCORES.copy()
    scores[:5] = np.nan
    said = legend_of(ranking.roc(LABELS, scores).axes[0])[1]
    assert said.endswith("n = 50")
    assert said.startswith(f"{roc_auc(LABELS[5:], SCORES[5:]):.2f} [")


def test_a_series_of_one_class_has_no_curve():
    one_class = np.where(LABELS == 1, SCORES, np.nan)
    assert len(legend_of(ranking.roc(LABELS, {"FLAIR": one_class, "mean": SCORES}).axes[0])) == 2
    assert ranking.auc_text(np.ones(3), np.ones(3)) == "AUC not defined, n = 3"


def test_the_chance_picture_marks_what_was_observed_and_how_often_chance_reaches_it():
    axes = ranking.chance_auc(87, positive_share=0.526, observed={"T4E": 0.607}).axes[0]
    share = (intervals.chance_aucs(46, 41) >= 0.607).mean()
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


def test_axes_say_what_is_predicted():
    by_class = ranking.probabilities_by_class(LABELS, SCORES).axes[0]
    assert by_class.get_ylabel() == "probability of methylation"
    assert ranking.calibration(LABELS, SCORES).axes[0].get_ylabel() == "share that is methylated"
