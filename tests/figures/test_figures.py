"""What holds for every picture: a Figure in the package's style, from data that stay as they were.

Every picture takes colours, names and words from the palette.
"""

import importlib
import pkgutil
import re
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
from matplotlib.colors import to_hex, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

import t4e_utils.figures
from t4e_utils.annotations.regions import measure_slices
from t4e_utils.competitions.brain_tumor import drawings
from t4e_utils.competitions.brain_tumor.classifier import ClassifierSettings
from t4e_utils.competitions.brain_tumor.data import LABEL_NAMES, REGIONS
from t4e_utils.figures import cohort, outcome, style
from t4e_utils.figures.palette import FigureError, Palette
from t4e_utils.sampling.pictures import Picture
from t4e_utils.scans import geometry
from t4e_utils.scans.volume import Volume

CLASSIFIER = ClassifierSettings(backbone="test_nfnet")
SERIES = ("FLAIR", "T1w", "T1wCE", "T2w")
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
NAMES = ("image", *REGIONS)
PICTURES_OF_A_SERIES = [Picture(each, NAMES) for each in STORED]
AXIAL = [Picture(each, NAMES, plane="axial") for each in STORED]
MEASURES = measure_slices(IMAGES, MASKS, regions=tuple(REGIONS), foreground="brain")
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
STORY = pd.DataFrame({"patient_id": "00006", "series": ["FLAIR", "T2w"]}).assign(
    probability=[0.7, np.nan], n_slices=9
)
IS_KEPT = MEASURES["wt_area"] > 0
FRAMES = ["slice 1", "slice 2", "slice 3"] + ["zero"] * 5
VESSELS = [Picture(each[..., :2], ("image", "vessel")) for each in STORED]
VESSEL_MEASURES = measure_slices(IMAGES, MASKS[:1], regions=("vessel",), foreground="foreground")
VESSEL_MEASURES = VESSEL_MEASURES.assign(is_kept=IS_KEPT)
LOOK = {"percentiles": (0.5, 99.5)}


def titled(pictures, titles):
    """The same pictures with titles."""
    return [
        Picture(p.channels, p.names, p.spacing_mm, p.plane, title)
        for p, title in zip(pictures, titles, strict=True)
    ]


EXAMPLES = {
    "area_profile": ((MEASURES,), {"threshold": 0.01, "kept": IS_KEPT, "max_components": 0}),
    "batch_grid": ((titled(PICTURES_OF_A_SERIES, "abcdefgh"),), {}),
    "calibration": ((LABEL, PROBABILITY), {}),
    "chance_auc": ((87,), {"positive_share": 306 / 582, "observed": {"here": 0.6}}),
    "chunk_spread": ((CHUNKS,), {}),
    "chunk_windows": (([(0, 35), (5, 36)], 36), {"length": 35}),
    "classifier_drawing": ((CLASSIFIER.recipe((0.5, 99.5), "fp32"),), {}),
    "counts": ((["late", "late", "early"],), {}),
    "dice_distribution": ((DICE,), {}),
    "film_strip": ((titled(PICTURES_OF_A_SERIES, FRAMES),), {}),
    "folds": ((PATIENTS,), {}),
    "funnel": (({"patients": 9, "predicted": 7},), {}),
    "intensity_densities": (({"FLAIR": [VOLUME, VOLUME]},), LOOK),
    "kept_and_dropped": ((AXIAL, MEASURES, IS_KEPT), {"reasons": ["far"] * 8}),
    "label_balance": ((PATIENTS,), {}),
    "labels_and_regions": (
        (VOLUME, LABELS),
        {"regions": REGIONS, "label_names": LABEL_NAMES, **LOOK},
    ),
    "patient_grid": (
        ({"a": VOLUME, "b": VOLUME},),
        {"labels": {"a": LABELS}, "regions": REGIONS, **LOOK},
    ),
    "patient_overlap": ((["a", "b"], ["b", "c"]), {}),
    "patient_overview": (
        (dict.fromkeys(SERIES, VOLUME),),
        {"labels": LABELS, "regions": REGIONS, **LOOK},
    ),
    "patient_story": (({"FLAIR": PICTURES_OF_A_SERIES, "T2w": []}, STORY), {}),
    "pipeline_drawing": ((), {}),
    "predicted_planes": (([PLANE_CUT, PLANE_CUT],), {}),
    "prediction_shift": ((PROBABILITY, PROBABILITY[:5]), {}),
    "probabilities_by_class": ((LABEL, {"FLAIR": PROBABILITY, "mean": PROBABILITY}), {}),
    "region_sizes": ((pd.DataFrame({"wt_ml": [30.0, 60.0], "et_ml": [10.0, 15.0]}),), {}),
    "roc": ((LABEL, {"FLAIR": PROBABILITY, "mean": PROBABILITY}), {}),
    "sentence": (("Nothing to see.",), {}),
    "series_agreement": ((WIDE,), {"series": SERIES}),
    "series_overview": ((INVENTORY,), {}),
    "series_strip": ((VOLUME,), {"masks": MASKS, **LOOK}),
    "slice_channels": ((AXIAL[3],), {}),
    "slice_influence": ((PICTURES_OF_A_SERIES, np.linspace(-1, 1, 8)), {}),
    "slices_kept": ((KEPT,), {}),
    "stage_times": (({"01": 3.0, "02": 80.0},), {}),
    "threshold_sweep": ((SWEEP,), {"chosen": 0.5}),
    "training_curves": ((HISTORY,), {}),
    "triptychs": (([(picture, picture.masks) for picture in AXIAL[3:5]],), {}),
}

