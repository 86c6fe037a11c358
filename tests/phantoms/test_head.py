"""Phantoms: anatomy, contrasts, what tells the label and what does not, files."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from t4e_utils.competitions.brain_tumor import phantoms
from t4e_utils.competitions.brain_tumor.phantoms import PhantomConfig, plan_cohort, write_phantoms
from t4e_utils.metrics.ranking import roc_auc
from t4e_utils.phantoms import head, head_painting, head_scans
from t4e_utils.phantoms.cohort import PhantomError
from t4e_utils.phantoms.head import INTENSITIES, make_head
from t4e_utils.phantoms.head_painting import paint
from t4e_utils.phantoms.head_scans import draw_phenotype, make_patient, make_series
from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.nifti import read_nifti

CONTRASTS = tuple(INTENSITIES)
SMALL = PhantomConfig(seed=5, size=40, n_brats=2, n_overlap=2, n_train=3, n_test=2)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "drawn"
    assert write_phantoms(folder, SMALL, n_jobs=1)
    return folder


@pytest.fixture(scope="module")
def patient():
    return make_patient(11, 1, tumour_ml=140)


def clean(patient) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Brightness without bias and noise, and labels."""
    values, labels = paint(
        patient.head, patient.labels.affine, patient.labels.array.shape, CONTRASTS
    )
    return dict(zip(CONTRASTS, values, strict=True)), labels


def head_points(patient) -> np.ndarray:
    """Position of every voxel in the coordinates of the head, (3, D, H, W)."""
    affine, pose, shape = patient.labels.affine, patient.head.pose, patient.labels.array.shape
    world = np.einsum("ij,j...->i...", affine[:3, :3], np.indices(shape)) + affine[:3, 3].reshape(
        3, 1, 1, 1
    )
    return np.einsum("ij,i...->j...", pose[:, :3], world - pose[:, 3].reshape(3, 1, 1, 1))


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


# Anatomy


def test_background_is_exactly_zero_and_the_brain_above_it_in_every_contrast(patient):
    brain = patient.contrasts["T1w"].array > 0
    values, labels = clean(patient)
    for contrast, volume in patient.contrasts.items():
        np.testing.assert_array_equal(volume.array > 0, brain)
        np.testing.assert_array_equal(values[contrast] > 0, brain)
    assert not labels[~brain].any()
    assert 0.1 < brain.mean() < 0.3


def test_head_fills_three_quarters_of_the_field_and_survives_a_zoom(patient):
    volumes = [
        patient.contrasts["FLAIR"],
        *make_series(11, 1).values(),
        *make_series(12, 0).values(),
    ]
    for volume in volumes:
        rows, columns = (
            np.flatnonzero((volume.array > 0).any(axis=axes)) for axes in ((0, 2), (0, 1))
        )
        side = max(volume.array.shape[1:])
        assert 0.66 < max(np.ptp(rows), np.ptp(columns)) / side < 0.8
        for where, n in zip((rows, columns), volume.array.shape[1:], strict=True):
            # a zoom of 1.2 about the centre of the padded square
            assert max(abs(where - (n - 1) / 2)) < side / 2 / 1.2
        slices = np.flatnonzero((volume.array > 0).any(axis=(1, 2)))
        assert slices[0] > 0
        assert slices[-1] < len(volume.array) - 1


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flipped_or_swapped_axis_is_seen(patient, axis):
    brain, labels = patient.contrasts["T2w"].array > 0, patient.labels.array
    # cut to the box first: what differs is the shape, not only where it lies
    box = brain[ndimage.find_objects(brain.astype(int))[0]]
    assert np.count_nonzero(box != np.flip(box, axis)) > 0.02 * np.count_nonzero(box)
    assert len(set(box.shape)) == 3
    assert np.count_nonzero((labels > 0) & np.flip(labels > 0, axis)) < 0.8 * np.count_nonzero(
        labels
    )


