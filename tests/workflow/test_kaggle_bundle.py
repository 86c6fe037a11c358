"""The Kaggle bundle.

Metadata that Kaggle's client accepts, and a rehearsal of the notebook in a tree like Kaggle's,
without network.
"""

import getpass
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import zipfile
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace

import matplotlib
import nbformat
import numpy as np
import pandas as pd
import pytest
from tiny_models import write_tiny_run

from t4e_utils import T4EError
from t4e_utils.competitions.brain_tumor.data import KAGGLE
from t4e_utils.competitions.brain_tumor.phantoms import PhantomConfig, write_phantoms
from t4e_utils.competitions.brain_tumor.submission import PREVALENCE
from t4e_utils.learning import ModelError
from t4e_utils.scans.dicom_writing import write_dicom_series
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.volume import Volume
from t4e_utils.tables.store import write_json
from t4e_utils.workflow import PipelineError
from t4e_utils.workflow.kaggle_bundle import Bundle, main, slug_of, upload_commands, write_bundle
from t4e_utils.workflow.kaggle_wheels import build_package

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "06_submission.ipynb"
COMPETITION = "some-challenge"  # where the folder of the real one could lie on Kaggle
SITE = Path(sysconfig.get_path("purelib"))
OURS = ("t4e_utils", "__editable__")
BROUGHT = ("segmentation_models_pytorch", "python_gdcm", "gdcm", "_gdcm")
LACKING = ("nh3",)  # what nothing on Kaggle needs
IN_THE_TREE = """
import fcntl, runpy, socket, struct, subprocess, sys
root, is_alone = sys.argv[1], sys.argv[2] == "alone"
if is_alone:  # only the loopback device, through which a notebook talks to its kernel
    # and input/ can be read only
    fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sH14x", b"lo", 0x41))
    subprocess.run(["mount", "--bind", f"{root}/input", f"{root}/input"], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", f"{root}/input"], check=True)
try:
    socket.create_connection(("192.0.2.1", 80), timeout=2)
except OSError as error:
    print("no network:", error)
options = ["--cwd", f"{root}/working", "--no-progress-bar", "--log-output"]
sys.argv = ["papermill", *sys.argv[3:], *options]
runpy.run_module("papermill", run_name="__main__")
"""
REFUSE_SOCKETS = """
import socket
connect = socket.socket.connect
def refuse(self, address):
    if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise OSError("the network is cut off")
    return connect(self, address)
socket.socket.connect = refuse
"""


