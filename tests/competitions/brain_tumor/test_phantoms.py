"""The phantoms of this competition: who is in which set, what tells the label, and the files."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from helpers.heads import CONTRASTS
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from t4e_utils.competitions.brain_tumor import phantoms
from t4e_utils.competitions.brain_tumor.phantoms import PhantomConfig, plan_cohort, write_phantoms
from t4e_utils.metrics.ranking import roc_auc
from t4e_utils.phantoms.cohort import PhantomError
from t4e_utils.phantoms.head import make_head
from t4e_utils.phantoms.head_painting import paint
from t4e_utils.phantoms.head_scans import make_patient
from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.nifti import read_nifti

SMALL = PhantomConfig(seed=5, size=40, n_brats=2, n_overlap=2, n_train=3, n_test=2)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "drawn"
    assert write_phantoms(folder, SMALL, n_jobs=1)
    return folder


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def tumour_facts(seed: int) -> pd.DataFrame:
    """A row for each patient of a cohort; brightness relative to the rest of the brain."""
    rows = []
    for member in plan_cohort(
        PhantomConfig(seed=seed, n_brats=0, n_overlap=0, n_train=48, n_test=0)
    ):
        patient = make_patient(member.seed, member.label, size=32, tumour_ml=member.tumour_ml)
        tumour = patient.labels.array > 0
        scans = {
            contrast: volume.array.astype(float) for contrast, volume in patient.contrasts.items()
        }
        means = {c: a[tumour].mean() / np.median(a[(a > 0) & ~tumour]) for c, a in scans.items()}
        rim = np.count_nonzero(patient.labels.array == 4)
        rows.append(
            dict(cohort=seed, label=member.label, WT=np.count_nonzero(tumour), ET=rim, **means)
        )
    return pd.DataFrame(rows)


def test_volume_and_mean_brightness_of_the_tumour_do_not_give_the_label_away():
    """Tested on one cohort, learnt on the others.

    Inside one cohort, where both classes have the same volumes, what is learnt would be the reverse
    of what is tested.
    """
    table = pd.concat([tumour_facts(seed) for seed in range(4)], ignore_index=True)
    model = make_pipeline(StandardScaler(), LogisticRegression())

    def aucs(columns: list[str]) -> list[float]:
        folds = LeaveOneGroupOut()
        scores = cross_val_predict(
            model,
            table[columns],
            table.label,
            groups=table.cohort,
            cv=folds,
            method="decision_function",
        )
        return [
            roc_auc(rows.label.to_numpy(), scores[rows.index])
            for _, rows in table.groupby("cohort")
        ]

    hidden, shown = aucs(["WT", *CONTRASTS]), aucs(["ET"])
    assert min(hidden) > 0.3
    assert max(hidden) < 0.7
    assert min(shown) > 0.9  # the thick rim is larger: that is one of the two signs


def test_cohort_is_balanced_with_the_same_volumes_in_both_classes():
    members = [m for m in plan_cohort(PhantomConfig(seed=9)) if m.split == "train"]
    volumes = {label: sorted(m.tumour_ml for m in members if m.label == label) for label in (0, 1)}
    assert [len(v) for v in volumes.values()] == [24, 24]
    np.testing.assert_allclose(volumes[0], volumes[1], atol=100 / 24)


def test_a_thousand_patients_have_ids_of_five_digits_with_gaps():
    members = plan_cohort(PhantomConfig(n_train=1000, n_brats=400))
    ids = [member.patient_id for member in members]
    assert len(set(ids)) == len(ids) == 1412
    assert ids == sorted(ids)
    assert all(len(i) == 5 and i.isdigit() for i in ids)
    assert not {"00109", "00123", "00709"} & set(ids)
    assert int(ids[-1]) > len(ids)
    assert len({member.seed for member in members}) == len(members)


@pytest.mark.parametrize(
    ("n_overlap", "n_train", "n_test"), [(4, 48, 12), (5, 3, 2), (0, 4, 4), (3, 0, 3), (1, 3, 0)]
)
def test_as_many_patients_overlap_as_wanted(n_overlap, n_train, n_test):
    config = PhantomConfig(n_brats=7, n_overlap=n_overlap, n_train=n_train, n_test=n_test)
    members = plan_cohort(config)
    assert Counter(m.split for m in members) == Counter({"": 7, "train": n_train, "test": n_test})
    assert sum(m.is_annotated and m.split != "" for m in members) == n_overlap
    assert sum(m.is_annotated for m in members) == 7 + n_overlap


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(n_train=-1), "n_train is -1: give 0 or more"),
        (dict(seed=-2), "seed is -2"),
        (dict(size=8), "size is 8: give 32 to 512"),
        (dict(label_signal=1.5), "label_signal is 1.5: give a number from 0"),
        (dict(n_overlap=61), "n_overlap is 61, but there are 60 RSNA patients: give fewer"),
    ],
)
def test_impossible_configurations_are_refused(change, message):
    with pytest.raises(PhantomError, match=message):
        PhantomConfig(**change)


def test_files_have_the_layout_of_the_two_data_sets(root):
    labels = pd.read_csv(root / "rsna" / "train_labels.csv", dtype={"BraTS21ID": str})
    sample = pd.read_csv(root / "rsna" / "sample_submission.csv", dtype={"BraTS21ID": str})
    assert list(labels.columns) == list(sample.columns) == ["BraTS21ID", "MGMT_value"]
    assert sorted(labels.BraTS21ID) == sorted(p.name for p in (root / "rsna" / "train").iterdir())
    assert sorted(sample.BraTS21ID) == sorted(p.name for p in (root / "rsna" / "test").iterdir())
    assert set(labels.MGMT_value) == {0, 1}
    assert set(sample.MGMT_value) == {0.5}
    for folder in (root / "rsna").glob("t*/*"):
        assert {p.name for p in folder.iterdir()} == {"FLAIR", "T1w", "T1wCE", "T2w"}
        for series in folder.iterdir():
            n = len(list(series.iterdir()))
            assert {p.name for p in series.iterdir()} == {f"Image-{i}.dcm" for i in range(1, n + 1)}
    for folder in (root / "brats21").iterdir():
        names = {f"{folder.name}_{c}.nii.gz" for c in ("flair", "t1", "t1ce", "t2", "seg")}
        assert {p.name for p in folder.iterdir()} == names
    assert {p.name for p in root.iterdir()} == {
        "brats21",
        "rsna",
        "phantoms.json",
        "test_labels.csv",
    }


def test_written_volumes_come_back_as_they_were_drawn(root):
    member = next(m for m in plan_cohort(SMALL) if m.is_annotated)
    patient = make_patient(member.seed, member.label, size=SMALL.size, tumour_ml=member.tumour_ml)
    stem = root / "brats21" / f"BraTS2021_{member.patient_id}" / f"BraTS2021_{member.patient_id}"
    labels = read_nifti(f"{stem}_seg.nii.gz", labels=True)
    np.testing.assert_array_equal(labels.array, patient.labels.array)
    np.testing.assert_allclose(labels.affine, patient.labels.affine, atol=1e-5)
    assert set(np.unique(labels.array)) == {0, 1, 2, 4}
    for contrast, name in phantoms.BRATS_NAMES.items():
        volume = read_nifti(f"{stem}_{name}.nii.gz")
        np.testing.assert_array_equal(volume.array, patient.contrasts[contrast].array)


def test_voxels_of_written_series_lie_where_they_were_drawn(root):
    """Each file by itself, with pydicom alone.

    Where its header says a pixel is, and how bright the head is there.
    """
    member = next(m for m in plan_cohort(SMALL) if m.split == "train")
    head = make_head(member.seed, member.label, tumour_ml=member.tumour_ml)
    for contrast in CONTRASTS:
        drawn, stored = [], []
        for path in (root / "rsna" / "train" / member.patient_id / contrast).iterdir():
            header = pydicom.dcmread(path)
            cosines = np.array(header.ImageOrientationPatient, float).reshape(2, 3) * [-1, -1, 1]
            affine = np.eye(4)
            affine[:3, 1] = cosines[1] * header.PixelSpacing[0]
            affine[:3, 2] = cosines[0] * header.PixelSpacing[1]
            affine[:3, 3] = np.array(header.ImagePositionPatient, float) * [-1, -1, 1]
            drawn.append(
                paint(head, affine, (1, header.Rows, header.Columns), [contrast])[0].ravel()
            )
            stored.append(header.pixel_array.ravel())
        drawn, stored = np.concatenate(drawn), np.concatenate(stored)
        # positions are rounded in the header
        assert np.count_nonzero((drawn > 0) != (stored > 0)) < 5
        brain = (drawn > 0) & (stored > 0)
        ratio = stored[brain] / np.maximum(drawn[brain], 0.2)
        assert np.corrcoef(drawn[brain], stored[brain])[0, 1] > 0.8
        assert np.percentile(ratio, 90) < 2 * np.percentile(ratio, 10)  # gain, bias field and noise


def test_overlapping_patients_show_one_anatomy_in_both_sets(root):
    members = [m for m in plan_cohort(SMALL) if m.is_annotated and m.split]
    assert {m.split for m in members} == {"train", "test"}
    for member in members:
        patient = make_patient(
            member.seed, member.label, size=SMALL.size, tumour_ml=member.tumour_ml
        )
        # in the scanner
        pose = make_head(member.seed, member.label, tumour_ml=member.tumour_ml).pose
        name = f"BraTS2021_{member.patient_id}"
        annotated = read_nifti(root / "brats21" / name / f"{name}_flair.nii.gz")
        series = read_dicom_series(root / "rsna" / member.split / member.patient_id / "FLAIR")
        world = (
            series.affine[:3, :3] @ np.indices(series.array.shape).reshape(3, -1)
            + series.affine[:3, 3:]
        )
        in_head = pose[:, :3].T @ (world - pose[:, 3:])
        there = in_head + patient.head.pose[:, 3:]
        index = np.linalg.solve(annotated.affine[:3, :3], there - annotated.affine[:3, 3:])
        resampled = ndimage.map_coordinates(annotated.array.astype(float), index, order=1)
        assert np.corrcoef(resampled, series.array.ravel())[0, 1] > 0.85


def test_file_numbers_do_not_always_follow_the_slices(root):
    orders = Counter()
    for folder in (root / "rsna").glob("t*/*/*"):
        files = [
            pydicom.dcmread(folder / f"Image-{i + 1}.dcm")
            for i in range(len(list(folder.iterdir())))
        ]
        row, column = np.array(files[0].ImageOrientationPatient, float).reshape(2, 3)
        steps = np.diff(
            [np.cross(row, column) @ np.array(f.ImagePositionPatient, float) for f in files]
        )
        orders["sorted" if len(set(np.sign(steps))) == 1 else "interleaved", np.sign(steps[0])] += 1
        assert read_dicom_series(folder).meta["sorted_by"] == "position"
    assert len(orders) >= 3
    assert orders.total() == 20


def test_the_same_seed_gives_the_same_bytes_in_any_number_of_processes(root, tmp_path):
    assert write_phantoms(tmp_path / "again", SMALL, n_jobs=2)
    assert digests(tmp_path / "again") == digests(root)


def test_existing_phantoms_are_left_alone(root, capsys):
    before = digests(root)
    assert not write_phantoms(root, SMALL)
    with pytest.raises(
        PhantomError, match=r"holds other phantoms, seed = 5 instead of 6: choose another folder"
    ):
        write_phantoms(root, PhantomConfig(**{**vars(SMALL), "seed": 6}))
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in vars(SMALL).items()]
    phantoms.main([str(root), *arguments])
    assert "nothing done" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="holds other phantoms"):
        phantoms.main([str(root)])
    assert digests(root) == before


def test_an_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch):
    done = []

    def stop_at_the_second(*arguments):
        if done:
            raise KeyboardInterrupt
        done.append(arguments)

    monkeypatch.setattr(phantoms, "_write_member", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        write_phantoms(tmp_path / "new", SMALL, n_jobs=1)
    assert done
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_draws_what_it_is_told(tmp_path, capsys):
    options = (
        "--seed 2 --size 32 --n-brats 1 --n-overlap 0 --n-train 0 --n-test 0 "
        "--label-signal 0 --n-jobs 1"
    )
    phantoms.main([str(tmp_path / "new"), *options.split()])
    assert capsys.readouterr().out.endswith("drawn.\n")
    card = json.loads((tmp_path / "new" / "phantoms.json").read_text())
    assert (card["seed"], card["size"], card["label_signal"]) == (2, 32, 0)
    assert len(list((tmp_path / "new" / "brats21").iterdir())) == 1
