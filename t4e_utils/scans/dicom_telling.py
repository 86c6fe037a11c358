"""What tells the images at one place apart: echo, kind, time, and all else in `TOLD_BY`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable

from pydicom.dataset import Dataset

from t4e_utils.scans.dicom_elements import Elements, Header, tag_of
from t4e_utils.scans.dicom_keywords import KEYWORDS, TOLD_BY

TIMES = ("acquisition time", "content time")


def without_pixels(header: Header) -> Header:
    """Return a header that keeps no pixels in memory, with what tells images apart."""
    dataset = header.dataset
    if not isinstance(dataset, Elements):
        tags = [tag_of(keyword) for keyword in KEYWORDS if tag_of(keyword) in dataset]
        dataset = Elements({tag: dataset.get_item(tag) for tag in tags})
    return header._replace(dataset=dataset, pixels=None, problems=[])


def told_by(header: Header, groups: tuple[Dataset, ...]) -> dict[str, Hashable]:
    """Return what tells an image from others at its place, see `TOLD_BY`."""
    told, header = {}, header._replace(groups=groups)
    with warnings.catch_warnings(action="ignore"):  # of values that are only compared
        for name, keywords in TOLD_BY.items():
            values = next(filter(None, map(header.values, keywords)), ())
            values = tuple(_comparable(value, is_time=name in TIMES) for value in values)
            if name == "dimension index":  # one of them counts the slices
                told |= {f"{name} {k + 1}": value for k, value in enumerate(values)}
            elif values:
                told[name] = values if name == "image type" or len(values) > 1 else values[0]
    if header.n_frames > 1:
        told["number of the file"] = header.integer("InstanceNumber")
    return told


def _comparable(value: object, *, is_time: bool) -> float | str:
    """Return a number without what rounding adds to it, or a text."""
    try:
        number = float(str(value).replace(":", "")) if is_time else float(value)
    except (TypeError, ValueError):
        return str(value)
    is_whole = not math.isfinite(number) or number == int(number)
    return number if is_time or is_whole else float(f"{number:.4g}")
