"""The download of data, with a small program in place of the Kaggle client.

Nothing here uses a network.
"""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from t4e_utils.competitions.brain_tumor.download import fetch_all, main
from t4e_utils.workflow import PipelineError
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


def test_a_damaged_archive_leaves_no_folder(tmp_path):
    archive = zipped(tmp_path / "a.zip", {"train_labels.csv": b"x" * 5000})
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(PipelineError, match=r"a\.zip is damaged .* delete it"):
        unpack(archive, tmp_path / "rsna")
    assert not (tmp_path / "rsna").exists()


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
    (root / "brats21").rmdir()
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