def test_forehead_is_narrow_base_is_flat_and_left_ventricle_is_wide(patient):
    brain, (x, y, z) = patient.contrasts["T1w"].array > 0, head_points(patient)
    width = {
        name: np.ptp(x[brain & (abs(y - at) < 4) & (z > 0)])
        for name, at in (("front", 50), ("back", -50))
    }
    assert width["front"] < 0.92 * width["back"]
    low, high = (np.count_nonzero(brain & (abs(z - at) < 4)) for at in (-40, 40))
    assert low < 0.8 * high  # temporal poles and cerebellum only
    points = np.stack([x, y, z]).reshape(3, -1).astype(np.float32)
    ventricle = head.ventricle_distance(patient.head, points) < 0
    assert np.count_nonzero(ventricle & (points[0] < 0)) > 1.2 * np.count_nonzero(
        ventricle & (points[0] > 0)
    )


@pytest.mark.parametrize(("seed", "label"), [(11, 1), (11, 0), (4, 0)])
def test_contrasts_follow_the_real_ones(seed, label):
    patient = make_patient(seed, label, tumour_ml=140)
    values, labels = clean(patient)
    points = head_points(patient).reshape(3, -1).astype(np.float32)
    csf = (head.ventricle_distance(patient.head, points) < -2).reshape(labels.shape) & (labels == 0)
    pushed = head.pushed_aside(patient.head, points)
    grey = (
        (head_painting._nuclei_distance(pushed) < -3).reshape(labels.shape) & (labels == 0) & ~csf
    )
    brain = values["T1w"] > 0
    mean = {
        contrast: {
            "white": float(np.median(value[brain & (labels == 0)])),
            "grey": float(value[grey].mean()),
            "csf": float(value[csf].mean()),
            **{
                name: float(value[labels == label].mean())
                for name, label in (("core", 1), ("oedema", 2), ("rim", 4))
            },
        }
        for contrast, value in values.items()
    }
    assert [c for c in CONTRASTS if max(mean[c], key=mean[c].get) == "rim"] == ["T1wCE"]
    assert mean["T1wCE"]["rim"] > 1.3 * mean["T1wCE"]["white"] > mean["T1w"]["rim"]
    for contrast, is_bright in {"FLAIR": True, "T2w": True, "T1w": False, "T1wCE": False}.items():
        assert (mean[contrast]["oedema"] > 1.5 * mean[contrast]["white"]) is is_bright
        assert (mean[contrast]["oedema"] < 0.9 * mean[contrast]["white"]) is not is_bright
        assert (mean[contrast]["grey"] > mean[contrast]["white"]) is is_bright
        assert (mean[contrast]["csf"] > 2 * mean[contrast]["white"]) is (contrast == "T2w")
        assert (mean[contrast]["csf"] < 0.5 * mean[contrast]["white"]) is (contrast != "T2w")
    assert mean["T1w"]["core"] < 0.6 * mean["T1w"]["white"]


def test_series_of_a_patient_differ_in_plane_matrix_spacing_and_length():
    series = [volume for seed in range(6) for volume in make_series(seed, 0, size=32).values()]
    assert set(Counter(volume.plane for volume in series)) == {"axial", "coronal", "sagittal"}
    lengths = [len(volume.array) for volume in series]
    assert min(lengths) >= 24
    assert max(lengths) <= 48
    assert 0.2 < np.mean(np.array(lengths) < 35) < 0.8
    assert len({volume.array.shape[1:] for volume in series}) > 10
    assert any(volume.array.shape[1] != volume.array.shape[2] for volume in series)
    assert (
        np.mean([abs(volume.spacing_mm[0] / volume.spacing_mm[1] - 1) > 0.1 for volume in series])
        > 0.5
    )


def test_painting_in_parts_equals_painting_voxel_by_voxel(patient):
    rng = np.random.default_rng(0)
    affine, shape = patient.labels.affine, (3, 300, 300)  # more than one part
    affine = affine @ np.diag([6, 0.2, 0.2, 1]) + np.outer([0, 0, 60, 0], [0, 0, 0, 1])
    values, labels = paint(patient.head, affine, shape, ["T2w"])
    assert labels.any()
    for index in [*rng.integers(0, shape, (20, 3)), *rng.permutation(np.argwhere(labels > 0))[:20]]:
        one = affine.copy()
        one[:3, 3] = affine[:3] @ [*index, 1]
        value, label = paint(patient.head, one, (1, 1, 1), ["T2w"])
        assert value[0, 0, 0, 0] == pytest.approx(values[(0, *index)], abs=1e-3)
        assert label[0, 0, 0] == labels[tuple(index)]


# The label


