"""The pipeline: papermill runs the notebooks; this file says what each needs and makes, and Snakemake what is still up to date.

    snakemake --cores all --configfile configs/t4e.yaml
    snakemake --cores all --configfile configs/demo.yaml --config run_dir=runs/mine n_folds=3
    snakemake kaggle --cores all --configfile configs/t4e.yaml --config kaggle_user=NAME

Executed notebooks are logs, not outputs: Snakemake deletes the outputs of a failed job, and the copy that failed is the one to open.
"""

import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from t4e_utils import T4EError
from t4e_utils.competitions.brain_tumor.data import COMPETITION
from t4e_utils.workflow.executed import failure
from t4e_utils.files import is_disk_full
from t4e_utils.workflow.gpus import visible_gpus
from t4e_utils.workflow.plan import NEEDS, NOTEBOOKS, read_plan
from t4e_utils.workflow.run_lock import VARIABLE, lock_run

workdir: workflow.basedir

KAGGLE_USER = config.pop("kaggle_user", "")  # owner of what `kaggle` writes

try:
    PLAN = read_plan(config, Path(workflow.basedir) / "notebooks")
    SEG_FOLDS, CLS_FOLDS = PLAN.folds("train_seg"), PLAN.folds("train_cls")
except T4EError as error:
    raise WorkflowError(str(error)) from None

R = PLAN.run_dir
TYPES = PLAN.value("train_cls", "mri_types")
MODELS = PLAN.value("submission", "models_dir").rstrip("/")  # trained elsewhere: nothing is trained for the submission
GIVEN = {"mri_types": TYPES, "folds": CLS_FOLDS, **PLAN.given["submission"]}
SEGMENTER = f"{R}/seg/models/fold{PLAN.value('cls_data', 'segmenter_fold')}.json"
DATA = ["data/phantoms/phantoms.json"] if PLAN.uses_phantoms else []
IS_CLUSTER = workflow.resource_settings.nodes is not None  # so many jobs at a time in a scheduler's queue
N_GPUS = 0 if IS_CLUSTER or workflow.remote_exec else len(visible_gpus())  # to give out; a scheduler does that itself
os.environ[VARIABLE] = str(Path(R).absolute())  # by which the jobs of a run are known

PAPERMILL = (
    "{sys.executable} -m papermill {input.notebook:q} {log.notebook:q} -y {params.given:q} --cwd {workflow.basedir:q}"
    " --log-output --no-progress-bar > {log.text:q} 2>&1"
)

ON_GPU = f"{{sys.executable}} -m t4e_utils.workflow.gpus --devices {{resources.gpu}} -- {PAPERMILL}" if N_GPUS else PAPERMILL


def notebook(stage):
    return f"notebooks/{NOTEBOOKS[stage]}.ipynb"


def logs(stage, suffix=""):
    name = NOTEBOOKS[stage] + suffix
    return {"notebook": f"{R}/notebooks/{name}.ipynb", "text": f"{R}/logs/{name}.txt"}


def cores(stage, here=lambda cores: 1):
    """Cores of a job: on a cluster what the stage needs, on this machine a share of what there is.

    Without a GPU networks that run side by side get one: threads that share a core with something else wait for each other most of the time.
    """
    return NEEDS[stage].cores if IS_CLUSTER else here(workflow.cores)


def gpus(stage):
    """GPUs of a job; none where there are none."""
    return PLAN.processes(stage) if IS_CLUSTER or N_GPUS else 0


