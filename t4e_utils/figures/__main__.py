"""Write the drawings of the README.

`python -m t4e_utils.figures [FOLDER]`, by default into `docs/figures`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from t4e_utils.figures import classifier_drawing, pipeline_drawing


def main(folder: str = "docs/figures") -> None:
    """Draw the method and the classifier as PNG files."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for name, draw in (("pipeline", pipeline_drawing), ("classifier", classifier_drawing)):
        draw().savefig(target / f"{name}.png", dpi=130)
        print(f"wrote {target / name}.png")


if __name__ == "__main__":
    main(*sys.argv[1:2])
