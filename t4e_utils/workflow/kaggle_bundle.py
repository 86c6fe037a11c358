"""What Kaggle needs to run the submission notebook without network.

A data set to upload and a notebook (kernel) that uses it.

    dataset/   dataset-metadata.json, t4e_bundle.json (marks the folder), *.whl, seg/ and cls/
    (weights with cards) as in a run folder kernel/    kernel-metadata.json and the notebook, with
    its parameters in a cell and without outputs

The wheels are those that Kaggle's image lacks, for its Python, and this package itself. They are
installed without index and without dependencies. Upload with `--dir-mode zip`: the client leaves
folders out otherwise.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode

from t4e_utils import T4EError
from t4e_utils.competitions.brain_tumor.submission import classifier_cards, common_preparation
from t4e_utils.tables.store import read_json, write_json

KAGGLE_PYTHON = "312"
KAGGLE_PLATFORMS = (
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
    "any",
)
KAGGLE_LACKS = ("segmentation-models-pytorch", "python-gdcm")
KAGGLE_ROOT = "/kaggle"  # input/ is read-only, working/ is where the submission is written
ACCELERATOR = "NvidiaTeslaT4"  # the image's torch no longer supports the P100
MARK = "t4e_bundle.json"
PACKAGE_FILES = ("pyproject.toml", "README.md", "LICENSE", "requirements.txt", "t4e_utils")
SET_BY_THE_BUNDLE = ("run_dir", "models_dir", "rsna_dir", "brats_dir", "source")
USER = r"[a-z0-9]+([_-][a-z0-9]+)*"
BOOTSTRAP = """\
# Installs what this image lacks, without network, and finds the input folders.
import importlib
import subprocess
import sys
from pathlib import Path


def folder_with(name):
    inputs, depths = Path("{root}/input"), ("*", "*/*", "*/*/*")
    found = sorted(path for depth in depths for path in inputs.glob(f"{{depth}}/{{name}}"))
    if not found:
        raise FileNotFoundError(
            f"No {{name}} below {root}/input: add the competition and the data set {dataset} "
            "as inputs of this notebook."
        )
    return str(found[0].parent)


bundle = Path(folder_with("{mark}"))
installed = importlib.metadata.distributions()
present = {{found.metadata["Name"].lower().replace("_", "-") for found in installed}}
options = ["--quiet", "--force-reinstall", "--no-index", "--no-deps"]
for wheel in sorted(bundle.glob("*.whl")):
    name = wheel.name.split("-")[0].lower().replace("_", "-")
    if name == "t4e-utils" or name not in present:
        done = subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)])
        print(wheel.name, "does not fit this image" if done.returncode else "installed")
