"""What Kaggle needs to run a submission notebook without network: a data set and a notebook.

    dataset/   dataset-metadata.json, t4e_bundle.json (marks the folder), *.whl, and the files of
               the run (weights with cards) in the places they have there
    kernel/    kernel-metadata.json and the notebook, its parameters in a cell, without outputs

The wheels are those that Kaggle's image lacks, for its Python, and this package itself. They are
installed without index and without dependencies. Upload with `--dir-mode zip`: the client leaves
folders out otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import pkgutil
import re
import shlex
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import yaml

from t4e_utils import T4EError
from t4e_utils.files import require_writable, write_error
from t4e_utils.tables.parameters import ParameterError
from t4e_utils.tables.run import project_root
from t4e_utils.tables.store import read_json, write_json, write_table
from t4e_utils.workflow import PipelineError
from t4e_utils.workflow.collection import open_collection
from t4e_utils.workflow.kaggle_notebook import MARK, bundled_notebook
from t4e_utils.workflow.kaggle_wheels import build_package, fetch_wheels

KAGGLE_ROOT = "/kaggle"  # input/ is read-only, working/ is where the submission is written
ACCELERATOR = "NvidiaTeslaT4"  # the image's torch no longer supports the P100
USER = r"[a-z0-9]+([_-][a-z0-9]+)*"
SHORTEST, LONGEST = 6, 38  # characters of a name on Kaggle
READABLE = (".json", ".ipynb")  # what is uploaded as JSON


@dataclass(frozen=True)
class Bundle:
    """What a collection's submission notebook needs on Kaggle.

    Functions are given by their dotted names, so that the facts of a collection stay light. Both
    take (run folder, given parameters).
    """

    competition: str  # its name on Kaggle
    stage: str  # of the submission notebook
    prefix: str  # of the names on Kaggle
    # function that returns what is uploaded, by its path relative to the run: the content of a JSON
    # file, a table; or None for the file as it is
    files: str
    # source text of the parameters that the bundle sets; `{root}` is Kaggle's folder, and
    # `bundle` and `folder_with` are what the first cell defines
    parameters: Mapping[str, str]
    given: str = ""  # function that returns the parameters, completed from what the run holds
    submission: str = "submission.csv"  # the file that is handed in


def write_bundle(
    run: Path,
    target: Path,
    *,
    bundle: Bundle,
    user: str,
    notebook: Path,
    given: Mapping[str, Any],
    wheels: Iterable[Path],
    root: str = KAGGLE_ROOT,
) -> tuple[Path, Path]:
    """Write the data-set folder and the kernel folder of a finished run.

    Args:
        run: folder with the trained models.
        target: gets `dataset/` and `kernel/`, replaced as a whole.
        bundle: what the collection needs.
        user: Kaggle user name, owner of both.
        notebook: the submission notebook.
        given: parameters that the config gives to the notebook; folders are set here.
        wheels: this package and what Kaggle lacks.
        root: where Kaggle keeps `input` and `working`.

    Returns:
        The two folders.

    Raises:
        PipelineError: the user name or the run's name cannot be part of an address on Kaggle; a
            file of the run is not there, or leads out of it; something names a folder of this
            machine; or another folder is in the place of one that is written.
        WriteError: the target cannot be written to.
        T4EError: the run is not finished; the collection says what it lacks.
    """
    slug = slug_of(run.name, user, prefix=bundle.prefix)
    given = pkgutil.resolve_name(bundle.given)(run, given) if bundle.given else given
    files = pkgutil.resolve_name(bundle.files)(run, given)
    require_own_files(run, files)
    dataset, kernel = target / "dataset", target / "kernel"
    for folder, mark in ((dataset, MARK), (kernel, "*-submission.ipynb")):
        _make_anew(folder, mark)
    write_json({"run": run.name, "package": metadata.version("t4e-utils")}, dataset / MARK)
    write_files(run, dataset, files)
    for wheel in wheels:
        shutil.copy(wheel, dataset)
    write_json(dataset_metadata(user, slug), dataset / "dataset-metadata.json")
    bundled = bundled_notebook(
        nbformat.read(notebook, as_version=4),
        given,
        parameters=bundle.parameters,
        dataset=f"{user}/{slug}",
        root=root,
    )
    nbformat.write(bundled, kernel / f"{slug}-submission.ipynb")
    write_json(kernel_metadata(user, slug, bundle.competition), kernel / "kernel-metadata.json")
    try:
        require_no_folder_of_this_machine((dataset, kernel), run)
    except PipelineError:
        for folder in (dataset, kernel):  # so that it is not uploaded nevertheless
            shutil.rmtree(folder)
        raise
    return dataset, kernel


def _make_anew(folder: Path, mark: str) -> None:
    """Make a folder, in the place of one that an earlier bundle left, known by a file in it.

    Raises:
        PipelineError: it is the folder of somebody else.
        WriteError: it cannot be made.
    """
    try:
        if os.path.isdir(folder) and os.listdir(folder) and not any(folder.glob(mark)):
            raise PipelineError(
                f"{folder} is there, and is no earlier bundle: rename it, or choose another "
                "target, so that it is not deleted."
            )
        if os.path.lexists(folder):
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
    except OSError as error:
        raise write_error(folder, error) from error


def slug_of(run_name: str, user: str, *, prefix: str) -> str:
    """Return the name on Kaggle of what belongs to a run.

    Raises:
        PipelineError: the user name or the run's name cannot be part of an address on Kaggle.
    """
    if not re.fullmatch(USER, user.lower()):
        raise PipelineError(
            f"kaggle_user = {user!r} is no Kaggle user name: add `kaggle_user: NAME` to the "
            "config, the name in the address of your profile."
        )
    words = re.sub(r"[^a-z0-9]+", "-", run_name.lower().removeprefix(prefix)).strip("-")
    slug = f"{prefix}-{words or 'models'}"
    slug = slug if len(slug) >= SHORTEST else f"{slug}-models"
    if len(slug) > LONGEST:
        raise PipelineError(
            f"The run's name {run_name!r} is too long for a name on Kaggle ({slug}, at most "
            f"{LONGEST} characters): choose a shorter run_dir."
        )
    return slug


def require_own_files(run: Path, paths: Iterable[str]) -> None:
    """Refuse paths that lead out of a run, and links, which may: only its own files are uploaded.

    Args:
        run: its folder, which may itself be a link.
        paths: relative to it.

    Raises:
        PipelineError: naming the path.
    """
    for path in paths:
        parts = Path(path).parts
        steps = [run.joinpath(*parts[: k + 1]) for k in range(len(parts))]
        if Path(path).is_absolute() or ".." in parts or any(map(os.path.islink, steps)):
            raise PipelineError(
                f"{path} leads out of {run}, or is a link: only files of the run itself are "
                "uploaded. Put the file in the link's place, or train again."
            )
        if not os.path.isfile(run / path):
            raise PipelineError(
                f"{run / path} is not there: run the pipeline with this config first."
            )


def write_files(run: Path, target: Path, files: Mapping[str, Any]) -> None:
    """Write what a collection uploads of a run to the same places below the target."""
    for path, content in files.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            shutil.copyfile(run / path, target / path)
        elif isinstance(content, pd.DataFrame):
            write_table(content, target / path)
        else:
            write_json(content, target / path)


def require_no_folder_of_this_machine(folders: Iterable[Path], run: Path) -> None:
    """Refuse files that name the home folder, the run or the project: they tell who made them.

    Raises:
        PipelineError: naming file and folder.
    """
    own = {os.path.expanduser("~"), *map(str, (Path.cwd(), run.absolute(), run.resolve()))}
    own -= {"/", "~"}
    names = re.compile(rf"(?<![\w./-])({'|'.join(map(re.escape, own))})(?![\w-])")
    for folder in folders:
        for path in (p for p in sorted(folder.rglob("*")) if p.suffix in READABLE):
            text = json.dumps(json.loads(path.read_text("utf-8")), ensure_ascii=False)
            if found := names.search(text):
                raise PipelineError(
                    f"{path.name} would tell Kaggle of the folder {found[1]}: take it out of the "
                    "notebook, its parameters or the card."
                )


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


def upload_commands(dataset: Path, kernel: Path, bundle: Bundle) -> str:
    """Return the three commands that upload, run and submit, to be pasted into a shell."""
    kernel_id = read_json(kernel / "kernel-metadata.json", made_by="snakemake kaggle")["id"]
    return "\n".join(
        [
            f"kaggle datasets create -p {shlex.quote(str(dataset))} --dir-mode zip",
            f"kaggle kernels push -p {shlex.quote(str(kernel))}",
            f"kaggle competitions submit {bundle.competition} -k {kernel_id} "
            f"-f {shlex.quote(bundle.submission)} -v 1 -m {kernel_id.partition('/')[2]}",
        ]
    )


def _given(text: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        found = None
    if not isinstance(found, dict):
        raise ParameterError(f"--given {text[:200]!r} is no YAML of parameters: give {{name: 1}}.")
    return found


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
    parser.add_argument("--collection", default="", help="the notebooks' collection")
    parser.add_argument("--given", default="{}", help="parameters of the notebook, as YAML")
    asked, root = parser.parse_args(arguments), project_root()
    try:
        collection = open_collection(asked.collection)
        bundle = collection.data.KAGGLE
        name = f"{collection.stages[bundle.stage].notebook}.ipynb"
        slug_of(asked.run.name, asked.user, prefix=bundle.prefix)
        if not (root / "pyproject.toml").is_file():
            raise PipelineError(f"{root} is not the project: start from the project's folder.")
        wheels = asked.target / "wheels"
        require_writable(wheels / MARK)
        folders = write_bundle(
            asked.run,
            asked.target,
            bundle=bundle,
            user=asked.user,
            notebook=root / "notebooks" / collection.folder / name,
            given=_given(asked.given),
            wheels=[build_package(root, wheels), *fetch_wheels(wheels)],
        )
    except T4EError as error:
        raise SystemExit(str(error)) from None
    print(upload_commands(*folders, bundle))


if __name__ == "__main__":
    main()
