"""Classifiers of several contrasts and folds on the patients that each of them held out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from t4e_utils.competitions.brain_tumor.classifier import MADE_BY, predict_held_out
from t4e_utils.competitions.brain_tumor.data import REGIONS
from t4e_utils.learning.devices import slices_per_pass
from t4e_utils.learning.networks import SequenceClassifier, load_network
from t4e_utils.prediction.influence import occlusion_influence
from t4e_utils.prediction.out_of_fold import most_confident
from t4e_utils.prediction.sequences import SequenceReading
from t4e_utils.sampling.pictures import Picture, picture_of
from t4e_utils.tables.folds import assert_disjoint
from t4e_utils.tables.provenance import MADE_FROM, content_of, read_current
from t4e_utils.tables.store import write_table

Key = tuple[str, int]  # contrast and fold
Influence = tuple[str, list[Picture], np.ndarray, list[int]]


@dataclass(frozen=True)
class Classified:
    """Held-out patients, each by the classifiers that did not learn from them."""

    run: Path  # folder of the run
    cards: Mapping[Key, Mapping[str, Any]]
    networks: Mapping[Key, SequenceClassifier]
    reading: SequenceReading
    seed: int  # of shuffled orders

    @classmethod
    def load(
        cls,
        run: Path,
        cards: Mapping[Key, Mapping[str, Any]],
        device: Any,
        *,
        views: Sequence[str],
        stride: int,
        seed: int,
    ) -> Classified:
        """Load the classifiers that the cards name."""
        networks = {
            key: load_network(run / card["weights"], device=device) for key, card in cards.items()
        }
        reading = SequenceReading(stride, tuple(views), slices_per_pass(device))
        return cls(run, cards, networks, reading, seed)

    def predict(self, slices: pd.DataFrame) -> pd.DataFrame:
        """Predict the held-out patients from their stored slices; what is finished is read.

        Args:
            slices: kept slices: patient_id, series, position, path.

        Returns:
            patient_id, chunk, probability, series, fold.

        Raises:
            LeakError: a patient trained the classifier that predicts it.
        """
        tables = []
        for (series, fold), card in self.cards.items():
            path = self.run / "cls" / "oof" / f"{series}_fold{fold}.parquet"
            views, control = list(self.reading.views), card["control"]
            made = {"weights": card["weights"], "views": views, "control": control}
            made[MADE_FROM] = {"the weights": content_of(self.run / card["weights"])}
            found = read_current(path, made)
            if found is None:
                if card["select_on"] != "outer":
                    assert_disjoint(card["trained_on"], card["held_out"], what="the scoring")
                own = slices[slices["series"] == series]
                found = predict_held_out(
                    self.networks[series, fold],
                    own,
                    card["held_out"],
                    self.reading,
                    root=self.run,
                    control=control,
                    seed=self.seed,
                )
                found = found.assign(series=series, fold=fold)
                write_table(found, path, provenance=made)
            tables.append(found)
        return pd.concat(tables, ignore_index=True)

    def influences(self, table: pd.DataFrame, slices: pd.DataFrame) -> Iterator[Influence]:
        """Yield what drives the predictions that are right, and wrong, by the widest margin.

        Args:
            table: from `out_of_fold_table`.
            slices: kept slices.

        Yields:
            Title, pictures of the series, influence of each, and their numbers in the series.
        """
        contrasts = list(dict.fromkeys(series for series, _ in self.cards))
        for kind, case in most_confident(table, series=contrasts).items():
            is_own = slices["patient_id"].eq(case["patient_id"]) & slices["series"].eq(
                case["series"]
            )
            own = slices[is_own].sort_values("position")
            look = {"names": ("image", *REGIONS), "made_by": MADE_BY}
            pictures = [picture_of(row, self.run, **look) for row in own.to_dict("records")]
            network = self.networks[case["series"], case["fold"]]
            channels = [picture.channels for picture in pictures]
            influence = occlusion_influence(network, channels, self.reading)
            title = (
                f"Confident and {kind}: patient {case['patient_id']} · {case['series']} · label "
                f"{case['label']} · predicted {case['probability']:.2f}"
            )
            yield title, pictures, influence, own["slice"].tolist()
