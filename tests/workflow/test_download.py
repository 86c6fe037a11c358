"""The download of data, with a small program in place of the Kaggle client.

Nothing here uses a network.
"""

from __future__ import annotations

import errno
import io
import resource
import stat
import struct
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from t4e_utils import T4EError
from t4e_utils.competitions.brain_tumor.download import fetch_all, main, take_brats
from t4e_utils.files import WriteError
from t4e_utils.workflow import PipelineError, download
from t4e_utils.workflow.download import fetch, kaggle_client, unpack

# What Kaggle's client (version 2.2.4) and the HTTP library it uses print.
NO_TOKEN = "Authentication required to call the Kaggle API.\nFirst, you will need a Kaggle account."
OLD_CLIENT_NO_TOKEN = (
    "OSError: Could not find kaggle.json. Make sure it's located in /home/user/.kaggle."
)
NOT_ACCEPTED = (
    "403 Client Error: Forbidden for url: "
    "https://api.kaggle.com/v1/competitions.CompetitionApiService/DownloadDataFiles"
)
BAD_TOKEN = "401 Client Error: Unauthorized for url: https://api.kaggle.com/v1/x"
NO_NETWORK = (
    'Max retries exceeded with url: /v1/x (Caused by NameResolutionError("Failed to '
    "resolve 'api.kaggle.com'\"))"
)


