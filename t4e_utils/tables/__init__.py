"""Patients, series and results as tables; parameters, folds, the run folder, the submission."""

from t4e_utils import T4EError


class CatalogError(T4EError):
    """A data set or one of its tables cannot be used."""