def wheel_of(name, folder):
    """A wheel made of an installed package, such as pip would download."""
    found = metadata.distribution(name)
    tag = found.read_text("WHEEL").split("Tag: ")[1].split()[0]
    path = folder / f"{name.replace('-', '_')}-{found.version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file in found.files:
            if (
                ".." not in file.parts
                and file.suffix != ".pyc"
                and file.name not in ("INSTALLER", "REQUESTED", "direct_url.json")
            ):
                archive.write(found.locate_file(file), str(file))
    return path


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    foreign = folder / "python_foreign-1.0-cp399-cp399-manylinux_2_28_x86_64.whl"
    foreign.write_bytes(b"of another Python")
    return [
        build_package(ROOT, folder),
        wheel_of("segmentation-models-pytorch", folder),
        wheel_of("python-gdcm", folder),
        foreign,
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_tiny_run(tmp_path_factory.mktemp("runs") / "tiny", folds=(0, 1))


def bundle(run, target, wheels=(), **options):
    given = {
        "views": ["zoom_1.2", "hflip"],
        "folds": [0],
        "run_dir": "runs/elsewhere",
        "rsna_dir": "data/elsewhere",
    }
    return write_bundle(
        run,
        target,
        **{
            "bundle": KAGGLE,
            "user": "some-user",
            "notebook": NOTEBOOK,
            "given": given,
            "wheels": wheels,
            **options,
        },
    )


class Recorder:
    """Stands for the connection to Kaggle: what would be sent is kept."""

    def __init__(self):
        self.sent = {}
        self.kernels = SimpleNamespace(
            kernels_api_client=SimpleNamespace(
                save_kernel=lambda request: self.sent.setdefault("kernel", request)
            )
        )
        self.datasets = SimpleNamespace(
            dataset_api_client=SimpleNamespace(create_dataset=self.create)
        )

    def create(self, request):
        self.sent["dataset"] = request
        return SimpleNamespace(error="", status="ok")

    @contextmanager
    def connect(self):
        yield self


@pytest.fixture
def client(monkeypatch, tmp_path):
    """Kaggle's own client, with every check it makes before it sends, and nobody to send to.

    It finds no token, and looks for one when imported.
    """
    for name in [name for name in os.environ if name.startswith("KAGGLE")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    import requests
    from kaggle.api.kaggle_api_extended import KaggleApi

    api, recorder = KaggleApi(), Recorder()
    uploaded = []

    def not_there(ref):
        raise requests.exceptions.HTTPError(ref)

    monkeypatch.setattr(api, "config_values", {api.CONFIG_NAME_USER: "some-user"})
    monkeypatch.setattr(api, "build_kaggle_client", recorder.connect)
    monkeypatch.setattr(api, "dataset_status", not_there)
    monkeypatch.setattr(api, "_upload_file", lambda name, *given: uploaded.append(name))
    return SimpleNamespace(api=api, sent=recorder.sent, uploaded=uploaded)


def test_kaggles_client_accepts_both_folders_and_sends_what_was_meant(
    client, run, tmp_path, capsys
):
    package = tmp_path / "t4e_utils-0-py3-none-any.whl"
    package.write_bytes(b"")
    dataset, kernel = bundle(run, tmp_path / "kaggle", [package])
    assert client.api.dataset_create_new(str(dataset), dir_mode="zip", quiet=True).status == "ok"
    sent = client.sent["dataset"]
    assert (sent.owner_slug, sent.slug, sent.license_name, sent.is_private) == (
        "some-user",
        "t4e-tiny",
        "other",
        True,
    )
    assert {Path(name).name for name in client.uploaded} == {
        "cls.zip",
        "seg.zip",
        package.name,
        "t4e_bundle.json",
    }
    client.api.kernels_push(str(kernel))
    sent = client.sent["kernel"]
    assert (sent.enable_internet, sent.enable_gpu, sent.machine_shape, sent.is_private) == (
        False,
        True,
        "NvidiaTeslaT4",
        True,
    )
    assert (sent.slug, sent.dataset_data_sources, sent.competition_data_sources) == (
        "some-user/t4e-tiny-submission",
        ["some-user/t4e-tiny"],
        [KAGGLE.competition],
    )
    assert "does not resolve" not in capsys.readouterr().out


def test_the_bundled_notebook_has_its_parameters_and_no_outputs(run, tmp_path):
    executed = nbformat.read(NOTEBOOK, as_version=4)
    executed.cells[2].outputs = [nbformat.v4.new_output("stream", text="left over")]
    nbformat.write(executed, tmp_path / "executed.ipynb")
    _, kernel = bundle(run, tmp_path / "kaggle", notebook=tmp_path / "executed.ipynb")
    found = nbformat.read(kernel / "t4e-tiny-submission.ipynb", as_version=4)
    nbformat.validate(found)
    assert not any(cell.get("outputs") for cell in found.cells)
    injected = next(
        cell.source
        for cell in found.cells
        if "injected-parameters" in cell.metadata.get("tags", [])
    )
    assert injected.startswith("# Parameters\n")
    assert "views = ['zoom_1.2', 'hflip']" in injected
    assert "mri_types = ['FLAIR', 'T2w']" in injected
    assert "run_dir = '/kaggle/working'" in injected
    assert "elsewhere" not in injected


def test_only_the_folds_and_types_that_are_used_are_uploaded(run, tmp_path):
    dataset, _ = bundle(run, tmp_path / "kaggle", given={"mri_types": ["T2w"], "folds": [1]})
    assert {path.name for path in (dataset / "cls" / "models").iterdir()} == {
        "T2w_fold1.json",
        "T2w_fold1-b",
    }
    for path in dataset.rglob("best.safetensors"):
        assert path.read_bytes() == (run / path.relative_to(dataset)).read_bytes()


def test_what_cannot_be_bundled_is_said_in_a_sentence(run, tmp_path):
    with pytest.raises(
        PipelineError, match=r"kaggle_user = '' is no Kaggle user name: add `kaggle_user: NAME`"
    ):
        bundle(run, tmp_path / "a", user="")
    shutil.copytree(run, tmp_path / "half")
    (tmp_path / "half" / "seg" / "models" / "fold0-a" / "best.safetensors").unlink()
    with pytest.raises(ModelError, match=r"best\.safetensors does not exist: train first"):
        bundle(tmp_path / "half", tmp_path / "c")
    (tmp_path / ("long" * 12)).mkdir()
    with pytest.raises(PipelineError, match="is too long for a name on Kaggle"):
        bundle(tmp_path / ("long" * 12), tmp_path / "d")
    with pytest.raises(SystemExit, match="no Kaggle user name"):
        main([str(run), "--target", str(tmp_path / "e")])
    with pytest.raises(SystemExit, match="There is no collection 'hearts'"):
        main([str(run), "--target", str(tmp_path / "e"), "--collection", "hearts"])
    assert not (tmp_path / "e").exists()


def test_what_the_command_cannot_use_is_a_sentence(run, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    options = [str(run), "--user", "some-user", "--target"]
    with pytest.raises(
        SystemExit, match=r"file/wheels/.* cannot be written \(.*\): choose a folder"
    ):
        main([*options, str(tmp_path / "file")])
    for given in ("{a: [", "[1]"):
        with pytest.raises(SystemExit, match=r"--given .* is no YAML of parameters"):
            main([*options, str(tmp_path / "a"), "--given", given])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="is not the project: start from the project's folder"):
        main([*options, str(tmp_path / "a")])


@pytest.mark.parametrize("name", ["dataset", "kernel"])
def test_a_folder_of_somebody_else_is_not_replaced_and_an_earlier_bundle_is(run, tmp_path, name):
    folders = bundle(run, tmp_path)
    (tmp_path / name / "old.txt").touch()
    assert bundle(run, tmp_path) == folders
    assert not (tmp_path / name / "old.txt").exists()
    shutil.rmtree(tmp_path / name)
    write_json({}, tmp_path / name / "precious.json")
    with pytest.raises(PipelineError, match=f"{name} is there, and is no earlier bundle: rename"):
        bundle(run, tmp_path)
    assert [path.name for path in (tmp_path / name).iterdir()] == ["precious.json"]
    shutil.rmtree(tmp_path / name)
    (tmp_path / name).symlink_to(tmp_path)
    with pytest.raises(T4EError, match=f"{name} "):
        bundle(run, tmp_path)
    assert (tmp_path / name).is_symlink()


def test_a_half_run_leaves_the_bundle_of_before(run, tmp_path):
    dataset, _ = bundle(run, tmp_path / "kaggle")
    before = sorted(dataset.rglob("*"))
    shutil.copytree(run, tmp_path / "tiny")
    (tmp_path / "tiny" / "cls" / "summary.json").unlink()
    with pytest.raises(T4EError, match=r"summary\.json is not there"):
        bundle(tmp_path / "tiny", tmp_path / "kaggle")
    assert sorted(dataset.rglob("*")) == before


PRIVATE = "a private line"


@pytest.fixture
def open_run(run, tmp_path):
    """A run that can be changed, beside a file that belongs to nobody else."""
    (tmp_path / "private.json").write_text(json.dumps({"prevalence": 0.5, "model": PRIVATE}))
    return Path(shutil.copytree(run, tmp_path / "runs" / "tiny"))


def restate(run, **changes):
    path = run / "cls" / "models" / "FLAIR_fold0.json"
    card = json.loads(path.read_text())
    card["provenance"] |= changes.pop("provenance", {})
    path.write_text(json.dumps({**card, **changes}))


def link_a_folder(run, tmp_path):
    shutil.move(run / "seg", tmp_path / "elsewhere")
    (run / "seg").symlink_to(tmp_path / "elsewhere")


def link_to(name):
    def make(run, tmp_path):
        place = run / name
        shutil.move(place, tmp_path / place.name)
        place.symlink_to(tmp_path / place.name)

    return make


@pytest.mark.parametrize(
    "make",
    [
        lambda run, tmp_path: restate(run, weights="../../private.json"),
        lambda run, tmp_path: restate(run, weights="../../secret.pth"),
        lambda run, tmp_path: restate(run, weights=str(tmp_path / "secret.pth")),
        lambda run, tmp_path: restate(run, provenance={"segmenter": "../../secret.pth"}),
        link_a_folder,
        link_to("seg/models/fold0-a/best.safetensors"),
        link_to("seg/models/fold0-a/best.json"),
        link_to("cls/models/T2w_fold0.json"),
        link_to("cls/models/T2w_fold0-b"),
        link_to("cls/summary.json"),
        link_to("cls/oof.parquet"),
        link_to("cls"),
    ],
)
def test_nothing_outside_the_run_is_copied(open_run, tmp_path, make):
    shutil.copy(open_run / "seg/models/fold0-a/best.safetensors", tmp_path / "secret.pth")
    make(open_run, tmp_path)
    with pytest.raises(T4EError, match=r"leads out of .*, or is a link|below the run's folder"):
        bundle(open_run, tmp_path / "kaggle")
    assert not (tmp_path / "kaggle").exists()


def test_a_run_that_is_itself_reached_through_a_link_is_bundled(open_run, tmp_path):
    (tmp_path / "linked").symlink_to(open_run)
    dataset, _ = bundle(tmp_path / "linked", tmp_path / "kaggle")
    assert (dataset / "seg/models/fold0-a/best.safetensors").read_bytes()


@pytest.mark.parametrize("path", ["../a.bin", "/a.bin", "models/../../a.bin", "models/none.bin"])
def test_a_collection_cannot_name_files_outside_the_run(hearts, tmp_path, monkeypatch, path):
    (tmp_path / "run" / "models").mkdir(parents=True)
    (tmp_path / "a.bin").write_text(PRIVATE)
    monkeypatch.setattr(sys.modules["hearts_leaf"], "files", lambda run, given: {path: None})
    with pytest.raises(PipelineError, match=r"leads out of|is not there"):
        bundle(tmp_path / "run", tmp_path / "kaggle", bundle=hearts)


def test_nothing_that_is_uploaded_tells_of_this_machine_or_of_labels(open_run, tmp_path):
    """The bundle of an executed notebook and of cards with paths, searched as a whole."""
    marks = {"rsna_dir": "/home/alice/rsna", "fold_table": "/home/alice/folds.csv"}
    restate(open_run, provenance=marks, host="alice-laptop", held_out=["99992"])
    restated = json.loads((open_run / "cls/models/FLAIR_fold0.json").read_text())["provenance"]
    for path in (open_run / "cls" / "models").glob("*_fold*.json"):
        card = json.loads(path.read_text())
        path.write_text(json.dumps({**card, "provenance": restated}))
    best = open_run / "seg" / "models" / "fold0-a" / "best.json"
    best.write_text(
        json.dumps({**json.loads(best.read_text()), "starts_from": "/home/alice/a.pth"})
    )
    executed = nbformat.read(NOTEBOOK, as_version=4)
    executed.metadata["papermill"] = {"input_path": "/home/alice/06.ipynb"}
    executed.metadata["kernelspec"]["display_name"] = "alice's kernel"
    executed.cells[4].metadata["papermill"] = {"start_time": "2026", "who": "alice"}
    injected = {"metadata": {"tags": ["injected-parameters"]}}
    executed.cells.insert(
        3, nbformat.v4.new_code_cell("# Parameters\nrsna_dir = '/home/alice'", **injected)
    )
    nbformat.write(executed, tmp_path / "executed.ipynb")
    dataset, kernel = bundle(open_run, tmp_path / "kaggle", notebook=tmp_path / "executed.ipynb")
    files = [path for folder in (dataset, kernel) for path in folder.rglob("*") if path.is_file()]
    assert len(files) >= 12
    found = b"".join(path.read_bytes() for path in files)
    host, user = socket.gethostname(), getpass.getuser()
    for word in (
        "alice",
        str(tmp_path),
        str(ROOT),
        "99992",
        "label",
        *(f"/{w}/" for w in (host, user)),
    ):
        assert word.encode() not in found, word
    assert list(pd.read_parquet(dataset / "cls" / "oof.parquet").columns) == ["mean"]
    assert json.loads((dataset / "cls" / "summary.json").read_text()) == {"prevalence": 0.4}


def test_a_notebook_that_names_a_folder_of_this_machine_is_not_uploaded(run, tmp_path):
    named = nbformat.read(NOTEBOOK, as_version=4)
    named.cells[4].source += f"\nprint('{Path.home()}/notes')"
    nbformat.write(named, tmp_path / "named.ipynb")
    with pytest.raises(PipelineError, match=r"submission\.ipynb would tell Kaggle of the folder"):
        bundle(run, tmp_path / "kaggle", notebook=tmp_path / "named.ipynb")
    assert list((tmp_path / "kaggle").iterdir()) == []


@pytest.mark.parametrize(
    ("run_name", "slug"),
    [
        ("t4e", "t4e-models"),
        ("T4E_plus", "t4e-plus"),
        ("a", "t4e-a-models"),
        ("My run, 2nd", "t4e-my-run-2nd"),
    ],
)
def test_the_name_on_kaggle_begins_with_the_prefix_and_is_long_enough(run_name, slug):
    assert slug_of(run_name, "some-user", prefix="t4e") == slug


@pytest.fixture
def hearts(monkeypatch):
    """The bundle of a collection that is none of ours."""
    leaf = ModuleType("hearts_leaf")
    leaf.files = lambda run, given: {f"models/{name}.bin": None for name in given["names"]}
    leaf.given = lambda run, given: {"names": ["a"], **given}
    monkeypatch.setitem(sys.modules, "hearts_leaf", leaf)
    return Bundle(
        competition="hearts",
        stage="submit",
        prefix="heart",
        files="hearts_leaf.files",
        given="hearts_leaf.given",
        parameters={"models_dir": "str(bundle)", "run_dir": "'{root}/working'"},
        submission="submission.parquet",
    )


@pytest.mark.parametrize(("given", "names"), [({}, ["a"]), ({"names": ["b"]}, ["b"])])
def test_a_collection_says_what_its_notebook_needs(hearts, tmp_path, given, names):
    (tmp_path / "run" / "models").mkdir(parents=True)
    for name in "abc":
        (tmp_path / "run" / "models" / f"{name}.bin").write_text(name)
    parameters = nbformat.v4.new_code_cell("names = []", metadata={"tags": ["parameters"]})
    cells = [nbformat.v4.new_markdown_cell("# Title"), parameters]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "05_submit.ipynb")
    dataset, kernel = bundle(
        tmp_path / "run",
        tmp_path / "kaggle",
        bundle=hearts,
        notebook=tmp_path / "05_submit.ipynb",
        given=given,
        root="/there",
    )
    found = [path.name for path in (dataset / "models").iterdir()]
    assert found == [f"{name}.bin" for name in names]
    made = nbformat.read(kernel / "heart-run-submission.ipynb", as_version=4)
    lines = ["# Parameters", f"names = {names}", "models_dir = str(bundle)"]
    assert made.cells[3].source.splitlines() == [*lines, "run_dir = '/there/working'"]
    assert upload_commands(dataset, kernel, hearts).splitlines()[-1] == (
        "kaggle competitions submit hearts -k some-user/heart-run-submission "
        "-f submission.parquet -v 1 -m heart-run-submission"
    )


def test_the_commands_can_be_pasted_whatever_the_folder_is_called(tmp_path):
    run = tmp_path / "it's $HOME; (a) & `b` #c"
    write_json({"id": "some-user/a-submission"}, run / "kernel" / "kernel-metadata.json")
    hearts = Bundle("hearts", "predict", "heart", "a:b", {}, submission="a b.csv")
    said = upload_commands(run / "dataset", run / "kernel", hearts).splitlines()
    asked = [
        subprocess.run(["bash", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True)
        for line in said
    ]
    words = [one.stdout.splitlines() for one in asked]
    assert words[0] == ["kaggle", "datasets", "create", "-p", f"{run}/dataset", "--dir-mode", "zip"]
    assert words[1] == ["kaggle", "kernels", "push", "-p", f"{run}/kernel"]
    assert words[2][6:9] == ["-f", "a b.csv", "-v"]


def phantom_input(folder):
    """Kaggle's competition folder with five test patients and everything that can be wrong with
    them.
    """
    write_phantoms(
        folder / "phantoms",
        PhantomConfig(size=32, n_brats=0, n_overlap=0, n_train=2, n_test=5),
        n_jobs=1,
    )
    rsna = folder / COMPETITION
    shutil.move(folder / "phantoms" / "rsna", rsna)
    shutil.rmtree(folder / "phantoms")
    ids = pd.read_csv(rsna / "sample_submission.csv", dtype=str)["BraTS21ID"].tolist()
    for file in (rsna / "test" / ids[0] / "FLAIR").iterdir():
        file.write_bytes(b"broken")
    shutil.rmtree(rsna / "test" / ids[1] / "FLAIR")
    (rsna / "test" / ids[1] / "FLAIR").mkdir()
    shutil.rmtree(rsna / "test" / ids[2])
    flat = Volume(
        np.full((8, 24, 20), 9, np.uint16), (4, 1, 1), display_affine("axial", (4.0, 1.0, 1.0))
    )
    shutil.rmtree(rsna / "test" / ids[3] / "FLAIR")
    write_dicom_series(
        flat, rsna / "test" / ids[3] / "FLAIR", patient_id=ids[3], series_description="FLAIR"
    )
    odd = Volume(
        np.arange(3 * 16 * 20, dtype=np.uint16).reshape(3, 16, 20),
        (4, 1, 1),
        display_affine("axial", (4.0, 1.0, 1.0)),
    )
    write_dicom_series(odd, folder / "odd", patient_id=ids[4], series_description="FLAIR")
    for file in (folder / "odd").iterdir():
        shutil.move(file, rsna / "test" / ids[4] / "FLAIR" / f"odd-{file.name}")
    shutil.rmtree(folder / "odd")
    shutil.copytree(rsna / "test" / ids[4], rsna / "test" / "54321")
    return rsna, ids


@pytest.fixture(scope="module")
def kaggle(run, wheels, tmp_path_factory):
    """A tree like Kaggle's, and a Python that has what its image has.

    The installed libraries without this project and what it brings.
    """
    root = tmp_path_factory.mktemp("kaggle")
    dataset, kernel = bundle(run, root / "bundle", wheels, root=str(root))
    rsna, ids = phantom_input(root / "input")
    shutil.copytree(dataset, root / "input" / "t4e-tiny")
    (root / "working").mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root / "env")], check=True)
    site = next((root / "env").glob("lib/python*/site-packages"))
    for entry in SITE.iterdir():
        if not entry.name.startswith((*OURS, *BROUGHT, *LACKING)) and entry.suffix != ".pth":
            (site / entry.name).symlink_to(entry)
    return SimpleNamespace(
        root=root, notebook=kernel / "t4e-tiny-submission.ipynb", rsna=rsna, ids=ids, site=site
    )


