"""What the rules of all collections use: papermill's command, logs, cores, GPUs, a run's lock.

The file of a collection sets first
    NAME          the module of its leaf, if that is not in t4e_utils/competitions
    NOTEBOOKS     the folder of its notebooks
    PLAN          open_plan(STAGES), with the stages of its leaf
    R             PLAN.run_dir
and after its rules
    MADE          what the pipeline makes by default
    REPORTED      files that the report is made of; without it there is no report
    BUNDLED       files that the bundle for Kaggle is made of, with KAGGLE of its leaf; or none
    BUNDLE_RUN    the run that they are in
    BUNDLE_GIVEN  parameters of the notebook that goes to Kaggle

Executed notebooks are logs, not outputs: Snakemake deletes the outputs of a failed job, and the
copy that failed is the one to open.
"""

import os
import sys

from t4e_utils import T4EError
from t4e_utils.files import is_disk_full
from t4e_utils.workflow.executed import failure
from t4e_utils.workflow.locks import VARIABLE, lock_run, visible_gpus
from t4e_utils.workflow.plan import read_plan

NAME = Path(COLLECTION).stem
REPORTED, BUNDLED = [], []
KAGGLE_USER = config.pop("kaggle_user", "")  # owner of what `kaggle` writes
IS_CLUSTER = workflow.resource_settings.nodes is not None  # so many jobs in a scheduler's queue
CORES = workflow.cores or 1  # of this machine, for all jobs together
# to give out; a scheduler does that itself
N_GPUS = 0 if IS_CLUSTER or workflow.remote_exec else len(visible_gpus())

PAPERMILL = (
    "{sys.executable:q} -m papermill {input.notebook:q} {log.notebook:q} -y {params.given:q}"
    " --cwd {workflow.basedir:q} --log-output --no-progress-bar > {log.text:q} 2>&1"
)
LOCKED = "{sys.executable:q} -m t4e_utils.workflow.locks --devices {resources.gpu} -- "
ON_GPU = LOCKED + PAPERMILL if N_GPUS else PAPERMILL


def open_plan(stages):
    try:
        plan = read_plan(config, Path(workflow.basedir, NOTEBOOKS), stages)
        run = Path(plan.run_dir)
    except T4EError as error:
        raise WorkflowError(str(error)) from None
    os.environ[VARIABLE] = str(run.absolute())  # by which the jobs of a run are known
    return plan


def given(stage, **overrides):
    """Parameters of a job: of a function's text Snakemake takes no braces for wildcards."""
    return lambda wildcards: PLAN.arguments(stage, **overrides)


def notebook(stage):
    return f"{NOTEBOOKS}/{PLAN.stages[stage].notebook}.ipynb"


def logs(stage, suffix=""):
    name = PLAN.stages[stage].notebook + suffix
    return {"notebook": f"{R}/notebooks/{name}.ipynb", "text": f"{R}/logs/{name}.txt"}


def sources(stage, collect):
    """What a stage is made from, as a parameter; looked at when the rule's turn comes.

    Its result must stay the same from run to run while nothing changes. `collect` is a function of
    the leaf, see `Plan.sources`.
    """
    record = Path(R, "logs", "made_from.json")
    return lambda wildcards: PLAN.sources(stage, collect, record, keep=not workflow.dryrun)


def gpus(stage):
    """GPUs of a job; none where there are none."""
    return PLAN.processes(stage) if PLAN.stages[stage].uses_gpu and (IS_CLUSTER or N_GPUS) else 0


def cores(stage, without_gpu=1):
    """Cores of a job on this machine; on a cluster the profile's `set-threads` says how many.

    With GPUs it gets its share, so that as many run side by side as there are GPUs for. Without one
    networks that run side by side get one core: threads that share a core with something else wait
    for each other most of the time.
    """
    if IS_CLUSTER:
        return 1
    return max(1, CORES * gpus(stage) // N_GPUS) if gpus(stage) else without_gpu


wildcard_constraints:
    fold=r"\d+",


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
        print(
            f"\nThe disk of {R} is full: make room, then start again; what is complete stays.",
            file=sys.stderr,
        )
