"""Annotated volumes become slices.

The right ones, the right way up, and a faulty contrast costs only itself.
"""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from t4e_utils.annotations.sizes import measure_tumours
from t4e_utils.competitions.brain_tumor.rules import SliceRule
from t4e_utils.phantoms.head_randomisation import make_synthetic_patient
from t4e_utils.sampling.cutting import (
    SLICE_COLUMNS,
    cut_patient,
    cut_patients,
    cut_synthetic_patients,
)
from t4e_utils.sampling.pictures import read_slice
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.nifti import read_nifti, write_nifti
from t4e_utils.scans.volume import Volume
from t4e_utils.tables.catalog import CatalogError

SHAPE = (20, 24, 28)
SMALL_HEAD = partial(make_synthetic_patient, size=32)
RULE = SliceRule({"WT": (1, 2, 4), "ET": (4,)}, percentiles=(0, 100))


@pytest.fixture
def files(tmp_path):
    """One contrast and its labels: an off-centre box of oedema with an enhancing corner."""
    affine = display_affine("axial", (2.0, 1.0, 1.0))
    array = np.zeros(SHAPE, np.int16)
    array[2:18, 3:22, 4:25] = np.random.default_rng(0).integers(50, 200, (16, 19, 21))
    labels = np.zeros(SHAPE, np.uint8)
    labels[6:15, 5:12, 8:20] = 2
    labels[8:12, 5:9, 8:11] = 4
    paths = {"FLAIR": tmp_path / "p_flair.nii.gz", "labels": tmp_path / "p_seg.nii.gz"}
    for name, values in (("FLAIR", array), ("labels", labels)):
        write_nifti(Volume(values, (2.0, 1.0, 1.0), affine), paths[name])
    return {name: str(path) for name, path in paths.items()}


def test_slices_hold_what_a_slow_cut_of_the_volume_holds(files, tmp_path):
    table, problems = cut_patient("00006", files, tmp_path / "slices", root=tmp_path, rule=RULE)
    image, labels = read_nifti(files["FLAIR"]), read_nifti(files["labels"], labels=True)
    scaled = np.round(image.array / image.array.max() * 255)
    assert problems == []
    assert table.groupby("plane").size().to_dict() == {"axial": 20, "coronal": 24, "sagittal": 28}
    for row in table[table["is_kept"]].itertuples():
        picture = read_slice(tmp_path / row.path)
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
        assert row.wt_area == (slow(labels.array, row.slice) > 0).sum()
        assert row.brain_area == (slow(scaled, row.slice) > 0).sum()


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
            read_slice(tmp_path / "0" / path), read_slice(tmp_path / "1" / path)
        )


def test_kept_slices_are_those_with_enough_tumour_and_spacing_goes_with_the_plane(files, tmp_path):
    table, _ = cut_patient("00006", files, tmp_path / "slices", root=tmp_path, rule=RULE)
    axial = table[table["plane"] == "axial"]
    assert axial.loc[axial["is_kept"], "slice"].tolist() == list(range(6, 15))
    assert set(zip(table["plane"], table["row_mm"], table["column_mm"], strict=True)) == {
        ("axial", 1, 1),
        ("coronal", 2, 1),
        ("sagittal", 2, 1),
    }
    assert tuple(table.columns) == SLICE_COLUMNS


def test_a_contrast_of_another_shape_is_left_out_and_named(files, tmp_path):
    other = tmp_path / "p_t2.nii.gz"
    write_nifti(Volume(np.ones((4, 5, 6), np.int16), (1, 1, 1), display_affine("axial")), other)
    table, problems = cut_patient(
        "00006", {**files, "T2w": str(other)}, tmp_path / "slices", root=tmp_path, rule=RULE
    )
    assert set(table["series"]) == {"FLAIR"}
    assert [(problem.code, problem.path) for problem in problems] == [("shape_differs", str(other))]


