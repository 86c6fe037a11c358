"""The team's checkpoints, with files of exactly their names and shapes in place of the real ones.

Nothing here uses a network.
"""

import json
import pickle
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from t4e_utils.competitions.brain_tumor import data as brain_tumor
from t4e_utils.competitions.brain_tumor import published
from t4e_utils.competitions.brain_tumor.prediction import load_predictor
from t4e_utils.competitions.brain_tumor.submission import classifier_cards, rule_of
from t4e_utils.learning import ModelError
from t4e_utils.learning.networks import build
from t4e_utils.workflow import PipelineError
from t4e_utils.workflow.download import fetch_from_drive

KEYS = json.loads((Path(__file__).parents[2] / "data" / "t4e_checkpoint_keys.json").read_text())


def state_like(part, generator=None):
    """Tensors of the published names and shapes.

    The values of a tensor share their memory, so that the file is small.
    """
    generator = generator or torch.Generator().manual_seed(0)
    return {
        key: (
            torch.tensor(0)
            if key.endswith("num_batches_tracked")
            else torch.rand((), generator=generator)
        ).expand(shape)
        for key, shape in KEYS[part].items()
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What is on Google Drive, by file name."""
    folder = tmp_path_factory.mktemp("drive")
    torch.save(state_like("segmentation"), folder / published.SEGMENTER_FILE)
    for name in brain_tumor.CONTRASTS:
        torch.save(state_like("classification"), folder / published.CLASSIFIER_FILE.format(name))
    encoder = {
        key: value
        for key, value in state_like("segmentation").items()
        if key.startswith("encoder.")
    }
    backbone = {
        key.removeprefix("backbone."): value
        for key, value in state_like("classification").items()
        if key.startswith("backbone.")
    }
    torch.save(encoder, folder / published.START_FILES["densenet121"])
    torch.save(backbone, folder / published.START_FILES["eca_nfnet_l0"])
    return folder


@pytest.fixture
def drive(files, monkeypatch):
    """gdown, copying from the folder instead of the network."""
    names = {file_id: name for name, file_id in published.DRIVE_IDS.items()}
    asked = []

    def download(*, id, output):
        asked.append(names[id])
        return shutil.copy(files / names[id], output)

    monkeypatch.setitem(sys.modules, "gdown", SimpleNamespace(download=download))
    return asked


def test_the_command_makes_a_run_that_the_submission_notebook_reads(drive, tmp_path, capsys):
    published.fetch_published(tmp_path, series=["T1wCE"], with_start=False)
    assert "nothing is said about the weights" in capsys.readouterr().out
    (card,) = classifier_cards(tmp_path, series=["T1wCE"], folds=[0])
    rule = rule_of([card])
    assert (rule.segmentation_zoom, rule.sequence_length, rule.chunk_stride) == (1.2, 35, 5)
    assert card["provenance"]["percentiles"] == [0, 100]
    options = {"device": torch.device("cpu"), "views": ["identity"], "batch_size": 8}
    loaded = load_predictor(tmp_path, [card], rule, **options)
    for network, part in (
        (loaded.preparer.segmenter, "segmentation"),
        (loaded.classifiers["T1wCE"][0], "classification"),
    ):
        recipe = network.recipe
        assert (recipe.percentiles, recipe.size, recipe.is_stretched) == ((0, 100), 224, True)
        found, expected = network.state_dict(), state_like(part)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert json.loads((tmp_path / "cls" / "summary.json").read_text())[
        "prevalence"
    ] == pytest.approx(0.5258, abs=1e-4)
    n_asked = len(drive)
    published.fetch_published(tmp_path, series=["T1wCE"], with_start=False)
    assert len(drive) == n_asked == 2


@pytest.mark.parametrize("model", published.START_FILES)
def test_trainings_begin_from_the_teams_start_weights(files, tmp_path, model):
    published.convert_start(files / published.START_FILES[model], tmp_path, model=model)
    recipe = published.SEGMENTER if model == "densenet121" else published.CLASSIFIER
    started = build(recipe, weights=tmp_path / "start")
    part = started.encoder if model == "densenet121" else started.backbone
    prefix, whole = (
        ("encoder.", "segmentation") if model == "densenet121" else ("backbone.", "classification")
    )
    expected = {
        key.removeprefix(prefix): value
        for key, value in state_like(whole).items()
        if key.startswith(prefix)
    }
    assert all(torch.equal(value, expected[key]) for key, value in part.state_dict().items())


class Bomb:
    """Unpickled, it would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.write_text, (self.path, "executed"))


