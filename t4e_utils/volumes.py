"""Scans as `Volume`: read a DICOM series, a NIfTI file or a series of JPEGs; write them.

Arrays are `(D, H, W)` = (slice, row, column), spacing in mm in the same order, affines map an index
to RAS mm. Every reader returns the display orientation of a plane (see `geometry`), so that slices
of any source look alike. What is odd about a scan is in `meta["problems"]`; what makes a scan
useless is a `VolumeError` with a code (see `problems`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from t4e_utils import dicom, dicom_writing, nifti, stacks
from t4e_utils.geometry import display_affine, display_axes, plane_of, reorient, spacing_of
from t4e_utils.problems import Problem, VolumeError, merged

SPACING_KEYS = ("spacing_slice_mm", "spacing_row_mm", "spacing_column_mm")
SOURCES = ("dicom", "jpg")
JPEG_SUFFIXES = (".jpg", ".jpeg")
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"  # ITU-T T.81 B.1.1.3
JPEG_TRAILER_BYTES = 1024  # some programs write more after the end


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan in memory."""

    array: np.ndarray  # (D, H, W)
    spacing_mm: tuple[float, float, float]  # between slices, rows, columns
    affine: np.ndarray  # 4x4, (slice, row, column, 1) to RAS mm
    # facts about the source; never who the patient is
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def plane(self) -> str:
        """Return the plane of the slices."""
        return plane_of(self.affine)

    def to_plane(self, plane: str) -> Volume:
        """Return the volume cut in `plane`, as a view in the display of that plane.

        Nothing is resampled.
        """
        array, affine = reorient(self.array, self.affine, plane)
        meta = {**self.meta, "plane": plane} if "plane" in self.meta else self.meta
        return Volume(array, spacing_of(affine), affine, meta)


def _volume(array: np.ndarray, affine: np.ndarray, plane: str, meta: Mapping[str, Any]) -> Volume:
    array, affine = reorient(array, affine, plane)
    return Volume(np.ascontiguousarray(array), spacing_of(affine), affine, {"plane": plane, **meta})


def read_series(folder: str | Path, *, source: str = "dicom") -> Volume:
    """Read a series of "dicom" or "jpg" files: `read_dicom_series` or `read_jpeg_series`."""
    _refuse_other_source(source)
    return read_jpeg_series(folder) if source == "jpg" else read_dicom_series(folder)


def _refuse_other_source(source: str) -> None:
    if source not in SOURCES:
        raise ValueError(f"source = {source!r} is not known: choose from {', '.join(SOURCES)}.")


def read_each(
    read: Callable[[str], Volume], paths: Mapping[str, str]
) -> tuple[dict[str, Volume], list[Problem]]:
    """Read what can be read of several scans.

    Args:
        read: one of the readers of this module.
        paths: by any name.

    Returns:
        The volumes by name, and all problems; a scan that cannot be read is one of these.
    """
    volumes, problems = {}, []
    for name, path in paths.items():
        try:
            volumes[name] = read(path)
            problems += volumes[name].meta["problems"]
        except VolumeError as error:
            problems.append(error.as_problem())
    return volumes, problems


def read_dicom_series(folder: str | Path) -> Volume:
    """Read the DICOM images of a folder, or one file, as one volume in the display orientation of
    its own plane.

    Slices are sorted along their normal. Files that cannot be read, and images that do not belong
    to the largest set of like images, are left out and reported.

    Returns:
        Values after rescaling: int16 or uint16 where these are whole numbers, otherwise float32.
        Meta: plane, sorted_by, n_files, modality, transfer_syntax, bits_stored, slice_positions_mm,
        problems.

    Raises:
        VolumeError: no folder, no files, no readable image.
    """
    stack = _dicom_stack(folder, with_pixels=True)
    meta = {
        "sorted_by": stack.sorted_by,
        "n_files": stack.n_files,
        **stack.facts,
        "problems": stack.problems,
    }
    return _volume(stacks.values_of(stack.frames), stack.affine, plane_of(stack.affine), meta)


class _Stack(NamedTuple):
    """The images of a series that belong together, in order."""

    frames: list[stacks.Frame]
    affine: np.ndarray
    sorted_by: str
    n_files: int
    facts: dict[str, Any]  # of the first image
    problems: tuple[Problem, ...]


