"""What a collection can end with: its report, and the bundle that goes to Kaggle."""

if REPORTED:

    rule report:
        input:
            REPORTED,
        output:
            f"{R}/report/index.html",
            f"{R}/summary.json",
        params:
            run=R,
            collection=NAME,
        log:
            f"{R}/logs/report.txt",
        shell:
            "{sys.executable:q} -m t4e_utils.workflow.report {params.run:q}"
            " --collection {params.collection:q} > {log:q} 2>&1 || {{ tail -n 5 {log:q} >&2; exit 1; }}"


if BUNDLED:

    rule kaggle:
        input:
            BUNDLED,
            notebook=notebook(KAGGLE.stage),
        output:
            f"{R}/kaggle/dataset/dataset-metadata.json",
            f"{R}/kaggle/kernel/kernel-metadata.json",
        params:
            run=BUNDLE_RUN,
            target=f"{R}/kaggle",
            user=KAGGLE_USER,
            collection=NAME,
            given=lambda wildcards: BUNDLE_GIVEN,
        log:
            f"{R}/logs/kaggle.txt",
        shell:
            "{sys.executable:q} -m t4e_utils.workflow.kaggle_bundle {params.run:q}"
            " --target {params.target:q} --user={params.user:q}"
            " --collection {params.collection:q} --given {params.given:q} > {log:q} 2>&1"
            " && cat {log:q} || {{ tail -n 5 {log:q} >&2; exit 1; }}"
