"""Segmenters of several folds on the patients that each of them held out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from t4e_utils.competitions.brain_tumor.conventions import COMMON, read_labels
from t4e_utils.competitions.brain_tumor.data import CONTRASTS, REGIONS
from t4e_utils.competitions.brain_tumor.segmenter import picture_input
from t4e_utils.figures.scans import region_masks
from t4e_utils.learning.devices import slices_per_pass
from t4e_utils.learning.networks import load_network
from t4e_utils.metrics.intervals import best_median_worst
from t4e_utils.prediction import evaluation
from t4e_utils.prediction.masks import MaskReading, segment_slices
from t4e_utils.sampling.pictures import Picture
from t4e_utils.scans.intensity import window_to_uint8
from t4e_utils.scans.problems import Problem, VolumeError
from t4e_utils.scans.volume import Volume
from t4e_utils.tables.folds import assert_disjoint
from t4e_utils.tables.provenance import MADE_FROM, content_of, read_current, state_of
from t4e_utils.tables.store import write_table


@dataclass(frozen=True)
class HeldOut:
    """Patients with expert segmentations, each by the segmenter that did not learn from them."""

    run: Path  # folder of the run
    # patient_id, study_id, fold, labels and a column of paths for each contrast
    patients: pd.DataFrame
    cards: Mapping[int, Mapping[str, Any]]  # of each fold
    networks: Mapping[int, nn.Module]
    reading: MaskReading
    convention: str = COMMON  # of the labels

    @classmethod
    def load(
        cls,
        run: Path,
        patients: pd.DataFrame,
        cards: Mapping[int, Mapping[str, Any]],
        device: Any,
        *,
        convention: str,
    ) -> HeldOut:
        """Load the segmenters that the cards name."""
        networks = {
            fold: load_network(run / card["weights"], device=device) for fold, card in cards.items()
        }
        reading = MaskReading(batch_size=slices_per_pass(device))
        return cls(run, patients, cards, networks, reading, convention)

    @property
    def read_labels(self) -> Callable[[str], Volume]:
        """What reads an expert's segmentation with the labels of `REGIONS`."""
        return partial(read_labels, convention=self.convention)

    def score(self, planes: Sequence[str], *, most: int) -> tuple[pd.DataFrame, list[Problem]]:
        """Score whole volumes; what is finished is read.

        Args:
            planes: to cut in.
            most: patients of each fold; 0: all.

        Returns:
            As `evaluation.evaluate_patients`, with fold.

        Raises:
            LeakError: a patient trained the segmenter that scores it.
        """
        tables, problems = [], []
        for fold, card in self.cards.items():
            path = self.run / "seg" / f"dice_fold{fold}.parquet"
            how = {"planes": list(planes), "max_scored_patients": most}
            made = {"weights": card["weights"], "convention": self.convention, **how}
            own = self.patients[self.patients["fold"] == fold]
            ids = own["patient_id"].unique()
            own = own[own["patient_id"].isin(ids[: most or len(ids)])]
            made |= {MADE_FROM: self._sources(own, card)}
            scores = read_current(path, made)
            if scores is None:
                if card["select_on"] != "outer":
                    assert_disjoint(card["trained_on"], own["patient_id"], what="the scoring")
                scores, odd = evaluation.evaluate_patients(
                    self.networks[fold],
                    own,
                    series=CONTRASTS,
                    regions=REGIONS,
                    planes=planes,
                    reading=self.reading,
                    read=self.read_labels,
                )
                scores = scores.assign(fold=fold)
                write_table(scores, path, provenance=made)
                problems += odd
            tables.append(scores)
        return pd.concat(tables, ignore_index=True), problems

    def _sources(self, patients: pd.DataFrame, card: Mapping[str, Any]) -> dict[str, str]:
        """Return the weights and the volumes that scores are made from."""
        paths = patients[[name for name in (*CONTRASTS, "labels") if name in patients]]
        volumes = state_of(paths.melt()["value"].dropna(), self.run)
        return {"the weights": content_of(self.run / card["weights"]), "the volumes": volumes}

    def score_stored(
        self, slices: pd.DataFrame, fold: int, thresholds: Sequence[float] = (0.5,)
    ) -> pd.DataFrame:
        """Score stored slices with the segmenter of a fold, see `evaluation.score_slices`."""
        network = self.networks[fold]
        return evaluation.score_slices(
            network,
            slices.reset_index(drop=True),
            picture_input(network.recipe, self.run),
            regions=tuple(REGIONS),
            thresholds=thresholds,
            batch_size=self.reading.batch_size,
        )

    def cut(self, study_id: str, series: str, plane: str) -> evaluation.PlaneCut:
        """Segment a contrast of a study in a plane.

        Raises:
            VolumeError: it cannot be read.
        """
        row = self.patients.set_index("study_id").loc[study_id]
        volume, truth = evaluation.read_annotated(row, series, REGIONS, self.read_labels)
        network = self.networks[row["fold"]]
        return evaluation.segment_plane(network, volume, truth, plane, self.reading)

    def cases(self, by_patient: pd.DataFrame) -> list[tuple[Picture, np.ndarray]]:
        """Return the best, the median and the worst patient, each at its slice with most tumour.

        Args:
            by_patient: patient_id, region, dice.

        Returns:
            Pictures with the truth, and predictions (2, H, W), in the first contrast that can be
            read.
        """
        whole = by_patient[by_patient["region"] == "WT"].reset_index(drop=True)
        found = []
        for place, k in best_median_worst(whole["dice"]).items():
            patient, dice = whole.loc[k, ["patient_id", "dice"]]
            own = self.patients[self.patients["patient_id"] == patient].to_dict("records")
            for study, series in (
                (row["study_id"], name)
                for row in own
                for name in CONTRASTS
                if isinstance(row.get(name), str)
            ):
                try:
                    cut = self.cut(study, series, "axial")
                except VolumeError:
                    continue
                title = f"{place}, Dice {dice:.2f}\n{study} {series}, "
                found.append(cut.largest(tuple(REGIONS), title))
                break
        return found

    def weakest(
        self, dice: pd.DataFrame, planes: Sequence[str]
    ) -> tuple[str, str, list[evaluation.PlaneCut]]:
        """Return the study with the lowest Dice of those that can still be read.

        Args:
            dice: from `score`.
            planes: to cut in.

        Returns:
            The study, its contrast with the lowest Dice, and that in each plane; nothing if there
            is none.
        """
        whole = dice[dice["region"] == "WT"].groupby(["study_id", "series"])["dice"].mean()
        for study in whole.groupby("study_id").mean().sort_values(kind="stable").index:
            for series in whole[study].sort_values(kind="stable").index:
                try:
                    return study, series, [self.cut(study, series, plane) for plane in planes]
                except VolumeError:
                    continue
        return "", "", []

    def browsed(self, dice: pd.DataFrame) -> pd.DataFrame:
        """Return a row for each contrast of each study that was scored, for the viewer.

        Args:
            dice: from `score`.

        Returns:
            patient_id (here the study), fold, labels, series, path.
        """
        own = self.patients[self.patients["patient_id"].isin(dice["patient_id"])]
        own = own.assign(patient_id=own["study_id"])
        names = [name for name in CONTRASTS if name in own]
        return own.melt(["patient_id", "fold", "labels"], names, "series", "path").dropna()

    def truth(self, row: Any, volume: Volume) -> np.ndarray | None:
        """Return the true regions (2, D, H, W) of a row with labels, for the viewer."""
        return region_masks(volume, self.read_labels(row.labels), REGIONS)

    def prediction(self, row: Any, volume: Volume) -> np.ndarray:
        """Return the predicted regions (2, D, H, W) of a row with fold, for the viewer."""
        network = self.networks[row.fold]
        image = window_to_uint8(volume.array, network.recipe.percentiles)
        return segment_slices(network, image, self.reading)
