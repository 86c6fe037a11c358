"""Fetch the two data sets of the brain tumour challenge.

`python -m t4e_utils.competitions.brain_tumor.download data`.

    data/rsna/     train/00000/FLAIR/Image-1.dcm ...   test/...   train_labels.csv
                   sample_submission.csv
    data/brats21/  BraTS2021_00000/BraTS2021_00000_flair.nii.gz ...

Both need a Kaggle account whose owner has accepted the terms on the two pages.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO

from t4e_utils import T4EError, printable
from t4e_utils.competitions.brain_tumor.data import COMPETITION
from t4e_utils.workflow import PipelineError
from t4e_utils.workflow.download import fetch, unpack

RSNA_PAGE = f"https://www.kaggle.com/competitions/{COMPETITION}/rules"
BRATS = "dschettler8845/brats-2021-task1"
BRATS_PAGE = f"https://www.kaggle.com/datasets/{BRATS}"


def fetch_all(root: Path) -> None:
    """Fetch what is not there yet into `root/rsna` and `root/brats21`.

    Raises:
        PipelineError: as `download.fetch`, or an archive does not hold what it should.
    """
    if _is_missing(folder := root / "rsna"):
        command = ["competitions", "download", "-c", COMPETITION]
        place = root / ".downloads" / "rsna"
        archive = fetch(command, place, name="the RSNA-MICCAI data", page=RSNA_PAGE)
        unpack(archive, folder, holds="train_labels.csv")
        print(printable(f"{folder} is complete."))
    if _is_missing(folder := root / "brats21"):
        command, place = ["datasets", "download", BRATS], root / ".downloads" / "brats21"
        archive = fetch(command, place, name="the BraTS 2021 data", page=BRATS_PAGE)
        unpack(archive, folder, take=take_brats, holds="BraTS2021_*/*_seg.nii.gz")
        print(printable(f"{folder} is complete."))


def take_brats(archive: zipfile.ZipFile, member: str, folder: Path) -> None:
    """Write the scans of one member, a tar archive of patients or a scan, to `folder/<patient>/`.

    Anything else is left out.

    Raises:
        PipelineError: a scan is a link, or larger than the room on the disk.
    """
    with archive.open(member) as content:
        if not member.endswith((".tar", ".tar.gz")):
            if target := _place_of(member, folder):
                _write_scan(content, target)
            return
        with tarfile.open(fileobj=content, mode="r|*") as patients:
            for entry in patients:
                if target := _place_of(entry.name, folder):
                    is_wrong = not entry.isfile() or entry.size > shutil.disk_usage(folder).free
                    if is_wrong:
                        raise PipelineError(
                            f"{member} is not unpacked: {entry.name} in it is a link, or larger "
                            f"than the room on the disk ({entry.size / 1e9:,.1f} GB)."
                        )
                    _write_scan(patients.extractfile(entry), target)


def _place_of(name: str, folder: Path) -> Path | None:
    """Return where a scan is written; None if it is none, or is there already."""
    name = PurePosixPath(name).name
    found = re.fullmatch(r"(BraTS2021_\d{5})_[a-z0-9]+\.nii(\.gz)?", name)
    target = folder / found.group(1) / name if found else None
    return None if target is None or target.exists() else target


def _write_scan(content: IO[bytes], target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(content, file)


def _is_missing(folder: Path) -> bool:
    if folder.is_symlink() and not folder.exists():
        raise PipelineError(
            f"{folder} is a link to {os.readlink(folder)}, which is not there: bring it back, or "
            "delete the link."
        )
    if folder.exists():
        print(printable(f"{folder} is there: nothing is fetched. Remove it to fetch it anew."))
    return not folder.exists()


def main(arguments: list[str] | None = None) -> None:
    """Fetch both data sets into the folder named on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m t4e_utils.competitions.brain_tumor.download",
        description="Fetch the two data sets.",
    )
    parser.add_argument("root", type=Path, help="folder for rsna/ and brats21/, such as data")
    try:
        fetch_all(parser.parse_args(arguments).root)
    except T4EError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