@pytest.fixture
def client(tmp_path, monkeypatch):
    """Return a function that puts a stand-in named `kaggle` on the PATH.

    It copies an archive to where `-p` says, or complains.
    """

    def install(*, says: str = "", copies: Path | None = None) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        lines = [f"#!{sys.executable}", "import shutil, sys", f"print({says!r}, file=sys.stderr)"]
        lines.append(
            f"shutil.copy({str(copies)!r}, sys.argv[sys.argv.index('-p') + 1])"
            if copies
            else f"sys.exit({int(bool(says))})"
        )
        (folder / "kaggle").write_text("\n".join(lines))
        (folder / "kaggle").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))

    return install


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tarred(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_a_missing_client_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(
        PipelineError, match="Kaggle client is not installed: `make data` installs it"
    ):
        kaggle_client()


@pytest.mark.parametrize(
    ("says", "message"),
    [
        (
            NO_TOKEN,
            r"no valid token: make one at .*settings/api, save it as ~/\.kaggle/access_token",
        ),
        (OLD_CLIENT_NO_TOKEN, "no valid token"),
        (BAD_TOKEN, "no valid token"),
        (
            NOT_ACCEPTED,
            r"terms are not accepted\. Open https://page with the account of your token",
        ),
        (NO_NETWORK, "cannot be reached"),
        ("404 Client Error: Not Found", "does not know the data"),
        ("OSError: [Errno 28] No space left on device", "The disk is full"),
        ("Something odd\nhappened", r"could not fetch the data \(happened\): try the same by hand"),
    ],
)
def test_what_the_client_complains_about_becomes_one_sentence_that_says_what_to_do(
    client, tmp_path, says, message
):
    client(says=says)
    with pytest.raises(PipelineError, match=message):
        fetch(
            ["datasets", "download", "x/y"],
            tmp_path / "downloads",
            name="the data",
            page="https://page",
        )


def test_missing_credentials_end_the_command_with_the_sentence_alone(client, tmp_path):
    client(says=NO_TOKEN)
    with pytest.raises(SystemExit, match=r"^The Kaggle client has no valid token"):
        main([str(tmp_path / "data")])
    assert not (tmp_path / "data" / "rsna").exists()


def test_a_client_that_leaves_no_archive_is_reported(client, tmp_path):
    client()
    with pytest.raises(PipelineError, match="should have left one archive"):
        fetch(
            ["datasets", "download", "x/y"],
            tmp_path / "downloads",
            name="the data",
            page="https://page",
        )


def refused(archive: Path, match: str, **options) -> None:
    """Unpack into `data` beside an archive, and find nothing there but the archive as it was."""
    place, before = archive.parent / "data", archive.read_bytes()
    place.mkdir(exist_ok=True)
    with pytest.raises(T4EError, match=match):
        unpack(archive, place / "rsna", **options)
    assert list(place.iterdir()) == []
    assert archive.read_bytes() == before


def changed(path: Path, name: bytes, offset: int, value: int, *, bits: int = 16) -> Path:
    """Overwrite a number in what an archive's directory says of a member, at an offset in it."""
    content, n = bytearray(path.read_bytes()), bits // 8
    central = content.rindex(name) - 46  # APPNOTE.TXT, 4.3.12
    content[central + offset : central + offset + n] = value.to_bytes(n, "little")
    path.write_bytes(content)
    return path


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


def test_a_damaged_archive_leaves_no_folder_and_is_kept(tmp_path):
    archive = zipped(tmp_path / "a.zip", {"train_labels.csv": b"x" * 5000})
    whole = archive.read_bytes()
    for content in (whole[:-40], whole[:1000], whole[:60] + b"y" + whole[61:], b"", b"PK", b"x"):
        archive.write_bytes(content)
        refused(archive, r"a\.zip is damaged \(.*\): delete it and run this again")


def test_places_before_the_beginning_of_an_archive_are_damage_and_no_fault_of_the_disk(tmp_path):
    archive = zipped(tmp_path / "a.zip", {"train_labels.csv": b"x" * 500})
    content = archive.read_bytes()
    end = content.rindex(b"PK\x05\x06")  # says where the directory begins; APPNOTE.TXT, 4.3.16
    beyond = struct.pack("<I", struct.unpack_from("<I", content, end + 16)[0] + 99)
    archive.write_bytes(content[: end + 16] + beyond + content[end + 20 :])
    refused(archive, r"a\.zip is damaged \(.*\): delete it and run this again")


@pytest.mark.parametrize(
    "kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=["zlib", "bz2", "xz"]
)
def test_a_byte_changed_in_a_compressed_member_is_found_whatever_the_compression(tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 9, 20_000, dtype=np.uint8).tobytes()
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", kind) as opened:
        opened.writestr("at 12:30/..first.csv", b"first")
        opened.writestr("a.dcm", noise)
    whole = archive.read_bytes()
    for place in (150, 2000, 4000):
        archive.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        refused(archive, "is damaged")
    archive.write_bytes(whole)
    assert (unpack(archive, tmp_path / "rsna") / "a.dcm").read_bytes() == noise
    assert (tmp_path / "rsna" / "at 12:30" / "..first.csv").read_bytes() == b"first"
    assert not archive.exists()


def test_a_member_that_asks_for_more_memory_than_there_is_is_damaged(tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_LZMA) as opened:
        opened.writestr("a.dcm", bytes(1000))
    content = bytearray(archive.read_bytes())
    properties = 30 + len("a.dcm") + 4  # after the member's header, 4.3.7 and 5.8.8 of APPNOTE
    content[properties + 1 : properties + 5] = struct.pack("<I", 3 << 30)  # of the dictionary
    archive.write_bytes(content)
    before = resource.getrlimit(resource.RLIMIT_AS)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + (1 << 30), before[1]))
    try:
        refused(archive, r"a\.zip is damaged \(.*\): delete it and run this again")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize(
    ("member", "sentence"),
    [
        ("/etc/passwd", "has a path that leads out of the archive"),
        ("../../outside.csv", "has a path that leads out of the archive"),
        ("a/../../outside.csv", "has a path that leads out of the archive"),
        ("..\\outside.csv", "has a path that leads out of the archive"),
        ("C:/outside.csv", "has a path that leads out of the archive"),
        ("a\x1b[31m.csv", r"a\\x1b\[31m\.csv has a name that is not UTF-8 or cannot be printed"),
        (link("link.csv"), "is a link or a device and no file"),
    ],
)
def test_members_that_lead_elsewhere_are_refused_before_anything_is_written(
    tmp_path, member, sentence
):
    archive = zipped(tmp_path / "a.zip", {"train_labels.csv": b"x", member: b"/etc"})
    refused(archive, rf"a\.zip is not unpacked: its member .*{sentence}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "data"]


@pytest.mark.parametrize(
    ("offset", "value", "sentence"),
    [
        (8, 0x801, "is encrypted"),
        (10, 9, r"compressed in a way that Python cannot read \(type 9\)"),
        (10, 93, r"compressed in a way that Python cannot read \(type 93\)"),
        (10, 99, r"compressed in a way that Python cannot read \(type 99\)"),
    ],
    ids=["encrypted", "deflate64", "zstandard", "aes"],
)
def test_what_python_cannot_decode_is_a_sentence(tmp_path, offset, value, sentence):
    archive = zipped(tmp_path / "a.zip", {"train_labels.csv": b"x"})
    refused(changed(archive, b"train_labels.csv", offset, value), sentence)


def test_backslashes_between_folders_are_taken_for_slashes(tmp_path):
    members = {"train\\00000\\": b"", "train\\00000\\a.dcm": b"x", "train_labels.csv": b"y"}
    folder = unpack(zipped(tmp_path / "a.zip", members), tmp_path / "rsna")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    assert found == {"train", "train/00000", "train/00000/a.dcm", "train_labels.csv"}


def test_names_in_another_encoding_are_refused(tmp_path):
    archive = zipped(tmp_path / "a.zip", {"p\xe9.csv": b"x"})
    content = archive.read_bytes()
    archive.write_bytes(content.replace("p\xe9.csv".encode(), b"p\xff\xfe.csv"))
    refused(archive, r"is damaged \('utf-8' codec can't decode")
    changed(zipped(archive, {"p\xe9.csv": b"x"}), "p\xe9.csv".encode(), 8, 0)
    refused(archive, "has a name that is not UTF-8")


def test_two_members_of_one_name_are_refused_and_a_file_is_no_folder(tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("a.csv", b"first")
        with pytest.warns(UserWarning, match="Duplicate name"):
            opened.writestr("a.csv", b"second")
    refused(archive, r"a\.csv stands in it twice")
    refused(zipped(archive, {"a": b"x", "a/b.csv": b"y"}), "a name in it does not fit on this disk")
    refused(zipped(archive, {"x" * 300: b"x"}), r"does not fit on this disk \(File name too long")


def test_an_archive_larger_than_the_disk_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    archive = zipped(tmp_path / "a.zip", {"train_labels.csv": b"x"})
    changed(archive, b"train_labels.csv", 24, 3_000_000_000, bits=32)
    refused(archive, r"would become 3\.0 GB, more than 200 times its own size")
    zipped(archive, {"train_labels.csv": bytes(3_000_000)})
    room = SimpleNamespace(free=2_000_000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: room)
    refused(archive, r"it needs 0\.0 GB, and the disk has 0\.0 GB left\. Make room")
    room.free = 4_000_000
    assert unpack(archive, tmp_path / "rsna").is_dir()


def test_a_full_disk_and_a_folder_that_cannot_be_made_are_sentences(tmp_path, monkeypatch):
    archive = zipped(tmp_path / "a.zip", {"train_labels.csv": b"x"})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    refused(archive, "the disk is full", take=full)
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"cannot be written \(Not a directory\)"):
        unpack(archive, tmp_path / "file" / "rsna")
    with pytest.raises(WriteError, match=r"cannot be written \(Not a directory\)"):
        fetch([], tmp_path / "file" / "rsna", name="the data", page="https://page")
    (tmp_path / "b.zip").mkdir()
    with pytest.raises(PipelineError, match=r"b\.zip cannot be read \(Is a directory\)"):
        unpack(tmp_path / "b.zip", tmp_path / "rsna")


def test_an_archive_of_archives_is_named_and_kept(tmp_path):
    inner = zipped(tmp_path / "inner.zip", {"train_labels.csv": b"x"}).read_bytes()
    archive = zipped(tmp_path / "a.zip", {"data/inner.zip": inner})
    refused(
        archive,
        r"a\.zip holds no train_labels\.csv, only archives such as data/inner\.zip: unpack these",
        holds="train_labels.csv",
    )


def test_what_an_interrupted_unpacking_left_is_removed_and_no_link_is_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "a.csv").write_text("precious")
    (tmp_path / ".rsna.partial").symlink_to(precious)
    unpack(zipped(tmp_path / "a.zip", {"a.csv": b"new"}), tmp_path / "rsna")
    assert (precious / "a.csv").read_text() == "precious"
    (tmp_path / ".rsna.partial").mkdir()
    (tmp_path / ".rsna.partial" / "old.csv").write_text("old")
    (tmp_path / "rsna" / "a.csv").unlink()
    (tmp_path / "rsna").rmdir()
    unpack(zipped(tmp_path / "a.zip", {"a.csv": b"new"}), tmp_path / "rsna")
    assert [path.name for path in (tmp_path / "rsna").iterdir()] == ["a.csv"]


