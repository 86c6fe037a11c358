"""Whatever a series is like, a marked voxel comes back where it was in the patient."""

from __future__ import annotations

import tempfile
from itertools import permutations
from pathlib import Path

import numpy as np
import pydicom
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.dicom_writing import write_dicom_series
from t4e_utils.scans.nifti import read_nifti, write_nifti
from t4e_utils.scans.volume import Volume

MM = 0.01


def rotation(quaternion: tuple[float, ...]) -> np.ndarray:
    """Return the rotation matrix of a quaternion that need not have length 1."""
    w, x, y, z = np.array(quaternion) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


coordinate = st.floats(-1, 1, allow_nan=False)
oblique = (
    st.tuples(coordinate, coordinate, coordinate, coordinate)
    .filter(lambda q: np.linalg.norm(q) > 0.1)
    .map(rotation)
)
upright = st.permutations(range(3)).map(lambda order: np.eye(3)[list(order)])
nearly_upright = st.builds(
    lambda a, x, y: a @ rotation((1.0, x / 30, y / 30, 0.0)), upright, coordinate, coordinate
)


@st.composite
def scans(draw) -> Volume:
    """Draw a volume with one bright voxel, in any orientation, also mirrored."""
    shape = draw(st.tuples(st.integers(2, 6), st.integers(2, 6), st.integers(2, 6)))
    spacing = np.array(draw(st.tuples(*[st.floats(0.3, 8.0)] * 3)))
    affine = np.eye(4)
    affine[:3, :3] = (
        draw(st.one_of(oblique, upright, nearly_upright))
        * draw(st.tuples(*[st.sampled_from([-1, 1])] * 3))
        * spacing
    )
    affine[:3, 3] = draw(st.tuples(*[st.floats(-400, 400)] * 3))
    kind = np.iinfo(draw(st.sampled_from([np.uint8, np.uint16, np.int16])))
    array = np.full(shape, draw(st.integers(kind.min, kind.max - 1)), kind.dtype)
    array[tuple(draw(st.integers(0, n - 1)) for n in shape)] = kind.max
    return Volume(array, tuple(spacing), affine)


def place_of_mark(volume: Volume) -> np.ndarray:
    """Return where the one bright voxel lies, in RAS mm."""
    (index,) = np.argwhere(volume.array == volume.array.max())
    return volume.affine[:3] @ (*index, 1)


def is_between_planes(volume: Volume) -> bool:
    """Return whether two ways to name the axes fit equally well, so that rounding decides on the
    plane.
    """
    cosines = np.abs(volume.affine[:3, :3]) / volume.spacing_mm
    fits = sorted(
        sum(cosines[axis, i] for i, axis in enumerate(axes)) for axes in permutations(range(3))
    )
    return fits[-1] - fits[-2] < 1e-6


def assert_same_scan(back: Volume, volume: Volume) -> None:
    assert back.array.dtype == volume.array.dtype
    np.testing.assert_allclose(place_of_mark(back), place_of_mark(volume), atol=MM)
    assert np.sort(back.array, axis=None).tolist() == np.sort(volume.array, axis=None).tolist()


@given(volume=scans(), compress=st.sampled_from([None, "rle"]), data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_voxel_of_a_dicom_series_stays_at_its_place_whatever_the_order_of_the_files(
    volume, compress, data
):
    n = len(volume.array)
    order, numbers = (data.draw(st.permutations(range(n))) for _ in range(2))
    with tempfile.TemporaryDirectory() as folder:
        write_dicom_series(
            volume, folder, patient_id="00001", series_description="T1w", compress=compress
        )
        for i in range(n):
            dataset = pydicom.dcmread(Path(folder) / f"Image-{i + 1}.dcm")
            dataset.InstanceNumber = numbers[i]
            dataset.save_as(Path(folder) / f"IM{order[i]}")
            (Path(folder) / f"Image-{i + 1}.dcm").unlink()
        back = read_dicom_series(folder)
    assert (back.meta["sorted_by"], back.meta["problems"]) == ("position", ())
    assert_same_scan(back, volume)
    np.testing.assert_allclose(sorted(back.spacing_mm), sorted(volume.spacing_mm), atol=1e-4)


@given(volume=scans(), suffix=st.sampled_from([".nii", ".nii.gz"]))
@settings(max_examples=60, deadline=None)
def test_a_voxel_of_a_nifti_file_stays_at_its_place(volume, suffix):
    with tempfile.TemporaryDirectory() as folder:
        back = read_nifti(write_nifti(volume, Path(folder) / f"scan{suffix}"))
    assert (back.plane, back.meta["problems"]) == ("axial", ())
    assert_same_scan(back, volume)


@given(volume=scans(), plane=st.sampled_from(["axial", "coronal", "sagittal"]))
@settings(max_examples=60, deadline=None)
def test_a_voxel_stays_at_its_place_in_every_plane(volume, plane):
    assume(not is_between_planes(volume))
    turned = volume.to_plane(plane)
    assert turned.plane == plane
    assert_same_scan(turned, volume)