def cores_beside_gpus(stage, without=lambda cores: 1):
    """Cores of a job that works on GPUs: on this machine its share, so that as many run side by side as there are GPUs for."""
    return cores(stage, lambda cores: max(1, cores * gpus(stage) // N_GPUS) if N_GPUS else without(cores))


def needs(stage, **more):
    """What a scheduler is asked for beside the cores."""
    return {"mem_mb": NEEDS[stage].memory_mb, "runtime": NEEDS[stage].minutes, **more}


wildcard_constraints:
    fold=r"\d+",
    mri_type="|".join(TYPES),


localrules:
    all,
    phantoms,


rule all:
    input:
        f"{R}/submission.csv",
        [] if MODELS else f"{R}/report/index.html",


rule phantoms:
    output:
        update("data/phantoms/phantoms.json"),  # kept before a second drawing, which then finds everything there
    log:
        f"{R}/logs/phantoms.txt",
    shell:
        "{sys.executable} -m t4e_utils.competitions.brain_tumor.phantoms data/phantoms > {log:q} 2>&1"


rule eda:
    input:
        *DATA,
        notebook=notebook("eda"),
    output:
        f"{R}/eda/inventory.parquet",
        f"{R}/eda/problems.parquet",
    params:
        given=PLAN.arguments("eda"),
    log:
        **logs("eda"),
    threads: cores("eda")
    resources:
        **needs("eda"),
    shell:
        PAPERMILL


rule seg_data:
    input:
        *DATA,
        notebook=notebook("seg_data"),
    output:
        f"{R}/seg/slices.parquet",
        f"{R}/seg/patients.parquet",
        f"{R}/seg/synthetic.parquet",
    params:
        given=PLAN.arguments("seg_data"),
    log:
        **logs("seg_data"),
    threads: cores("seg_data", lambda cores: cores)
    resources:
        **needs("seg_data"),
    shell:
        PAPERMILL


rule train_seg:
    input:
        rules.seg_data.output,
        notebook=notebook("train_seg"),
    output:
        f"{R}/seg/models/fold{{fold}}.json",
        f"{R}/seg/dice_fold{{fold}}.parquet",
    params:
        given=lambda wildcards: PLAN.arguments("train_seg", folds=[int(wildcards.fold)], summarise=False),
    log:
        **logs("train_seg", "_fold{fold}"),
    threads: cores_beside_gpus("train_seg", lambda cores: min(cores, 2))  # a small network is a third faster on two, not on more
    resources:
        **needs("train_seg", gpu=gpus("train_seg")),
    shell:
        ON_GPU


rule seg_summary:
    input:
        rules.seg_data.output,
        expand(rules.train_seg.output, fold=SEG_FOLDS),
        notebook=notebook("train_seg"),
    output:
        f"{R}/seg/dice.parquet",
    params:
        given=PLAN.arguments("train_seg"),
    log:
        **logs("train_seg"),
    threads: cores("seg_summary")
    resources:
        **needs("seg_summary"),
    shell:
        PAPERMILL


rule cls_data:
    input:
        *DATA,
        SEGMENTER,
        notebook=notebook("cls_data"),
    output:
        f"{R}/cls/slices.parquet",
        f"{R}/cls/chunks.parquet",
        f"{R}/cls/patients.parquet",
    params:
        given=PLAN.arguments("cls_data"),
    log:
        **logs("cls_data"),
    threads: cores_beside_gpus("cls_data", lambda cores: max(1, cores - 1))  # one is left for the segmenter's summary
    resources:
        **needs("cls_data", gpu=gpus("cls_data")),
    shell:
        ON_GPU


rule train_cls:
    input:
        rules.cls_data.output,
        notebook=notebook("train_cls"),
    output:
        f"{R}/cls/models/{{mri_type}}_fold{{fold}}.json",
        f"{R}/cls/oof/{{mri_type}}_fold{{fold}}.parquet",
    params:
        given=lambda wildcards: PLAN.arguments(
            "train_cls", mri_types=[wildcards.mri_type], folds=[int(wildcards.fold)], summarise=False
        ),
    log:
        **logs("train_cls", "_{mri_type}_fold{fold}"),
    threads: cores_beside_gpus("train_cls")
    resources:
        **needs("train_cls", gpu=gpus("train_cls")),
    shell:
        ON_GPU


rule cls_summary:
    input:
        rules.cls_data.output,
        expand(rules.train_cls.output, mri_type=TYPES, fold=CLS_FOLDS),
        notebook=notebook("train_cls"),
    output:
        f"{R}/cls/oof.parquet",
        f"{R}/cls/summary.json",
    params:
        given=PLAN.arguments("train_cls"),
    log:
        **logs("train_cls"),
    threads: cores("cls_summary")
    resources:
        **needs("cls_summary"),
    shell:
        PAPERMILL


rule submission:
    input:
        *DATA,
        f"{MODELS}/cls/summary.json" if MODELS else [SEGMENTER, *rules.cls_summary.output],
        notebook=notebook("submission"),
    output:
        f"{R}/submission.csv",
        f"{R}/submission_report.csv",
    params:
        given=PLAN.arguments("submission", **GIVEN),
    log:
        **logs("submission"),
    threads: cores_beside_gpus("submission")
    resources:
        **needs("submission", gpu=gpus("submission")),
    shell:
        ON_GPU


rule kaggle:
    input:
        f"{MODELS}/cls/summary.json" if MODELS else [SEGMENTER, *rules.cls_summary.output],
        notebook=notebook("submission"),
    output:
        f"{R}/kaggle/dataset/dataset-metadata.json",
        f"{R}/kaggle/kernel/kernel-metadata.json",
    params:
        run=MODELS or R,
        target=f"{R}/kaggle",
        user=KAGGLE_USER,
        competition=COMPETITION,
        given=PLAN.arguments("submission", **GIVEN),
    log:
        f"{R}/logs/kaggle.txt",
    resources:
        **needs("kaggle"),
    shell:
        "{sys.executable} -m t4e_utils.workflow.kaggle_bundle {params.run:q} --target {params.target:q} --user={params.user:q}"
        " --competition {params.competition:q} --notebook {input.notebook:q} --given {params.given:q} > {log:q} 2>&1"
        " && cat {log:q} || {{ tail -n 5 {log:q} >&2; exit 1; }}"


rule report:
    input:
        rules.eda.output,
        rules.seg_summary.output,
        rules.cls_summary.output,
        rules.submission.output,
    output:
        f"{R}/report/index.html",
        f"{R}/summary.json",
    params:
        run_dir=R,
    log:
        f"{R}/logs/report.txt",
    resources:
        **needs("report"),
    shell:
        "{sys.executable} -m t4e_utils.workflow.report {params.run_dir:q} > {log:q} 2>&1 || {{ tail -n 5 {log:q} >&2; exit 1; }}"


onstart:
    try:
        lock_run(Path(R))
    except T4EError as error:
        raise WorkflowError(str(error)) from None


onerror:
    for copy in sorted(Path(f"{R}/notebooks").glob("*.ipynb")):
        try:
            if sentence := failure(copy):
                print(f"\n{sentence}\nThe executed copy to open is {copy}", file=sys.stderr)
        except T4EError as error:
            print(f"\n{error}", file=sys.stderr)
    if is_disk_full(Path(R)):
        print(f"\nThe disk of {R} is full: make room, then start again; what is complete stays.", file=sys.stderr)