def spoil(how, files, path, fuse):
    state = state_like("classification")
    match how:
        case "other keys":
            torch.save({**state, "clf_head.extra": torch.zeros(1)}, path)
        case "other shapes":
            torch.save({**state, "clf_head.weight": torch.zeros(1, 4480)}, path)
        case "a segmenter":
            shutil.copy(files / published.SEGMENTER_FILE, path)
        case "truncated":
            path.write_bytes((files / published.CLASSIFIER_FILE.format("T1w")).read_bytes()[:-2000])
        case "code in a torch file":
            torch.save({"state": Bomb(fuse)}, path)
        case "code in a pickle":
            path.write_bytes(pickle.dumps(Bomb(fuse)))
        case "a whole checkpoint":
            torch.save({"epoch": 3, "model": dict(list(state.items())[:2])}, path)
        case "a web page":
            path.write_text("<html>Google Drive - Quota exceeded</html>")


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("other keys", r"another network's weights: it should not have clf_head\.extra \(1 of 193"),
        ("other shapes", r"it has clf_head\.weight \(1, 4480\), not \(1, 8960\)"),
        ("a segmenter", "another network's weights: it lacks backbone"),
        ("truncated", "cannot be read as weights, it is truncated"),
        ("code in a torch file", "cannot be read as weights"),
        ("code in a pickle", "cannot be read as weights"),
        ("a whole checkpoint", "is no state dict"),
        ("a web page", "cannot be read as weights"),
    ],
)
def test_a_file_that_is_not_the_teams_is_refused_and_nothing_in_it_is_executed(
    files, tmp_path, how, sentence
):
    path, fuse = tmp_path / "given.pth", tmp_path / "fuse"
    spoil(how, files, path, fuse)
    with pytest.raises(ModelError, match=sentence):
        published.convert_classifier(path, tmp_path / "run", name="T1w")
    assert not fuse.exists()
    assert not (tmp_path / "run").exists()


def test_the_bomb_of_these_tests_would_go_off(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "fuse")))
    assert (tmp_path / "fuse").read_text() == "executed"


def test_a_download_that_fails_says_what_to_do_and_leaves_no_file(tmp_path, monkeypatch):
    def refuse(*, id, output):
        raise RuntimeError(
            "Failed to retrieve file url:\n\n\tToo many users have viewed or downloaded this file"
        )

    options = {"name": "the weights"}
    monkeypatch.setitem(sys.modules, "gdown", SimpleNamespace(download=refuse))
    with pytest.raises(
        PipelineError,
        match=r"cannot be fetched \(Too many users .*open "
        r"https://drive\.google\.com/file/d/abc in a browser and save it as .*w\.pth",
    ):
        fetch_from_drive("abc", tmp_path / "w.pth", **options)
    monkeypatch.setitem(sys.modules, "gdown", SimpleNamespace(download=lambda **_: None))
    with pytest.raises(PipelineError, match="gave no file"):
        fetch_from_drive("abc", tmp_path / "w.pth", **options)
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(PipelineError, match="gdown is not installed"):
        fetch_from_drive("abc", tmp_path / "w.pth", **options)
    with pytest.raises(SystemExit, match="gdown is not installed"):
        published.main([str(tmp_path / "run")])
    assert not list(tmp_path.rglob("*.pth"))


def test_a_file_is_compared_with_its_digest_and_said_to_be_unchecked_without_one(
    tmp_path, monkeypatch, capsys
):
    def download(*, id, output):
        Path(output).write_bytes(b"weights")
        return output

    monkeypatch.setitem(sys.modules, "gdown", SimpleNamespace(download=download))
    # echo -n weights | sha256sum
    right = "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"
    fetch_from_drive("abc", tmp_path / "w.pth", name="w", sha256=right)
    assert "not checked" not in capsys.readouterr().out
    with pytest.raises(PipelineError, match=r"w\.pth is not w as it was published: its SHA-256 is"):
        fetch_from_drive("abc", tmp_path / "w.pth", name="w", sha256="0" * 64)
    with pytest.raises(PipelineError, match="as it was published"):
        fetch_from_drive("abc", tmp_path / "v.pth", name="v", sha256="0" * 64)
    assert [path.name for path in tmp_path.iterdir()] == ["w.pth"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(PipelineError, match=r"folder cannot be read \(Is a directory\): delete it"):
        fetch_from_drive("abc", tmp_path / "folder", name="w")
    fetch_from_drive("abc", tmp_path / "v.pth", name="v")
    assert f"v is not checked: no digest of it is published. Its SHA-256 is {right}" in (
        capsys.readouterr().out
    )