EMPTY = {
    "area_profile": ((MEASURES[:0],), {"threshold": 0.01}, "no slice was measured"),
    "batch_grid": (([],), {}, "empty"),
    "calibration": (([np.nan], [0.5]), {}, "No patient"),
    "chance_auc": ((1,), {"positive_share": 0.5}, "both classes"),
    "chunk_spread": ((CHUNKS[:0],), {}, "No chunk"),
    "chunk_windows": (([], 0), {"length": 35}, "no slice was kept"),
    "counts": (([],), {"nothing": "No problem was found."}, "No problem was found"),
    "dice_distribution": ((DICE[:0],), {}, "No patient"),
    "film_strip": (([],), {}, "empty"),
    "folds": ((PATIENTS[:0],), {}, "No patient"),
    "funnel": (({"patients": 0},), {}, "No patient"),
    "intensity_densities": (({"FLAIR": []},), LOOK, "No volume"),
    "kept_and_dropped": (([], MEASURES[:0], []), {}, "no slice"),
    "label_balance": ((PATIENTS[:0],), {}, "No patient"),
    "labels_and_regions": (
        (VOLUME, LABELS[:2]),
        {"regions": REGIONS, "label_names": LABEL_NAMES, **LOOK},
        "no label map",
    ),
    "patient_grid": (({},), {"regions": REGIONS, **LOOK}, "No patient"),
    "patient_overlap": (([], []), {}, "Neither"),
    "patient_overview": (({},), {"regions": REGIONS, "patient_id": "00006", **LOOK}, "00006"),
    "patient_story": (({}, STORY[:0]), {}, "no series was read"),
    "predicted_planes": (([],), {}, "no plane"),
    "prediction_shift": (([], [np.nan]), {}, "No patient"),
    "probabilities_by_class": (([], []), {}, "No patient"),
    "region_sizes": ((pd.DataFrame({"wt_ml": [], "et_ml": []}),), {}, "No tumour"),
    "roc": (([1, 1], [0.2, 0.3]), {}, "both classes"),
    "series_agreement": ((WIDE[:0],), {"series": SERIES}, "No patient"),
    "series_overview": ((INVENTORY[:0],), {}, "No series"),
    "series_strip": ((SimpleNamespace(array=IMAGES[:0]),), LOOK, "no slice"),
    "slice_influence": (([], []), {}, "no slice"),
    "slices_kept": ((KEPT[:0],), {}, "No slice was kept"),
    "stage_times": (({},), {}, "No stage"),
    "threshold_sweep": ((SWEEP[:0],), {"chosen": 0.5}, "No threshold"),
    "training_curves": ((HISTORY[:0],), {}, "No epoch"),
    "triptychs": (([],), {}, "no case"),
}

