"""The pipeline with notebooks that do nothing but write what they were given.

Who gets which parameter, and what runs again when.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from snakemake.utils import update_config

from t4e_utils.competitions.brain_tumor.data import STAGES
from t4e_utils.tables.parameters import ParameterError
from t4e_utils.tables.run import MissingInputError, resolve
from t4e_utils.workflow.plan import Plan, read_plan

ROOT = Path(__file__).parents[2]
SHARED = """run_dir: str = "runs/demo"
rsna_dir: str = "data/phantoms/rsna"
brats_dir: str = "data/phantoms/brats21"
n_folds: int = 2
seed: int = 0
"""
OWN = {
    "eda": "n_grid: int = 12\nexcluded_patients: list = []",
    "seg_data": 'min_tumour_share: float = 0.01\nplanes: list = ["axial"]',
    "train_seg": "folds: list = [0]\nlr: float = 1e-3\nnum_processes: int = 1\nsummarise: bool "
    "= True",
    "cls_data": 'segmenter_fold: int = 0\nweights: dict = {"WT": {"FLAIR": 3}}\n'
    'excluded_patients: list = []\nfold_table: str = ""',
    "train_cls": 'mri_types: list = ["FLAIR", "T1w"]\nfolds: list = []\nlr: float = '
    "4e-3\nsummarise: bool = True",
    "submission": 'tta_zoom: float = 1.2\nmodels_dir: str = ""\nmri_types: list = []\nfolds: '
    "list = []",
}
OUTPUTS = {
    "eda": "['eda/inventory.parquet', 'eda/problems.parquet']",
    "seg_data": "['seg/slices.parquet', 'seg/patients.parquet', 'seg/synthetic.parquet']",
    "train_seg": "['seg/dice.parquet', 'scores/train_seg.json'] if summarise else "
    "[f for k in folds for f in (f'seg/models/fold{k}.json', f'seg/dice_fold{k}.parquet')]",
    "cls_data": "['cls/slices.parquet', 'cls/chunks.parquet', 'cls/patients.parquet']",
    "train_cls": "['cls/oof.parquet', 'cls/summary.json', 'scores/train_cls.json']"
    " if summarise else [f for t in mri_types for k in folds for f in "
    "(f'cls/models/{t}_fold{k}.json', f'cls/oof/{t}_fold{k}.parquet')]",
    "submission": "['submission.csv', 'submission_report.csv', 'submission_problems.csv']",
}
WRITE = """from pathlib import Path
assert n_folds != 13, "thirteen folds bring bad luck"
for name in {outputs}:
    Path(run_dir, name).parent.mkdir(parents=True, exist_ok=True)
    Path(run_dir, name).write_text(repr({names}))"""


# A collection of two stages, as a file of rules that stands anywhere.
TOY = """
from t4e_utils.workflow.plan import Stage

NOTEBOOKS = "a toy/notebooks"
STAGES = {"look": Stage("01_look"), "train": Stage("02_train", folds_from="look", uses_gpu=True)}
PLAN = open_plan(STAGES)
R = PLAN.run_dir


rule look:
    input:
        notebook=notebook("look"),
    output:
        f"{R}/look.txt",
    params:
        given=PLAN.arguments("look"),
    log:
        **logs("look"),
    shell:
        PAPERMILL


rule train:
    input:
        rules.look.output,
        notebook=notebook("train"),
    output:
        f"{R}/fold{{fold}}.txt",
    params:
        given=lambda wildcards: PLAN.arguments("train", folds=[int(wildcards.fold)]),
    log:
        **logs("train", "_fold{fold}"),
    threads: cores("train", CORES)
    resources:
        gpu=gpus("train"),
    shell:
        ON_GPU


