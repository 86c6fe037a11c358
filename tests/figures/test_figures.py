"""What holds for every picture.

A Figure that pyplot does not know, in the package's style, from data that stay as they were.
"""

import io
import warnings
from inspect import isfunction, signature
from pathlib import Path
from types import SimpleNamespace

import joblib
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from t4e_utils.annotations.regions import measure_slices
from t4e_utils.competitions.brain_tumor import drawings
from t4e_utils.figures import cohort, outcome, overlap, ranking, scans, selection, style, training
from t4e_utils.scans import geometry
from t4e_utils.scans.volume import Volume

SERIES = ("FLAIR", "T1w", "T1wCE", "T2w")
REGIONS = {"WT": (1, 2, 4), "ET": (4,)}
RANDOM = np.random.default_rng(0)


def some_volume(shape=(8, 20, 16), spacing=(3.0, 1.0, 1.0)):
    array = np.zeros(shape, np.int16)
    array[1:-1, 3:-3, 2:-2] = RANDOM.integers(50, 900, (shape[0] - 2, shape[1] - 6, shape[2] - 4))
    return Volume(array, spacing, geometry.display_affine("axial", spacing))


def some_labels():
    labels = np.zeros((8, 20, 16), np.uint8)
    labels[2:6, 6:12, 5:11] = 2
    labels[3:5, 8:10, 7:9] = 4
    return labels


VOLUME, LABELS = some_volume(), some_labels()
MASKS = np.stack([LABELS > 0, LABELS == 4])
IMAGES = np.clip(VOLUME.array // 4, 0, 255).astype(np.uint8)
STORED = np.stack([IMAGES, *(MASKS.astype(np.uint8) * 255)], axis=-1)
MEASURES = measure_slices(IMAGES, MASKS)
LABEL = np.arange(20) % 2
PROBABILITY = np.clip(0.3 + 0.3 * LABEL + RANDOM.normal(0, 0.2, 20), 0, 1)
PATIENTS = pd.DataFrame(
    {"patient_id": [f"{i:05d}" for i in range(20)], "label": LABEL, "fold": np.arange(20) % 5}
)
INVENTORY = pd.DataFrame(
    [
        {
            "patient_id": f"{i:05d}",
            "series": s,
            "n_slices": 20 + i,
            "plane": "axial",
            "rows": 256,
            "columns": 256 + i,
            "spacing_slice_mm": 5.0,
            "spacing_row_mm": 0.9,
            "transfer_syntax": "Explicit VR Little Endian",
        }
        for i in range(9)
        for s in SERIES
    ]
)
HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3, 4],
        "phase": ["warm-up", "warm-up", "all", "all"],
        "lr": 1e-4,
        "train_loss": [0.9, 0.6, 0.4, 0.3],
        "valid_loss": [0.95, 0.7, 0.5, 0.6],
        "dice_wt": [0.1, 0.5, 0.7, 0.8],
        "score": [0.1, 0.4, 0.7, 0.6],
    }
)
DICE = pd.DataFrame(
    [
        {
            "patient_id": str(i),
            "series": s,
            "plane": plane,
            "region": r,
            "dice": 0.9 - 0.02 * i,
            "truth_ml": 10.0 * i,
        }
        for i in range(5)
        for s in SERIES
        for plane in geometry.PLANES
        for r in REGIONS
    ]
)
SWEEP = pd.DataFrame(
    {
        "threshold": [0.2, 0.5, 0.8] * 2,
        "region": ["WT"] * 3 + ["ET"] * 3,
        "dice": [0.7, 0.9, 0.8, 0.5, 0.6, 0.65],
    }
)
CHUNKS = pd.DataFrame(
    {
        "patient_id": list("aabbb"),
        "probability": [0.2, 0.4, 0.6, 0.7, 0.9],
        "label": [0, 0, 1, 1, 1],
    }
)
WIDE = pd.DataFrame({s: np.roll(PROBABILITY, k) for k, s in enumerate(SERIES)} | {"label": LABEL})
KEPT = pd.DataFrame(
    {"patient_id": ["a", "a", "b"], "plane": "axial", "series": ["FLAIR", "T2w", "FLAIR"]}
)
PLANE_CUT = SimpleNamespace(image=IMAGES, truth=MASKS, predicted=MASKS, affine=VOLUME.affine)