def _dicom_stack(folder: str | Path, *, with_pixels: bool) -> _Stack:
    files, where = _files(folder), str(folder)
    problems: list[Problem] = []
    frames, facts = [], {}
    for file in files:
        try:
            images, facts[str(file)] = dicom.read_file(file, problems, with_pixels=with_pixels)
            frames.extend(images)
        except VolumeError as error:
            problems.append(error.as_problem())
    if not frames:
        raise _no_images(where, problems)
    kept, mixed = stacks.largest_group(frames, where)
    kept, sorted_by, odd_order = stacks.in_order(kept, where)
    affine, odd_geometry = stacks.affine_of(kept, sorted_by, where)
    problems += [*mixed, *odd_order, *odd_geometry]
    return _Stack(kept, affine, sorted_by, len(files), facts[kept[0].path], merged(problems))


def _no_images(where: str, problems: Sequence[Problem]) -> VolumeError:
    """Return the error for a series of which nothing was read, with the code of its files if
    they share one.
    """
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


def _files(folder: str | Path, suffixes: Collection[str] = ()) -> list[Path]:
    """Return the files of a folder in the order of the numbers in their names.

    A file stands for itself.
    """
    folder = Path(folder)
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise VolumeError("no_files", folder, "There is no such folder: correct the path.")
    with os.scandir(folder) as entries:
        names = [
            entry.name for entry in entries if entry.is_file() and not entry.name.startswith(".")
        ]
    names = [name for name in names if not suffixes or Path(name).suffix.lower() in suffixes]
    if not names:
        kind = "/".join(suffixes) or "readable"
        raise VolumeError("no_files", folder, f"The folder has no {kind} files: correct the path.")
    return [folder / name for name in sorted(names, key=_natural)]


def _natural(name: str) -> list[tuple[int, str]]:
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]


def read_jpeg_series(folder: str | Path) -> Volume:
    """Read a folder of JPEG images as one volume, ordered by the last number in the file names.

    Nothing is known about the geometry: 1 mm spacing and the affine of an axial display are made
    up. Images of another size than most, and damaged ones, are left out and reported.

    Returns:
        uint8, grey. Meta: plane, sorted_by ("file number"), n_files, problems.

    Raises:
        VolumeError: no folder, no files, no readable image.
    """
    files, where = _files(folder, JPEG_SUFFIXES), str(folder)
    problems: list[Problem] = []
    frames = []
    for file in files:
        try:
            image = _jpeg(file)
            frames.append(
                stacks.Frame(
                    str(file), image.shape, file_number=dicom.last_number(file), pixels=image
                )
            )
        except VolumeError as error:
            problems.append(error.as_problem())
    if not frames:
        raise _no_images(where, problems)
    kept, mixed = stacks.largest_group(frames, where)
    kept.sort(key=lambda frame: -1 if frame.file_number is None else frame.file_number)
    array = np.stack([frame.pixels for frame in kept])
    meta = {
        "sorted_by": "file number",
        "n_files": len(files),
        "problems": merged([*problems, *mixed]),
    }
    return _volume(array, display_affine("axial"), "axial", meta)


def _jpeg(path: Path) -> np.ndarray:
    """Return an image (H, W) in grey.

    What ends too early is refused, since decoders may fill it up with grey.
    """
    data = path.read_bytes()
    if data.startswith(JPEG_START) and JPEG_END not in data[-JPEG_TRAILER_BYTES:]:
        raise VolumeError("truncated", path, "The image ends too early: get the file again.")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
    except cv2.error:
        image = None
    if image is None:
        raise VolumeError("damaged", path, "The image cannot be decoded: get the file again.")
    return image


def series_header(folder: str | Path, *, source: str = "dicom") -> dict[str, Any]:
    """Return what the headers of a series say, for an inventory; nothing that identifies a person.

    All headers of a DICOM series are read, since a missing slice or one of another series shows
    nowhere else.

    Returns:
        n_files, n_slices, plane, rows, columns, spacing_slice_mm, spacing_row_mm,
        spacing_column_mm, transfer_syntax, bits_stored, modality; None where the files do not say.
        And problems, as far as headers show them.

    Raises:
        VolumeError: no folder, no files, no image.
    """
    _refuse_other_source(source)
    if source == "jpg":
        return _jpeg_header(_files(folder, JPEG_SUFFIXES))
    stack = _dicom_stack(folder, with_pixels=False)
    missing = {problem.code for problem in stack.problems}
    spacing = (None,) * 3 if "no_spacing" in missing else spacing_of(stack.affine)
    return {
        "n_files": stack.n_files,
        "n_slices": len(stack.frames),
        "plane": None if "no_orientation" in missing else plane_of(stack.affine),
        "rows": stack.frames[0].shape[0],
        "columns": stack.frames[0].shape[1],
        **dict(zip(SPACING_KEYS, spacing, strict=True)),
        **stack.facts,
        "problems": stack.problems,
    }