MADE = REPORTED = expand(rules.train.output, fold=PLAN.folds("train"))
"""


def write_stub(path: Path, declared: str, outputs: str) -> None:
    """Write a notebook that declares parameters and writes their values to its outputs."""
    names = [line.split(":")[0] for line in declared.splitlines()]
    shown = "{" + ", ".join(f"'{n}': {n}" for n in names) + "}"
    cells = [
        new_code_cell(declared, metadata={"tags": ["parameters"]}),
        new_markdown_cell("## Work\n\nNothing."),
        new_code_cell(WRITE.format(outputs=outputs, names=shown)),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata=kernel), path)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the rules and the profiles, with stubs for notebooks and data that are no phantoms.

    Its path has a space, and so may every path of a user.
    """
    folder = tmp_path_factory.mktemp("a project")
    shutil.copy(ROOT / "Snakefile", folder)
    for name in ("workflow", "profiles"):
        shutil.copytree(ROOT / name, folder / name)
    for name, stage in STAGES.items():
        path = folder / "notebooks" / f"{stage.notebook}.ipynb"
        write_stub(path, SHARED + OWN[name], OUTPUTS[name])
    toy = folder / "a toy"
    declared = 'run_dir: str = "runs/toy"\nn_folds: int = 2'
    write_stub(toy / "notebooks" / "01_look.ipynb", declared, "['look.txt']")
    declared += "\nfolds: list = []"
    write_stub(toy / "notebooks" / "02_train.ipynb", declared, "[f'fold{k}.txt' for k in folds]")
    (toy / "toy.smk").write_text(TOY)
    return folder


def snakemake(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(project / "cache"),
        **variables,
    }
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False
    )


def plan(project: Path, **config) -> Plan:
    return read_plan(config, project / "notebooks", STAGES)


def test_a_shared_key_goes_to_every_notebook_that_declares_it_and_a_section_to_its_own(project):
    made = plan(project, seed=3, lr=0.1, train_cls={"lr": 0.2})
    assert made.given["eda"] == {"seed": 3}
    assert made.given["train_seg"] == {"seed": 3, "lr": 0.1}
    assert made.given["train_cls"] == {"seed": 3, "lr": 0.2}
    assert made.value("submission", "tta_zoom") == 1.2


def test_text_from_yaml_and_from_the_command_line_becomes_the_declared_type(project):
    made = plan(
        project,
        train_seg={"lr": "1e-4", "folds": ["0", "1"], "summarise": "false"},
        seg_data={"planes": ["007"]},
        seed="5",
    )
    assert made.given["train_seg"] == {"seed": 5, "lr": 1e-4, "folds": [0, 1], "summarise": False}
    assert made.given["seg_data"] == {"seed": 5, "planes": ["007"]}
    made = plan(project, cls_data={"weights": {"WT": {"FLAIR": "3", "T2w": "0.5"}, "ET": {}}})
    assert made.given["cls_data"] == {"weights": {"WT": {"FLAIR": 3, "T2w": 0.5}, "ET": {}}}
    assert yaml.safe_load(made.arguments("cls_data")) == made.given["cls_data"]


def test_arguments_survive_the_yaml_that_papermill_reads(project):
    text = plan(project, train_seg={"lr": 1e-6}).arguments("train_seg", folds=[1], summarise=False)
    assert yaml.safe_load(text) == {"lr": 1e-6, "folds": [1], "summarise": False}
    assert "\n" not in text


def test_an_empty_list_of_folds_means_all(project):
    made = plan(project, n_folds=3, seg_data={"n_folds": 4})
    assert made.folds("train_cls") == [0, 1, 2]
    assert made.folds("train_seg") == [0]


