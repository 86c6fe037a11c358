"""The two score files of the T4E collection, for `tables.store.write_scores`.

    write_scores(run / "scores" / "train_seg.json", **segmentation_scores(dice))
    write_scores(run / "scores" / "train_cls.json", **classification_scores(auc, ...))

The first score of each is its headline: `wt_dice`, and `auc` of the mean of the contrasts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from t4e_utils.competitions.brain_tumor.data import REGIONS
from t4e_utils.metrics.intervals import median_interval
from t4e_utils.tables.store import Score

FEW = 50  # patients below which an AUC of scans says next to nothing
TOO_FEW = 10  # patients below which an AUC is no score at all
MEAN = "mean"  # the mean of the contrasts among the AUCs


def segmentation_scores(dice: pd.DataFrame) -> dict[str, Any]:
    """Return the median Dice of each region over held-out patients.

    Args:
        dice: patient_id, region, dice; one row for each patient, region, plane and contrast, of
            which the mean is that patient's.
    """
    by_patient = dice.groupby(["region", "patient_id"])["dice"].mean()
    scores, summary = [], {}
    for region in (name for name in REGIONS if name in by_patient.index):
        values = by_patient[region].to_numpy(float)
        median, ci95 = float(np.median(values)), median_interval(values)
        name = region.lower()
        scores.append(Score(f"{name}_dice", median, ci95, len(values), "median Dice"))
        summary[name] = {"dice_median": median, "ci95": ci95, "worst": float(values.min())}
    return {
        "title": "Segmentation",
        "scores": scores,
        "notes": [
            "wt is the whole tumour, et the enhancing tumour.",
            "Dice of whole volumes of held-out patients: the mean over planes and contrasts, and "
            "of that the median over patients.",
        ],
        "summary": {"segmentation": {**summary, "n": int(dice["patient_id"].nunique())}},
    }


def classification_scores(
    auc: Mapping[str, Mapping[str, Any]], *, select_on: str, control: str, data: str
) -> dict[str, Any]:
    """Return the AUC of the mean of the contrasts and of each contrast over held-out patients.

    Args:
        auc: by contrast and for "mean", from `prediction.out_of_fold.auc_by_series`.
        select_on: "inner", or "outer" if the held-out patients chose the checkpoints.
        control: "none", or what was taken away.
        data: "phantoms" or "scans".
    """
    names = [MEAN, *[name for name in auc if name != MEAN]]
    return {
        "title": "Classification",
        "scores": [
            Score(
                "auc" if name == MEAN else f"{name.lower()}_auc",
                *_auc_of(auc[name]),
                auc[name]["n"],
                "AUC",
            )
            for name in names
        ],
        "notes": list(_notes(auc, select_on=select_on, control=control, data=data)),
        "summary": {"classification": dict(auc), "select_on": select_on},
    }


def _auc_of(found: Mapping[str, Any]) -> tuple[float | None, list[float] | None]:
    """Return an AUC and its interval; nothing for a handful of patients."""
    return (None, None) if found["n"] < TOO_FEW else (found["auc"], found["ci95"])


def _notes(
    auc: Mapping[str, Mapping[str, Any]], *, select_on: str, control: str, data: str
) -> Iterator[str]:
    mean = auc[MEAN]
    n, (low, high) = mean["n"], mean["ci95"]
    yield (
        "Area under the ROC curve over patients that the models did not see, with a 95% "
        "interval; auc is that of the mean of the contrasts. 0.5 is chance."
    )
    if select_on != "inner":
        yield (
            f'The held-out patients chose the checkpoints (select_on = "{select_on}"): these AUCs '
            "are too good and only for comparison."
        )
    if control != "none":
        yield (
            f"This is a control run ({control}): its AUCs show what is left when something is "
            "taken away."
        )
    if n < TOO_FEW:
        yield f"{n} held-out patients are too few for an AUC."
    else:
        p = ", ".join(f"{name} {found['permutation_p']:.4f}" for name, found in auc.items())
        yield f"Share of shuffled labels that do as well (permutation p): {p}."
    if data == "scans":
        yield (
            "Independent studies found little or no sign of MGMT methylation in these MRI series, "
            "and the best private score of the challenge was 0.622."
        )
        if TOO_FEW <= n < FEW:
            yield f"With {n} patients the AUC of this run is no evidence of anything."
        elif low <= 0.5 <= high and n >= FEW:
            yield "The interval of this run includes 0.5: chance."
        yield "Scores hold only if the labels do: with made-up labels no AUC means anything."
