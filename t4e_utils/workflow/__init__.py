"""Running the notebooks, and what comes of it: plan, report, gallery, Kaggle bundle, download."""

from t4e_utils import T4EError


class PipelineError(T4EError):
    """Notebooks cannot be run, shown or handed in as they are."""