def test_tumour_has_the_volume_asked_for_wherever_it_lies():
    for seed in range(5):
        head = make_head(seed, seed % 2, tumour_ml=120)
        labels = make_patient(seed, seed % 2, tumour_ml=120).labels.array
        assert np.count_nonzero(labels) * 3.5**3 / 1000 == pytest.approx(120, rel=0.06)
        assert head.tumour.core_mm < head.tumour.rim_mm < head.tumour.oedema_mm + 10
        assert set(np.unique(labels)) == {0, 1, 2, 4}


def neighbour_correlation(value: np.ndarray, mask: np.ndarray) -> float:
    """Correlation of neighbours inside a mask, along the columns."""
    both = mask[:, :, 1:] & mask[:, :, :-1]
    return float(np.corrcoef(value[:, :, 1:][both], value[:, :, :-1][both])[0, 1])


@pytest.mark.parametrize("seed", [1, 2])
def test_label_shows_in_grain_and_rim_at_equal_volume_and_brightness(seed):
    patients = {label: make_patient(seed, label, tumour_ml=140) for label in (0, 1)}
    (fine, thin), (coarse, thick) = (clean(patients[label]) for label in (0, 1))
    for region in ((1, 2, 4), (1, 4)):
        volumes = [np.count_nonzero(np.isin(labels, region)) for labels in (thin, thick)]
        assert volumes[0] == pytest.approx(volumes[1], rel=0.03)
        for contrast in CONTRASTS:
            means = [
                v[contrast][np.isin(labels, region)].mean()
                for v, labels in ((fine, thin), (coarse, thick))
            ]
            assert means[0] == pytest.approx(means[1], rel=0.04)
    assert np.count_nonzero(thick == 4) > 1.4 * np.count_nonzero(thin == 4)
    inner = ndimage.binary_erosion((thin == 2) & (thick == 2))
    for contrast in CONTRASTS:
        assert (
            neighbour_correlation(coarse[contrast], inner)
            > neighbour_correlation(fine[contrast], inner) + 0.3
        )


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


def test_label_signal_scales_how_often_the_image_shows_the_label():
    for signal, share in ((0.0, 0.5), (0.5, 0.75), (1.0, 1.0)):
        shown = [
            draw_phenotype(seed, label, signal) == label for seed in range(1000) for label in (0, 1)
        ]
        assert np.mean(shown) == pytest.approx(share, abs=0.03)


def test_without_signal_the_images_do_not_depend_on_the_label():
    patients = [make_patient(4, label, size=32, label_signal=0, tumour_ml=150) for label in (0, 1)]
    np.testing.assert_array_equal(patients[0].labels.array, patients[1].labels.array)
    for contrast in CONTRASTS:
        np.testing.assert_array_equal(*(patient.contrasts[contrast].array for patient in patients))


# The cohort


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
def test_as_many_patients_overlap_as_asked(n_overlap, n_train, n_test):
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


# Files


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


def test_another_seed_gives_other_anatomy():
    assert (
        make_patient(1, 0, size=32).labels.array != make_patient(2, 0, size=32).labels.array
    ).any()


def test_existing_phantoms_are_left_alone(root, capsys):
    before = digests(root)
    assert not write_phantoms(root, SMALL)
    with pytest.raises(
        PhantomError, match=r"holds other phantoms, seed = 5 \(asked: 6\): choose another folder"
    ):
        write_phantoms(root, PhantomConfig(**{**vars(SMALL), "seed": 6}))
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in vars(SMALL).items()]
    phantoms.main([str(root), *arguments])
    assert "nothing done" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="holds other phantoms"):
        phantoms.main([str(root)])
    assert digests(root) == before


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "scan.dcm").write_bytes(b"precious")
    with pytest.raises(PhantomError, match=r"has no phantoms\.json, so it holds no phantoms"):
        write_phantoms(tmp_path, SMALL)
    assert (tmp_path / "scan.dcm").read_bytes() == b"precious"


def test_a_damaged_card_is_reported(tmp_path):
    (tmp_path / "phantoms.json").write_text("{")
    with pytest.raises(PhantomError, match=r"phantoms\.json is damaged"):
        write_phantoms(tmp_path, SMALL)


def test_an_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch):
    done = []

    def stop_at_the_second(*arguments):
        if done:
            raise KeyboardInterrupt
        done.append(head_scans.make_series)

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
