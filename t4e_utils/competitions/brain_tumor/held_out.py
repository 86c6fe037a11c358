"""Segmenters of several folds on the patients that each of them held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from t4e_utils.annotations.regions import regions_from_labels
from t4e_utils.competitions.brain_tumor.data import CONTRASTS, REGIONS
from t4e_utils.competitions.brain_tumor.segmenter import picture_input
from t4e_utils.learning.devices import slices_per_pass
from t4e_utils.learning.networks import load_network
from t4e_utils.metrics.intervals import best_median_worst
from t4e_utils.prediction import evaluation
from t4e_utils.prediction.masks import MaskReading, segment_slices
from t4e_utils.sampling.pictures import Picture
from t4e_utils.scans.intensity import window_to_uint8
from t4e_utils.scans.nifti import read_nifti
from t4e_utils.scans.problems import Problem, VolumeError
from t4e_utils.scans.volume import Volume
from t4e_utils.tables.folds import assert_disjoint
from t4e_utils.tables.provenance import MADE_FROM, content_of, read_current, state_of
from t4e_utils.tables.store import write_table


@dataclass(frozen=True)
class HeldOut:
    """Patients with expert segmentations, each by the segmenter that did not learn from them."""

    run: Path  # folder of the run
    patients: pd.DataFrame  # patient_id, fold, labels and a column of paths for each contrast
    cards: Mapping[int, Mapping[str, Any]]  # of each fold
    networks: Mapping[int, nn.Module]
    reading: MaskReading

    @classmethod
    def load(
        cls, run: Path, patients: pd.DataFrame, cards: Mapping[int, Mapping[str, Any]], device: Any
    ) -> HeldOut:
        """Load the segmenters that the cards name."""
        networks = {
            fold: load_network(run / card["weights"], device=device) for fold, card in cards.items()
        }
        return cls(run, patients, cards, networks, MaskReading(batch_size=slices_per_pass(device)))

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
            own = self.patients[self.patients["fold"] == fold]
            own = own.head(most or len(own))
            made = {"weights": card["weights"], **how, MADE_FROM: self._sources(own, card)}
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

    def cut(self, patient_id: str, series: str, plane: str) -> evaluation.PlaneCut:
        """Segment a contrast of a patient in a plane.

        Raises:
            VolumeError: it cannot be read.
        """
        row = self.patients.set_index("patient_id").loc[patient_id]
        volume, truth = evaluation.read_annotated(row, series, REGIONS)
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
            own = self.patients.set_index("patient_id").loc[patient]
            for series in (name for name in CONTRASTS if isinstance(own.get(name), str)):
                try:
                    cut = self.cut(patient, series, "axial")
                except VolumeError:
                    continue
                title = f"{place}, Dice {dice:.2f}\n{patient} {series}, "
                found.append(cut.largest(tuple(REGIONS), title))
                break
        return found

    def truth(self, row: Any, volume: Volume) -> np.ndarray:
        """Return the true regions (2, D, H, W) of a row with labels, for the viewer."""
        return regions_from_labels(read_nifti(row.labels, labels=True).array, REGIONS)

    def prediction(self, row: Any, volume: Volume) -> np.ndarray:
        """Return the predicted regions (2, D, H, W) of a row with fold, for the viewer."""
        network = self.networks[row.fold]
        image = window_to_uint8(volume.array, network.recipe.percentiles)
        return segment_slices(network, image, self.reading)