EXAMPLES = {
    "area_profile": (
        (MEASURES,),
        {"threshold": 0.01, "kept": MEASURES["wt_area"] > 0, "max_components": 0},
    ),
    "batch_grid": ((IMAGES[:, None], MASKS.swapaxes(0, 1)), {"names": list("abcdefgh")}),
    "calibration": ((LABEL, PROBABILITY), {}),
    "chance_auc": ((), {"n_draws": 200, "observed": {"here": 0.6}}),
    "chunk_spread": ((CHUNKS,), {}),
    "chunk_windows": (([(0, 35), (5, 36)], 36), {}),
    "classifier_drawing": ((), {}),
    "counts": ((["late", "late", "early"],), {}),
    "dice_distribution": ((DICE,), {}),
    "film_strip": ((STORED,), {"positions": [1, 2, 3]}),
    "folds": ((PATIENTS,), {}),
    "funnel": (({"patients": 9, "predicted": 7},), {}),
    "intensity_densities": (({"FLAIR": [VOLUME, VOLUME]},), {}),
    "kept_and_dropped": (
        (IMAGES, MASKS, MEASURES, MEASURES["wt_area"] > 0),
        {"plane": "axial", "reasons": ["far"] * 8},
    ),
    "label_balance": ((PATIENTS,), {}),
    "labels_and_regions": ((VOLUME, LABELS), {"regions": REGIONS}),
    "patient_grid": (({"a": VOLUME, "b": VOLUME},), {"labels": {"a": LABELS}, "regions": REGIONS}),
    "patient_overlap": ((["a", "b"], ["b", "c"]), {}),
    "patient_overview": ((dict.fromkeys(SERIES, VOLUME),), {"labels": LABELS, "regions": REGIONS}),
    "patient_story": (
        ({"FLAIR": STORED, "T2w": STORED[:0]}, {"FLAIR": 0.7}),
        {"n_slices": {"FLAIR": 9, "T2w": 9}},
    ),
    "pipeline_drawing": ((), {}),
    "predicted_planes": (([PLANE_CUT, PLANE_CUT],), {}),
    "prediction_shift": ((PROBABILITY, PROBABILITY[:5]), {}),
    "probabilities_by_class": ((LABEL, {"FLAIR": PROBABILITY, "mean": PROBABILITY}), {}),
    "roc": ((LABEL, {"FLAIR": PROBABILITY, "mean": PROBABILITY}), {"n_bootstrap": 20}),
    "sentence": (("Nothing to see.",), {}),
    "series_agreement": ((WIDE,), {"series": SERIES}),
    "series_overview": ((INVENTORY,), {}),
    "series_strip": ((VOLUME,), {"masks": MASKS}),
    "slice_channels": ((STORED[3],), {"plane": "axial"}),
    "slice_influence": ((STORED, np.linspace(-1, 1, 8)), {}),
    "slices_kept": ((KEPT,), {}),
    "stage_times": (({"01": 3.0, "02": 80.0},), {}),
    "threshold_sweep": ((SWEEP,), {}),
    "training_curves": ((HISTORY,), {}),
    "triptychs": (
        (IMAGES[3:5], MASKS[:, 3:5].swapaxes(0, 1), MASKS[:, 3:5].swapaxes(0, 1)),
        {"planes": ["axial"] * 2},
    ),
    "tumour_sizes": ((pd.DataFrame({"wt_ml": [30.0, 60.0], "et_ml": [10.0, 15.0]}),), {}),
}

