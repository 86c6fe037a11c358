"""Fetch data sets with the Kaggle client and the user's token, and files from Google Drive.

The client is called as a command, with whatever token it finds; nothing here reads or stores one. A
data set appears under its name only when it is complete.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from t4e_utils.workflow import PipelineError

TAIL = 4000  # characters of the client's last words that are searched for a reason
REASONS = (
    (
        r"\b403\b|forbidden",
        "Kaggle refuses {name}: its terms are not accepted. Open {page} with the account of "
        "your token, accept them, and run this again.",
    ),
    (
        r"\b401\b|unauthorized|authenticat|kaggle\.json|credentials",
        "The Kaggle client has no valid token: make one at "
        "https://www.kaggle.com/settings/api, save it as ~/.kaggle/access_token "
        "(or set KAGGLE_API_TOKEN), and run this again.",
    ),
    (r"\b404\b|not found", "Kaggle does not know {name}: is {page} still there?"),
    (
        r"resolve|connection|timed? ?out",
        "Kaggle cannot be reached: is there a network? Run this again, it goes on where it "
        "stopped.",
    ),
    (r"no space left", "The disk is full: make room, or give a folder on another disk."),
)


def kaggle_client() -> str:
    """Return the path of the `kaggle` command.

    Raises:
        PipelineError: it is not installed.
    """
    found = shutil.which("kaggle") or shutil.which("kaggle", path=str(Path(sys.executable).parent))
    if not found:
        raise PipelineError(
            "The Kaggle client is not installed: `make data` installs it, or `pip install kaggle`."
        )
    return found


def fetch(arguments: list[str], folder: Path, *, name: str, page: str) -> Path:
    """Run the client's download command and return the archive.

    Args:
        arguments: such as `["competitions", "download", "-c", "some-challenge"]`.
        folder: where the archive goes; what is complete there is not fetched again.
        name: of the data set, for messages.
        page: where its terms are.

    Raises:
        PipelineError: no client, no token, terms not accepted, no network; or it brought no
            archive.
    """
    folder.mkdir(parents=True, exist_ok=True)
    code, said = _run([kaggle_client(), *arguments, "-p", str(folder)])
    if code:
        raise PipelineError(_reason(said, name=name, page=page))
    archives = sorted(folder.glob("*.zip"))
    if len(archives) != 1:
        raise PipelineError(
            f"The Kaggle client should have left one archive in {folder}, there are "
            f"{len(archives)}: empty the folder and run this again."
        )
    return archives[0]


def fetch_from_drive(file_id: str, path: Path, *, name: str) -> Path:
    """Fetch a file that is shared on Google Drive; what is there is not fetched again.

    Args:
        file_id: as in its address.
        path: appears only when it is complete.
        name: of the file, for messages.

    Raises:
        PipelineError: gdown is not installed, or the file cannot be fetched.
    """
    if path.exists():
        print(f"{path} is there: nothing is fetched.")
        return path
    try:
        import gdown
    except ModuleNotFoundError:
        raise PipelineError(
            "gdown is not installed, which fetches from Google Drive: run `pip install gdown`."
        ) from None
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, reason, cause = path.with_name(f".{path.name}.partial"), "", None
    try:
        if not gdown.download(id=file_id, output=str(partial)) or not partial.exists():
            reason = "Google Drive gave no file"
    except Exception as error:  # gdown, its HTTP library and the disk each have their own
        reason, cause = _last_line(error), error
    if reason:
        raise PipelineError(
            f"{name} cannot be fetched ({reason}): open https://drive.google.com/file/d/{file_id} "
            f"in a browser and save it as {path}."
        ) from cause
    partial.rename(path)
    return path


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()


def _run(command: list[str]) -> tuple[int, str]:
    """Run the client, show its progress once it downloads; return exit code and last words."""
    said, is_downloading = "", False
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while chunk := os.read(process.stdout.fileno(), 4096):
            text = chunk.decode(errors="replace")
            said = (said + text)[-TAIL:]
            is_downloading = is_downloading or "ownloading" in said
            if is_downloading:
                print(text, end="", flush=True)
    return process.returncode, said


def _reason(said: str, *, name: str, page: str) -> str:
    for pattern, sentence in REASONS:
        if re.search(pattern, said, flags=re.IGNORECASE):
            return sentence.format(name=name, page=page)
    last = said.strip().splitlines()[-1:] or ["it said nothing"]
    return (
        f"The Kaggle client could not fetch {name} ({last[0]}): try the same by hand, from {page}."
    )


def unpack(
    archive: Path, folder: Path, *, take: Callable[[zipfile.ZipFile, str, Path], None] | None = None
) -> Path:
    """Unpack a zip archive into a folder that appears when it is complete; remove the archive.

    Args:
        archive: the zip file.
        folder: to make; it must not exist.
        take: what to do with a member (archive, its name, target folder); plain extraction if not
            given.

    Raises:
        PipelineError: the archive is damaged.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            for name in tqdm(
                opened.namelist(), desc=f"unpacking {folder.name}", mininterval=5, unit="file"
            ):
                take(opened, name, partial) if take else opened.extract(name, partial)
    except (zipfile.BadZipFile, EOFError) as error:
        raise PipelineError(
            f"{archive} is damaged ({error}): delete it and run this again."
        ) from error
    partial.rename(folder)
    archive.unlink()
    return folder
