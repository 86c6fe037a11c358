"""Networks and their training: recipes, weights, data sets, one loop, cards."""

from t4e_utils import T4EError


class ModelError(T4EError):
    """A network or its weights are not what was wanted."""


class TrainingError(T4EError):
    """A training cannot start or go on."""
