"""A sixth collection takes a leaf, two notebooks and a file of rules, on public functions alone."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
TOY = ROOT / "tests" / "toy"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder of a run of the pipeline."""
    folder = tmp_path_factory.mktemp("toy") / "it's a run; $HOME & (more)"  # any shell's letters
    command = [Path(sys.executable).with_name("snakemake"), "--cores", "2", "--nolock"]
    command += ["--configfile", "tests/toy/demo.yaml", "--config", f"run_dir={folder}"]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_it_learns_what_its_slices_show(run):
    summary = json.loads((run / "summary.json").read_text())
    assert summary["data"] == "phantoms"
    scores = {
        one["name"]: one for one in json.loads((run / "scores/train.json").read_text())["scores"]
    }
    labels = pd.read_csv(run / "phantoms" / "labels.csv")
    for shape in ("disc", "ring"):
        assert scores[f"{shape}_auc"]["n"] == len(labels)
        assert scores[f"{shape}_auc"]["ci95"][0] > 0.7


def test_every_slice_of_the_sample_is_answered_the_lost_one_with_the_prevalence(run):
    answers = pd.read_csv(run / "submission.csv", dtype={"slice_id": str})
    sample = pd.read_csv(run / "phantoms" / "sample.csv", dtype={"slice_id": str})
    labels = pd.read_csv(run / "phantoms" / "labels.csv")
    assert answers["slice_id"].tolist() == sample["slice_id"].tolist()
    lost = answers.set_index("slice_id").loc["lost", ["disc", "ring"]].astype(float)
    assert lost.tolist() == pytest.approx(labels[["disc", "ring"]].mean().tolist())


def test_its_report_has_the_scores_and_the_pictures(run):
    page = (run / "report" / "index.html").read_text()
    assert "disc_auc" in page
    assert page.count("<img") >= 4


def test_its_leaf_is_short_and_uses_nothing_private():
    leaf = TOY / "data.py"
    assert len(leaf.read_text().splitlines()) <= 60
    cells = [
        "".join(cell["source"])
        for path in sorted((TOY / "notebooks").glob("*.ipynb"))
        for cell in json.loads(path.read_text())["cells"]
        if cell["cell_type"] == "code"
    ]
    for source in [leaf.read_text(), *cells]:
        for node in ast.walk(ast.parse(source)):
            names = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
            names += [node.attr] if isinstance(node, ast.Attribute) else []
            assert not [name for name in names if name.startswith("_")]
            module = getattr(node, "module", None) or ""
            assert "competitions" not in module