importlib.invalidate_caches()
"""


class BundleError(T4EError):
    """The Kaggle bundle cannot be written."""


def write_bundle(
    run: Path,
    target: Path,
    *,
    user: str,
    competition: str,
    notebook: Path,
    given: Mapping[str, Any],
    wheels: Iterable[Path],
    root: str = KAGGLE_ROOT,
) -> tuple[Path, Path]:
    """Write the data-set folder and the kernel folder of a finished run.

    Args:
        run: folder with the trained models.
        target: gets `dataset/` and `kernel/`, replaced as a whole.
        user: Kaggle user name, owner of both.
        competition: the competition's name in its address.
        notebook: the submission notebook.
        given: parameters that the config gives to the notebook; folders are set here.
        wheels: this package and what Kaggle lacks.
        root: where Kaggle keeps `input` and `working`.

    Returns:
        The two folders.

    Raises:
        BundleError: the user name or the run's name cannot be part of an address on Kaggle.
        MissingInputError: the run is not finished.
    """
    slug = _slug(run.name, user)
    series = given.get("mri_types") or sorted(
        {path.name.split("_fold")[0] for path in (run / "cls" / "models").glob("*_fold*.json")}
    )
    dataset, kernel = target / "dataset", target / "kernel"
    for folder in (dataset, kernel):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    copy_models(run, dataset, series=series, folds=given.get("folds", ()))
    for wheel in wheels:
        shutil.copy(wheel, dataset)
    write_json(
        {"run": run.name, "series": list(series), "package": metadata.version("t4e-utils")},
        dataset / MARK,
    )
    write_json(dataset_metadata(user, slug), dataset / "dataset-metadata.json")
    opened = nbformat.read(notebook, as_version=4)
    bundled = bundled_notebook(
        opened, {**given, "mri_types": list(series)}, dataset=f"{user}/{slug}", root=root
    )
    nbformat.write(bundled, kernel / f"{slug}-submission.ipynb")
    write_json(kernel_metadata(user, slug, competition), kernel / "kernel-metadata.json")
    return dataset, kernel


def _slug(run_name: str, user: str) -> str:
    slug = "t4e-" + re.sub(r"[^a-z0-9]+", "-", run_name.lower().removeprefix("t4e")).strip("-")
    slug = slug if len(slug) > len("t4e-") else "t4e-models"
    slug = slug if len(slug) >= 6 else f"{slug}-models"
    if not re.fullmatch(USER, user.lower()):
        raise BundleError(
            f"kaggle_user = {user!r} is no Kaggle user name: add `kaggle_user: NAME` to the "
            "config, the name in the address of your profile."
        )
    if len(slug) > 38:
        raise BundleError(
            f"The run's name {run_name!r} is too long for a name on Kaggle ({slug}, at most 38 "
            "characters): choose a shorter run_dir."
        )
    return slug


def copy_models(
    run: Path, target: Path, *, series: Sequence[str], folds: Sequence[int] = ()
) -> None:
    """Copy the weights, cards and tables that the submission notebook reads, in the places they
    have in the run.

    Raises:
        MissingInputError: a card or its weights are not there.
        BundleError: the run holds no classifier.
    """
    if not series:
        raise BundleError(
            f"{run} holds no classifier to upload: run the pipeline with this config first."
        )
    cards = classifier_cards(run, series=series, folds=folds)
    provenance = common_preparation(cards)
    weights = [provenance["segmenter"], *[card["weights"] for card in cards]]
    files = [
        *weights,
        *[str(Path(path).with_suffix(".json")) for path in weights],
        "cls/summary.json",
    ]
    files += [f"cls/models/{card['series']}_fold{card['fold']}.json" for card in cards]
    files += [path for path in ("cls/oof.parquet",) if (run / path).is_file()]
    for path in files:
        if not (run / path).is_file():
            raise BundleError(
                f"{run / path} is not there: run the pipeline with this config first."
            )
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(run / path, target / path)


def dataset_metadata(user: str, slug: str) -> dict[str, Any]:
    """Return what `dataset-metadata.json` holds."""
    return {
        "id": f"{user}/{slug}",
        "title": slug.replace("-", " "),
        "subtitle": "Weights and wheels for a submission without network",
        "licenses": [{"name": "other"}],
    }


def kernel_metadata(user: str, slug: str, competition: str) -> dict[str, Any]:
    """Return what `kernel-metadata.json` holds.

    No network, a T4, the competition and the data set as sources.
    """
    return {
        "id": f"{user}/{slug}-submission",
        "title": f"{slug} submission".replace("-", " "),
        "code_file": f"{slug}-submission.ipynb",
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": True,
        "enable_tpu": False,
        "enable_internet": False,
        "machine_shape": ACCELERATOR,
        "dataset_sources": [f"{user}/{slug}"],
        "competition_sources": [competition],
        "kernel_sources": [],
        "model_sources": [],
    }


def bundled_notebook(
    notebook: NotebookNode, given: Mapping[str, Any], *, dataset: str, root: str = KAGGLE_ROOT
) -> NotebookNode:
    """Return the notebook as Kaggle runs it.

    A first cell that installs, a cell of parameters after the declared ones, no outputs.
    """
    bundled = nbformat.from_dict(json.loads(json.dumps(notebook)))
    for cell in bundled.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    place = next(
        k for k, cell in enumerate(bundled.cells) if "parameters" in cell.metadata.get("tags", [])
    )
    values = {name: repr(value) for name, value in given.items() if name not in SET_BY_THE_BUNDLE}
    values |= {
        "run_dir": repr(f"{root}/working"),
        "models_dir": "str(bundle)",
        "rsna_dir": 'folder_with("sample_submission.csv")',
        "brats_dir": '""',
        "source": '"dicom"',
    }
    lines = ["# Parameters", *[f"{name} = {value}" for name, value in values.items()]]
    bundled.cells.insert(
        place + 1,
        nbformat.v4.new_code_cell(
            "\n".join(lines), id="injected", metadata={"tags": ["injected-parameters"]}
        ),
    )
    install = BOOTSTRAP.format(root=root, mark=MARK, dataset=dataset).rstrip()
    bundled.cells.insert(1, nbformat.v4.new_code_cell(install, id="install"))
    return bundled


def build_package(project: Path, folder: Path) -> Path:
    """Build this package's wheel from a copy of its sources, without network.

    Raises:
        BundleError: pip refuses.
    """
    with tempfile.TemporaryDirectory() as copy:
        for name in PACKAGE_FILES:
            source = project / name
            shutil.copytree(
                source, Path(copy, name), ignore=shutil.ignore_patterns("__pycache__")
            ) if source.is_dir() else shutil.copy(source, copy)
        _pip(
            "wheel",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            str(folder),
            copy,
            what="this package's wheel",
        )
    return next(folder.glob("t4e_utils-*.whl"))


def fetch_wheels(folder: Path, *, packages: Sequence[str] = KAGGLE_LACKS) -> list[Path]:
    """Download wheels for Kaggle's Python, in the versions installed here.

    What is there is not fetched again.

    Raises:
        BundleError: pip cannot find or reach one.
    """
    platforms = [word for name in KAGGLE_PLATFORMS for word in ("--platform", name)]
    tags = [
        "--only-binary=:all:",
        "--no-deps",
        "--python-version",
        KAGGLE_PYTHON,
        "--implementation",
        "cp",
        *platforms,
    ]
    found = []
    for package in packages:
        version = metadata.version(package)
        pattern = f"{package.replace('-', '_')}-{version}-*.whl"
        if not list(folder.glob(pattern)):
            _pip(
                "download",
                *tags,
                "--dest",
                str(folder),
                f"{package}=={version}",
                what=f"the wheel of {package}",
            )
        found += sorted(folder.glob(pattern))[:1]
    return found


def _pip(command: str, *arguments: str, what: str) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            command,
            "--quiet",
            "--disable-pip-version-check",
            *arguments,
        ],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise BundleError(f"pip cannot make {what} ({last}): is there a network? Run this again.")


def upload_commands(dataset: Path, kernel: Path, competition: str) -> str:
    """Return the three commands that upload, run and submit."""
    kernel_id = read_json(kernel / "kernel-metadata.json", made_by="snakemake kaggle")["id"]
    return "\n".join(
        [
            f"kaggle datasets create -p {dataset} --dir-mode zip",
            f"kaggle kernels push -p {kernel}",
            f"kaggle competitions submit {competition} -k {kernel_id} -f submission.csv -v 1 "
            f"-m {kernel_id.partition('/')[2]}",
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    """Write the bundle of a run and print the commands to upload it."""
    parser = argparse.ArgumentParser(
        prog="python -m t4e_utils.workflow.kaggle_bundle",
        description="Write what Kaggle needs to run the submission notebook.",
    )
    parser.add_argument("run", type=Path, help="folder with the trained models, such as runs/t4e")
    parser.add_argument(
        "--target", type=Path, required=True, help="where dataset/ and kernel/ are written"
    )
    parser.add_argument("--user", default="", help="your Kaggle user name")
    parser.add_argument("--competition", required=True, help="its name in its address")
    parser.add_argument("--notebook", type=Path, default=Path("notebooks/06_submission.ipynb"))
    parser.add_argument("--given", default="{}", help="parameters of the notebook, as YAML")
    asked = parser.parse_args(arguments)
    try:
        _slug(asked.run.name, asked.user)
        wheels = asked.target / "wheels"
        wheels.mkdir(parents=True, exist_ok=True)
        files = [build_package(Path.cwd(), wheels), *fetch_wheels(wheels)]
        folders = write_bundle(
            asked.run,
            asked.target,
            user=asked.user,
            competition=asked.competition,
            notebook=asked.notebook,
            given=yaml.safe_load(asked.given),
            wheels=files,
        )
    except T4EError as error:
        raise SystemExit(str(error)) from None
    print(upload_commands(*folders, asked.competition))


if __name__ == "__main__":
    main()