def test_a_parameter_has_the_notebook_s_value_or_another(project):
    assert plan(project).is_default("rsna_dir", "brats_dir")
    assert plan(project, brats_dir="data/phantoms/brats21").is_default("rsna_dir", "brats_dir")
    assert not plan(project, brats_dir="data/brats21").is_default("rsna_dir", "brats_dir")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"n_fold": 2}, "n_fold, but no notebook has this parameter.* did you mean n_folds"),
        (
            {"train_seg": {"mri_types": ["FLAIR"]}},
            "train_seg: mri_types, but 03_train_seg has no such parameter",
        ),
        ({1: 2}, "The config gives 1, but no notebook has this parameter"),
        ({"train_seg": {True: 2}}, "train_seg: True, but 03_train_seg has no such parameter"),
        ({"train_seg": 3}, "train_seg = 3 must be a section"),
        ({"seed": "many"}, "seed = 'many' is str, but it must be int"),
        ({"n_folds": 2.5}, "n_folds = 2.5 is float, but it must be int"),
        ({"run_dir": 7}, "run_dir = 7 is int, but it must be str"),
        ({"seed": True}, "seed = True is bool, but it must be int"),
        ({"summarise": "maybe"}, "summarise = 'maybe' is str, but it must be bool"),
        ({"folds": "0, 1]"}, r"folds = '0, 1\]' is text, but it must be a list, such as"),
        ({"weights": "x"}, "weights = 'x' is text, but it must be a dict, such as"),
        ({"planes": ["axial", 1]}, "an element of planes = 1 is int, but it must be str"),
        (
            {"train_cls": {"folds": [2]}},
            "train_cls: fold 2 does not exist: with n_folds = 2 give 0 to 1",
        ),
    ],
)
def test_a_config_that_does_not_fit_is_refused_with_a_sentence(project, config, message):
    with pytest.raises(ParameterError, match=message):
        read_plan(config, project / "notebooks", STAGES)


@pytest.mark.parametrize(
    "name", ["runs/{x}", "runs/a}", "runs/a\x1b[2J", "runs/a\nb", "runs/a <b>", "-a"]
)
def test_a_run_folder_that_rules_cannot_name_is_refused(project, name):
    plan = read_plan({"run_dir": name}, project / "notebooks", STAGES)
    with pytest.raises(ParameterError, match=r"run_dir = .* holds a brace.*: choose another name"):
        plan.run_dir  # noqa: B018


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "'' is no folder of a run: give it a name"),
        ("/", "'/' is no folder of a run"),
        ("~nobody-of-this-name/a", "names nobody of this machine: correct it"),
    ],
)
def test_a_run_folder_without_a_name_or_of_nobody_is_refused(project, name, message):
    plan = read_plan({"run_dir": name}, project / "notebooks", STAGES)
    with pytest.raises(ParameterError, match=f"run_dir = .*{message}"):
        plan.run_dir  # noqa: B018


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("~/a run", "/home/somebody/a run"),
        ("./runs//a/", "runs/a"),
        ("../runs/a", "../runs/a"),
        ("it's $1 #2 <B> <: ~ [0]* %s", "it's $1 #2 <B> <: ~ [0]* %s"),
    ],
)
def test_rules_name_the_folder_that_the_notebooks_write_to(project, monkeypatch, name, folder):
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.chdir(project)
    run_dir = read_plan({"run_dir": name}, project / "notebooks", STAGES).run_dir
    assert run_dir == folder
    assert os.path.realpath(run_dir) == os.path.realpath(resolve(name))


def test_a_value_that_no_notebook_can_hold_is_refused(project):
    for config in ({"rsna_dir": "data/caf\udce9"}, {"seg_data": {"planes": ["axial\udce9"]}}):
        with pytest.raises(ParameterError, match=r"= .*\\udce9.* is not UTF-8.*: rename it"):
            read_plan(config, project / "notebooks", STAGES)


def test_parameters_are_read_below_a_folder_with_braces(project, tmp_path):
    notebooks = shutil.copytree(project / "notebooks", tmp_path / "{x} {0}" / "notebooks")
    declared = read_plan({}, project / "notebooks", STAGES).defaults
    assert read_plan({}, notebooks, STAGES).defaults == declared


def test_a_missing_notebook_is_named(tmp_path):
    with pytest.raises(MissingInputError, match=r"01_eda\.ipynb is not there"):
        read_plan({}, tmp_path, STAGES)


def test_the_configs_of_this_project_fit_its_notebooks():
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        config = yaml.safe_load(path.read_text())
        assert read_plan(config, ROOT / "notebooks", STAGES).run_dir == f"runs/{path.stem}"


