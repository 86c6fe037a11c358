"""What the stages are made from: which change concerns which stage."""

from __future__ import annotations

import os

import pandas as pd
import pytest

from t4e_utils.competitions.brain_tumor import sources
from t4e_utils.competitions.brain_tumor.data import (
    STAGES,
    DataFolders,
    read_sample,
    training_patients,
)
from t4e_utils.learning.weights import save_weights
from t4e_utils.tables.catalog import CatalogError
from t4e_utils.tables.provenance import StaleResultError
from t4e_utils.tables.store import write_table
from t4e_utils.workflow.plan import Plan

READING = ("eda", "seg_data", "cls_data", "submission")
IDS = "BraTS21ID,MGMT_value"


@pytest.fixture
def place(tmp_path):
    """Two small data sets; nothing of them is read but names, sizes and times."""
    for split, patient in (("train", "00001"), ("train", "00002"), ("test", "00003")):
        for k in (1, 2):
            image = tmp_path / "rsna" / split / patient / "FLAIR" / f"Image-{k}.dcm"
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_text("image")
    for patient in ("BraTS2021_00007", "BraTS2021_00008"):
        (tmp_path / "brats" / patient).mkdir(parents=True)
        (tmp_path / "brats" / patient / f"{patient}_flair.nii.gz").write_text("volume")
    (tmp_path / "rsna" / "train_labels.csv").write_text(f"{IDS}\n00001,0\n00002,1\n")
    (tmp_path / "rsna" / "sample_submission.csv").write_text(f"{IDS}\n00003,0.5\n")
    (tmp_path / "folds.csv").write_text("BraTS21ID,fold\n1,0\n2,1\n")
    return tmp_path


def looked_at(place, **given):
    values = {
        "rsna_dir": str(place / "rsna"),
        "brats_dir": str(place / "brats"),
        "excluded_patients": [],
        "fold_table": str(place / "folds.csv"),
        **given,
    }
    return {stage: sources.of_stage(stage, values.get) for stage in READING}


def rewrite(path, content):
    path.write_text(content)


def same_size(path):
    status = os.stat(path)
    path.write_text(path.read_text()[::-1])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


LABELS, SAMPLE, TRAIN = "train_labels.csv", "sample_submission.csv", "the series in train"
TEST, VOLUMES = "the series in test", "the volumes in brats_dir"
NAMED = "who is named in rsna_dir"


@pytest.mark.parametrize(
    ("change", "concerned"),
    [
        (
            lambda p: rewrite(p / "rsna" / LABELS, f"{IDS}\n00001,1\n00002,1\n"),
            {("eda", LABELS), ("cls_data", LABELS)},
        ),
        (
            lambda p: rewrite(p / "rsna" / SAMPLE, f"{IDS}\n00003,0.5\n00004,0.5\n"),
            {
                *(("eda", name) for name in (SAMPLE, NAMED)),
                ("submission", SAMPLE),
                ("seg_data", NAMED),
            },
        ),
        (
            lambda p: rewrite(p / "folds.csv", "BraTS21ID,fold\n1,1\n2,0\n"),
            {("cls_data", "fold_table")},
        ),
        (
            lambda p: same_size(p / "rsna/train/00002/FLAIR/Image-2.dcm"),
            {("eda", TRAIN), ("cls_data", TRAIN)},
        ),
        (
            lambda p: (p / "rsna/train/00002/FLAIR/Image-2.dcm").unlink(),
            {("eda", TRAIN), ("cls_data", TRAIN)},
        ),
        (
            lambda p: (p / "rsna/test/00003/FLAIR/Image-2.dcm").rename(
                p / "rsna/test/00003/FLAIR/b"
            ),
            {("eda", TEST), ("submission", TEST)},
        ),
        (
            lambda p: rewrite(
                p / "brats/BraTS2021_00007/BraTS2021_00007_flair.nii.gz", "longer text"
            ),
            {("eda", VOLUMES), ("seg_data", VOLUMES)},
        ),
        (lambda p: os.utime(p / "rsna" / LABELS), set()),
        (
            lambda p: rewrite(p / "rsna" / LABELS, f'"why",{IDS}\r\n,"00001","0"\r\n,00002,1\r\n'),
            set(),
        ),
        (lambda p: rewrite(p / "rsna" / LABELS, f"{IDS}\n00002,1\n00001,0\n"), set()),
        (lambda p: rewrite(p / "rsna" / SAMPLE, f"{IDS}\n00003,0\n"), set()),
        (lambda p: rewrite(p / "rsna/train/00001/FLAIR/.DS_Store", "a visit"), set()),
    ],
    ids=[
        "a label",
        "a patient to predict",
        "a fold",
        "an image of the same size",
        "an image taken out",
        "an image of the test renamed",
        "a volume",
        "a time of the labels",
        "spelling of the labels",
        "order of the labels",
        "a value of the sample",
        "a hidden file",
    ],
)
def test_a_change_concerns_the_stages_that_use_it_and_no_other(place, change, concerned):
    before = looked_at(place)
    change(place)
    now = looked_at(place)
    found = {
        (stage, name)
        for stage in READING
        for name in before[stage]
        if now[stage][name] != before[stage][name]
    }
    assert found == concerned
    assert all(now[stage].keys() == before[stage].keys() for stage in READING)