@pytest.mark.parametrize("how", ["link", "large", "cut"])
def test_scans_in_a_tar_archive_that_cannot_be_taken_leave_nothing(tmp_path, how, monkeypatch):
    info = tarfile.TarInfo("BraTS2021_00000/BraTS2021_00000_t1.nii.gz")
    if how == "link":
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    content = tarred({"BraTS2021_00495/BraTS2021_00495_seg.nii.gz": b"s" * 2000})
    match how:
        case "cut":
            content, sentence = content[:1500], "is damaged"
        case "large":
            info.size, sentence = 10**15, r"or larger than the room on the disk \(1,000,000\.0 GB"
            content = content[:2560] + info.tobuf()  # a header each, and 2,000 bytes in blocks
        case "link":
            content, sentence = content[:2560] + info.tobuf() + bytes(1024), "in it is a link, or"
    archive = zipped(tmp_path / "a.zip", {"all.tar": content})
    refused(archive, sentence, take=take_brats)


def test_a_data_folder_that_is_a_link_to_nothing_is_not_filled(client, tmp_path):
    client(says=NO_TOKEN)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rsna").symlink_to(tmp_path / "unmounted")
    with pytest.raises(PipelineError, match=r"rsna is a link to .*unmounted, which is not there"):
        fetch_all(tmp_path / "data")