def test_our_improvements_are_what_differs_from_the_team_s_settings():
    config: dict = {}
    plans = []
    for name in ("t4e", "plus"):  # as `--configfile configs/t4e.yaml configs/plus.yaml` does
        update_config(config, yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text()))
        plans.append(read_plan(deepcopy(config), ROOT / "notebooks", STAGES))
    theirs, ours = plans
    shared = {
        "run_dir": "runs/plus",
        "intensity_percentiles": [0.5, 99.5],
        "is_stretched": False,
        "views": ["identity", "hflip"],
    }
    votes = {"WT": {"FLAIR": 3, "T1wCE": 1, "T2w": 1}, "ET": {"T1wCE": 1}}
    own = {
        ("train_seg", "loss"): "dice+bce",
        ("cls_data", "series_weights"): votes,
        ("train_cls", "folds"): [],
    }
    for stage, values in ours.defaults.items():
        for name in values:
            expected = own.get((stage, name), shared.get(name, theirs.value(stage, name)))
            assert ours.value(stage, name) == expected, (stage, name)
    assert all(ours.value(*place) != theirs.value(*place) for place in own)


def test_a_run_is_done_once_and_a_changed_parameter_runs_only_what_depends_on_it(project):
    config = [
        "cls_summary",
        "--config",
        "run_dir=runs/a",
        "rsna_dir=x",
        "brats_dir=y",
        "n_folds=1",
        "mri_types=[T1w]",
    ]
    done = snakemake(project, *config)
    assert done.returncode == 0, done.stderr
    out_of_fold = (project / "runs/a/cls/oof/T1w_fold0.parquet").read_text()
    assert "'rsna_dir': 'x'" in out_of_fold
    assert "'mri_types': ['T1w'], 'folds': [0]" in out_of_fold
    assert {path.stem for path in (project / "runs/a/notebooks").iterdir()} == {
        "02_seg_data",
        "03_train_seg_fold0",
        "04_cls_data",
        "05_train_cls_T1w_fold0",
        "05_train_cls",
    }
    assert "Nothing to be done" in snakemake(project, *config).stderr
    plan_of_changed = snakemake(project, "--dry-run", *config, "train_cls={lr: 0.1}").stdout
    assert {name for name in [*STAGES, "cls_summary"] if f"\n{name} " in plan_of_changed} == {
        "train_cls",
        "cls_summary",
    }


def test_changed_labels_run_what_was_made_from_them_and_only_that_and_times_run_nothing(project):
    rsna, head = project / "my data" / "rsna", "BraTS21ID,MGMT_value\n"
    for split, patient in (("train", "00001"), ("train", "00002"), ("test", "00003")):
        (rsna / split / patient / "T1w").mkdir(parents=True)
        (rsna / split / patient / "T1w" / "Image-1.dcm").write_text("image")
    volume = project / "my data/brats/BraTS2021_00007/BraTS2021_00007_flair.nii.gz"
    volume.parent.mkdir(parents=True)
    volume.write_text("volume")
    labels = rsna / "train_labels.csv"
    labels.write_text(f"{head}00001,0\n00002,1\n")
    (rsna / "sample_submission.csv").write_text(f"{head}00003,0.5\n")
    config = ["--config", "run_dir=runs/data", "rsna_dir=my data/rsna", "brats_dir=my data/brats"]
    assert snakemake(project, "cls_data", *config).returncode == 0
    os.utime(labels)
    assert "Nothing to be done" in snakemake(project, "cls_data", *config).stderr
    labels.write_text(f"{head}00001,1\n00002,1\n")
    os.utime(labels, (1e9, 1e9))  # an older file, put in the place of a newer one
    shown = snakemake(project, "--dry-run", "cls_data", *config).stdout
    assert {name for name in STAGES if f"\n{name} " in shown} == {"cls_data"}
    labels.write_text(f"{head}00001,0\n00002,1\n")
    (project / "my data").rename(project / "unplugged")
    assert "Nothing to be done" in snakemake(project, "cls_data", *config).stderr