MODULES = [
    importlib.import_module(f"t4e_utils.figures.{module.name}")
    for module in pkgutil.iter_modules(t4e_utils.figures.__path__)
]
PICTURES = {
    name: function
    for module in (*MODULES, drawings)
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
        for path in (Path(__file__).parents[2] / "notebooks").rglob("*.ipynb")
    )
    unused = {name for name in EXAMPLES if f"{name}(" not in notebooks}
    # in the README; in the place of a picture without data
    assert unused == {"pipeline_drawing", "sentence"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_picture_is_a_figure_of_its_own_and_leaves_data_and_settings_alone(name):
    arguments, options = EXAMPLES[name]
    settings, opened = dict(matplotlib.rcParams), plt.get_fignums()
    data = joblib.hash((arguments, options))
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
    with pytest.raises(FigureError, match=r"no column 'plane'; it has 'patient_id'.*Pass a table"):
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


def test_the_drawings_are_written_by_the_command(tmp_path, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawings.main(str(tmp_path / "drawn"))
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == [
        "classifier.png",
        "pipeline.png",
    ]
    assert "pipeline.png" in capsys.readouterr().out


FACTS = re.compile(r"\b(WT|ET)\b|brain|tumour|methyl|necrotic|oedema", re.IGNORECASE)
OTHERS = Palette(
    colours={"WT": "#010203", "ET": "#040506", "FLAIR": "#070809", "T2w": "#0A0B0C"}
    | {"oedema": "#0D0E0F", "mean": "#101112"},
    regions=("WT", "ET"),
    classes={0: "well", 1: "ill"},
    class_colours={0: "#131415", 1: "#161718"},
    outcome="illness",
    foreground="brain",
    finding="lesion",
)
# what a picture holds of the other palette: a region, a series, a class, a label or a word
TAKEN = {
    "area_profile": ["#010203", "#040506", "lesions"],
    "batch_grid": ["#010203", "#040506"],
    "calibration": ["share that is ill"],
    "chunk_spread": ["#131415", "#161718", "well", "ill"],
    "dice_distribution": ["#010203", "#040506"],
    "film_strip": ["#010203"],
    "folds": ["#131415", "#161718", "well"],
    "intensity_densities": ["#070809"],
    "kept_and_dropped": ["#010203"],
    "label_balance": ["#131415", "ill"],
    "labels_and_regions": ["#010203", "#0d0e0f"],
    "patient_grid": ["#010203"],
    "patient_overview": ["#010203"],
    "patient_story": ["#010203", "#070809"],
    "predicted_planes": ["#010203"],
    "probabilities_by_class": ["#131415", "ill", "probability of illness"],
    "region_sizes": ["#010203", "#040506", "Lesions"],
    "roc": ["#070809", "#101112"],
    "series_agreement": ["#070809", "#0a0b0c", "#131415", "well"],
    "series_overview": ["#070809"],
    "series_strip": ["#010203"],
    "slice_channels": [],
    "slice_influence": ["#131415", "#161718", "towards ill"],
    "threshold_sweep": ["#010203", "#040506"],
    "training_curves": ["#010203"],
    "triptychs": ["#010203"],
}


def colours(figure):
    """Every colour of lines, areas and texts in a figure and its legends."""
    found = set()
    for artist in figure.findobj():
        for name in ("get_color", "get_facecolor", "get_edgecolor"):
            value = getattr(artist, name, lambda: "none")()
            if isinstance(artist, AxesImage) or (isinstance(value, str) and value == "none"):
                continue
            found |= {to_hex(each) for each in to_rgba_array(value)}
    return found


@pytest.mark.parametrize("name", TAKEN)
def test_a_picture_takes_colours_names_and_words_from_the_palette(name, palette):
    arguments, options = EXAMPLES[name]
    style.set_palette(OTHERS)
    figure = PICTURES[name](*arguments, **options)
    figure.draw_without_rendering()  # names of ticks are written as late as here
    for expected in TAKEN[name]:
        assert expected in (colours(figure) if expected.startswith("#") else texts(figure))
    assert not {"methylated", "methylation", "unmethylated", "tumour"} & set(texts(figure).split())
    style.set_palette(palette)
    assert not set(TAKEN[name]) & colours(PICTURES[name](*arguments, **options))


# what is drawn without a palette from data that name nothing of one competition
GENERAL = {
    "area_profile": ((VESSEL_MEASURES,), {"threshold": 0.01, "max_components": 0}),
    "batch_grid": (
        ([{"inputs": image[None], "targets": image[None] > 0} for image in IMAGES],),
        {},
    ),
    "film_strip": ((STORED[..., :2],), {}),
    "kept_and_dropped": ((VESSELS, VESSEL_MEASURES), {}),
    "patient_story": (
        ({"one": VESSELS}, pd.DataFrame({"series": ["one"], "probability": [0.5]})),
        {},
    ),
    "region_sizes": ((pd.DataFrame({"vessel_ml": [1.0, 2.0]}),), {}),
    "series_strip": ((VOLUME,), {"masks": MASKS[:1], **LOOK}),
    "slice_channels": ((VESSELS[3],), {}),
    "slice_influence": ((VESSELS, np.linspace(-1, 1, 8)), {}),
    "triptychs": (([(picture, picture.masks) for picture in VESSELS[3:5]],), {}),
}
GENERAL |= {name: EXAMPLES[name] for name in ("calibration", "label_balance", "folds")}
GENERAL |= {"probabilities_by_class": ((LABEL, PROBABILITY), {}), "roc": ((LABEL, PROBABILITY), {})}
GENERAL |= {name: EXAMPLES[name] for name in ("predicted_planes", "chunk_spread", "chance_auc")}


@pytest.mark.parametrize("name", GENERAL)
def test_without_a_palette_nothing_of_one_competition_appears(name, palette):
    style.set_palette(Palette())
    arguments, options = GENERAL[name]
    figure = PICTURES[name](*arguments, **options)
    figure.draw_without_rendering()
    assert not FACTS.search(texts(figure))


def test_a_class_without_a_colour_stops_with_a_sentence():
    with pytest.raises(FigureError, match=r"classes \[2\] have no colour: name one for each"):
        Palette(classes={0: "none", 1: "some", 2: "many"})
