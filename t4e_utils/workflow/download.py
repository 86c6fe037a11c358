"""Fetch data sets with the Kaggle client and the user's token, and files from Google Drive.

The client is called as a command, with whatever token it finds; nothing here reads or stores one. A
data set appears under its name only when it is complete.
"""

from __future__ import annotations

import errno
import hashlib
import lzma
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from t4e_utils import T4EError, printable
from t4e_utils.files import write_error
from t4e_utils.workflow import PipelineError

ENCRYPTED, IS_UTF8 = 0x1, 0x800  # bits of a member's flags; APPNOTE.TXT, 4.4.4
# an archive that becomes larger than both is none of data
BOMB_RATIO, BOMB_BYTES = 200, 1 << 30
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz", ".zst")
# what Python raises for archives that are cut or changed, of any compression, and for the disk
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    MemoryError,  # of a part that says it needs a dictionary of gigabytes
    EOFError,
    OSError,
    ValueError,
    LookupError,
    RuntimeError,  # and NotImplementedError
    struct.error,
    OverflowError,
)
# what a disk says to names that it cannot have
NO_NAMES = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL)
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
        WriteError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error
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


def fetch_from_drive(file_id: str, path: Path, *, name: str, sha256: str = "") -> Path:
    """Fetch a file that is shared on Google Drive; what is there is not fetched again.

    Args:
        file_id: as in its address.
        path: appears only when it is complete.
        name: of the file, for messages.
        sha256: of its content; "" if none is known, which is said.

    Raises:
        PipelineError: gdown is not installed, the file cannot be fetched, or it has another digest
            than it should have.
    """
    if path.exists():
        print(printable(f"{path} is there: nothing is fetched."))
        _check_digest(path, sha256, name)
        return path
    try:
        import gdown
    except ModuleNotFoundError:
        raise PipelineError(
            "gdown is not installed, which fetches from Google Drive: run `pip install gdown`."
        ) from None
    partial, reason, cause = path.with_name(f".{path.name}.partial"), "", None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        if not gdown.download(id=file_id, output=str(partial)) or not partial.exists():
            reason = "Google Drive gave no file"
    except Exception as error:  # gdown, its HTTP library and the disk each have their own
        reason, cause = _last_line(error), error
    if reason:
        raise PipelineError(
            f"{name} cannot be fetched ({reason}): open https://drive.google.com/file/d/{file_id} "
            f"in a browser and save it as {path}."
        ) from cause
    try:
        _check_digest(partial, sha256, name)
    except PipelineError:
        partial.unlink()
        raise
    partial.rename(path)
    return path


