"""Which images of a series belong together: those of one volume, each once.

A folder may hold copies, images of other series, and several volumes at the same places: echoes,
magnitude and phase, repetitions, b-values. One volume is kept and the others are reported. What a
file says of itself does not count alone: a value that differs in every file says nothing, and where
images differ a little or say nothing, most of them decide.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from t4e_utils.scans.problems import Problem
from t4e_utils.scans.stacks import Frame

# Largest difference of a direction cosine within a series, about half a degree.
SAME_DIRECTION = 0.01
# Of pixel spacing, as a share. A spacing rounded to two digits (0.488281 as 0.49) differs by 0.4 %,
# another field of view by some percent.
SAME_SPACING = 0.005
ON_LINE_MM = 0.1  # what positions of one volume are off their line by rounding
NAMES = ("matrix", "series", "pixel spacing", "orientation")
CODES = ("mixed_sizes", "mixed_series", "mixed_spacing", "mixed_orientations")


def without_copies(frames: Sequence[Frame], path: str) -> tuple[list[Frame], list[Problem]]:
    """Keep one of images with the same identifier, place and number, and report the copies.

    Images with one identifier that say different things are no copies: programs that make a series
    from one header may repeat it.
    """
    kept: dict[Hashable, list[Frame]] = {}
    n_copies = 0
    for i, frame in enumerate(frames):
        place = None if frame.position is None else frame.position.tobytes()
        key = (frame.uid, place, frame.number, frame.shape) if frame.uid else i
        same = kept.setdefault(key, [])
        if same and frame.told() in [other.told() for other in same]:
            n_copies += 1
        else:
            same.append(frame)
    if not n_copies:
        return list(frames), []
    sentence = f"{n_copies} of {len(frames)} images are copies of others and were left out."
    unique = {id(frame) for same in kept.values() for frame in same}
    return [frame for frame in frames if id(frame) in unique], [Problem("copies", path, sentence)]


def largest_group(frames: Sequence[Frame], path: str) -> tuple[list[Frame], list[Problem]]:
    """Keep the largest set of images that can be one stack, and report the others.

    Images of one stack agree in matrix, series, pixel spacing and orientation, the last two nearly.
    All get the spacing and the orientation of most of them, also those that state none. A series
    identifier that most images have for themselves says nothing.
    """
    series = Counter(frame.series for frame in frames)
    is_useless = sum(n == 1 for n in series.values()) > len(frames) / 2
    # None is not stated, which fits to everything
    keys = list(
        zip(
            (frame.shape for frame in frames),
            (None if is_useless else frame.series or None for frame in frames),
            _labels([frame.spacing_mm for frame in frames], _is_same_spacing),
            _labels([frame.directions for frame in frames], _is_same_direction),
            strict=True,
        )
    )
    n_stated = max(4 - key.count(None) for key in keys)
    stated = Counter(key for key in keys if 4 - key.count(None) == n_stated)
    common = min(stated, key=lambda key: (-stated[key], _first_number(frames, keys, key)))
    differs_in = [next((i for i in range(4) if key[i] not in (common[i], None)), 4) for key in keys]
    problems = [
        Problem(
            CODES[i],
            path,
            f"{n} of {len(frames)} images have another {NAMES[i]} and were left out.",
        )
        for i, n in sorted(Counter(differs_in).items())
        if i < 4
    ]
    kept = [frame for frame, i in zip(frames, differs_in, strict=True) if i == 4]
    for name, unit in (("spacing_mm", "pixel spacing"), ("directions", "orientation")):
        kept, odd = _with_common(kept, name, unit, path)
        problems += odd
    return kept, problems


def without_zeros(frames: Sequence[Frame], path: str) -> tuple[list[Frame], list[Problem]]:
    """Leave out positions of 0, 0, 0 that do not lie on the line of the others.

    Some programs write them where the position is lost.
    """
    known = [i for i, frame in enumerate(frames) if frame.position is not None]
    positions = np.array([frames[i].position for i in known]).reshape(-1, 3)
    is_lost = ~positions.any(axis=1)
    if not is_lost.any() or is_lost.sum() > len(known) - 2:
        return list(frames), []
    lost, positions = {known[i] for i in np.flatnonzero(is_lost)}, positions[~is_lost]
    middle = positions.mean(axis=0)
    line = np.linalg.svd(positions - middle)[2][0]
    away = np.linalg.norm(np.cross(np.vstack([np.zeros(3), positions]) - middle, line), axis=1)
    if away[0] <= away[1:].max() + ON_LINE_MM:
        return list(frames), []
    sentence = f"The position of {len(lost)} of {len(frames)} slices is 0, 0, 0: left out."
    kept = [dataclasses.replace(f, position=None) if i in lost else f for i, f in enumerate(frames)]
    return kept, [Problem("bad_value", path, sentence)]


def _first_number(frames: Sequence[Frame], keys: Sequence[tuple], key: tuple) -> float:
    numbers = [frame.number for frame, other in zip(frames, keys, strict=True) if other == key]
    return min((number for number in numbers if number is not None), default=math.inf)


def _labels(
    values: Sequence[object], is_same: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> list[int | None]:
    """Return a number for each value, equal for values near one centre; None for None.

    The value with the most others near it is the first centre, whatever the order of the files.
    """
    found = {}
    for value in values:
        if value is not None:
            array = np.asarray(value, dtype=float)
            found.setdefault(array.tobytes(), [array, 0])[1] += 1
    if len(found) <= 1:
        return [None if value is None else 0 for value in values]
    unique = np.stack([array.reshape(-1) for array, _ in found.values()])
    counts = np.array([n for _, n in found.values()])
    is_near = [is_same(unique, one) for one in unique]
    n_near = [int(counts[near].sum()) for near in is_near]
    labels = np.full(len(unique), -1)
    for i in sorted(range(len(unique)), key=lambda i: (-n_near[i], -counts[i], tuple(unique[i]))):
        if labels[i] < 0:
            labels[is_near[i] & (labels < 0)] = i
    label_of = dict(zip(found, labels.tolist(), strict=True))
    return [
        None if value is None else label_of[np.asarray(value, dtype=float).tobytes()]
        for value in values
    ]


def _is_same_spacing(values: np.ndarray, centre: np.ndarray) -> np.ndarray:
    return (np.abs(values - centre) <= SAME_SPACING * centre).all(axis=1)


def _is_same_direction(values: np.ndarray, centre: np.ndarray) -> np.ndarray:
    return np.abs(values - centre).max(axis=1) < SAME_DIRECTION


def _with_common(
    frames: list[Frame], name: str, words: str, path: str
) -> tuple[list[Frame], list[Problem]]:
    """Give all images the value that most of them have; report where it is not theirs."""
    values = [getattr(frame, name) for frame in frames]
    keys = [None if value is None else tuple(np.ravel(value).tolist()) for value in values]
    stated = Counter(key for key in keys if key is not None)
    if len(stated) + (None in keys) <= 1 or not stated:
        return frames, []
    common = min(stated, key=lambda key: (-stated[key], key))
    value = values[keys.index(common)]
    problems = []
    if None in keys:
        sentence = (
            f"The {words} of {keys.count(None)} of {len(frames)} images is not stated: that of the "
            "others was taken."
        )
        problems.append(Problem("missing_values", path, sentence))
    n_other = sum(n for key, n in stated.items() if key != common)
    if name == "spacing_mm" and n_other:
        sentence = (
            f"{n_other} of {len(frames)} images state a slightly other {words}: that of the "
            f"others, {common[0]:.10g} x {common[1]:.10g} mm, was taken."
        )
        problems.append(Problem("mixed_spacing", path, sentence))
    replaced = [
        frame if key == common else dataclasses.replace(frame, **{name: value})
        for frame, key in zip(frames, keys, strict=True)
    ]
    return replaced, problems
