"""The viewer: every control changes what it should, and a page without a kernel has a picture."""

import base64

import cv2
import numpy as np
import pandas as pd
import pytest
from ipywidgets import Widget

from t4e_utils.figures import style
from t4e_utils.figures.palette import FigureError, Palette
from t4e_utils.figures.pixels import HEIGHT
from t4e_utils.figures.viewer import BAR, Viewer
from t4e_utils.scans import geometry
from t4e_utils.scans.problems import VolumeError
from t4e_utils.scans.volume import Volume

SPACING = (4.0, 2.0, 1.0)
TABLE = pd.DataFrame({"patient_id": ["00001", "00001", "00002"], "series": ["FLAIR", "T2w", "T2w"]})
WINDOW = {"percentiles": (0.5, 99.5)}


def volume(seed, plane="axial"):
    array = np.random.default_rng(seed).integers(1, 1000, (6, 12, 20)).astype(np.int16)
    affine = geometry.display_affine(plane, SPACING)
    return Volume(array, SPACING, affine)


def masks_in_slice(index):
    masks = np.zeros((2, 6, 12, 20), bool)
    masks[0, index, 2:9, 3:15], masks[1, index, 4:6, 5:9] = True, True
    return masks


class Reader:
    """Notes which series are read."""

    def __init__(self):
        self.read = []

    def __call__(self, row):
        self.read.append((row.patient_id, row.series))
        return volume(len(self.read), "coronal" if row.patient_id == "00002" else "axial")


@pytest.fixture
def reader():
    return Reader()


@pytest.fixture
def viewer(reader):
    def truth(row, _):
        return masks_in_slice(4) if row.series == "FLAIR" else None

    yield Viewer(TABLE, reader, truth=truth, **WINDOW)
    Widget.close_all()


