"""Browse scans in JupyterLab: patient, series and plane from lists, slice and window by sliders.

A series is read once and kept. Moving a slider windows one slice of the array, colours it with
OpenCV and sends one PNG to an image widget. ipympl would draw a whole figure again for each slice
and send it through a canvas of its own; ipyniivue wants NIfTI files and WebGL. One PNG needs
neither an extension nor a graphics card and takes milliseconds. A page without a kernel can show it
too: executed copies (papermill, GitHub, HTML) have it in the viewer's place.
"""

from __future__ import annotations

import base64
import html
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import ipywidgets
import numpy as np
import pandas as pd

from t4e_utils.figures import pixels, slices, style
from t4e_utils.figures.palette import FigureError
from t4e_utils.scans import geometry, intensity
from t4e_utils.scans.problems import VolumeError
from t4e_utils.scans.volume import Volume

BAR = 26  # pixels above the still picture, for its title
Masks = Callable[[Any, Volume], np.ndarray | None]


class Viewer(ipywidgets.VBox):
    """A browser of series.

    Args:
        table: One row per series, with the columns patient_id and series, and what `read` needs.
        read: Returns the Volume of a row (named tuple).
        truth: Returns regions (R, D, H, W) of a row and its volume, or None where there are none.
            They are drawn as contours, with the names and colours of the palette.
        prediction: The same, drawn as overlays.
        percentiles: Window that a series starts with, over its non-zero voxels.
        n_cached: Series kept in memory.

    Raises:
        FigureError: If the table lacks a column, or has no row.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        read: Callable[[Any], Volume],
        *,
        truth: Masks | None = None,
        prediction: Masks | None = None,
        percentiles: Sequence[float],
        n_cached: int = 4,
    ) -> None:
        style.require_columns(table, ["patient_id", "series"])
        if table.empty:
            raise FigureError("There is no series to browse: pass a table with at least one row.")
        self._rows = {(row.patient_id, row.series): row for row in table.itertuples(index=False)}
        self._read, self._masks = read, {"truth": truth, "prediction": prediction}
        self._percentiles, self._n_cached = tuple(percentiles), n_cached
        self._cache: OrderedDict[tuple[str, str], Series] = OrderedDict()
        self._shown: Series | None = None
        self._is_settling = False  # while one control sets others
        self._make_controls()
        lists = ipywidgets.HBox([self.patient, self.series, self.plane, self.masks])
        super().__init__([lists, self.slice, self.window, self.title, self.picture])
        self._choose_patient()
        for patient in self.patient.options[1:]:  # begin with one that can be read
            if self._shown is None:
                self.patient.value = patient

    def _make_controls(self) -> None:
        wide = ipywidgets.Layout(width=f"{pixels.HEIGHT + 60}px")
        short = {"layout": ipywidgets.Layout(width="190px"), "style": {"description_width": "60px"}}
        patients = list(dict.fromkeys(patient for patient, _ in self._rows))
        self.patient = ipywidgets.Dropdown(options=patients, description="patient", **short)
        self.series = ipywidgets.Dropdown(description="series", **short)
        self.plane = ipywidgets.Dropdown(options=geometry.PLANES, description="plane", **short)
        self.masks = ipywidgets.Checkbox(value=True, description="masks", indent=False)
        self.slice = ipywidgets.IntSlider(description="slice", layout=wide)
        self.window = ipywidgets.FloatRangeSlider(
            description="window", readout_format=".4g", layout=wide
        )
        self.title, self.picture = ipywidgets.HTML(), ipywidgets.Image(format="png")
        # otherwise it is stretched to the width of the page
        self.picture.layout.align_self = "flex-start"
        self.patient.observe(lambda _: self._choose_patient(), "value")
        self.series.observe(lambda _: self._choose_series(), "value")
        self.plane.observe(lambda _: self._choose_plane(), "value")
        for control in (self.slice, self.window, self.masks):
            control.observe(lambda _: self._draw(), "value")

    def _choose_patient(self) -> None:
        """Stay with the series if the patient has it; only the one that is shown is read."""
        known = self.series.value
        names = [series for patient, series in self._rows if patient == self.patient.value]
        self._is_settling = True
        self.series.options = names
        self.series.value = known if known in names else names[0]
        self._is_settling = False
        self._choose_series()

    def _choose_series(self) -> None:
        """Show another series in its own plane.

        A series that cannot be read leaves its sentence.
        """
        if self._is_settling:
            return
        try:
            self._shown = self._load((self.patient.value, self.series.value))
        except VolumeError as error:
            self._shown, self.title.value, self.picture.value = None, html.escape(str(error)), b""
            return
        self._is_settling = True
        low, high = self._shown.window
        lowest, highest = self._shown.range
        self.window.min = min(self.window.min, lowest)
        self.window.max = max(self.window.max, highest)
        self.window.value = (low, high)
        self.window.min, self.window.max = lowest, highest
        self.window.step = max((highest - lowest) / 200, 1e-6)
        self.masks.disabled = not self._shown.masks
        self.plane.value = self._shown.volume.plane
        self._is_settling = False
        self._choose_plane()

    def _choose_plane(self) -> None:
        if self._is_settling or self._shown is None:
            return
        self._is_settling = True
        n, busiest = self._shown.turned(self.plane.value)
        self.slice.max = n - 1
        self.slice.value = busiest
        self._is_settling = False
        self._draw()

    def _load(self, key: tuple[str, str]) -> Series:
        if key not in self._cache:
            row = self._rows[key]
            volume = self._read(row)
            found = {kind: find(row, volume) for kind, find in self._masks.items() if find}
            masks = {kind: masks for kind, masks in found.items() if masks is not None}
            self._cache[key] = Series(volume, masks, self._percentiles)
            if len(self._cache) > self._n_cached:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]

    def _draw(self) -> None:
        if self._is_settling or self._shown is None:
            return
        image, masks, spacing_mm, letters = self._shown.cut(self.plane.value, self.slice.value)
        masks, window = masks if self.masks.value else {}, self.window.value
        self._drawn = pixels.draw_rgb(image, masks, spacing_mm, letters, window=window)
        self.title.value = f"<b>{html.escape(' · '.join(self._words()))}</b>{self._legend()}"
        self.picture.value = pixels.encode(self._drawn)

    def _words(self) -> list[str]:
        where = f"{self.plane.value} slice {self.slice.value} of {self.slice.max + 1}"
        window = slices.window_text(self.window.value)
        return [f"Patient {self.patient.value}", self.series.value, where, window]

    def _legend(self) -> str:
        if not self.masks.value or not self._shown.masks:
            return ""
        regions = style.region_names(max(map(len, self._shown.masks.values())))
        names = " ".join(
            f'<span style="color:{colour}">■</span> {html.escape(name)}'
            for name, colour in style.colours_of(regions).items()
        )
        kinds = {"truth": "line: expert", "prediction": "filled: predicted"}
        return f"<br>{names} ({', '.join(kinds[kind] for kind in self._shown.masks)})"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """Give the widget and, for pages that cannot show one, the slice under its title."""
        if not self.picture.value:
            return super()._repr_mimebundle_(**options)
        white = {"borderType": cv2.BORDER_CONSTANT, "value": (255, 255, 255)}
        still, said = cv2.copyMakeBorder(self._drawn, BAR, 0, 0, 0, **white), self._words()
        look = {"fontFace": pixels.FONT, "fontScale": 0.42, "color": (0, 0, 0)}
        cv2.putText(still, ", ".join(said), (4, BAR - 9), **look, thickness=1, lineType=cv2.LINE_AA)
        png = base64.b64encode(pixels.encode(still)).decode()
        return {**super()._repr_mimebundle_(**options), "image/png": png}


class Series:
    """A volume in memory with its masks, turned to the plane that is shown without copying it."""

    def __init__(
        self, volume: Volume, masks: Mapping[str, np.ndarray], percentiles: Sequence[float]
    ) -> None:
        self.volume, self.masks = volume, dict(masks)
        self.window = intensity.window_from_percentiles(volume.array, percentiles)
        lowest, highest = slices.extremes(volume.array)
        self.range = lowest, max(highest, lowest + 1)
        self._turned: dict[str, tuple] = {}

    def turned(self, plane: str) -> tuple[int, int]:
        """Turn to a plane; return its number of slices and the one to show first."""
        if plane not in self._turned:
            array, affine = geometry.reorient(self.volume.array, self.volume.affine, plane)
            masks = {
                kind: [geometry.reorient(mask, self.volume.affine, plane)[0] for mask in several]
                for kind, several in self.masks.items()
            }
            busiest = slices.busiest_slice(array, next(iter(masks.values()), None))
            self._turned[plane] = array, masks, affine, busiest
        array, _, _, busiest = self._turned[plane]
        return len(array), busiest

    def cut(
        self, plane: str, index: int
    ) -> tuple[np.ndarray, dict[str, np.ndarray], tuple[float, float], dict[str, str]]:
        """Return a slice (H, W), its masks (R, H, W) by kind, spacing in mm, and the letters."""
        self.turned(plane)
        array, masks, affine, _ = self._turned[plane]
        cut = {kind: np.stack([mask[index] for mask in several]) for kind, several in masks.items()}
        spacing_mm = tuple(geometry.spacing_of(affine)[1:])
        return array[index], cut, spacing_mm, geometry.orientation_letters(affine)