def _check_digest(path: Path, sha256: str, name: str) -> None:
    """Compare a file with what is known of it, or say that nothing is known.

    Raises:
        PipelineError: it has another digest.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PipelineError(f"{path} cannot be read ({error.strerror}): delete it.") from error
    if not sha256:
        print(f"{name} is not checked: no digest of it is published. Its SHA-256 is {found}.")
    elif found != sha256:
        raise PipelineError(
            f"{path} is not {name} as it was published: its SHA-256 is {found}, not {sha256}. "
            "Delete it if it is there, and run this again."
        )


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
    archive: Path,
    folder: Path,
    *,
    take: Callable[[zipfile.ZipFile, str, Path], None] | None = None,
    holds: str = "*",
) -> Path:
    """Unpack a zip archive into a folder that appears when it is complete; remove the archive.

    If it cannot be unpacked, nothing of it stays, and the archive is kept.

    Args:
        archive: the zip file.
        folder: to make; it must not exist.
        take: what to do with a member (archive, its name, target folder); plain extraction if not
            given.
        holds: pattern of a path that must be there afterwards.

    Raises:
        PipelineError: the archive is damaged, encrypted, compressed in an unknown way, larger than
            the room on the disk, or does not hold what it should; or it holds links, paths that
            lead out of it, or two members of one name.
        WriteError: the disk is full, or the place cannot be written to.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    _remove(partial)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise write_error(folder, error) from error
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _members(opened, archive, partial)
            said = printable(f"unpacking {folder.name}")
            for member in tqdm(members, desc=said, mininterval=5, unit="file"):
                (take or _extract)(opened, member.filename, partial)
        if not any(partial.glob(holds)):
            raise PipelineError(_lacks(archive, members, holds))
        partial.rename(folder)
    except BaseException as error:
        _remove(partial)
        if isinstance(error, DAMAGED) and not isinstance(error, T4EError):
            raise _refused(error, archive, folder) from error
        raise
    archive.unlink()
    return folder


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _members(opened: zipfile.ZipFile, archive: Path, place: Path) -> list[zipfile.ZipInfo]:
    """Return the members, after a look at what the archive's directory says of them.

    No member gives more bytes than stand there, so that these bound what is written.
    """
    members, seen = opened.infolist(), set()
    for member in members:
        if fault := _fault(member, seen):
            raise PipelineError(
                f"{archive} is not unpacked: its member {member.filename} {fault}. Get it again "
                f"from where it comes from, or unpack it by hand."
            )
        seen.add(member.filename)
    needed, free = sum(member.file_size for member in members), shutil.disk_usage(place).free
    if needed > max(BOMB_BYTES, BOMB_RATIO * archive.stat().st_size):
        raise PipelineError(
            f"{archive} is not unpacked: it would become {needed / 1e9:,.1f} GB, more than "
            f"{BOMB_RATIO} times its own size, as no data set does. Get it again."
        )
    if needed > free:
        raise PipelineError(
            f"{archive} is not unpacked: it needs {needed / 1e9:,.1f} GB, and the disk has "
            f"{free / 1e9:,.1f} GB left. Make room, or give a folder on another disk."
        )
    return members


def _fault(member: zipfile.ZipInfo, seen: Collection[str]) -> str:
    """Say why a member is not taken; "" if it is."""
    name = member.filename.replace("\\", "/")
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts or re.match("[a-zA-Z]:/", name):
        return "has a path that leads out of the archive"
    is_known = member.flag_bits & IS_UTF8 or member.filename.isascii()
    if not is_known or printable(member.filename, kept="") != member.filename:
        return "has a name that is not UTF-8 or cannot be printed"
    if member.filename in seen:
        return "stands in it twice"
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device and no file"
    if member.flag_bits & ENCRYPTED:
        return "is encrypted"
    if member.compress_type not in COMPRESSIONS:
        return f"is compressed in a way that Python cannot read (type {member.compress_type})"
    return ""


def _extract(opened: zipfile.ZipFile, name: str, folder: Path) -> None:
    place = name.replace("\\", "/")  # as some programs on Windows write them, against 4.4.17
    target = folder / place
    if place.endswith("/"):
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # "x": two names can be one for a disk that does not tell a from A
    with opened.open(name) as content, target.open("xb") as file:
        shutil.copyfileobj(content, file)


def _lacks(archive: Path, members: Iterable[zipfile.ZipInfo], holds: str) -> str:
    names = [member.filename for member in members if member.filename.lower().endswith(ARCHIVES)]
    inner = f", only archives such as {names[0]}: unpack these by hand" if names else ""
    return (
        f"{archive} holds no {holds}{inner}. Compare it with the page it comes from, delete it, "
        "and run this again."
    )


def _refused(error: BaseException, archive: Path, folder: Path) -> T4EError:
    """Say why an archive could not be unpacked, after an error of Python's or of the disk."""
    if isinstance(error, OSError) and error.filename == str(archive):
        return PipelineError(f"{archive} cannot be read ({error.strerror}): fetch it again.")
    # damaged places of members make zipfile jump before the beginning of the archive
    is_jump = getattr(error, "errno", None) == errno.EINVAL and error.filename is None
    if isinstance(error, OSError) and error.errno is not None and not is_jump:
        if error.errno in NO_NAMES:
            return PipelineError(
                f"{archive} is not unpacked: a name in it does not fit on this disk "
                f"({error.strerror}: {error.filename}). Unpack it by hand, on another disk."
            )
        return write_error(folder, error)
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return PipelineError(f"{archive} is damaged ({reason}): delete it and run this again.")
