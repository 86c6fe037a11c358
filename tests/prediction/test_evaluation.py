"""Masks are scored over whole volumes, and a file that cannot be used costs only its own row."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.stand_ins import BrightIsTumour, precisions_of

from t4e_utils.learning.datasets import PictureDataset, PictureInput
from t4e_utils.prediction.evaluation import (
    evaluate_patients,
    patient_dice,
    read_annotated,
    score_slices,
    segment_plane,
)
from t4e_utils.prediction.masks import MaskReading
from t4e_utils.sampling.cutting import CutRule, cut_patients
from t4e_utils.sampling.squares import Square
from t4e_utils.scans.geometry import PLANES, display_affine
from t4e_utils.scans.nifti import read_nifti, write_nifti
from t4e_utils.scans.problems import VolumeError
from t4e_utils.scans.volume import Volume

REGIONS = {"whole": (1, 2), "core": (2,)}
SERIES = ("a", "b")
SPACING = (2.0, 1.0, 1.0)


def write(path, values):
    write_nifti(Volume(values, SPACING, display_affine("axial", SPACING)), path)
    return str(path)


@pytest.fixture
def patients(tmp_path):
    """Three patients with two series, whose lesion is bright and its core brighter."""
    rows = []
    for k in range(3):
        labels = np.zeros((24, 30, 28), np.uint8)
        labels[6 + k : 14 + k, 8:20, 5 + k : 15 + k] = 1
        labels[8 + k : 11 + k, 12:16, 7 + k : 11 + k] = 2
        array = np.zeros(labels.shape, np.int16)
        array[2:22, 2:28, 2:26] = 60
        array[labels == 1], array[labels == 2] = 180, 250
        files = {name: write(tmp_path / f"{k}_{name}.nii.gz", array) for name in SERIES}
        files["labels"] = write(tmp_path / f"{k}_labels.nii.gz", labels)
        rows.append({"patient_id": f"0000{k}", **files})
    return pd.DataFrame(rows)


def evaluate(patients, segmenter=None, planes=("axial",)):
    return evaluate_patients(
        segmenter or BrightIsTumour(percentiles=(0, 100)),
        patients,
        series=SERIES,
        regions=REGIONS,
        planes=planes,
        reading=MaskReading(),
    )


def test_whole_volumes_are_scored_in_all_planes_against_a_slow_dice(patients):
    table, problems = evaluate(patients, planes=PLANES)
    assert problems == []
    assert len(table) == 3 * 2 * 3 * 2
    assert table["dice"].between(0.85, 1).all()
    whole = table[table["region"] == "whole"]
    assert whole["truth_ml"].eq(8 * 12 * 10 * 2 / 1000).all()
    assert whole.loc[whole["plane"] == "axial", "empty_slices"].eq(24 - 8).all()
    assert whole.loc[whole["plane"] == "coronal", "empty_slices"].eq(30 - 12).all()
    by_patient = patient_dice(table).set_index(["patient_id", "region"])["dice"]
    slow = table[(table["patient_id"] == "00002") & (table["region"] == "core")]["dice"].mean()
    assert by_patient["00002", "core"] == pytest.approx(slow)


def damage(path, how):
    match how:
        case "no image":
            path.write_bytes(b"no image at all")
        case "truncated":
            path.write_bytes(path.read_bytes()[:-200])
        case "another shape":
            write(path, np.ones((5, 30, 28), np.int16))
        case "another place":
            volume = read_nifti(path)
            affine = volume.affine + np.outer([1, 0, 0, 0], [0, 0, 0, 1])  # 1 mm to a side
            write_nifti(Volume(volume.array, SPACING, affine), path)
        case "not there":
            path.unlink()


DAMAGES = ["no image", "truncated", "another shape", "another place", "not there"]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_volume_that_cannot_be_used_costs_its_rows_and_is_a_problem(patients, tmp_path, how):
    whole, _ = evaluate(patients)
    damage(tmp_path / "1_b.nii.gz", how)
    found, problems = evaluate(patients)
    lost = (whole["patient_id"] == "00001") & (whole["series"] == "b")
    pd.testing.assert_frame_equal(found, whole[~lost].reset_index(drop=True))
    assert [problem.path for problem in problems] == [str(tmp_path / "1_b.nii.gz")]
    said = {
        "another shape": "they must be on one grid",
        "another place": "lies up to 1 voxels from the place of its segmentation",
    }
    assert said.get(how, "") in problems[0].sentence


def test_damaged_labels_cost_their_patient_and_are_said_once(patients, tmp_path):
    damage(tmp_path / "1_labels.nii.gz", "no image")
    found, problems = evaluate(patients)
    assert found["patient_id"].drop_duplicates().tolist() == ["00000", "00002"]
    assert [problem.path for problem in problems] == [str(tmp_path / "1_labels.nii.gz")]


def test_when_nothing_can_be_scored_the_table_has_its_columns(patients, tmp_path):
    for k in range(3):
        damage(tmp_path / f"{k}_labels.nii.gz", "no image")
    found, problems = evaluate(patients)
    assert (len(found), len(problems)) == (0, 3)
    assert {"patient_id", "series", "plane", "region", "dice", "iou"} <= set(found)
    assert patient_dice(found).empty


def test_a_series_that_a_patient_lacks_is_left_out(patients):
    found, problems = evaluate(patients.assign(b=[patients["b"][0], np.nan, None]))
    assert found.groupby("patient_id")["series"].unique().map(list).tolist() == [
        ["a", "b"],
        ["a"],
        ["a"],
    ]
    assert problems == []


def test_labels_of_another_convention_are_refused(patients, tmp_path):
    labels = np.zeros((24, 30, 28), np.uint8)
    labels[10] = 3
    write(tmp_path / "0_labels.nii.gz", labels)
    files = patients.to_dict("records")[0]
    with pytest.raises(VolumeError, match=r"The labels \[3\] are not known, only \[0, 1, 2\] are"):
        read_annotated(files, "a", REGIONS)
    _, problems = evaluate(patients)
    assert [problem.code for problem in problems] == ["unknown_labels"]


def test_a_volume_off_the_grid_of_its_labels_is_refused(patients, tmp_path):
    damage(tmp_path / "0_a.nii.gz", "another shape")
    with pytest.raises(VolumeError, match="they must be on one grid"):
        read_annotated(patients.to_dict("records")[0], "a", REGIONS)


def test_the_slice_with_most_of_the_lesion_is_pictured_with_its_prediction(patients):
    volume, truth = read_annotated(patients.to_dict("records")[0], "a", REGIONS)
    truth[0, 9, 0] = True
    segmenter = BrightIsTumour(percentiles=(0, 100))
    cut = segment_plane(segmenter, volume, truth, "axial", MaskReading())
    picture, predicted = cut.largest(list(REGIONS), "00000, ")
    index = int(cut.truth[0].sum(axis=(1, 2)).argmax())
    assert picture.title == f"00000, slice {index}"
    assert (picture.names, picture.plane) == (("image", "whole", "core"), "axial")
    assert picture.spacing_mm == (1.0, 1.0)
    np.testing.assert_array_equal(picture.masks, cut.truth[:, index])
    np.testing.assert_array_equal(picture.image, cut.image[index])
    np.testing.assert_array_equal(predicted, cut.predicted[:, index])


def test_a_volume_is_windowed_as_the_recipe_of_the_segmenter_says(patients):
    volume, truth = read_annotated(patients.to_dict("records")[0], "a", REGIONS)
    images = [
        segment_plane(
            BrightIsTumour(percentiles=window), volume, truth, "axial", MaskReading()
        ).image
        for window in ((0, 100), (0.5, 99.5))
    ]
    assert images[0].max() == images[1].max() == 255
    assert (images[0][5] != images[1][5]).any()


@pytest.fixture
def stored(patients, tmp_path):
    """Slices with a lesion as pictures, and how they are read."""
    files = patients.melt("patient_id", var_name="series", value_name="path")

    class WithLesion(CutRule):
        def choose(self, measures):
            return measures["whole_area"].to_numpy() > 0

    rule = WithLesion(REGIONS, (0, 100), ("axial",))
    slices, _ = cut_patients(files, tmp_path / "slices", root=tmp_path, rule=rule, n_jobs=1)
    slices = slices[slices["is_kept"]].reset_index(drop=True)
    return slices, PictureInput(tmp_path, Square(32))


def test_the_threshold_sweep_finds_the_best_threshold_of_a_known_segmenter(stored):
    slices, source = stored
    segmenter, regions = BrightIsTumour(), list(REGIONS)
    table = score_slices(segmenter, slices, source, regions=regions, batch_size=5)
    assert set(table["n_slices"]) == {len(slices)}
    dataset = PictureDataset(slices, source)
    for row in table[table["threshold"].isin([0.25, 0.5])].itertuples():
        n_both = n_predicted = n_true = 0
        for item in dataset:
            true = item["targets"][regions.index(row.region)].numpy() > 0
            logits = segmenter(item["inputs"][None])[0, regions.index(row.region)]
            predicted = logits.sigmoid().detach().numpy() > row.threshold
            n_both += (true & predicted).sum()
            n_predicted += predicted.sum()
            n_true += true.sum()
        assert row.dice == pytest.approx(2 * n_both / max(n_predicted + n_true, 1))
        assert row.iou == pytest.approx(n_both / max(n_predicted + n_true - n_both, 1))
    whole = table[table["region"] == "whole"]
    assert whole["threshold"].tolist() == pytest.approx(np.arange(1, 20) / 20)
    assert whole["dice"].max() > 0.9


def test_volumes_and_slices_are_scored_in_the_precision_of_the_recipe(patients, stored):
    segmenter = BrightIsTumour(percentiles=(0, 100), precision="bf16")
    found = precisions_of(segmenter)
    evaluate(patients.head(1), segmenter)
    assert found == {torch.bfloat16}
    found.clear()
    score_slices(segmenter, *stored, regions=list(REGIONS), thresholds=(0.5,), batch_size=5)
    assert found == {torch.bfloat16}