EMPTY = {
    "area_profile": ((MEASURES[:0],), {"threshold": 0.01}, "no slice was measured"),
    "batch_grid": ((IMAGES[:0],), {}, "empty"),
    "calibration": (([np.nan], [0.5]), {}, "No patient"),
    "chance_auc": ((1,), {}, "both classes"),
    "chunk_spread": ((CHUNKS[:0],), {}, "No chunk"),
    "chunk_windows": (([], 0), {}, "no slice was kept"),
    "counts": (([],), {"nothing": "No problem was found."}, "No problem was found"),
    "dice_distribution": ((DICE[:0],), {}, "No patient"),
    "film_strip": ((STORED[:0],), {}, "empty"),
    "folds": ((PATIENTS[:0],), {}, "No patient"),
    "funnel": (({"patients": 0},), {}, "No patient"),
    "intensity_densities": (({"FLAIR": []},), {}, "No volume"),
    "kept_and_dropped": ((IMAGES[:0], MASKS[:, :0], MEASURES[:0], []), {}, "no slice"),
    "label_balance": ((PATIENTS[:0],), {}, "No patient"),
    "labels_and_regions": ((VOLUME, LABELS[:2]), {"regions": REGIONS}, "no label map"),
    "patient_grid": (({},), {"regions": REGIONS}, "No patient"),
    "patient_overlap": (([], []), {}, "Neither"),
    "patient_overview": (({},), {"regions": REGIONS, "patient_id": "00006"}, "00006"),
    "patient_story": (({}, {}), {}, "no series was read"),
    "predicted_planes": (([],), {}, "no plane"),
    "prediction_shift": (([], [np.nan]), {}, "No patient"),
    "probabilities_by_class": (([], []), {}, "No patient"),
    "roc": (([1, 1], [0.2, 0.3]), {}, "both classes"),
    "series_agreement": ((WIDE[:0],), {"series": SERIES}, "No patient"),
    "series_overview": ((INVENTORY[:0],), {}, "No series"),
    "series_strip": ((SimpleNamespace(array=IMAGES[:0]),), {}, "no slice"),
    "slice_influence": ((STORED[:0], []), {}, "no slice"),
    "slices_kept": ((KEPT[:0],), {}, "No slice was kept"),
    "stage_times": (({},), {}, "No stage"),
    "threshold_sweep": ((SWEEP[:0],), {}, "No threshold"),
    "training_curves": ((HISTORY[:0],), {}, "No epoch"),
    "triptychs": (([], [], []), {}, "no case"),
    "tumour_sizes": ((pd.DataFrame({"wt_ml": [], "et_ml": []}),), {}, "No tumour"),
}

PICTURES = {
    name: function
    for module in (cohort, outcome, overlap, drawings, ranking, scans, selection, style, training)
    for name, function in vars(module).items()
    if getattr(function, "__module__", "") == module.__name__
    and isfunction(function)
    and not name.startswith("_")
    and signature(function).return_annotation == "Figure"
}
WITH_AXES = [name for name in EXAMPLES if "axes" in signature(PICTURES[name]).parameters]


def texts(figure):
    return " ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def test_every_picture_has_an_example_here():
    assert set(PICTURES) == set(EXAMPLES)


