"""T4E: a segmenter (02, 03), then a classifier for each MRI type on slices it chooses (04, 05)."""

from t4e_utils.competitions.brain_tumor.data import KAGGLE, STAGES
from t4e_utils.competitions.brain_tumor.sources import of_stage

NOTEBOOKS = "notebooks"
PLAN = open_plan(STAGES)
R = PLAN.run_dir
TYPES, CLS_FOLDS = PLAN.value("train_cls", "mri_types"), PLAN.folds("train_cls")
# trained elsewhere: nothing is trained for the submission
MODELS = PLAN.folder("submission", "models_dir")
SEGMENTER = f"{R}/seg/models/fold{PLAN.value('cls_data', 'segmenter_fold')}.json"
DATA = ["data/phantoms/phantoms.json"] if PLAN.is_default("rsna_dir", "brats_dir") else []


wildcard_constraints:
    mri_type="|".join(TYPES),


localrules:
    phantoms,


rule phantoms:
    output:
        # kept before a second drawing, which then finds everything there
        update("data/phantoms/phantoms.json"),
    log:
        f"{R}/logs/phantoms.txt",
    shell:
        "{sys.executable:q} -m t4e_utils.competitions.brain_tumor.phantoms data/phantoms"
        " > {log:q} 2>&1"


rule eda:
    input:
        *DATA,
        notebook=notebook("eda"),
    output:
        f"{R}/eda/inventory.parquet",
        f"{R}/eda/problems.parquet",
    params:
        given=given("eda"),
        made_from=sources("eda", of_stage),
    log:
        **logs("eda"),
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
        given=given("seg_data"),
        made_from=sources("seg_data", of_stage),
    log:
        **logs("seg_data"),
    threads: cores("seg_data", CORES)
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
        given=lambda wildcards: PLAN.arguments(
            "train_seg", folds=[int(wildcards.fold)], summarise=False
        ),
    log:
        **logs("train_seg", "_fold{fold}"),
    # a small network is a third faster on two, not on more
    threads: cores("train_seg", min(CORES, 2))
    resources:
        gpu=gpus("train_seg"),
    shell:
        ON_GPU


rule seg_summary:
    input:
        rules.seg_data.output,
        expand(rules.train_seg.output, fold=PLAN.folds("train_seg")),
        notebook=notebook("train_seg"),
    output:
        f"{R}/seg/dice.parquet",
        f"{R}/scores/train_seg.json",
    params:
        given=given("train_seg"),
    log:
        **logs("train_seg"),
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
        given=given("cls_data"),
        made_from=sources("cls_data", of_stage),
    log:
        **logs("cls_data"),
    threads: cores("cls_data", max(1, CORES - 1))  # one is left for the segmenter's summary
    resources:
        gpu=gpus("cls_data"),
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
            "train_cls",
            mri_types=[wildcards.mri_type],
            folds=[int(wildcards.fold)],
            summarise=False,
        ),
    log:
        **logs("train_cls", "_{mri_type}_fold{fold}"),
    threads: cores("train_cls")
    resources:
        gpu=gpus("train_cls"),
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
        f"{R}/scores/train_cls.json",
    params:
        given=given("train_cls"),
    log:
        **logs("train_cls"),
    shell:
        PAPERMILL


BUNDLED = [f"{MODELS}/cls/summary.json"] if MODELS else [SEGMENTER, *rules.cls_summary.output]
BUNDLE_RUN = MODELS or R
BUNDLE_GIVEN = PLAN.arguments(
    "submission", **{"mri_types": TYPES, "folds": CLS_FOLDS, **PLAN.given["submission"]}
)


rule submission:
    input:
        *DATA,
        *BUNDLED,
        notebook=notebook("submission"),
    output:
        f"{R}/submission.csv",
        f"{R}/submission_report.csv",
        f"{R}/submission_problems.csv",
    params:
        given=lambda wildcards: BUNDLE_GIVEN,
        made_from=sources("submission", of_stage),
    log:
        **logs("submission"),
    threads: cores("submission")
    resources:
        gpu=gpus("submission"),
    shell:
        ON_GPU


MADE = [f"{R}/submission.csv", *([] if MODELS else [f"{R}/report/index.html"])]
REPORTED = [
    *rules.eda.output,
    *rules.seg_summary.output,
    *rules.cls_summary.output,
    *rules.submission.output,
]
