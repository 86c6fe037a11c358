"""What can be wrong with a scan: problems beside a volume, and errors that leave no volume.

Both carry a sentence for people and a code. The code stays the same from release to release, so
that a table can be grouped by it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from t4e_utils import T4EError, printable

CODES = {
    "bad_affine": "an affine is not finite, not invertible, or not the only one",
    "bad_value": "a header value cannot be used and was left out",
    "blank": "the image has one value everywhere",
    "colour_image": "the image has colours; only grey images are scans",
    "copies": "images are there twice",
    "damaged": "the file cannot be read, or its pixels not be decoded",
    "folder_without_label": "a patient has a folder but no label",
    "gantry_tilt": "the slices are not stacked along their normal",
    "gap": "slices are missing between others",
    "id_spelling": "ids of a table are spelled otherwise than the folders",
    "label_without_folder": "a patient has a label but no folder",
    "missing_series": "a patient lacks a series",
    "missing_values": "some images do not state what the others do",
    "mixed_orientations": "images of another orientation are in the same folder",
    "mixed_series": "images of another series are in the same folder",
    "mixed_sizes": "images of another matrix are in the same folder",
    "mixed_spacing": "images of another pixel spacing are in the same folder",
    "mosaic": "the slices of a volume are the tiles of one image",
    "no_decoder": "the compression needs a package that is not installed",
    "no_files": "there is no such folder, or nothing in it",
    "no_images": "no file of the folder is a readable image",
    "no_orientation": "the orientation in the patient is not stated",
    "no_pixels": "the file is no image",
    "no_positions": "the positions of the slices are not stated",
    "no_prediction": "the classifiers say nothing finite about the series",
    "no_spacing": "the distance of pixels or slices is not stated",
    "not_3d": "the array is not one volume",
    "not_finite": "some values are not finite and were set to 0",
    "not_labels": "a label map has values that are no labels",
    "out_of_range": "the values do not fit into the format",
    "same_images": "the images of a patient stand under another id too",
    "place_differs": "a scan does not lie where its annotation lies",
    "same_position": "several slices lie at one position",
    "several_volumes": "several volumes are at the same places, and one was kept",
    "shape_differs": "a scan is not on the grid of its annotation",
    "too_large": "the file says that it holds more pixels than are read",
    "truncated": "the file ends too early",
    "uneven_spacing": "the slices are not equally far apart",
    "unknown_labels": "a label map has labels that were not expected",
    "warning": "the reading library warned",
}


class Problem(NamedTuple):
    """Something odd about a scan that was read nevertheless."""

    code: str
    path: str
    sentence: str


class VolumeError(T4EError):
    """A scan cannot be read or written; `code` is one of `CODES`, `path` the file or folder."""

    def __init__(self, code: str, path: str | Path, sentence: str) -> None:
        path, sentence = printable(path, kept=""), printable(sentence)
        super().__init__(f"{path}: {sentence}")
        self.code, self.path, self.sentence = code, path, sentence

    def __reduce__(self) -> tuple:
        """Make the error survive the way back from a worker process."""
        return type(self), (self.code, self.path, self.sentence)

    def as_problem(self) -> Problem:
        """Return the error as a row for the problems table."""
        return Problem(self.code, self.path, self.sentence)


def merged(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return one problem for all files that have it, with the first path and their number."""
    result = []
    for _, same in groupby(sorted(problems, key=_kind), key=_kind):
        first, *others = {problem.path: problem for problem in same}.values()
        more = f" (and {len(others)} more files)" if others else ""
        result.append(first._replace(sentence=first.sentence + more))
    return tuple(result)


def nothing_read(where: str, problems: Sequence[Problem]) -> VolumeError:
    """Return the error for a series without images, with the code of its files if they share it."""
    refused = [problem for problem in problems if problem.code not in ("warning", "bad_value")]
    if len(refused) == 1:
        return VolumeError(*refused[0])
    codes = {problem.code for problem in refused}
    code = codes.pop() if len(codes) == 1 else "no_images"
    return VolumeError(
        code,
        where,
        f"None of the {len(refused)} files is a readable image. The first: {refused[0].sentence}",
    )


def one_line(message: object) -> str:
    """Return what a library says as one line."""
    return " ".join(str(message).split())


@contextmanager
def warnings_as_problems(path: Path, problems: list[Problem]) -> Iterator[None]:
    """Turn what a library warns about a file into problems; other warnings pass."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for one in caught:
        if issubclass(one.category, UserWarning):
            problems.append(
                Problem("warning", str(path), f"The reader warned: {one_line(one.message)}")
            )
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def _kind(problem: Problem) -> tuple[str, str]:
    return problem.code, problem.sentence
