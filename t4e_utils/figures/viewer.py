"""Browse scans in JupyterLab.

Patient, MRI type and plane from lists, the slice and the window by sliders, masks on and off.

A series is read once and kept; moving a slider windows one slice of the array, colours it with
OpenCV and sends one PNG to an image widget. ipympl would draw a whole figure again for each slice
and send it through a canvas of its own; ipyniivue wants NIfTI files and WebGL. One PNG needs
neither an extension nor a graphics card, takes milliseconds, and is what a page without a kernel
can show: the viewer gives it along as its still picture, so executed copies (papermill, GitHub,
HTML) have it in the viewer's place.
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
from matplotlib.colors import to_rgb

from t4e_utils.figures import slices, style
from t4e_utils.scans import geometry, intensity
from t4e_utils.scans.problems import VolumeError
from t4e_utils.scans.volume import Volume

HEIGHT = 460  # pixels of the longer side of a slice
FONT, LETTER_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.55
FILL = 0.45  # how much of a predicted pixel is colour
FAST = [cv2.IMWRITE_PNG_COMPRESSION, 1]
BAR = 26  # pixels above the still picture, for its title
# of letters, in shares of width and height
PLACES = {
    "left": (0.015, 0.5),
    "right": (0.965, 0.5),
    "top": (0.49, 0.045),
    "bottom": (0.49, 0.985),
}
Masks = Callable[[Any, Volume], np.ndarray | None]


class Viewer(ipywidgets.VBox):
    """A browser of series.

    Args:
        table: A row a series, with the columns patient_id and series, and what `read` needs.
        read: Returns the Volume of a row (named tuple).
        truth: Returns regions (R, D, H, W) of a row and its volume, drawn as contours, or None
            where there are none.
        prediction: The same, drawn as overlays.
        regions: Names of the regions, which fix the colours.
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
        regions: Sequence[str] = slices.REGIONS,
        percentiles: tuple[float, float] = (0.5, 99.5),
        n_cached: int = 4,
    ) -> None:
        style.require_columns(table, ["patient_id", "series"])
        if table.empty:
            raise style.FigureError(
                "There is no series to browse: pass a table with at least one row."
            )
        self._rows = {(row.patient_id, row.series): row for row in table.itertuples(index=False)}
        self._read, self._masks = read, {"truth": truth, "prediction": prediction}
        self._regions, self._percentiles, self._n_cached = (
            list(regions),
            tuple(percentiles),
            n_cached,
        )
        self._cache: OrderedDict[tuple[str, str], Series] = OrderedDict()
        self._shown: Series | None = None
        self._is_settling = False  # while one control sets others
        self._make_controls()
        super().__init__(
            [
                ipywidgets.HBox([self.patient, self.series, self.plane, self.masks]),
                self.slice,
                self.window,
                self.title,
                self.picture,
            ]
        )
        self._choose_patient()

    def _make_controls(self) -> None:
        wide, short = (
            ipywidgets.Layout(width=f"{HEIGHT + 60}px"),
            {"layout": ipywidgets.Layout(width="190px"), "style": {"description_width": "60px"}},
        )
        self.patient = ipywidgets.Dropdown(
            options=list(dict.fromkeys(patient for patient, _ in self._rows)),
            description="patient",
            **short,
        )
        self.series = ipywidgets.Dropdown(description="MRI type", **short)
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
        """Stay with the MRI type if the patient has it; only the series that is shown is read."""
        known, names = (
            self.series.value,
            [series for patient, series in self._rows if patient == self.patient.value],
        )
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
        self.window.min, self.window.max = (
            min(self.window.min, lowest),
            max(self.window.max, highest),
        )
        self.window.value = (low, high)
        self.window.min, self.window.max, self.window.step = (
            lowest,
            highest,
            max((highest - lowest) / 200, 1e-6),
        )
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
            found = {
                kind: find(row, volume) for kind, find in self._masks.items() if find is not None
            }
            self._cache[key] = Series(
                volume,
                {kind: masks for kind, masks in found.items() if masks is not None},
                self._percentiles,
            )
            if len(self._cache) > self._n_cached:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]

    def _draw(self) -> None:
        if self._is_settling or self._shown is None:
            return
        self._drawn = draw_rgb(
            *self._shown.cut(self.plane.value, self.slice.value),
            window=self.window.value,
            regions=self._regions,
            with_masks=self.masks.value,
        )
        self.title.value = f"<b>{html.escape(' · '.join(self._words()))}</b>{self._legend()}"
        self.picture.value = encode(self._drawn)

    def _words(self) -> list[str]:
        where = f"{self.plane.value} slice {self.slice.value} of {self.slice.max + 1}"
        return [
            f"Patient {self.patient.value}",
            self.series.value,
            where,
            slices.window_text(self.window.value),
        ]

    def _legend(self) -> str:
        if not self.masks.value or not self._shown.masks:
            return ""
        names = " ".join(
            f'<span style="color:{colour}">■</span> {name}'
            for name, colour in style.colours_of(self._regions).items()
        )
        kinds = {"truth": "line: expert", "prediction": "filled: predicted"}
        return f"<br>{names} ({', '.join(kinds[kind] for kind in self._shown.masks)})"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """Give the widget and, for pages that cannot show one, the present slice under its
        title.
        """
        if not self.picture.value:
            return super()._repr_mimebundle_(**options)
        still = cv2.copyMakeBorder(
            self._drawn, BAR, 0, 0, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255)
        )
        cv2.putText(
            still, ", ".join(self._words()), (4, BAR - 9), FONT, 0.42, (0, 0, 0), 1, cv2.LINE_AA
        )
        return {
            **super()._repr_mimebundle_(**options),
            "image/png": base64.b64encode(encode(still)).decode(),
        }


