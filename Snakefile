"""The pipeline: papermill runs the notebooks, Snakemake decides which of them are still up to date.

    snakemake --cores all --configfile configs/t4e.yaml
    snakemake --cores all --configfile configs/demo.yaml --config run_dir=runs/mine n_folds=3
    snakemake kaggle --cores all --configfile configs/t4e.yaml --config kaggle_user=NAME

A config's key `collection` says whose rules these are: NAME for workflow/NAME.smk, or the path of
such a file, seen from this folder. A new collection is one more file, and nothing else changes:
workflow/common.smk says what the file holds.
"""

from pathlib import Path

from snakemake.exceptions import WorkflowError

workdir: workflow.basedir

COLLECTION = str(config.pop("collection", "brain_tumor"))
FILES = Path(workflow.basedir, "workflow").glob("*.smk")
KNOWN = {path.stem: path for path in FILES if path.stem not in ("common", "results")}
IS_PATH = COLLECTION.endswith(".smk") and Path(workflow.basedir, COLLECTION).is_file()
if COLLECTION not in KNOWN and not IS_PATH:
    raise WorkflowError(
        f"collection = {COLLECTION!r} is not known: choose from {', '.join(sorted(KNOWN))}, "
        "or give the path of a .smk file."
    )


include: "workflow/common.smk"
include: str(KNOWN.get(COLLECTION, Path(workflow.basedir, COLLECTION)))
include: "workflow/results.smk"


localrules:
    all,


rule all:  # Snakemake takes the default from this file only
    default_target: True
    input:
        MADE,