def test_every_picture_stands_in_a_notebook_or_in_the_readme():
    notebooks = "".join(
        path.read_text(encoding="utf-8")
        for path in (Path(__file__).parents[2] / "notebooks").glob("*.ipynb")
    )
    unused = {name for name in EXAMPLES if f".{name}(" not in notebooks}
    # in the README; in the place of a picture without data
    assert unused == {"pipeline_drawing", "sentence"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_picture_is_a_figure_of_its_own_and_leaves_data_and_settings_alone(name):
    arguments, options = EXAMPLES[name]
    settings, data, opened = (
        dict(matplotlib.rcParams),
        joblib.hash((arguments, options)),
        plt.get_fignums(),
    )
    figure = PICTURES[name](*arguments, **options)
    figure.draw_without_rendering()
    assert isinstance(figure, Figure)
    assert figure.axes
    assert max(figure.get_size_inches()) <= 12
    assert dict(matplotlib.rcParams) == settings
    assert joblib.hash((arguments, options)) == data
    assert plt.get_fignums() == opened


@pytest.mark.parametrize("name", WITH_AXES)
def test_a_picture_is_drawn_into_the_axes_it_is_given(name):
    arguments, options = EXAMPLES[name]
    axes = Figure().add_subplot()
    assert PICTURES[name](*arguments, **options, axes=axes) is axes.figure
    assert axes.get_children()


@pytest.mark.parametrize("name", EMPTY)
def test_without_data_a_picture_says_so_in_a_sentence(name):
    arguments, options, said = EMPTY[name]
    figure = PICTURES[name](*arguments, **options)
    figure.draw_without_rendering()
    assert said in texts(figure)


def test_a_missing_column_stops_with_its_name():
    with pytest.raises(
        style.FigureError, match=r"no column 'plane'; it has 'patient_id'.*Pass a table"
    ):
        cohort.series_overview(INVENTORY.drop(columns="plane"))


def test_pictures_close_nothing_that_others_opened():
    opened = plt.figure()
    outcome.stage_times({"01": 1.0})
    assert plt.fignum_exists(opened.number)
    plt.close(opened)


def test_ticks_that_are_made_late_are_in_style_too():
    with matplotlib.rc_context({"xtick.labelsize": 30}):
        figure = cohort.label_balance(PATIENTS)
        figure.draw_without_rendering()
    assert {label.get_fontsize() for label in figure.axes[0].get_xticklabels()} == {
        style.STYLE["xtick.labelsize"]
    }


def test_jupyter_gets_a_small_png_with_the_colours_of_the_picture():
    figure = scans.predicted_planes([PLANE_CUT])
    full = io.BytesIO()
    figure.savefig(full, dpi=100)
    shown = figure._repr_png_()
    assert len(shown) < 0.7 * len(full.getvalue())
    before = np.asarray(Image.open(full).convert("RGB"), dtype=int)
    after = np.asarray(Image.open(io.BytesIO(shown)).convert("RGB"), dtype=int)
    assert before.shape == after.shape
    difference = np.abs(before - after).max(axis=-1)
    assert difference.mean() < 1
    assert difference[np.ptp(before, axis=-1) > 40].mean() < 3  # what is coloured


def test_a_picture_of_two_colours_keeps_them():
    palette = style._palette(np.array([[0, 0, 0], [230, 159, 0]], np.uint8), np.array([9, 1]))
    assert [230, 159, 0] in palette.tolist()
    assert len(palette) <= 256


def test_dots_draw_finite_values_median_and_middle_half():
    axes = Figure().add_subplot()
    style.dots(axes, [1.0, 2.0, 3.0, np.nan, 10.0], 5, colour="red")
    drawn = axes.collections[0].get_offsets()
    assert sorted(drawn[:, 1]) == [1, 2, 3, 10]
    assert (np.abs(drawn[:, 0] - 5) <= 0.16).all()
    assert axes.lines[0].get_ydata().tolist() == [1.75, 4.75]
    assert axes.lines[1].get_ydata().tolist() == [2.5, 2.5]


def test_a_group_without_values_draws_nothing():
    axes = Figure().add_subplot()
    style.dots(axes, [np.nan], 0, colour="red")
    assert not axes.collections
    assert not axes.lines


def test_known_names_keep_their_colours_and_others_differ():
    colours = style.colours_of(["kidney", "ET", "cyst"])
    assert colours["ET"] == style.REGION_COLOURS["ET"]
    assert len(set(colours.values())) == 3


def test_the_drawings_are_written_by_the_command(tmp_path, capsys):
    from t4e_utils.competitions.brain_tumor.drawings import main

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        main(str(tmp_path / "drawn"))
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == [
        "classifier.png",
        "pipeline.png",
    ]
    assert "pipeline.png" in capsys.readouterr().out
