"""How much memory reading takes: the peak above the imports, beside the array that is returned.

    python -m benchmarks.memory

Each scan is read in a process of its own. Linux counts the peak of its resident memory (VmHWM of
`/proc/self/status`), from the moment on when all is imported.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks.reading import head

ROOT = Path(__file__).parents[1]
SHAPE = (128, 512, 512)
READ_NIFTI = "from t4e_utils.scans.nifti import read_nifti"


def peak_above_imports(imports: str, expression: str) -> tuple[int, int]:
    """Return the peak of memory while an expression is evaluated, and the size of its array.

    Args:
        imports: statements that come before and do not count.
        expression: gives an array.
    """
    command = [sys.executable, "-m", "benchmarks.memory", "--child", imports, expression]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    peak, size = json.loads(said)
    return peak, size


def child(imports: str, expression: str) -> None:
    names: dict = {}
    exec(imports, names)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    before = resident("VmRSS")
    array = eval(expression, names)
    print(json.dumps([resident("VmHWM") - before, array.nbytes]))


def resident(name: str) -> int:
    """Return a number of bytes that Linux keeps of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def nifti_files(folder: Path) -> Iterator[tuple[str, str]]:
    """Write NIfTI files; yield what each is and the expression that reads it."""
    grey = head(SHAPE, np.int16).array.T
    to_left, to_right = np.diag([-1.0, -1.0, 1.0, 1.0]), np.eye(4)
    cases = {
        "int16": (grey, to_left, ""),
        "int16, turned": (grey, to_right, ""),
        "int16, sagittal": (grey, to_right[:, [1, 2, 0, 3]], ""),
        "int16, scaled": (grey, to_left, ""),
        "float32": (grey.astype(np.float32), to_left, ""),
        "float64": (grey.astype(np.float64), to_left, ""),
        "float32, NaN": (np.where(grey > 0, grey, np.float32("nan")), to_right, ""),
        "labels": ((grey > 700).astype(np.uint8), to_right, ", labels=True, allowed=(0, 1)"),
        "labels as float64": ((grey > 700).astype(np.float64), to_right, ", labels=True"),
    }
    for name, (array, affine, options) in cases.items():
        image = nib.Nifti1Image(array, affine)
        if name.endswith("scaled"):
            image.header.set_slope_inter(0.5, -3)
        for suffix in (".nii", ".nii.gz"):
            path = folder / f"scan{suffix}"
            nib.save(image, path)
            yield f"NIfTI, {name}, {suffix}", f"read_nifti({str(path)!r}{options}).array"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    print(f"{'':<36}{'array, MB':>10}{'peak, MB':>10}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for name, expression in nifti_files(Path(folder)):
            peak, size = peak_above_imports(READ_NIFTI, expression)
            print(
                f"{name:<36}{size / 1e6:>10.0f}{peak / 1e6:>10.0f}{peak / size:>8.2f}", flush=True
            )


if __name__ == "__main__":
    main()