def encode(image: np.ndarray) -> bytes:
    """Return an RGB image (H, W, 3) uint8 as a PNG, packed lightly.

    Time matters more here than size.
    """
    return cv2.imencode(".png", image[..., ::-1], FAST)[1].tobytes()


class Series:
    """A volume in memory with its masks, turned to the plane that is shown without copying it."""

    def __init__(
        self, volume: Volume, masks: Mapping[str, np.ndarray], percentiles: tuple[float, float]
    ) -> None:
        self.volume, self.masks = volume, dict(masks)
        self.window = intensity.window_from_percentiles(volume.array, percentiles)
        finite = (
            volume.array[np.isfinite(volume.array)]
            if volume.array.dtype.kind == "f"
            else volume.array
        )
        lowest, highest = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        self.range = lowest, max(highest, lowest + 1)
        self._turned: dict[str, tuple] = {}

    def turned(self, plane: str) -> tuple[int, int]:
        """Turn to a plane; return its number of slices and the one with most tumour."""
        if plane not in self._turned:
            array, affine = geometry.reorient(self.volume.array, self.volume.affine, plane)
            masks = {
                kind: [geometry.reorient(mask, self.volume.affine, plane)[0] for mask in several]
                for kind, several in self.masks.items()
            }
            chooses = next(iter(masks.values()), None)
            self._turned[plane] = (
                array,
                masks,
                affine,
                slices.busiest_slice(array, None if chooses is None else chooses[:1]),
            )
        array, _, _, busiest = self._turned[plane]
        return len(array), busiest

    def cut(
        self, plane: str, index: int
    ) -> tuple[np.ndarray, dict[str, np.ndarray], tuple[float, float], dict[str, str]]:
        """Return a slice (H, W), its masks (R, H, W) by kind, the distance of rows and columns,
        and the letters.
        """
        self.turned(plane)
        array, masks, affine, _ = self._turned[plane]
        cut = {kind: np.stack([mask[index] for mask in several]) for kind, several in masks.items()}
        return (
            array[index],
            cut,
            tuple(geometry.spacing_of(affine)[1:]),
            geometry.orientation_letters(affine),
        )


def draw_rgb(
    image: np.ndarray,
    masks: Mapping[str, np.ndarray],
    spacing_mm: tuple[float, float],
    letters: Mapping[str, str],
    *,
    window: tuple[float, float],
    regions: Sequence[str] = slices.REGIONS,
    with_masks: bool = True,
    height: int = HEIGHT,
) -> np.ndarray:
    """Draw a slice in true proportions as `slices.draw_slice` does, as an array and about ten times
    as fast (`benchmarks/viewer.py`).

    Args:
        image: Shape (H, W).
        masks: Regions (R, H, W) under "truth", drawn as contours, and under "prediction", drawn as
            overlays.
        spacing_mm: Distance of rows and of columns.
        letters: Directions at the edges, as `geometry.orientation_letters` returns them.
        window: Grey values drawn black and white.
        regions: Names of the R regions, which fix the colours.
        with_masks: Draw them.
        height: Of the longer side, in pixels.

    Returns:
        Shape (rows, columns, 3), uint8; the longer side has `height` pixels.
    """
    millimetres = np.array(image.shape) * spacing_mm
    rows, columns = np.maximum(np.rint(millimetres * height / millimetres.max()), 1).astype(int)
    size = int(columns), int(rows)
    grey = cv2.resize(
        np.ascontiguousarray(intensity.to_uint8(image, window)),
        size,
        interpolation=cv2.INTER_LINEAR,
    )
    drawn = np.repeat(grey[..., None], 3, axis=2)
    colours = [
        tuple(round(255 * part) for part in to_rgb(colour))
        for colour in style.colours_of(regions).values()
    ]
    for kind in ("prediction", "truth") if with_masks else ():
        for colour, mask in zip(colours, masks.get(kind, ()), strict=False):
            large = cv2.resize(
                np.ascontiguousarray(mask, dtype=np.uint8), size, interpolation=cv2.INTER_NEAREST
            )
            if kind == "prediction":
                filled = large.astype(bool)
                drawn[filled] = np.rint(
                    (1 - FILL) * grey[filled, None] + FILL * np.array(colour)
                ).astype(np.uint8)
            else:
                outlines, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
                cv2.drawContours(drawn, outlines, -1, colour, 1)
    for edge, letter in letters.items():
        x, y = PLACES[edge]
        for ink, thickness in ((0, 3), (255, 1)):
            cv2.putText(
                drawn,
                letter,
                (int(x * columns), int(y * rows)),
                FONT,
                LETTER_SCALE,
                (ink,) * 3,
                thickness,
                cv2.LINE_AA,
            )
    return drawn