def test_both_data_sets_end_in_the_layout_of_the_readme_and_are_not_fetched_twice(
    client, tmp_path, capsys
):
    root, scan = tmp_path / "data", "BraTS2021_00495_seg.nii.gz"
    client(
        copies=zipped(
            tmp_path / "rsna.zip",
            {"train_labels.csv": b"BraTS21ID,MGMT_value\n", "train/00000/FLAIR/Image-1.dcm": b"d"},
        )
    )
    # the stand-in brings the same archive for both
    with pytest.raises(PipelineError, match="holds no BraTS2021"):
        fetch_all(root)
    assert (root / "rsna/train/00000/FLAIR/Image-1.dcm").read_bytes() == b"d"
    assert not (root / "brats21").exists()
    (kept,) = (root / ".downloads" / "brats21").iterdir()
    kept.unlink()  # as the sentence says
    training = tarred(
        {
            "./BraTS2021_00000/BraTS2021_00000_t1ce.nii.gz": b"t",
            f"BraTS2021_00495/{scan}": b"first",
            "._BraTS2021_00000_t1.nii.gz": b"no",
        }
    )
    client(
        copies=zipped(
            tmp_path / "brats.zip",
            {
                "BraTS2021_Training_Data.tar": training,
                "BraTS2021_00495.tar": tarred({scan: b"second"}),
                "readme.txt": b"",
            },
        )
    )
    fetch_all(root)
    found = {
        str(path.relative_to(root)): path.read_bytes() for path in (root / "brats21").rglob("*.gz")
    }
    assert found == {
        "brats21/BraTS2021_00000/BraTS2021_00000_t1ce.nii.gz": b"t",
        f"brats21/BraTS2021_00495/{scan}": b"first",
    }
    assert not list((root / ".downloads").rglob("*.zip"))
    client(says=NO_TOKEN)
    fetch_all(root)
    assert capsys.readouterr().out.count("is there: nothing is fetched") == 3
