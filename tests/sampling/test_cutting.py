"""Annotated volumes become slices.

The right ones, the right way up, and a faulty series costs only itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from t4e_utils.phantoms.head_randomisation import make_synthetic_patient
from t4e_utils.sampling import SamplingError
from t4e_utils.sampling.cutting import (
    CutRule,
    cut_drawn_patients,
    cut_patient,
    cut_patients,
    cut_volumes,
)
from t4e_utils.sampling.pictures import read_picture
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.nifti import read_nifti, write_nifti
from t4e_utils.scans.volume import Volume

SHAPE = (20, 24, 28)
ONE_MM_TO_THE_LEFT = np.array([[0, 0, 0, -1.0], *[[0.0] * 4] * 3])
SMALL_HEAD = partial(make_synthetic_patient, size=32)


@dataclass(frozen=True)
class WithLesion(CutRule):
    """Slices with more than a hundredth of lesion."""

    def choose(self, measures):
        return measures["whole_area"] > 0.01 * measures["tissue_area"]


REGIONS = {"Whole": (1, 2, 4), "Core": (4,)}
RULE = WithLesion(REGIONS, percentiles=(0, 100), foreground="tissue")


@pytest.fixture
def files(tmp_path):
    """One series and its labels: an off-centre box with a core in its corner."""
    affine = display_affine("axial", (2.0, 1.0, 1.0))
    array = np.zeros(SHAPE, np.int16)
    array[2:18, 3:22, 4:25] = np.random.default_rng(0).integers(50, 200, (16, 19, 21))
    labels = np.zeros(SHAPE, np.uint8)
    labels[6:15, 5:12, 8:20] = 2
    labels[8:12, 5:9, 8:11] = 4
    paths = {"first": tmp_path / "p_first.nii.gz", "labels": tmp_path / "p_seg.nii.gz"}
    for name, values in (("first", array), ("labels", labels)):
        write_nifti(Volume(values, (2.0, 1.0, 1.0), affine), paths[name])
    return {name: str(path) for name, path in paths.items()}


def table_of(**patients):
    """Files of patients as a table."""
    rows = [(name, *pair) for name, own in patients.items() for pair in own.items()]
    return pd.DataFrame(rows, columns=["patient_id", "series", "path"])


def test_slices_hold_what_a_slow_cut_of_the_volume_holds(files, tmp_path):
    table, problems = cut_patient("00006", files, tmp_path / "slices", root=tmp_path, rule=RULE)
    image, labels = read_nifti(files["first"]), read_nifti(files["labels"], labels=True)
    scaled = np.round(image.array / image.array.max() * 255)
    assert problems == []
    assert table.groupby("plane").size().to_dict() == {"axial": 20, "coronal": 24, "sagittal": 28}
    for row in table[table["is_kept"]].itertuples():
        picture = read_picture(tmp_path / row.path)
        # axial (slice, row, column) = (from below, from the front, from the right); a coronal slice
        # is drawn from above
        slow = {
            "axial": lambda a, k: a[k],
            "coronal": lambda a, k: a[::-1, k],
            "sagittal": lambda a, k: a[::-1, :, k],
        }[row.plane]
        np.testing.assert_array_equal(picture[..., 0], slow(scaled, row.slice))
        np.testing.assert_array_equal(picture[..., 1] > 0, slow(labels.array, row.slice) > 0)
        np.testing.assert_array_equal(picture[..., 2] > 0, slow(labels.array, row.slice) == 4)
        assert row.whole_area == (slow(labels.array, row.slice) > 0).sum()
        assert row.tissue_area == (slow(scaled, row.slice) > 0).sum()
        assert (row.height, row.width) == picture.shape[:2]


@pytest.mark.parametrize("flipped", [(0,), (1,), (2,), (0, 1, 2)])
def test_slices_are_the_same_whichever_way_the_file_counts(files, tmp_path, flipped):
    turned = {}
    for name, path in files.items():
        volume = read_nifti(path, labels=name == "labels")
        affine = volume.affine.copy()
        for axis in flipped:
            affine[:, 3] += affine[:, axis] * (volume.array.shape[axis] - 1)
            affine[:, axis] *= -1
        turned[name] = str(tmp_path / f"turned_{name}.nii.gz")
        write_nifti(Volume(np.flip(volume.array, flipped), volume.spacing_mm, affine), turned[name])
    one, other = (
        cut_patient("00006", own, tmp_path / f"{k}", root=tmp_path / f"{k}", rule=RULE)[0]
        for k, own in enumerate((files, turned))
    )
    pd.testing.assert_frame_equal(one, other)
    for path in one.loc[one["is_kept"], "path"]:
        np.testing.assert_array_equal(
            read_picture(tmp_path / "0" / path), read_picture(tmp_path / "1" / path)
        )


def test_stored_slices_are_those_of_the_rule_and_spacing_goes_with_the_plane(files, tmp_path):
    table, _ = cut_patient("00006", files, tmp_path / "slices", root=tmp_path, rule=RULE)
    axial = table[table["plane"] == "axial"]
    assert axial.loc[axial["is_kept"], "slice"].tolist() == list(range(6, 15))
    assert (table["path"] != "").tolist() == table["is_kept"].tolist()
    assert set(zip(table["plane"], table["row_mm"], table["column_mm"], strict=True)) == {
        ("axial", 1, 1),
        ("coronal", 2, 1),
        ("sagittal", 2, 1),
    }


def test_the_table_names_its_areas_after_foreground_and_regions(files, tmp_path):
    table, _ = cut_patient("00006", files, tmp_path / "slices", root=tmp_path, rule=RULE)
    areas = ["tissue_area", "whole_area", "core_area"]
    assert table.columns.tolist() == RULE.columns
    assert table.columns.tolist()[-4:] == [*areas, "n_components"]


def test_a_rule_without_a_choice_stores_every_slice_of_its_planes(files, tmp_path):
    rule = CutRule(REGIONS, planes=("coronal",))
    table, _ = cut_patient("00006", files, tmp_path / "slices", root=tmp_path, rule=rule)
    assert table["is_kept"].all()
    assert len(list((tmp_path / "slices").rglob("*.png"))) == len(table) == SHAPE[1]
    assert "foreground_area" in table


def test_a_series_of_another_shape_is_left_out_and_named(files, tmp_path):
    other = tmp_path / "p_second.nii.gz"
    write_nifti(Volume(np.ones((4, 5, 6), np.int16), (1, 1, 1), display_affine("axial")), other)
    table, problems = cut_patient(
        "00006", {**files, "second": str(other)}, tmp_path / "slices", root=tmp_path, rule=RULE
    )
    assert set(table["series"]) == {"first"}
    assert [(problem.code, problem.path) for problem in problems] == [("shape_differs", str(other))]


def moved(path: str, target, change) -> str:
    """Write a NIfTI file with another affine beside the same values."""
    volume = read_nifti(path, labels="seg" in path)
    return str(write_nifti(Volume(volume.array, volume.spacing_mm, change(volume.affine)), target))


def test_a_series_that_lies_elsewhere_than_its_labels_is_left_out_and_named(files, tmp_path):
    other = moved(files["first"], tmp_path / "p_other.nii.gz", lambda a: a + ONE_MM_TO_THE_LEFT)
    table, problems = cut_patient(
        "00006", {**files, "other": other}, tmp_path / "slices", root=tmp_path, rule=RULE
    )
    assert set(table["series"]) == {"first"}
    assert [(problem.code, problem.path) for problem in problems] == [("place_differs", other)]
    assert "up to 1 voxels from the place of its segmentation" in problems[0].sentence


def test_labels_that_lost_their_affine_cost_their_patient_and_are_one_problem(files, tmp_path):
    lost = moved(
        files["labels"], tmp_path / "p_lost_seg.nii.gz", lambda a: np.eye(4)[:, [2, 1, 0, 3]]
    )
    faulty = {**files, "second": files["first"], "labels": lost}
    both = table_of(**{"00006": files, "00007": faulty})
    table, problems = cut_patients(both, tmp_path / "s", root=tmp_path, rule=RULE, n_jobs=1)
    assert set(table["patient_id"]) == {"00006"}
    assert [(problem.code, problem.path) for problem in problems] == [("place_differs", lost)]
    assert "None of the 2 scans lies at the place of the segmentation" in problems[0].sentence


def test_a_patient_without_readable_labels_costs_only_itself(files, tmp_path):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"\x1f\x8b no gzip")
    faulty = {**files, "labels": str(broken)}
    options = {"root": tmp_path, "rule": RULE, "n_jobs": 1}
    both = table_of(**{"00006": files, "00007": faulty})
    table, problems = cut_patients(both, tmp_path / "s", **options)
    assert set(table["patient_id"]) == {"00006"}
    assert [problem.path for problem in problems] == [str(broken)]
    with pytest.raises(SamplingError, match=r"None of 1 patients could be cut .* problem: "):
        cut_patients(table_of(**{"00007": faulty}), tmp_path / "s", **options)


@pytest.mark.parametrize("patients", [{}, {"00006": ["labels"]}])
def test_no_patients_or_labels_alone_are_refused(files, tmp_path, patients):
    own = {name: {key: files[key] for key in keys} for name, keys in patients.items()}
    with pytest.raises(SamplingError, match=f"None of {len(own)} patients .* no volume"):
        cut_patients(table_of(**own), tmp_path / "s", root=tmp_path, rule=RULE, n_jobs=1)


def test_two_studies_of_a_patient_are_cut_each_with_its_own_labels(files, tmp_path):
    other = dict(files)
    other["labels"] = str(tmp_path / "later.nii.gz")
    later = read_nifti(files["labels"])
    write_nifti(replace(later, array=np.zeros_like(later.array)), Path(other["labels"]))
    rows = [
        {"patient_id": "00006", "study_id": f"00006-{visit}", "series": series, "path": path}
        for visit, own in ((100, files), (101, other))
        for series, path in own.items()
    ]
    options = {"root": tmp_path, "rule": RULE, "n_jobs": 1}
    table, problems = cut_patients(pd.DataFrame(rows), tmp_path / "s", **options)
    assert problems == []
    assert table["patient_id"].unique().tolist() == ["00006"]
    areas = table.groupby("study_id")["whole_area"].sum()
    assert areas["00006-100"] > 0 == areas["00006-101"]
    kept = table[table["is_kept"]]
    folders = {Path(path).parts[1] for path in kept["path"]}
    assert folders == set(kept["study_id"]) == {"00006-100"}


def test_labels_of_another_convention_are_refused_and_not_taken_for_no_core(files, tmp_path):
    labels = read_nifti(files["labels"], labels=True)
    array = np.where(labels.array == 4, 3, labels.array).astype(np.uint8)
    write_nifti(Volume(array, labels.spacing_mm, labels.affine), files["labels"])
    rows, problems = cut_patient("00006", files, tmp_path / "slices", root=tmp_path, rule=RULE)
    assert rows.empty
    assert list(rows) == RULE.columns
    assert [problem.code for problem in problems] == ["unknown_labels"]
    assert "[3]" in problems[0].sentence


def test_volumes_that_were_never_files_are_cut_too(files, tmp_path):
    image, labels = read_nifti(files["first"]), read_nifti(files["labels"], labels=True)
    own, _ = cut_patient("00006", files, tmp_path / "files", root=tmp_path / "files", rule=RULE)
    drawn = cut_volumes(
        "00006", [("first", image)], labels, tmp_path / "drawn", root=tmp_path / "drawn", rule=RULE
    )
    pd.testing.assert_frame_equal(own, drawn)


def test_drawn_patients_are_the_same_whatever_the_number_of_processes(tmp_path):
    options = {"rule": RULE, "seed": 0}
    one, two = (
        cut_drawn_patients(
            SMALL_HEAD, 3, tmp_path / f"{n}" / "drawn", root=tmp_path / f"{n}", n_jobs=n, **options
        )
        for n in (1, 2)
    )
    pd.testing.assert_frame_equal(one, two)
    assert all(
        (tmp_path / "1" / path).read_bytes() == (tmp_path / "2" / path).read_bytes()
        for path in one["path"]
    )
    assert one["is_kept"].all()
    assert set(one["patient_id"]) == {"synthetic000", "synthetic001", "synthetic002"}
    assert len(one.groupby(["patient_id", "series", "plane"])) == 3 * 4 * 3
    for row in one.itertuples():
        whole, core = np.moveaxis(read_picture(tmp_path / "1" / row.path)[..., 1:], -1, 0) > 0
        assert (whole.sum(), core.sum()) == (row.whole_area, row.core_area)


def test_other_seeds_draw_other_patients_and_none_are_no_rows(tmp_path):
    options = {"root": tmp_path, "rule": RULE, "n_jobs": 1}
    drawn = [
        cut_drawn_patients(SMALL_HEAD, 1, tmp_path / f"seed{seed}", seed=seed, **options)
        for seed in (0, 1)
    ]
    assert drawn[0]["tissue_area"].tolist() != drawn[1]["tissue_area"].tolist()
    none = cut_drawn_patients(SMALL_HEAD, 0, tmp_path / "none", seed=0, **options)
    assert none.empty
    assert list(none.columns) == RULE.columns