def test_a_patient_without_readable_labels_costs_only_itself(files, tmp_path):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"\x1f\x8b no gzip")
    rows = [("00006", name, path) for name, path in files.items()] + [
        ("00007", "FLAIR", files["FLAIR"]),
        ("00007", "labels", str(broken)),
    ]
    table, problems = cut_patients(
        pd.DataFrame(rows, columns=["patient_id", "series", "path"]),
        tmp_path / "s",
        root=tmp_path,
        rule=RULE,
        n_jobs=1,
    )
    assert set(table["patient_id"]) == {"00006"}
    assert [problem.path for problem in problems] == [str(broken)]
    with pytest.raises(CatalogError, match="None of 1 patients could be cut"):
        cut_patients(
            pd.DataFrame(rows[2:], columns=["patient_id", "series", "path"]),
            tmp_path / "s",
            root=tmp_path,
            rule=RULE,
            n_jobs=1,
        )


def test_tumour_sizes_are_voxels_times_their_volume(files):
    table = pd.DataFrame(
        [("00006", name, path) for name, path in files.items()],
        columns=["patient_id", "series", "path"],
    )
    sizes, problems = measure_tumours(table, RULE.regions, n_jobs=1)
    assert problems == []
    assert sizes.to_dict("list") == {
        "wt_ml": [9 * 7 * 12 * 2 / 1000],
        "et_ml": [4 * 4 * 3 * 2 / 1000],
        "patient_id": ["00006"],
    }
    broken = table.assign(path="nowhere.nii.gz")
    sizes, problems = measure_tumours(broken, RULE.regions, n_jobs=1)
    assert (len(sizes), [(problem.code, problem.path) for problem in problems]) == (
        0,
        [("no_files", "nowhere.nii.gz")],
    )


def test_labels_of_another_convention_are_refused_and_not_taken_for_no_enhancing_tumour(
    files, tmp_path
):
    labels = read_nifti(files["labels"], labels=True)
    array = np.where(labels.array == 4, 3, labels.array).astype(np.uint8)  # as in BraTS 2023
    write_nifti(Volume(array, labels.spacing_mm, labels.affine), files["labels"])
    rows, problems = cut_patient("00006", files, tmp_path / "slices", root=tmp_path, rule=RULE)
    assert rows.empty
    assert [problem.code for problem in problems] == ["unknown_labels"]
    assert "[3]" in problems[0].sentence
    table = pd.DataFrame(
        {"patient_id": ["00006"], "series": "labels", "path": [str(files["labels"])]}
    )
    sizes, problems = measure_tumours(table, RULE.regions, n_jobs=1)
    assert (len(sizes), [problem.code for problem in problems]) == (0, ["unknown_labels"])


def test_synthetic_heads_become_slices_with_and_without_tumour_whatever_the_number_of_processes(
    tmp_path,
):
    rule = SliceRule({"WT": (1, 2, 4), "ET": (4,)}, sampling_step=0.0)
    one, two = (
        cut_synthetic_patients(
            SMALL_HEAD,
            3,
            tmp_path / str(n) / "synthetic",
            root=tmp_path / str(n),
            rule=rule,
            n_jobs=n,
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
    counts = one.groupby(["patient_id", "series", "plane"])["wt_area"].agg(
        with_tumour=lambda area: (area > 0).sum(), without=lambda area: (area == 0).sum()
    )
    assert len(counts) == 3 * 4 * 3
    assert counts.min().min() >= 1
    assert counts.max().max() <= 7  # however many slices a head has
    for row in one.itertuples():
        picture = read_slice(tmp_path / "1" / row.path)
        assert ((picture[..., 1] > 0).sum(), (picture[..., 2] > 0).sum()) == (
            row.wt_area,
            row.et_area,
        )


def test_other_seeds_draw_other_heads_and_none_are_no_rows(tmp_path):
    options = {"root": tmp_path, "rule": SliceRule({"WT": (1, 2, 4), "ET": (4,)}), "n_jobs": 1}
    drawn = [
        cut_synthetic_patients(SMALL_HEAD, 1, tmp_path / f"seed{seed}", seed=seed, **options)
        for seed in (0, 1)
    ]
    assert drawn[0]["brain_area"].tolist() != drawn[1]["brain_area"].tolist()
    none = cut_synthetic_patients(SMALL_HEAD, 0, tmp_path / "none", **options)
    assert none.empty
    assert list(none.columns) == list(SLICE_COLUMNS)
