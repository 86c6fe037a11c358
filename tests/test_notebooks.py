"""The six notebooks.

Their form, what they say to wrong input, and a small run from scans to submission.
"""

import ast
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
from IPython.core.interactiveshell import InteractiveShell

from t4e_utils import T4EError
from t4e_utils.competitions.brain_tumor.phantoms import PhantomConfig, write_phantoms
from t4e_utils.scans.nifti import read_nifti, write_nifti

ROOT = Path(__file__).parents[1]
NAMES = ("01_eda", "02_seg_data", "03_train_seg", "04_cls_data", "05_train_cls", "06_submission")
HEADINGS = [
    "## Parameters",
    "## Setup",
    "## Inputs",
    "## Look",
    "## Work",
    "## Check",
    "## Results and next",
]
SMALL = {
    "01_eda": {"n_grid": 2, "n_jobs": 1},
    "02_seg_data": {"n_jobs": 1, "n_synthetic": 2, "synthetic_size": 32},
    "03_train_seg": {
        "encoder": "tu-test_resnet",
        "decoder_channels": [16, 12, 8, 8, 8],
        "segmenter_size": 32,
        "epochs": 1,
        "precision": "fp32",
        "max_scored_patients": 1,
    },
    "04_cls_data": {"min_tumour_share": 0.01},
    "05_train_cls": {
        "backbone": "test_nfnet",
        "lstm_hidden": 8,
        "classifier_size": 32,
        "epochs": 1,
        "train_on_fallback": True,
    },
    "06_submission": {},
}