def pixels(viewer):
    return cv2.imdecode(np.frombuffer(viewer.picture.value, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_it_opens_at_the_slice_with_most_tumour_in_the_plane_of_the_series(viewer):
    assert (viewer.plane.value, viewer.slice.value, viewer.slice.max) == ("axial", 4, 5)
    assert "Patient 00001 · FLAIR · axial slice 4 of 6 · window" in viewer.title.value
    assert not viewer.masks.disabled


@pytest.mark.parametrize(
    ("control", "value"),
    [
        ("slice", 1),
        ("plane", "sagittal"),
        ("series", "T2w"),
        ("patient", "00002"),
        ("masks", False),
        ("window", (200.0, 300.0)),
    ],
)
def test_every_control_changes_the_picture_and_back_again_restores_it(viewer, control, value):
    before, widget = viewer.picture.value, getattr(viewer, control)
    first = widget.value
    widget.value = value
    assert viewer.picture.value != before
    widget.value = first
    if control == "patient":
        viewer.series.value = "FLAIR"
    assert viewer.picture.value == before


def test_the_picture_is_the_slice_between_the_window_in_true_proportions(viewer, reader):
    viewer.masks.value, viewer.slice.value, viewer.window.value = False, 2, (100.0, 600.0)
    drawn = pixels(viewer)
    assert drawn.shape == (HEIGHT, round(20 * SPACING[2] * HEIGHT / (12 * SPACING[1])), 3)
    grey = np.clip((volume(1).array[2].astype(float) - 100) / 500 * 255, 0, 255)
    rows, columns = (
        ((np.arange(n) + 0.5) * size / n).astype(int)
        for n, size in ((12, drawn.shape[0]), (20, drawn.shape[1]))
    )
    centres = drawn[np.ix_(rows, columns)].astype(float)
    away = (slice(2, -2), slice(2, -2))  # from the letters
    # half a display pixel beside the centre of a pixel
    assert np.abs(centres[..., 0] - grey)[away].max() < 16
    assert np.array_equal(drawn[..., 0], drawn[..., 1])


def test_a_series_is_read_once_and_moving_a_slider_reads_nothing(viewer, reader):
    for plane in geometry.PLANES:
        viewer.plane.value = plane
        for index in range(viewer.slice.max + 1):
            viewer.slice.value = index
    viewer.series.value = "T2w"
    viewer.patient.value = "00002"
    viewer.patient.value = "00001"
    viewer.series.value = "FLAIR"
    assert reader.read == [("00001", "FLAIR"), ("00001", "T2w"), ("00002", "T2w")]


def test_only_as_many_series_are_kept_as_was_said(reader):
    viewer = Viewer(TABLE, reader, n_cached=1, **WINDOW)
    viewer.series.value = "T2w"
    viewer.series.value = "FLAIR"
    assert reader.read == [("00001", "FLAIR"), ("00001", "T2w"), ("00001", "FLAIR")]


def test_another_patient_keeps_the_series_and_shows_its_own_plane(viewer):
    viewer.series.value = "T2w"
    viewer.patient.value = "00002"
    assert (viewer.series.options, viewer.series.value, viewer.plane.value) == (
        ("T2w",),
        "T2w",
        "coronal",
    )
    assert viewer.masks.disabled
    assert "Patient 00002 · T2w · coronal" in viewer.title.value


def test_a_series_that_cannot_be_read_leaves_its_sentence_and_the_viewer_goes_on(reader):
    def read(row):
        if row.series == "T2w":
            raise VolumeError(
                "no_images", "00001/T2w", "No file of the folder <b> is a readable image."
            )
        return reader(row)

    viewer = Viewer(TABLE, read, **WINDOW)
    viewer.series.value = "T2w"
    assert "No file of the folder &lt;b&gt; is a readable image" in viewer.title.value
    assert viewer.picture.value == b""
    assert "image/png" not in viewer._repr_mimebundle_()
    viewer.series.value = "FLAIR"
    assert viewer.picture.value


def test_the_viewer_begins_with_a_patient_that_can_be_read(reader):
    def read(row):
        if row.patient_id == "00001":
            raise VolumeError("damaged", "00001", "The file cannot be read.")
        return reader(row)

    viewer = Viewer(TABLE, read, **WINDOW)
    assert viewer.patient.value == "00002"
    assert "image/png" in viewer._repr_mimebundle_()
    viewer.patient.value = "00001"
    assert "The file cannot be read" in viewer.title.value


def test_without_rows_or_columns_there_is_a_sentence(reader):
    with pytest.raises(FigureError, match="no series to browse: pass a table"):
        Viewer(TABLE[:0], reader, **WINDOW)
    with pytest.raises(FigureError, match="no column 'series'"):
        Viewer(TABLE[["patient_id"]], reader, **WINDOW)


def test_a_page_without_a_kernel_gets_the_same_slice_as_a_picture_under_its_title(viewer):
    bundle = viewer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    still = cv2.imdecode(
        np.frombuffer(base64.b64decode(bundle["image/png"]), np.uint8), cv2.IMREAD_COLOR
    )[..., ::-1]
    assert np.array_equal(still[BAR:], pixels(viewer))
    assert (still[:BAR] < 100).any()


def test_masks_are_named_and_coloured_by_the_palette(viewer):
    assert '<span style="color:#56B4E9">■</span> WT' in viewer.title.value
    assert '<span style="color:#E69F00">■</span> ET (line: expert)' in viewer.title.value


def test_names_of_regions_and_series_stay_text_on_the_page(reader):
    table = pd.DataFrame({"patient_id": ["<i>1"], "series": ["<img src=x onerror=a>"]})
    before = style.palette()
    style.set_palette(Palette(regions=("<b>whole", "core")))
    try:
        shown = Viewer(table, reader, truth=lambda *_: masks_in_slice(4), **WINDOW)
        title = shown.title.value
    finally:
        style.set_palette(before)
        Widget.close_all()
    assert "■</span> &lt;b&gt;whole" in title
    assert "Patient &lt;i&gt;1 · &lt;img src=x onerror=a&gt;" in title
