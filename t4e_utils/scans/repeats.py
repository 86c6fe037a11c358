"""Several volumes at the same places: told apart by what their headers say, and one is kept.

Echoes, magnitude and phase, repetitions, b-values and reconstructions of one acquisition often
share a series, also as frames of one file. No volume is made of images of two of them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from t4e_utils.scans.problems import Problem
from t4e_utils.scans.stacks import UNEVEN, Frame, places_of

# What all slices of one volume have in common, so that it tells volumes apart also where these
# share no place. Other attributes, such as the number of the acquisition, may change on the way.
STEADY = {
    "image type",
    "complex component",
    "echo time",
    "echo number",
    "inversion time",
    "b-value",
    "gradient direction",
    "kernel",
    "temporal position",
}
# parts of an image type that are no magnitude: DICOM PS3.3 C.8.13.3.1.1, and what vendors write
NOT_MAGNITUDE = {"P", "PHASE", "PHASE MAP", "R", "REAL", "I", "IMAGINARY", "B0", "B0 MAP"}
NOT_MAGNITUDE |= {"FIELD_MAP", "VELOCITY", "VELOCITY MAP", "V", "ADC", "FA"}
# Where the smallest value is the first volume; of others the first is that with the first number.
COUNTED = {
    "echo time",
    "echo number",
    "inversion time",
    "b-value",
    "temporal position",
    "trigger time",
    "acquisition number",
    "series number",
    "acquisition time",
    "content time",
    "number of the file",
}
# values that are not written into sentences
UNSAID = {"acquisition time", "content time", "file", "file number", "instance number"}


class _Image(NamedTuple):
    frame: Frame
    place: int | None  # number along the normal; None where the position is not stated
    told: Mapping[str, Hashable]  # what tells volumes apart


class _Volume(NamedTuple):
    images: list[_Image]
    told_by: tuple[tuple[str, Any], ...] = ()  # what told it apart from the others
    n_unknown: int = 0  # images that nothing tells from those kept


def one_volume(frames: Sequence[Frame], path: str) -> tuple[list[Frame], list[Problem]]:
    """Keep the images of one volume where several share their places, and report the others.

    The volume with most slices is kept. Of those with equally many it is magnitude rather than
    phase, what was measured rather than what was derived from it, the first echo, b-value and time,
    and the first by number. Where nothing tells images at one place apart, the first is kept.
    """
    places, n_places = places_of(frames)
    if n_places == len(frames) and _is_even(frames, places):
        return list(frames), []
    files = {frame.path for frame in frames}
    images = []
    for frame, place in zip(frames, places, strict=True):
        # of frames in several files, the file is the last to tell
        told = {**frame.told(), "file": frame.path} if len(files) < len(frames) else frame.told()
        images.append(_Image(frame, place, told))
    volumes = list(_volumes(images))
    best = min(volumes, key=_rank)
    kept = [image.frame for image in best.images]
    problems = []
    if len(volumes) > 1:
        names = sorted({name for volume in volumes for name, _ in volume.told_by})
        values = ", ".join(f"{n} {_said(v)}" for n, v in best.told_by if n not in UNSAID)
        sentence = (
            f"The images are {len(volumes)} volumes, which differ in {', '.join(names)}: "
            f"{len(kept)} of {len(frames)} images were kept{f' ({values})' if values else ''}."
        )
        problems.append(Problem("several_volumes", path, sentence))
    if best.n_unknown:
        sentence = (
            f"{best.n_unknown} images lie where another one lies, and their headers do not tell "
            "them apart: the first of each place was kept."
        )
        problems.append(Problem("several_volumes", path, sentence))
    if not n_places and len(kept) < len(frames):  # without the others, positions may say something
        kept, more = one_volume(kept, path)
        problems += more
    return kept, problems


def _volumes(images: list[_Image], told_by: tuple[tuple[str, Any], ...] = ()) -> Iterator[_Volume]:
    """Yield the volumes that images belong to, divided until no two images share a place."""
    places = _places(images)
    is_double = len(places) < sum(image.place is not None for image in images)
    for name in dict.fromkeys(name for image in images for name in image.told):
        groups = defaultdict(list)
        for image in images:
            groups[image.told.get(name)].append(image)
        if _tells(list(groups.values())) or (name in STEADY and _is_hidden(images, groups)):
            for value, group in groups.items():
                yield from _volumes(group, (*told_by, (name, value)))
            return
    if not is_double or (len(places) == 1 and _has_own_numbers(images)):
        yield _Volume(images, told_by)
        return
    for name, groups in _by_order(images):
        largest = max(Counter(image.place for image in images if image.place is not None).values())
        if len(groups) == largest and not any(map(_has_doubles, groups)) and _tells(groups):
            for i, group in enumerate(groups):
                yield _Volume(group, (*told_by, (name, i + 1)))
            return
    first = {}
    for i, image in enumerate(sorted(images, key=lambda image: _number(image.frame))):
        first.setdefault(("none", i) if image.place is None else image.place, image)
    yield _Volume(list(first.values()), told_by, len(images) - len(first))


def _tells(groups: Sequence[list[_Image]]) -> bool:
    """Return whether groups are volumes at the same places.

    One has most of all places, and the places are shared. Two parts of one volume that overlap a
    little, such as slabs, are not told apart.
    """
    places = sorted((_places(group) for group in groups), key=len)
    if len(places) < 2 or not places[-2]:
        return False
    n_groups = Counter(place for group in places for place in group)
    n_shared = sum(n > 1 for n in n_groups.values())
    return 2 * len(places[-1]) > len(n_groups) and 2 * n_shared >= len(places[-2])


def _is_hidden(images: list[_Image], groups: Mapping[Any, list[_Image]]) -> bool:
    """Return whether groups are volumes that share no place, as far as this can be seen.

    That is where slices are evenly spaced in the largest group and not in all, or where several
    images of a group state no position.
    """
    if len(_places(images)) < len(images):
        several = [group for group in groups.values() if len(group) > 1]
        return len(several) > 1 and not all(map(_places, several))
    largest = max(groups.values(), key=len)
    frames, part = [image.frame for image in images], [image.frame for image in largest]
    return (
        2 < len(largest) < len(images)
        and _is_even(part, [image.place for image in largest])
        and not _is_even(frames, [image.place for image in images])
    )


def _is_even(frames: Sequence[Frame], places: Sequence[int | None]) -> bool:
    """Return whether images, one at each place, are equally far apart."""
    order = np.argsort(places)
    distances = np.array([frames[i].position for i in order]) @ frames[0].normal
    steps = np.diff(distances)
    return len(steps) == 0 or bool(np.abs(steps / np.median(steps) - 1).max() <= UNEVEN)


def _by_order(images: list[_Image]) -> Iterator[tuple[str, list[list[_Image]]]]:
    """Yield ways to divide images at shared places by the order in which they were numbered."""
    for name in ("instance number", "acquisition time", "content time", "file number"):
        numbers = [_ordinal(image, name) for image in images]
        if None in numbers or len({*numbers}) < len(numbers):
            continue
        ordered = [images[i] for i in np.argsort(numbers)]
        yield name, _runs(ordered)
        places = _places(images)
        first = min(1, *numbers)
        if name.endswith("number"):
            yield name, _grouped(images, [int(n - first) // len(places) for n in numbers])
        yield name, _passes(ordered)
        at_place = Counter(image.place for image in images)
        if len({*at_place.values()}) == 1:
            seen: Counter = Counter()
            ranks = []
            for image in ordered:
                ranks.append(seen[image.place])
                seen[image.place] += 1
            yield name, _grouped(ordered, ranks)
        if name.endswith("number"):
            n = max(n for place, n in at_place.items() if place is not None)
            yield name, _grouped(images, [int(number - first) % n for number in numbers])


def _runs(ordered: list[_Image]) -> list[list[_Image]]:
    """Cut where the slices turn back, in the direction that most steps have."""
    places = [image.place for image in ordered]
    known = [place for place in places if place is not None]
    sign = 1 if np.sign(np.diff(known)).sum() >= 0 else -1
    groups: list[list[_Image]] = [[]]
    last = None
    for image in ordered:
        if image.place is not None:
            if last is not None and (image.place - last) * sign <= 0:
                groups.append([])
            last = image.place
        groups[-1].append(image)
    return groups


def _passes(ordered: list[_Image]) -> list[list[_Image]]:
    """Cut where a place comes again."""
    groups: list[list[_Image]] = [[]]
    seen: set[int] = set()
    for image in ordered:
        if image.place in seen:
            groups.append([])
            seen = set()
        if image.place is not None:
            seen.add(image.place)
        groups[-1].append(image)
    return groups


def _grouped(images: Sequence[_Image], keys: Sequence[int]) -> list[list[_Image]]:
    groups = defaultdict(list)
    for image, key in zip(images, keys, strict=True):
        groups[key].append(image)
    return [groups[key] for key in sorted(groups)]


def _places(images: Sequence[_Image]) -> set[int]:
    return {image.place for image in images if image.place is not None}


def _has_doubles(images: Sequence[_Image]) -> bool:
    return len(_places(images)) < sum(image.place is not None for image in images)


def _has_own_numbers(images: Sequence[_Image]) -> bool:
    """Return whether images all at one place are told apart by their numbers alone.

    Then the positions say nothing: a program has copied one header.
    """
    numbers = {image.frame.number for image in images}
    return None not in numbers and len(numbers) == len(images)


def _ordinal(image: _Image, name: str) -> float | None:
    if name == "instance number":
        return image.frame.number
    return image.frame.file_number if name == "file number" else image.told.get(name)


def _number(frame: Frame) -> float:
    return np.inf if frame.number is None else frame.number


def _rank(volume: _Volume) -> tuple:
    """Return a key that is smallest for the volume to keep."""
    frames = [image.frame for image in volume.images]
    told = volume.images[0].told
    kind = told.get("image type") or ()
    parts = {*kind, told.get("complex component")}
    return (
        -(len(_places(volume.images)) or len(frames)),
        not _places(volume.images),
        bool(parts & NOT_MAGNITUDE),
        "DERIVED" in parts,
        [_comparable(value) for name, value in volume.told_by if name in COUNTED],
        min(map(_number, frames)),
    )


def _comparable(value: Any) -> tuple:
    """Return a key that sorts numbers before all else, which is left in its order."""
    values = value if isinstance(value, tuple) else (value,)
    if all(isinstance(one, int | float) for one in values):
        return 0, values
    return 1, ()


def _said(value: Any) -> str:
    if value is None:
        return "not stated"
    return "\\".join(f"{v:g}" if isinstance(v, float) else str(v) for v in np.atleast_1d(value))
