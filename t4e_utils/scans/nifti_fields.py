"""What a NIfTI header says of its volume.

A header says many things twice: where the volume lies by an sform, a qform and voxel sizes, where
the values begin by a number and by the end of the extensions. What cannot be used is left out and
reported where another statement can; only a header without a usable one is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from nibabel.quaternions import quat2mat
from nibabel.volumeutils import shape_zoom_affine

from t4e_utils.scans.geometry import (
    ROUNDING_VOXELS,
    GeometryError,
    corners_of,
    plane_of,
    spacing_of,
    voxels_apart,
)
from t4e_utils.scans.limits import LARGEST_FILE
from t4e_utils.scans.problems import Problem, VolumeError

HEADER_BYTES = 544  # of NIfTI-2, the longer one, with the four bytes that announce extensions
# where the magic says which header it is; of "ni1" and "ni2" the values may lie in another file
MAGIC = ((344, (b"n+1", b"ni1"), nib.Nifti1Header), (4, (b"n+2", b"ni2"), nib.Nifti2Header))
MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # not stated, metre, mm, micrometre
# 1024 x 1024 x 1024, as many as a DICOM file may have pixels of 16 bits; a CT of 2,000 slices of
# 512 x 512 has half of them
LARGEST_VOLUME = LARGEST_FILE // 2
SOUND_MM = (0.005, 100.0)  # between neighbouring voxels of a scan; what is beyond is reported
FARTHEST_MM = 1e4  # from the origin of a scanner, of any voxel
LONGEST_QUATERNION = 1.001  # squared, of b, c and d; above 1 by digits that were lost
EXTENSIONS_BYTES = 1 << 28  # what is said to start later is not looked for

Note = Callable[[str, str], None]  # code and sentence of a problem


class Header(NamedTuple):
    """What a file says about its volume, in the axis order (z, y, x)."""

    shape: tuple[int, int, int]
    affine: np.ndarray  # index to RAS mm
    dtype: np.dtype  # as stored
    slope: float
    intercept: float
    order: str  # of its bytes, "little" or "big"
    size: int  # of the header itself, in bytes
    offset: int | None  # of the values in the file, in bytes; None where the number is none

    @property
    def is_scaled(self) -> bool:
        """Whether the values are stored with slope and intercept."""
        return (self.slope, self.intercept) != (1.0, 0.0)

    @property
    def n_bytes(self) -> int:
        """Bytes of the values as stored."""
        return math.prod(self.shape) * self.dtype.itemsize


def parse_header(data: bytes, path: Path, problems: list[Problem]) -> Header:
    """Read a header, and refuse what is not one volume of grey values with a place.

    Args:
        data: the first `HEADER_BYTES` of the file.
        path: for the sentences.
        problems: to which those of the header are added.

    Raises:
        VolumeError: no NIfTI, not one volume of grey values, more than `LARGEST_VOLUME`, or no
            usable place.
    """

    def note(code: str, sentence: str) -> None:
        problems.append(Problem(code, str(path), sentence))

    fields = _fields(data, path)
    dtype, shape = _dtype(fields, path), _shape(fields, path, note)
    if math.prod(shape) > LARGEST_VOLUME:
        said = f"The file says that it holds {' x '.join(map(str, shape))} values"
        sentence = f"{said}, more than {LARGEST_VOLUME:,}: cut out a part, or get the file again."
        raise VolumeError("too_large", path, sentence)
    try:
        with np.errstate(all="ignore"):  # of numbers that are no lengths
            affine = _affine(fields, shape, note)
    except GeometryError as error:
        raise VolumeError("bad_affine", path, f"{error} Correct the header.") from error
    slope, intercept = _scaling(fields, note)
    return Header(
        shape=shape[::-1],
        affine=affine[:, [2, 1, 0, 3]],
        dtype=dtype,
        slope=slope,
        intercept=intercept,
        order="little" if fields.endianness == "<" else "big",
        size=fields.sizeof_hdr,
        offset=_offset(fields, note),
    )


def _fields(data: bytes, path: Path) -> nib.Nifti1Header:
    """Return the fields as they are, in the byte order in which the header knows its own size.

    Else in that in which its number of axes makes sense.
    """
    for start, names, kind in MAGIC:
        if data[start : start + 3] in names and len(data) >= kind.sizeof_hdr:
            block = bytes(data[: kind.sizeof_hdr])
            both = [kind(block, order, check=False) for order in "<>"]
            fits = [each for each in both if each["sizeof_hdr"] == kind.sizeof_hdr]
            fits = fits or [each for each in both if 1 <= each["dim"][0] <= 7]
            return (fits or both)[0]
    raise VolumeError("damaged", path, "The file is no NIfTI image: get it again.")


def _dtype(fields: nib.Nifti1Header, path: Path) -> np.dtype:
    try:
        dtype = fields.get_data_dtype()
    except (KeyError, nib.spatialimages.HeaderDataError):
        dtype = np.dtype("V")
    if dtype.itemsize == 0 or (dtype.kind == "V" and not dtype.names):
        sentence = f"The data type {int(fields['datatype'])} is not known: get the file again."
        raise VolumeError("damaged", path, sentence)
    if dtype.names or dtype.kind not in "iuf":
        sentence = f"The values are {dtype}: only grey images are scans."
        raise VolumeError("colour_image", path, sentence)
    return dtype


def _shape(fields: nib.Nifti1Header, path: Path, note: Note) -> tuple[int, int, int]:
    """Return the numbers of voxels along x, y and z."""
    n_axes, *sizes = (int(n) for n in fields["dim"])
    if not 1 <= n_axes <= 7:
        known = len(list(takewhile(lambda n: n > 0, sizes)))
        note("bad_value", f"The header has {n_axes} axes: the {known} with a size are taken.")
        n_axes = known
    sizes = sizes[:n_axes]
    if 0 in sizes[3:]:
        note("bad_value", f"The sizes of the axes are {sizes}: 0 is taken as 1.")
        sizes[3:] = [n or 1 for n in sizes[3:]]
    if len(sizes) < 2 or any(n != 1 for n in sizes[3:]) or min(sizes) < 1:
        shape = tuple(sizes)
        raise VolumeError(
            "not_3d", path, f"The array is {shape}, not one volume: cut out the volume you want."
        )
    x, y, z = (*sizes, 1)[:3]
    return x, y, z


def _scaling(fields: nib.Nifti1Header, note: Note) -> tuple[float, float]:
    """Return slope and intercept: 1 and 0 where the values are as they are.

    A slope of 0 is none (NIfTI-1, scl_slope); libraries also write NaN for both.
    """
    slope, intercept = (float(fields[name]) for name in ("scl_slope", "scl_inter"))
    if slope == 0 or (math.isnan(slope) and (math.isnan(intercept) or intercept == 0)):
        return 1.0, 0.0
    if not math.isfinite(slope):
        said = f"The slope is {slope} and the intercept {intercept}"
        note("bad_value", f"{said}: the values are taken as stored.")
        return 1.0, 0.0
    if not math.isfinite(intercept):
        note("bad_value", f"The intercept is {intercept}: taken as 0.")
        intercept = 0.0
    return slope, intercept


def _offset(fields: nib.Nifti1Header, note: Note) -> int | None:
    """Return where the values begin, None where that is within the header, or no place at all."""
    offset = float(fields["vox_offset"])
    if not fields.sizeof_hdr <= offset <= EXTENSIONS_BYTES:  # true for NaN
        note(
            "bad_value",
            f"The values are said to begin at byte {offset:g}: taken where the header ends.",
        )
        return None
    if offset != int(offset):
        note("bad_value", f"The values are said to begin at byte {offset}: {int(offset)} is taken.")
    return int(offset)


def _affine(fields: nib.Nifti1Header, shape: tuple[int, int, int], note: Note) -> np.ndarray:
    """Return the affine of (x, y, z) in RAS mm: of the sform, else the qform, else by the sizes.

    Raises:
        GeometryError: none of them can be used.
    """
    usable, faults = {}, []
    for name, read in (("sform", _sform), ("qform", _qform)):
        code = int(fields[f"{name}_code"])
        if not 0 <= code <= 5:
            note("bad_value", f"The {name} has the code {code}, which is none.")
        if code > 0:
            try:
                usable[name] = _in_mm(read(fields, shape, note), fields, shape, note)
            except GeometryError as error:
                faults.append(f"The {name} cannot be used. {error}")
    if faults and not usable:
        raise GeometryError(faults[0])
    if not usable:
        note("no_orientation", "The orientation is not stated: taken as NIfTI assumes.")
        affine = shape_zoom_affine(shape, _sizes(fields, shape, note), x_flip=True)
        return _in_mm(affine, fields, shape, note)
    taken = next(iter(usable))
    for fault in faults:
        note("bad_affine", f"{fault} The {taken} is taken.")
    if len(usable) == 2:
        apart = voxels_apart(usable["sform"], usable["qform"], shape)
        if apart > ROUNDING_VOXELS:
            note(
                "bad_affine",
                f"Sform and qform lie up to {apart:.3g} voxels apart: the sform is taken.",
            )
    elif int(fields["qform_code"]) <= 0:
        _compare_sizes(fields, usable["sform"], shape, note)
    return usable[taken]


def _sform(fields: nib.Nifti1Header, shape: tuple[int, int, int], note: Note) -> np.ndarray:
    return fields.get_sform().astype(float)


def _qform(fields: nib.Nifti1Header, shape: tuple[int, int, int], note: Note) -> np.ndarray:
    """Return the affine of quaternion, voxel sizes and offsets (NIfTI-1, method 2).

    Raises:
        GeometryError: the quaternion is none, or a voxel size.
    """
    sizes, sign = _sizes(fields, shape, note), float(fields["pixdim"][0])
    if sign not in (-1.0, 1.0):
        note("bad_value", f"The qfac is {sign:g}: taken as {-1 if sign < 0 else 1}.")
    b, c, d = (float(fields[f"quatern_{name}"]) for name in "bcd")
    square = b * b + c * c + d * d
    if not square <= LONGEST_QUATERNION:  # true for NaN
        raise GeometryError(f"Its quaternion is ({b:g}, {c:g}, {d:g}), longer than 1.")
    if square > 1 + 1e-5:
        note("bad_value", f"The quaternion ({b:g}, {c:g}, {d:g}) is longer than 1: shortened.")
    # what rounding leaves of a turn by 180 degrees is none
    least = np.finfo(fields["quatern_b"].dtype).eps
    a = math.sqrt(1 - square) if 1 - square > least else 0.0
    affine = np.eye(4)
    affine[:3, :3] = quat2mat([a, b, c, d]) * sizes
    affine[:3, 2] *= -1 if sign < 0 else 1
    affine[:3, 3] = [float(fields[f"qoffset_{name}"]) for name in "xyz"]
    return affine


def _sizes(fields: nib.Nifti1Header, shape: tuple[int, int, int], note: Note) -> np.ndarray:
    """Return the stated voxel sizes without a sign; 1 where one slice has none.

    Raises:
        GeometryError: an axis of several voxels has no size.
    """
    stated = [float(size) for size in fields["pixdim"][1:4]]
    sizes = np.abs(stated)
    is_usable = np.isfinite(sizes) & (sizes > 0)
    if not (is_usable | (np.array(shape) == 1)).all():
        raise GeometryError(f"The voxel sizes are {stated}: they must be above 0.")
    sizes[~is_usable] = 1.0
    if sizes.tolist() != stated:
        note("bad_value", f"The voxel sizes are {stated}: {sizes.tolist()} are taken.")
    return sizes


def _in_mm(
    affine: np.ndarray, fields: nib.Nifti1Header, shape: tuple[int, int, int], note: Note
) -> np.ndarray:
    """Return an affine in mm, and report lengths that no scan has.

    Raises:
        GeometryError: the affine maps no index to a place.
    """
    unit = int(fields["xyzt_units"]) & 7  # the other bits are of time
    if unit not in MM_PER_UNIT:
        note("bad_value", f"The unit of length has the code {unit}, which is none: taken as mm.")
    factor = MM_PER_UNIT.get(unit, 1.0)
    steps = np.array(spacing_of(affine))[np.array(shape) > 1]  # NaN if the affine is
    if factor != 1 and not _is_sound(steps * factor) and _is_sound(steps):
        said = "metres" if unit == 1 else "micrometres"
        note("bad_value", f"Voxels of {_listed(steps)} {said} are no scan's: taken as mm.")
        factor = 1.0
    affine = affine * [[factor], [factor], [factor], [1.0]]
    plane_of(affine)
    if not _is_sound(steps * factor):
        note("bad_value", f"Voxels that lie {_listed(steps * factor)} mm apart are no scan's.")
    farthest = np.abs(corners_of(affine, shape)).max()
    if farthest > FARTHEST_MM:
        note("bad_value", f"A voxel lies {farthest:.3g} mm from the origin, which is no scan's.")
    return affine


def _compare_sizes(
    fields: nib.Nifti1Header, affine: np.ndarray, shape: tuple[int, int, int], note: Note
) -> None:
    """Report voxel sizes that an sform contradicts, where no qform is made of them."""
    stated = np.array([float(size) for size in fields["pixdim"][1:4]])
    steps = np.array(spacing_of(affine)) / MM_PER_UNIT.get(int(fields["xyzt_units"]) & 7, 1.0)
    apart = np.abs(stated - steps) / steps * (np.array(shape) - 1)
    if not (apart <= ROUNDING_VOXELS)[np.array(shape) > 1].all():
        said = f"The voxel sizes are {_listed(stated)}, those of the sform {_listed(steps)}"
        note("bad_value", f"{said}: the sform is taken.")


def _is_sound(lengths: np.ndarray) -> bool:
    return bool(((lengths >= SOUND_MM[0]) & (lengths <= SOUND_MM[1])).all())


def _listed(lengths: np.ndarray) -> str:
    return " x ".join(f"{length:.4g}" for length in lengths)
