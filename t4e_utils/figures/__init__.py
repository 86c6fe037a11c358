"""Every picture of the notebooks and the report.

A picture takes its data first and options by keyword, never changes its data, and returns a
matplotlib Figure that pyplot does not know: it is shown once as the last expression of a cell. What
one axes can hold can be drawn into `axes`. Missing data give a picture with a sentence. The
pictures are grouped by what they show: `scans`, `cohort`, `selection`, `training`, `results`,
`outcome`, `pipeline`.
"""

from t4e_utils.figures.cohort import (
    counts,
    folds,
    label_balance,
    patient_overlap,
    series_overview,
    tumour_sizes,
)
from t4e_utils.figures.outcome import (
    duration,
    fallback_list,
    funnel,
    patient_story,
    prediction_shift,
    slice_influence,
    stage_times,
)
from t4e_utils.figures.pipeline import classifier_drawing, pipeline_drawing
from t4e_utils.figures.results import (
    calibration,
    chance_auc,
    chunk_spread,
    probabilities_by_class,
    roc,
    series_agreement,
)
from t4e_utils.figures.scans import (
    intensity_densities,
    labels_and_regions,
    patient_grid,
    patient_overview,
    predicted_planes,
    series_strip,
)
from t4e_utils.figures.selection import (
    area_profile,
    chunk_windows,
    film_strip,
    kept_and_dropped,
    slice_channels,
    slices_kept,
)
from t4e_utils.figures.slices import Cut, busiest_slice, cut, draw_slice
from t4e_utils.figures.style import (
    CLASS_COLOURS,
    REGION_COLOURS,
    SERIES_COLOURS,
    FigureError,
    Picture,
    sentence,
)
from t4e_utils.figures.training import (
    batch_grid,
    best_median_worst,
    dice_distribution,
    threshold_sweep,
    training_curves,
    triptychs,
)

__all__ = [
    "CLASS_COLOURS",
    "REGION_COLOURS",
    "SERIES_COLOURS",
    "Cut",
    "FigureError",
    "Picture",
    "area_profile",
    "batch_grid",
    "best_median_worst",
    "busiest_slice",
    "calibration",
    "chance_auc",
    "chunk_spread",
    "chunk_windows",
    "classifier_drawing",
    "counts",
    "cut",
    "dice_distribution",
    "draw_slice",
    "duration",
    "fallback_list",
    "film_strip",
    "folds",
    "funnel",
    "intensity_densities",
    "kept_and_dropped",
    "label_balance",
    "labels_and_regions",
    "patient_grid",
    "patient_overlap",
    "patient_overview",
    "patient_story",
    "pipeline_drawing",
    "predicted_planes",
    "prediction_shift",
    "probabilities_by_class",
    "roc",
    "sentence",
    "series_agreement",
    "series_overview",
    "series_strip",
    "slice_channels",
    "slice_influence",
    "slices_kept",
    "stage_times",
    "threshold_sweep",
    "training_curves",
    "triptychs",
    "tumour_sizes",
]
