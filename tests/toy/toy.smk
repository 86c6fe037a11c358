"""The rules of the collection in miniature; `tests` is on the path of Python."""

from toy.data import STAGES

NAME = "toy.data"
NOTEBOOKS = "tests/toy/notebooks"
PLAN = open_plan(STAGES)
R = PLAN.run_dir


rule data:
    input:
        notebook=notebook("data"),
    output:
        f"{R}/slices.parquet",
        f"{R}/patients.parquet",
        f"{R}/phantoms/sample.csv",
    params:
        given=given("data"),
    log:
        **logs("data"),
    shell:
        PAPERMILL


rule train:
    input:
        rules.data.output,
        notebook=notebook("train"),
    output:
        f"{R}/scores/train.json",
        f"{R}/submission.csv",
    params:
        given=given("train"),
    log:
        **logs("train"),
    threads: cores("train")
    resources:
        gpu=gpus("train"),
    shell:
        ON_GPU


MADE = [f"{R}/submission.csv", f"{R}/report/index.html"]
REPORTED = rules.train.output
