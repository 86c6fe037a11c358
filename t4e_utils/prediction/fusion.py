"""Late fusion: probabilities of a patient's series, averaged where they lie in the scanner.

A network that sees one slice of one series finds a lesion in some series and not in others. The
series of an examination share the scanner's coordinates (Image Position and Image Orientation
(Patient), DICOM PS3.3 C.7.6.2). So a map of one series can be read at the voxels of another,
whatever its plane and spacing. A weighted mean says where the series agree (weighted average
combiner: Kuncheva, Combining Pattern Classifiers, 2nd ed., 2014). The frame of reference UID
(PS3.3 C.7.4.1) is not used, because anonymised series often have one each. If a patient moves
between two series, their maps are shifted against each other by that movement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn.functional import grid_sample

# of the maps that are read; finer ones are thinned out, as the networks see no finer
LARGEST_SIDE = 256


def fuse_maps(
    maps: Mapping[str, np.ndarray],
    affines: Mapping[str, np.ndarray],
    weights: Mapping[str, float],
    *,
    affine: np.ndarray,
    shape: tuple[int, int, int],
    slices: Sequence[int],
    device: str | torch.device = "cpu",
) -> np.ndarray:
    """Average the maps of several series at the voxels of a grid, by linear interpolation.

    Where a series has no voxel, half a voxel beyond its border or farther, it has no say; where
    none has, the result is 0.

    Args:
        maps: of each series, (D, H, W), any number type; in the unit of the result.
        affines: of each series, (4, 4), index (slice, row, column, 1) to scanner mm.
        weights: of each series, positive.
        affine: of the grid.
        shape: of the grid, (D, H, W).
        slices: n of its slices, the only ones that are computed.
        device: where to compute.

    Returns:
        (n, H, W) float32.
    """
    total, weight = (np.zeros((len(slices), *shape[1:]), np.float32) for _ in range(2))
    for name, values in maps.items():
        every = -(-max(values.shape[1:]) // LARGEST_SIDE)
        source = torch.from_numpy(
            np.ascontiguousarray(values[:, ::every, ::every], dtype=np.float32)
        ).to(device)
        to_source = np.linalg.inv(affines[name]) @ affine
        for k, index in enumerate(slices):
            read, is_seen = _read_slice(
                source, (1, every, every), values.shape, to_source, index, shape[1:]
            )
            total[k] += weights[name] * read
            weight[k] += weights[name] * is_seen
    return np.divide(total, weight, out=total, where=weight > 0)


@torch.inference_mode()
def _read_slice(
    source: torch.Tensor,
    steps: tuple[int, int, int],
    shape: tuple[int, int, int],
    to_source: np.ndarray,
    index: int,
    matrix: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Values (H, W) of a source at a slice of another grid, 0 outside.

    And where the source has voxels, bool (H, W).

    The source holds every `steps`-th voxel of a volume of that `shape`, to whose indices
    `to_source` leads.
    """
    rows, columns = (torch.arange(n, dtype=torch.float32, device=source.device) for n in matrix)
    is_seen = torch.ones(matrix, dtype=torch.bool, device=source.device)
    scaled = []
    for (down, right, across, start), step, n, n_left in zip(
        to_source[:3].tolist(), steps, shape, source.shape, strict=True
    ):
        position = down * index + right * rows[:, None] + across * columns + start
        is_seen &= (position >= -0.5) & (position <= n - 0.5)
        # -1 is the first voxel, 1 the last; a single one is all there is
        scaled.append(2 * position / step / max(n_left - 1, 1) - 1)
    grid = torch.stack(scaled[::-1], dim=-1)[None, None]  # grid_sample counts columns first
    values = grid_sample(source[None, None], grid, padding_mode="border", align_corners=True)[
        0, 0, 0
    ]
    return (values * is_seen).cpu().numpy(), is_seen.cpu().numpy()
