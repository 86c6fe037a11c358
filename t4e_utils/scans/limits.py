"""How large one image and one file may be: more is refused before any memory is taken for it.

A file of a few kB can claim, or be decompressed to, any size. Volumes of many files have no limit.
"""

from __future__ import annotations

from pathlib import Path

from t4e_utils.scans.problems import VolumeError

# 8,192 x 8,192: the largest detectors of radiology have half as many
LARGEST_IMAGE = 1 << 26  # pixels
# 1,024 images of 1,024 x 1,024 in 16 bits; with its copies this fits into 8 GiB of memory
LARGEST_FILE = 1 << 31  # bytes of all its pixels, decompressed
LEAST_IMAGE = 1 << 12  # bytes that an image counts at least: what is kept about it takes as much


def refuse_too_large(path: Path, images: int, rows: int, columns: int, pixel_bytes: int) -> None:
    """Refuse a file whose header says that its pixels are more than the limits allow.

    Args:
        path: of the file.
        images: how many images it has.
        rows: of each.
        columns: of each.
        pixel_bytes: of each pixel in memory.

    Raises:
        VolumeError: an image of more than `LARGEST_IMAGE` pixels, or images of more than
            `LARGEST_FILE` bytes together.
    """
    size = images * max(rows * columns * pixel_bytes, LEAST_IMAGE)
    if rows * columns > LARGEST_IMAGE or size > LARGEST_FILE:
        sentence = (
            f"The file says that it holds {images} x {rows} x {columns} pixels, {size / 1e9:.1f} "
            f"GB; an image may have {LARGEST_IMAGE:,} pixels and a file {LARGEST_FILE / 1e9:.1f} "
            "GB: take it out of the folder, or have it exported in parts."
        )
        raise VolumeError("too_large", path, sentence)