def notebook(name):
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def code_cells(name):
    return [cell for cell in notebook(name).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("name", NAMES)
def test_headings_stand_in_the_order_of_the_house(name):
    lines = [
        line
        for cell in notebook(name).cells
        if cell.cell_type == "markdown"
        for line in cell.source.splitlines()
    ]
    found = [line for line in lines if line.startswith("#")]
    assert found[0].startswith(f"# {name[:2]} ")
    # a look after the preparation is a look too: 04 shows what it made
    assert sorted(found[1:], key=HEADINGS.index) == sorted(HEADINGS, key=HEADINGS.index)
    assert found[1:4] == HEADINGS[:3]
    assert found[-2:] == HEADINGS[-2:]


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_literals_one_a_line_with_a_type_and_a_comment(name):
    cells = [cell for cell in code_cells(name) if "parameters" in cell.metadata.get("tags", [])]
    assert len(cells) == 1
    for line in cells[0].source.splitlines():
        assert re.fullmatch(r"\w+: (str|int|float|bool|list|dict) = .+  # .+", line), line
        ast.literal_eval(ast.parse(line).body[0].value)
    declared = papermill.inspect_notebook(str(ROOT / "notebooks" / f"{name}.ipynb"))
    assert len(declared) == len(cells[0].source.splitlines())
    assert all(
        entry["inferred_type_name"] != "None" and entry["help"] for entry in declared.values()
    )


@pytest.mark.parametrize("name", NAMES)
def test_all_imports_stand_in_one_cell(name):
    def imports(cell):
        return any(
            isinstance(node, ast.Import | ast.ImportFrom)
            for node in ast.walk(ast.parse(cell.source))
        )

    assert sum(imports(cell) for cell in code_cells(name)) == 1


@pytest.mark.parametrize("name", NAMES)
def test_source_notebooks_are_short_and_have_no_outputs_classes_or_functions(name):
    cells = code_cells(name)
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    nodes = [node for cell in cells for node in ast.walk(ast.parse(cell.source))]
    assert not any(isinstance(node, ast.ClassDef | ast.While) for node in nodes)
    assert sum(isinstance(node, ast.FunctionDef) for node in nodes) <= 1


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_never_scrolls_sideways_and_code_fits_on_two_pages(name):
    """After formatting, which `make test` checks: the count cannot be met with longer lines."""
    lines = [line for cell in code_cells(name) for line in cell.source.splitlines() if line.strip()]
    assert max(map(len, lines)) <= 100
    assert len(lines) <= 110


@pytest.mark.parametrize("name", NAMES)
def test_one_picture_stands_for_the_notebook(name):
    assert sum("cover" in cell.metadata.get("tags", []) for cell in notebook(name).cells) == 1


@pytest.mark.parametrize("name", NAMES)
def test_links_between_notebooks_lead_somewhere(name):
    text = "\n".join(cell.source for cell in notebook(name).cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert links
    assert all((ROOT / "notebooks" / link).exists() for link in links)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A few small phantoms in the layouts of the two data sets."""
    root = tmp_path_factory.mktemp("data") / "phantoms"
    write_phantoms(
        root, PhantomConfig(size=32, n_brats=4, n_overlap=1, n_train=6, n_test=2), n_jobs=1
    )
    return {"rsna_dir": str(root / "rsna"), "brats_dir": str(root / "brats21"), "n_folds": 2}


def first_error(name, **given):
    """Run the cells of a notebook in this process, as papermill would inject `given`.

    Return the first error.
    """
    shell = InteractiveShell()
    injected = "# Parameters\n" + "\n".join(f"{key} = {value!r}" for key, value in given.items())
    for cell in code_cells(name):
        sources = (
            [cell.source, injected]
            if "parameters" in cell.metadata.get("tags", [])
            else [cell.source]
        )
        for source in sources:
            result = shell.run_cell(source, store_history=True)
            if not result.success:
                return result.error_before_exec or result.error_in_exec
    return None


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("01_eda", {"n_girds": 3}, "no parameter n_girds.*n_grid"),
        (
            "02_seg_data",
            {"min_tumour_share": "a lot"},
            "min_tumour_share = 'a lot' is str, but it must be float",
        ),
        ("02_seg_data", {"n_folds": 1}, "n_folds = 1 is too small"),
        ("03_train_seg", {"folds": "all"}, "folds = 'all' is text, but it must be a list"),
        ("03_train_seg", {"schedule": "sometimes"}, "schedule = 'sometimes' is not known"),
        ("04_cls_data", {"source": "png"}, "source = 'png' is not known"),
        ("05_train_cls", {"mri_types": ["T1c"]}, "'T1c' is not known: choose from 'FLAIR'"),
        ("06_submission", {"views": ["upside down"]}, "upside down"),
    ],
)
def test_a_wrong_parameter_stops_before_any_work(name, given, sentence, tmp_path):
    error = first_error(name, run_dir=str(tmp_path / "run"), **given)
    assert isinstance(error, T4EError)
    assert re.search(sentence, str(error))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "made_by"),
    [
        ("03_train_seg", "02_seg_data"),
        ("04_cls_data", "03_train_seg"),
        ("05_train_cls", "04_cls_data"),
        ("06_submission", "05_train_cls"),
    ],
)
def test_what_another_notebook_should_have_made_is_asked_for_by_its_name(
    name, made_by, data, tmp_path
):
    given = {
        key: value
        for key, value in data.items()
        if key
        in {
            line.split(":")[0] for cell in code_cells(name)[:1] for line in cell.source.splitlines()
        }
    }
    error = first_error(name, run_dir=str(tmp_path / "run"), **given)
    assert isinstance(error, T4EError)
    assert made_by in str(error)


@pytest.mark.parametrize("name", ["01_eda", "02_seg_data"])
def test_missing_and_empty_data_sets_are_named(name, data, tmp_path):
    run_dir = str(tmp_path / "run")
    missing = first_error(
        name, run_dir=run_dir, rsna_dir=data["rsna_dir"], brats_dir=str(tmp_path / "nowhere")
    )
    assert isinstance(missing, T4EError)
    assert re.search("nowhere.*is not there", str(missing))
    (tmp_path / "empty").mkdir()
    empty = first_error(
        name, run_dir=run_dir, rsna_dir=data["rsna_dir"], brats_dir=str(tmp_path / "empty")
    )
    assert isinstance(empty, T4EError)
    assert re.search("holds no {patient_folder}.*unpacked there", str(empty))


def test_a_label_table_without_its_column_is_named(tmp_path, data):
    rsna = tmp_path / "rsna"
    rsna.mkdir()
    for split in ("train", "test"):
        (rsna / split).symlink_to(Path(data["rsna_dir"]) / split)
    (rsna / "train_labels.csv").write_text("id,MGMT_value\n00001,1\n")
    (rsna / "sample_submission.csv").write_text(
        (Path(data["rsna_dir"]) / "sample_submission.csv").read_text()
    )
    error = first_error(
        "01_eda", run_dir=str(tmp_path / "run"), rsna_dir=str(rsna), brats_dir=data["brats_dir"]
    )
    assert isinstance(error, T4EError)
    assert re.search("has no column BraTS21ID; it has id, MGMT_value", str(error))


def test_the_submission_is_written_before_anything_is_only_shown():
    sources = [cell.source for cell in code_cells("06_submission")]
    written = next(k for k, source in enumerate(sources) if "write_submission(" in source)
    shows = re.compile(r"\b(display|outcome\.|cohort\.|DataFrame|nested_summary|story|head)\b")
    before = [source for source in sources[:written] if "import" not in source]
    assert not [source for source in before if shows.search(source)]
    assert [source for source in sources[written + 1 :] if shows.search(source)]


def execute(name, run_dir, data, **given):
    """Run a notebook as papermill does, with the parameters it declares."""
    source = ROOT / "notebooks" / f"{name}.ipynb"
    known = papermill.inspect_notebook(str(source))
    shared = {key: value for key, value in data.items() if key in known}
    target = run_dir / "notebooks" / f"{name}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    return papermill.execute_notebook(
        str(source),
        str(target),
        parameters={"run_dir": str(run_dir), **shared, **given},
        cwd=str(ROOT),
        progress_bar=False,
    )


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A run of all six notebooks on the small phantoms, in kernels of their own.

    Headers carry planted names.
    """
    run_dir = tmp_path_factory.mktemp("run")
    for name in NAMES:
        execute(name, run_dir, data, **SMALL[name])
    return run_dir


def test_six_notebooks_end_at_a_valid_submission(finished, data):
    sample = pd.read_csv(Path(data["rsna_dir"]) / "sample_submission.csv", dtype=str)
    found = pd.read_csv(finished / "submission.csv", dtype={"BraTS21ID": str})
    assert found["BraTS21ID"].tolist() == sample["BraTS21ID"].tolist()
    assert found["MGMT_value"].between(0, 1).all()
    assert len(pd.read_csv(finished / "submission_report.csv")) == len(sample)


def test_the_tables_of_a_run_keep_patients_apart(finished, data):
    slices = pd.read_parquet(finished / "seg" / "slices.parquet")
    known = set(pd.read_csv(Path(data["rsna_dir"]) / "train_labels.csv", dtype=str)["BraTS21ID"])
    assert not set(slices["patient_id"]) & known
    patients = pd.read_parquet(finished / "cls" / "patients.parquet")
    assert set(patients["patient_id"]) == known
    for path in (finished / "cls" / "models").glob("*.json"):
        card = json.loads(path.read_text())
        assert not set(card["trained_on"]) & set(card["held_out"])
        assert sorted(card["trained_on"] + card["held_out"]) == sorted(known)


def test_the_summary_has_a_figure_with_interval_for_each_type_and_the_mean(finished):
    summary = json.loads((finished / "cls" / "summary.json").read_text())
    for name in ("FLAIR", "T1w", "T1wCE", "T2w", "mean"):
        low, high = summary[name]["ci95"]
        assert 0 <= low <= summary[name]["auc"] <= high <= 1
        assert summary[name]["n"] == 6


def test_what_is_done_is_shown_again_and_other_parameters_are_refused_without_loss(finished, data):
    table = finished / "seg" / "slices.parquet"
    before = table.read_bytes()
    given = {key: data[key] for key in ("rsna_dir", "brats_dir", "n_folds")}
    assert (
        first_error("02_seg_data", run_dir=str(finished), **given, **SMALL["02_seg_data"]) is None
    )
    error = first_error(
        "02_seg_data", run_dir=str(finished), **given, **SMALL["02_seg_data"], sampling_step=0.2
    )
    assert isinstance(error, T4EError)
    assert re.search("sampling_step was 0.1, is now 0.2.*overwrite = True", str(error))
    assert table.read_bytes() == before


def test_changed_labels_are_refused_by_name_and_a_lost_slice_is_written_again(finished, data):
    labels = Path(data["rsna_dir"]) / "train_labels.csv"
    before, lost = labels.read_text(), next((finished / "cls" / "slices").rglob("*.png"))
    slice_was = lost.read_bytes()
    given = {**data, "run_dir": str(finished), **SMALL["04_cls_data"]}
    lost.unlink()
    assert first_error("04_cls_data", **given) is None
    assert lost.read_bytes() == slice_was
    try:
        labels.write_text(re.sub(r",(\d)", lambda found: f",{1 - int(found[1])}", before))
        error = first_error("04_cls_data", **given)
        assert first_error("02_seg_data", **given | SMALL["02_seg_data"]) is None
    finally:
        labels.write_text(before)
    assert isinstance(error, T4EError)
    assert re.search(r"from other data \(train_labels.csv changed since\): set over", str(error))


def test_no_cell_prints_who_a_patient_is(data, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    root = tmp_path / "rsna"
    import shutil

    shutil.copytree(data["rsna_dir"], root)
    planted = {
        "PatientName": "Doe^Planted",
        "PatientBirthDate": "19470203",
        "PatientAddress": "Planted Lane 5",
        "ImageComments": "planted comment",
    }
    for path in root.glob("*/*/*/*.dcm"):
        scan = pydicom.dcmread(path)
        for keyword, value in planted.items():
            setattr(scan, keyword, value)
        scan.save_as(path)
    damage_two_series(root / "train")
    executed = execute(
        "01_eda", tmp_path / "run", {**data, "rsna_dir": str(root)}, **SMALL["01_eda"]
    )
    text = nbformat.writes(executed)
    assert "FLAIR" in text
    assert not [value for value in planted.values() if value in text]
    tables = {
        name: pd.read_parquet(tmp_path / "run" / "eda" / f"{name}.parquet")
        for name in ("problems", "inventory")
    }
    assert {"no_pixels", "gap"} <= set(tables["problems"]["code"])
    assert all(code in text for code in ("no_pixels", "gap"))
    text = " ".join(table.to_string() for table in tables.values())
    assert not [value for value in planted.values() if value in text]


def damage_two_series(train):
    """Make the first FLAIR series unreadable, and take a slice out of another."""
    first, second = (
        sorted((patient / "FLAIR").iterdir()) for patient in sorted(train.iterdir())[:2]
    )
    for path in first:
        path.write_text("no image")
    second[len(second) // 2].unlink()


def test_a_contrast_that_is_missing_is_a_row_of_the_problems_table(data, tmp_path):
    import shutil

    brats = tmp_path / "brats21"
    shutil.copytree(data["brats_dir"], brats)
    patient = sorted(brats.iterdir())[0]
    next(patient.glob("*_t2.nii.gz")).unlink()
    labels = next(patient.glob("*_seg.nii.gz"))
    write_nifti(read_nifti(labels), labels)
    assert (
        first_error(
            "01_eda",
            run_dir=str(tmp_path / "run"),
            rsna_dir=data["rsna_dir"],
            brats_dir=str(brats),
            **SMALL["01_eda"],
        )
        is None
    )
    problems = pd.read_parquet(tmp_path / "run" / "eda" / "problems.parquet")
    assert "missing_series" in set(problems["code"])
    assert np.any([patient.name[-5:] in sentence for sentence in problems["sentence"]])