def _jpeg_header(files: Sequence[Path]) -> dict[str, Any]:
    image = _jpeg(files[len(files) // 2])
    facts = {
        "plane": None,
        "rows": image.shape[0],
        "columns": image.shape[1],
        **dict.fromkeys(SPACING_KEYS),
    }
    return {
        "n_files": len(files),
        "n_slices": len(files),
        **facts,
        "modality": None,
        "transfer_syntax": "JPEG",
        "bits_stored": 8,
        "problems": (),
    }


def nifti_header(path: str | Path) -> dict[str, Any]:
    """Return what a NIfTI header says of the volume as `read_nifti` returns it, with the keys of
    `series_header`.

    Raises:
        VolumeError: missing, damaged, or a bad affine.
    """
    problems: list[Problem] = []
    facts = nifti.read_header(Path(path), problems)
    axes, _ = display_axes(facts.affine, "axial")
    shape, spacing = (
        [sizes[axis] for axis in axes] for sizes in (facts.shape, spacing_of(facts.affine))
    )
    return {
        "n_files": 1,
        "n_slices": shape[0],
        "plane": "axial",
        "rows": shape[1],
        "columns": shape[2],
        **dict(zip(SPACING_KEYS, spacing, strict=True)),
        "modality": None,
        "transfer_syntax": None,
        "bits_stored": facts.dtype.itemsize * 8,
        "problems": merged(problems),
    }


def read_nifti(
    path: str | Path, *, labels: bool = False, allowed: Collection[int] | None = None
) -> Volume:
    """Read a NIfTI file as one volume, in axial display orientation whatever the order of its axes.

    Args:
        path: `.nii` or `.nii.gz`; NIfTI-1 or NIfTI-2.
        labels: the values are labels: whole numbers of 0 to 255, returned as uint8.
        allowed: the labels that may occur; others are an error.

    Returns:
        Values as stored where they are integers without scaling, otherwise float32. Meta: plane,
        problems.

    Raises:
        VolumeError: truncated, damaged, not one 3D volume, a bad affine, or no labels where labels
            are expected.
    """
    problems: list[Problem] = []
    array, affine = nifti.read(Path(path), problems)
    if labels:
        array = nifti.as_labels(array, Path(path), allowed)
    return _volume(array, affine, "axial", {"problems": merged(problems)})


def write_nifti(volume: Volume, path: str | Path) -> Path:
    """Write a volume as NIfTI with the axes (column, row, slice).

    An axial display is stored as BraTS is.

    Raises:
        VolumeError: NIfTI has no place for this dtype.
    """
    return nifti.write(volume.array, volume.affine, Path(path))


def write_jpeg_series(
    volume: Volume, folder: str | Path, *, name_pattern: str = "Image-{}.jpg"
) -> None:
    """Write the slices of a uint8 volume as grey JPEG images, numbered from 1."""
    if volume.array.dtype != np.uint8:
        raise VolumeError(
            "out_of_range",
            folder,
            f"JPEG takes uint8, not {volume.array.dtype}: use intensity.to_uint8.",
        )
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(volume.array, start=1):
        path = Path(folder) / name_pattern.format(number)
        path.write_bytes(
            cv2.imencode(".jpg", np.ascontiguousarray(image), [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        )


def write_dicom_series(
    volume: Volume,
    folder: str | Path,
    *,
    patient_id: str,
    series_description: str,
    name_pattern: str = "Image-{}.dcm",
    uid_seed: str = "",
    compress: str | None = None,
) -> None:
    """Write a volume as a DICOM MR series, a file a slice; see `dicom_writing.write_series`."""
    dicom_writing.write_series(
        volume.array,
        volume.affine,
        Path(folder),
        patient_id=patient_id,
        series_description=series_description,
        name_pattern=name_pattern,
        uid_seed=uid_seed,
        compress=compress,
    )