def test_another_name_of_the_fold_table_or_place_of_the_data_changes_nothing(place):
    before = looked_at(place)
    (place / "folds.csv").rename(place / "mine.csv")
    (place / "rsna").rename(place / "elsewhere")
    assert before == looked_at(
        place, fold_table=str(place / "mine.csv"), rsna_dir=str(place / "elsewhere")
    )


def test_without_a_fold_table_none_is_named_and_without_annotated_volumes_neither_are_they(place):
    assert "fold_table" not in looked_at(place, fold_table="")["cls_data"]
    assert VOLUMES not in looked_at(place, brats_dir="")["seg_data"]


def test_a_plan_says_it_in_one_line_and_what_it_said_last_where_the_data_are_gone(place):
    given = {"rsna_dir": str(place / "rsna"), "brats_dir": ""}
    plan = Plan(STAGES, {"submission": given}, {"submission": given})
    of_stage, record = sources.of_stage, place / "logs" / "made_from.json"
    said = plan.sources("submission", of_stage, record, keep=False)
    assert not record.exists()
    assert said.startswith("sample_submission.csv: ")
    assert ", the series in test: " in said
    assert said == plan.sources("submission", of_stage, record)
    (place / "rsna").rename(place / "gone")
    with pytest.raises(CatalogError, match="is not there"):
        read_sample(place / "rsna")
    assert plan.sources("submission", of_stage, record) == said
    assert plan.sources("submission", of_stage, place / "other.json") == ""
    record.write_text("damaged")
    assert plan.sources("submission", of_stage, record) == ""


def test_the_segmenter_is_known_by_its_weights_and_refused_when_its_slices_were_made_anew(tmp_path):
    from torch import nn

    save_weights(nn.Linear(2, 1), tmp_path / "best.safetensors", {})
    made = {"seed": 1, "made_from": {VOLUMES: "aa"}}
    card = {"fold": 0, "weights": "best.safetensors", "provenance": made}
    first = sources.of_segmenter(tmp_path, card)
    save_weights(nn.Linear(2, 1), tmp_path / "best.safetensors", {})
    assert sources.of_segmenter(tmp_path, card) != first
    table = tmp_path / "seg" / "slices.parquet"
    write_table(pd.DataFrame({"a": [1]}), table, provenance=made)
    assert sources.of_segmenter(tmp_path, card).keys() == first.keys()
    write_table(pd.DataFrame({"a": [1]}), table, provenance={**made, "made_from": {VOLUMES: "bb"}})
    with pytest.raises(
        StaleResultError,
        match=r"fold0\.json was made before .*slices\.parquet was made anew \(from other data "
        r"\(the volumes in brats_dir changed since\)\): run 03_train_seg again",
    ):
        sources.of_segmenter(tmp_path, card)


def test_notebooks_and_rules_say_the_same(place):
    folders = DataFolders(place / "rsna", place / "brats", False)
    assert sources.of_slices(folders) == looked_at(place)["seg_data"]
    patients, series, _ = training_patients(folders, excluded=[])
    assert sources.of_inventory(folders, patients, series) == looked_at(place)["eda"]
    table = str(place / "folds.csv")
    assert sources.of_sequences(folders, patients, series, table) == looked_at(place)["cls_data"]


@pytest.mark.parametrize("said", [None, [], "digits", {}, {"the weights of the segmenter": None}])
def test_a_card_that_says_its_sources_in_no_usable_way_says_nothing(tmp_path, said):
    path = tmp_path / "cls" / "models" / "FLAIR_fold0.json"
    rewrite(tmp_path / "seg.safetensors", "weights")
    card = {"provenance": {"segmenter": "seg.safetensors", "made_from": said}}
    sources.require_classifiers(tmp_path, {path: card})
    card["provenance"]["made_from"] = {"the weights of the segmenter": "00000000"}
    with pytest.raises(StaleResultError, match=r"seg\.safetensors has changed since"):
        sources.require_classifiers(tmp_path, {path: card})