def test_models_from_elsewhere_are_only_predicted_with_and_uploaded(project):
    (project / "given" / "cls").mkdir(parents=True)
    (project / "given" / "cls" / "summary.json").write_text("{}")
    config = [
        "--config",
        "run_dir=runs/d",
        "rsna_dir=x",
        "brats_dir=y",
        "submission={models_dir: given, folds: [0]}",
        "kaggle_user=some-user",
    ]
    planned = [
        snakemake(project, "--dry-run", *target, *config).stdout for target in ([], ["kaggle"])
    ]
    jobs = [
        {name for name in [*STAGES, "kaggle", "report", "cls_summary"] if f"\n{name} " in text}
        for text in planned
    ]
    assert jobs == [{"submission"}, {"kaggle"}]


def test_the_bundle_needs_a_user_name_and_says_so(project):
    refused = snakemake(
        project,
        "kaggle",
        "--config",
        "run_dir=runs/d",
        "rsna_dir=x",
        "brats_dir=y",
        "submission={models_dir: given, folds: [0]}",
    )
    assert refused.returncode == 1
    assert (
        "kaggle_user = '' is no Kaggle user name: add `kaggle_user: NAME` to the config"
        in refused.stderr
    )


def test_a_failed_notebook_stops_the_run_names_the_cell_and_stays(project):
    failed = snakemake(
        project, "eda", "--config", "run_dir=runs/b", "rsna_dir=x", "brats_dir=y", "n_folds=13"
    )
    assert failed.returncode == 1
    assert (
        '01_eda stopped in cell In [3] under "Work": AssertionError: thirteen folds bring bad luck.'
        in failed.stderr
    )
    copy = nbformat.read(project / "runs/b/notebooks/01_eda.ipynb", as_version=4)
    assert "thirteen folds" in json.dumps(copy)
    assert not (project / "runs/b/eda/inventory.parquet").exists()


def test_an_unknown_key_stops_before_any_job(project):
    refused = snakemake(project, "eda", "--config", "run_dir=runs/c", "sead=1")
    assert refused.returncode == 1
    assert "did you mean seed?" in refused.stderr
    assert not (project / "runs/c").exists()


