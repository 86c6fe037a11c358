"""From trained networks to answers: views, masks, sequences, streams, folds, ensembles."""

from t4e_utils import T4EError


class PredictionError(T4EError):
    """Predictions cannot be made or put together as wanted."""