def can_be_alone():
    return (
        shutil.which("unshare")
        and not subprocess.run(["unshare", "-rnm", "true"], capture_output=True).returncode
    )


def rehearse(kaggle):
    """Run the bundled notebook in the tree; return its text outputs and the submission."""
    keep = {
        name: os.environ[name] for name in ("PATH", "LANG", "OMP_NUM_THREADS") if name in os.environ
    }
    environment = {
        **keep,
        "HOME": str(kaggle.root / "working"),
        "MPLCONFIGDIR": matplotlib.get_cachedir(),
        "NO_ALBUMENTATIONS_UPDATE": "1",
    }
    is_alone = can_be_alone()
    if not is_alone:
        (kaggle.site / "sitecustomize.py").write_text(REFUSE_SOCKETS)
    python = str(kaggle.root / "env" / "bin" / "python")
    script = kaggle.root / "in_the_tree.py"
    script.write_text(IN_THE_TREE)
    arguments = [
        str(script),
        str(kaggle.root),
        "alone" if is_alone else "refused",
        str(kaggle.notebook),
        str(kaggle.root / "executed.ipynb"),
    ]
    done = subprocess.run(
        [*(["unshare", "-rnm"] if is_alone else []), python, *arguments],
        env=environment,
        cwd=kaggle.root / "working",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "no network:" in done.stdout
    found = subprocess.run(
        [python, "-c", "import t4e_utils; print(t4e_utils.__file__)"],
        env=environment,
        cwd=kaggle.root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.startswith(str(kaggle.root / "env"))
    executed = nbformat.read(kaggle.root / "executed.ipynb", as_version=4)
    text = "\n".join(
        output.get("text", "") for cell in executed.cells for output in cell.get("outputs", [])
    )
    report = pd.read_csv(
        kaggle.root / "working" / "submission_report.csv",
        dtype={"patient_id": str},
        keep_default_na=False,
    ).set_index("patient_id")
    return (
        text,
        pd.read_csv(kaggle.root / "working" / "submission.csv", dtype={"BraTS21ID": str}),
        report,
    )


def test_the_notebook_runs_without_network_and_predicts_every_patient_whatever_is_wrong(kaggle):
    before = sorted(path.stat().st_mtime_ns for path in (kaggle.root / "input").rglob("*"))
    text, submission, report = rehearse(kaggle)
    assert submission["BraTS21ID"].tolist() == kaggle.ids
    assert submission["MGMT_value"].between(0, 1).all()
    assert sorted(path.stat().st_mtime_ns for path in (kaggle.root / "input").rglob("*")) == before
    broken, empty, absent, constant, mixed = kaggle.ids
    assert report["series_used"].tolist() == ["T2w", "T2w", "", "T2w", "FLAIR T2w"]
    assert report.loc[[broken, empty, absent, constant], "problems"].tolist() == [
        "FLAIR: no_pixels",
        "FLAIR: no_files",
        "FLAIR: missing_series; T2w: missing_series",
        "FLAIR: blank",
    ]
    assert re.fullmatch("FLAIR: .*mixed_sizes.*", report.loc[mixed, "problems"])
    odd = pd.read_csv(kaggle.root / "working" / "submission_problems.csv", dtype=str)
    assert {*zip(odd["patient_id"], odd["series"], strict=True)} >= {
        *((patient, "FLAIR") for patient in kaggle.ids),
        (absent, "T2w"),
    }
    assert report.loc[absent, ["probability", "fallback"]].tolist() == [0.4, PREVALENCE]
    assert all(
        "FLAIR: no readable series" in report.loc[patient, "fallback"]
        for patient in (broken, empty, constant)
    )
    assert report.loc[mixed, "n_chunks"] >= 2
    for name in ("t4e_utils", "segmentation_models_pytorch", "python_gdcm"):
        assert any(
            line.startswith(name) and line.endswith("installed") for line in text.splitlines()
        )
    assert (
        "python_foreign-1.0-cp399-cp399-manylinux_2_28_x86_64.whl does not fit this image" in text
    )
    assert "3 of 4 patients in" in text
    assert "of 9 hours, within the limit" in text


def test_other_patients_in_another_number_and_other_folders_of_kaggle_are_predicted_too(kaggle):
    (kaggle.root / "input" / "competitions").mkdir()
    (kaggle.root / "input" / "datasets" / "some-user").mkdir(parents=True)
    shutil.move(
        kaggle.root / "input" / "t4e-tiny",
        kaggle.root / "input" / "datasets" / "some-user" / "t4e-tiny",
    )
    rsna = kaggle.root / "input" / "competitions" / COMPETITION
    shutil.move(kaggle.rsna, rsna)
    names = ["00006", "77777", "00100"]
    good = rsna / "test" / "54321"
    shutil.copytree(good, rsna / "test" / names[0])
    shutil.move(good, rsna / "test" / names[2])
    for patient in kaggle.ids:
        shutil.rmtree(rsna / "test" / patient, ignore_errors=True)
    (rsna / "sample_submission.csv").write_text(
        "BraTS21ID,MGMT_value\n" + "".join(f"{name},0.5\n" for name in names)
    )
    _, submission, report = rehearse(kaggle)
    assert submission["BraTS21ID"].tolist() == names
    assert report["series_used"].tolist() == ["FLAIR T2w", "", "FLAIR T2w"]
    assert submission["MGMT_value"][0] == pytest.approx(submission["MGMT_value"][2], abs=1e-6)