def test_a_second_run_on_a_folder_is_refused_and_the_first_one_s_end_frees_it(project):
    config = ["eda", "--config", "run_dir=runs/second", "rsna_dir=x", "brats_dir=y"]
    (project / "runs/second").mkdir(parents=True)
    with (project / "runs/second/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("process 1 on elsewhere since 2026-01-01")
        lock.flush()
        refused = snakemake(project, *config)
        assert refused.returncode == 1
        assert "Another run works on" in refused.stderr
        assert (
            "(process 1 on elsewhere since 2026-01-01): wait until it ends, or choose another "
            "run_dir." in refused.stderr
        )
        assert "Traceback" not in refused.stderr
        assert not (project / "runs/second/eda").exists()
    assert snakemake(project, *config).returncode == 0


def test_every_notebook_s_rule_asks_for_resources_and_on_a_cluster_each_gpu_job_for_a_device(
    project,
):
    config = [
        "--dry-run",
        "--config",
        "run_dir=runs/e",
        "rsna_dir=x",
        "brats_dir=y",
        "n_folds=1",
        "mri_types=[T1w]",
    ]
    shown = snakemake(project, *config, "--workflow-profile", "profiles/slurm", "--cores", "64")
    assert shown.returncode == 0, shown.stderr
    asked = {block.split("\n")[0].strip(":"): block for block in shown.stdout.split("\nrule ")[1:]}
    assert {name for name, block in asked.items() if "gpu=1" in block} == {
        "train_seg",
        "cls_data",
        "train_cls",
        "submission",
    }
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    for name in [*STAGES, "seg_summary", "cls_summary", "report"]:
        for resource, value in profile["set-resources"][name].items():
            assert f"{resource}={value}" in asked[name]
        if n_threads := profile["set-threads"].get(name):
            assert f"threads: {n_threads}\n" in asked[name]


def test_a_collection_is_one_more_file_of_rules_wherever_it_stands(project):
    config = ["--config", "collection=a toy/toy.smk", "run_dir=runs/my toy", "train={folds: [1]}"]
    ran = snakemake(project, *config)
    assert ran.returncode == 0, ran.stderr
    run = project / "runs/my toy"
    assert (
        run / "fold1.txt"
    ).read_text() == "{'run_dir': 'runs/my toy', 'n_folds': 2, 'folds': [1]}"
    assert sorted(path.name for path in (run / "notebooks").iterdir()) == [
        "01_look.ipynb",
        "02_train_fold1.ipynb",
    ]
    shutil.copy(project / "a toy/toy.smk", project / "workflow/toy.smk")
    assert (
        "Nothing to be done"
        in snakemake(project, *config[:1], "collection=toy", *config[2:]).stderr
    )


@pytest.mark.parametrize("name", ["heads", "common", "elsewhere/heads.smk"])
def test_an_unknown_collection_is_a_sentence_that_names_those_there_are(project, name):
    refused = snakemake(project, "--config", f"collection={name}")
    assert refused.returncode == 1
    assert f"collection = '{name}' is not known: choose from brain_tumor" in refused.stderr


def test_jobs_that_run_side_by_side_get_a_gpu_each(project, tmp_path):
    config = [
        "--config",
        "run_dir=runs/g",
        "rsna_dir=x",
        "brats_dir=y",
        "n_folds=1",
        "mri_types=[FLAIR,T1w]",
    ]
    ran = snakemake(
        project, "runs/g/submission.csv", *config, CUDA_VISIBLE_DEVICES="0,1", TMPDIR=str(tmp_path)
    )
    assert ran.returncode == 0, ran.stderr
    first_lines = {
        path.stem: path.read_text().split("\n")[0]
        for path in (project / "runs/g/logs").glob("0*.txt")
    }
    assert {first_lines[f"05_train_cls_{name}_fold0"] for name in ("FLAIR", "T1w")} == {
        "GPU 0",
        "GPU 1",
    }
    assert {name for name, line in first_lines.items() if line.startswith("GPU ")} == {
        "03_train_seg_fold0",
        "04_cls_data",
        "05_train_cls_FLAIR_fold0",
        "05_train_cls_T1w_fold0",
        "06_submission",
    }


def test_a_training_over_several_processes_asks_for_as_many_gpus(project):
    config = [
        "--dry-run",
        "--config",
        "run_dir=runs/h",
        "rsna_dir=x",
        "brats_dir=y",
        "n_folds=1",
        "num_processes=3",
    ]
    shown = snakemake(project, *config, "--workflow-profile", "profiles/slurm")
    asked = {block.split("\n")[0].strip(":"): block for block in shown.stdout.split("\nrule ")[1:]}
    assert "gpu=3" in asked["train_seg"]
    assert "gpu=1" in asked["cls_data"]


def test_a_damaged_executed_copy_and_a_full_disk_do_not_hide_the_sentence(project):
    copies = project / "runs/f/notebooks"
    copies.mkdir(parents=True)
    (copies / "00_damaged.ipynb").write_text('{"cells": [')
    failed = snakemake(
        project, "eda", "--config", "run_dir=runs/f", "rsna_dir=x", "brats_dir=y", "n_folds=13"
    )
    assert "00_damaged.ipynb is no complete notebook" in failed.stderr
    assert "thirteen folds bring bad luck." in failed.stderr


@pytest.mark.parametrize(
    ("target", "names"),
    [("demo", "no collection"), ("data", "no collection"), ("test", "choose from annotations ")],
)
def test_make_says_which_names_there_are(target, names):
    said = subprocess.run(
        ["make", "--no-print-directory", "-o", ".venv/installed", f"{target}-heads"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 2
    assert said.stdout.startswith(f"There is no heads: {names}")
