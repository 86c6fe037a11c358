"""Header facts of many series, kept from call to call."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest
from helpers.dicom_series import edit, setting

from t4e_utils.scans.dicom_writing import write_dicom_series
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.nifti import write_nifti
from t4e_utils.scans.problems import Problem
from t4e_utils.scans.reading import series_header
from t4e_utils.scans.volume import Volume
from t4e_utils.tables import inventory
from t4e_utils.tables.catalog import problems_table
from t4e_utils.tables.run import MissingInputError
from t4e_utils.tables.store import read_table, write_table


def test_the_inventory_has_header_facts_and_an_unreadable_series_becomes_a_problem(tmp_path):
    volume = Volume(
        np.arange(60, dtype=np.int16).reshape(3, 4, 5),
        (5.0, 1.0, 2.0),
        display_affine("coronal", (5.0, 1.0, 2.0)),
    )
    write_dicom_series(volume, tmp_path / "good", patient_id="00001", series_description="FLAIR")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "Image-1.dcm").write_text("no image")
    table = pd.DataFrame(
        {
            "patient_id": ["00001", "00002"],
            "series": "FLAIR",
            "path": [str(tmp_path / "good"), str(tmp_path / "bad")],
        },
        index=[7, 8],
    )
    found, problems = inventory.take_inventory(table, n_jobs=1)
    good, bad = found.iloc[0], found.iloc[1]
    assert (good["n_files"], good["plane"], good["rows"], good["columns"]) == (3, "coronal", 4, 5)
    assert good[["spacing_slice_mm", "spacing_row_mm", "spacing_column_mm"]].tolist() == [
        5.0,
        1.0,
        2.0,
    ]
    assert bad["patient_id"] == "00002"
    assert pd.isna(bad["n_files"])
    assert [problem.path for problem in problems] == [str(tmp_path / "bad" / "Image-1.dcm")]


def test_the_inventory_reads_volumes_and_keeps_its_columns_when_nothing_can_be_read(tmp_path):
    volume = Volume(np.zeros((3, 4, 5), np.float32), (1.0, 1.0, 1.0), display_affine("axial"))
    path = write_nifti(volume, tmp_path / "a.nii.gz")
    found, problems = inventory.take_inventory(
        pd.DataFrame({"path": [str(path)]}), source="nifti", n_jobs=1
    )
    assert not problems
    assert found["n_files"].tolist() == [1]
    nothing, problems = inventory.take_inventory(
        pd.DataFrame({"path": [str(tmp_path / "gone.nii.gz")]}), source="nifti", n_jobs=1
    )
    assert len(nothing) == len(problems) == 1
    assert list(nothing.columns) == list(found.columns) == ["path", *inventory.HEADER_FACTS]


def two_series(folder, n: int = 2) -> pd.DataFrame:
    volume = Volume(
        np.arange(60, dtype=np.int16).reshape(3, 4, 5),
        (5.0, 1.0, 2.0),
        display_affine("axial", (5.0, 1.0, 2.0)),
    )
    paths = [folder / f"{i:05d}" for i in range(n)]
    for path in paths:
        write_dicom_series(volume, path, patient_id=path.name, series_description="FLAIR")
    return pd.DataFrame(
        {"patient_id": [path.name for path in paths], "path": [str(path) for path in paths]}
    )


def test_the_inventory_reports_what_is_odd_in_a_series_that_can_be_read(tmp_path):
    table = two_series(tmp_path)
    (tmp_path / "00001" / "Image-2.dcm").write_text("no image")
    found, problems = inventory.take_inventory(table, n_jobs=1)
    assert found["n_files"].tolist() == [3, 3]
    assert [(problem.code, problem.path) for problem in problems] == [
        ("no_pixels", str(tmp_path / "00001" / "Image-2.dcm"))
    ]


@pytest.mark.parametrize(
    ("attributes", "codes", "spacing_slice_mm"),
    [
        ({"PixelSpacing": [0.0005, 0.0005]}, ["bad_value", "no_spacing"], None),
        ({"PixelSpacing": ["5e9", "5e9"]}, ["bad_value", "no_spacing"], None),
        ({"ImagePositionPatient": ["2e9", 0, 0]}, ["bad_value", "no_positions"], 5.0),
        ({"ImagePositionPatient": [0, 0, 0]}, ["same_position"], 5.0),
    ],
)
def test_geometry_that_makes_no_sense_is_a_problem_of_its_series(
    tmp_path, attributes, codes, spacing_slice_mm
):
    table = two_series(tmp_path)
    edit(tmp_path / "00001", setting(**attributes))
    found, problems = inventory.take_inventory(table, n_jobs=1)
    assert found["n_slices"].tolist() == [3, 3]
    assert [problem.code for problem in problems] == codes
    assert all("00001" in problem.path for problem in problems)
    assert found["spacing_slice_mm"][0] == 5.0
    odd = found["spacing_slice_mm"][1]
    assert pd.isna(odd) if spacing_slice_mm is None else odd == spacing_slice_mm


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "Image-3.dcm").unlink(),
        lambda folder: (folder / "Image-4.dcm").write_bytes((folder / "Image-3.dcm").read_bytes()),
        lambda folder: (folder / "Image-3.dcm").write_text("cut"),
        lambda folder: (folder / "Image-3.dcm").write_bytes(
            (folder / "Image-3.dcm").read_bytes().replace(b"MR", b"CT")
        ),
    ],
    ids=["removed", "added", "shortened", "rewritten"],
)
def test_only_a_series_that_changed_is_read_again(tmp_path, monkeypatch, change):
    table, cache = two_series(tmp_path / "data"), tmp_path / "eda" / "cache.parquet"
    (tmp_path / "data" / "00000" / "Image-2.dcm").unlink()
    first, problems = inventory.take_inventory(table, n_jobs=1, cache=cache)
    read = []
    monkeypatch.setattr(
        inventory,
        "series_header",
        lambda path, source: read.append(path) or series_header(path, source=source),
    )
    again, same_problems = inventory.take_inventory(table, n_jobs=1, cache=cache)
    pd.testing.assert_frame_equal(again, first)
    assert (read, same_problems) == ([], problems)
    change(tmp_path / "data" / "00001")
    changed, _ = inventory.take_inventory(table, n_jobs=1, cache=cache)
    assert read == [str(tmp_path / "data" / "00001")]
    pd.testing.assert_frame_equal(changed, inventory.take_inventory(table, n_jobs=1)[0])


@pytest.mark.parametrize("damage", ["noise", "empty", "cut", "page", "columns", "header", "list"])
def test_a_damaged_cache_is_made_anew(tmp_path, damage):
    table, cache = two_series(tmp_path / "data", 1), tmp_path / "cache.parquet"
    first, _ = inventory.take_inventory(table, n_jobs=1, cache=cache)
    whole, rows = cache.read_bytes(), pd.read_parquet(cache)
    page = bytearray(whole)
    page[20] ^= 0xFF
    contents = {"noise": b"no table", "empty": b"", "cut": whole[:-30], "page": bytes(page)}
    changed = {
        "columns": rows[["path", "mark"]],
        "header": rows.assign(header="[" * 100_000),
        "list": rows.assign(header="[1, 2]", problems='[["gap"]]'),
    }
    if damage in contents:
        cache.write_bytes(contents[damage])
    else:
        write_table(changed[damage], cache)
    again, _ = inventory.take_inventory(table, n_jobs=1, cache=cache)
    pd.testing.assert_frame_equal(again, first)
    pd.testing.assert_frame_equal(pd.read_parquet(cache), rows)


def test_a_folder_in_the_place_of_a_cache_is_named_before_anything_is_read(tmp_path):
    (tmp_path / "cache.parquet").mkdir()
    with pytest.raises(MissingInputError, match=r"cache\.parquet is no file: delete it"):
        inventory.take_inventory(
            pd.DataFrame({"path": []}), n_jobs=1, cache=tmp_path / "cache.parquet"
        )


def test_a_grown_reader_reads_everything_again(tmp_path, monkeypatch):
    table, cache = two_series(tmp_path / "data"), tmp_path / "cache.parquet"
    mark = inventory.files_fingerprint(table["path"][0], "dicom")
    first, _ = inventory.take_inventory(table, n_jobs=1, cache=cache)
    read = []
    monkeypatch.setattr(
        inventory,
        "series_header",
        lambda path, source: read.append(path) or series_header(path, source=source),
    )
    monkeypatch.setattr(inventory, "READER", inventory.READER + 1)
    again, _ = inventory.take_inventory(table, n_jobs=1, cache=cache)
    assert read == table["path"].tolist()
    pd.testing.assert_frame_equal(again, first)
    assert inventory.files_fingerprint(table["path"][0], "dicom") != mark


def test_a_fingerprint_of_files_differs_by_source_and_is_empty_without_files(tmp_path):
    (tmp_path / "a.dcm").write_text("a")
    marks = {
        inventory.files_fingerprint(str(tmp_path / name), source)
        for name in ("a.dcm", "")
        for source in ("dicom", "jpg")
    }
    assert len(marks) == 4
    assert inventory.files_fingerprint(str(tmp_path / "gone"), "dicom") == ""


def test_a_volume_is_compared_with_the_labels_of_its_own_study():
    sizes = {"100": 5, "101": 9}
    volumes = pd.DataFrame(
        [
            {
                "patient_id": "00001",
                "study_id": study,
                "series": series,
                "path": f"{study} {series}",
            }
            | {"n_slices": n + (series == "T2w"), "rows": n, "columns": n}
            for study, n in sizes.items()
            for series in ("FLAIR", "T2w", "labels")
        ]
    )
    problems = inventory.grid_problems(volumes)
    assert [(problem.path, problem.sentence) for problem in problems] == [
        (
            "100 T2w",
            "The shape is (6, 5, 5), that of its labels (5, 5, 5): they must be on one grid.",
        ),
        (
            "101 T2w",
            "The shape is (10, 9, 9), that of its labels (9, 9, 9): they must be on one grid.",
        ),
    ]


def test_a_link_that_leads_nowhere_hides_no_change_and_counts_once_it_is_filled(tmp_path):
    series, content = tmp_path / "series", tmp_path / "content.dcm"
    series.mkdir()
    (series / "Image-1.dcm").write_text("one")
    (series / "Image-2.dcm").symlink_to(content)
    (series / "Image-3.dcm").symlink_to("Image-3.dcm")
    before = inventory.files_fingerprint(str(series), "dicom")
    assert before == inventory.files_fingerprint(str(series), "dicom") != ""
    content.write_text("two")
    filled = inventory.files_fingerprint(str(series), "dicom")
    (series / "Image-1.dcm").write_text("another")
    assert len({before, filled, inventory.files_fingerprint(str(series), "dicom")}) == 3


def test_odd_names_of_files_stay_in_the_cache_and_in_the_table_of_problems(tmp_path):
    table, cache = two_series(tmp_path / "data", 1), tmp_path / "cache.parquet"
    odd = os.path.join(os.fsencode(table["path"][0]), b"Image-99\xe9\x1b.dcm")
    with open(odd, "wb") as file:
        file.write(b"no image")
    for _ in range(2):
        _, problems = inventory.take_inventory(table, n_jobs=1, cache=cache)
        (row,) = problems_table(problems).to_dict("records")
        assert row["path"].endswith(r"Image-99\udce9\x1b.dcm")


def test_a_contrast_of_another_shape_than_its_labels_is_a_problem(tmp_path):
    shapes = {
        "00001": {"FLAIR": (3, 4, 5), "T1w": (3, 4, 6), "labels": (3, 4, 5)},
        "00002": {"FLAIR": (9, 9, 9)},
    }
    rows = []
    for patient, of_series in shapes.items():
        for series, shape in of_series.items():
            path = write_nifti(
                Volume(np.zeros(shape, np.uint8), (1.0, 1.0, 1.0), display_affine("axial")),
                tmp_path / f"{patient}_{series}.nii",
            )
            rows.append({"patient_id": patient, "series": series, "path": str(path)})
    found, problems = inventory.take_inventory(pd.DataFrame(rows), source="nifti", n_jobs=1)
    assert problems == []
    assert inventory.grid_problems(found) == [
        Problem(
            "shape_differs",
            str(tmp_path / "00001_T1w.nii"),
            "The shape is (3, 4, 6), that of its labels (3, 4, 5): they must be on one grid.",
        )
    ]


def test_volumes_that_lie_elsewhere_than_their_labels_are_problems(tmp_path):
    mm, lost = display_affine("axial"), np.eye(4)[:, [2, 1, 0, 3]]
    affines = {
        "00001": {"FLAIR": mm, "T1w": mm.copy(), "labels": mm},
        "00002": {"FLAIR": mm, "T1w": mm, "labels": lost},
    }
    affines["00001"]["T1w"][2, 3] = 3.0
    rows = []
    for patient, of_series in affines.items():
        for series, affine in of_series.items():
            volume = Volume(np.zeros((3, 4, 5), np.uint8), (1.0, 1.0, 1.0), affine)
            path = str(write_nifti(volume, tmp_path / f"{patient}_{series}.nii"))
            rows.append({"patient_id": patient, "series": series, "path": path})
    table = pd.DataFrame(rows)
    found, _ = inventory.take_inventory(
        table, source="nifti", n_jobs=1, cache=tmp_path / "c.parquet"
    )
    again, _ = inventory.take_inventory(
        table, source="nifti", n_jobs=1, cache=tmp_path / "c.parquet"
    )
    stored = read_table(write_table(found, tmp_path / "t.parquet", provenance={}), made_by="01_eda")
    for each in (found, again, stored):
        problems = inventory.grid_problems(each)
        assert [(problem.code, problem.path) for problem in problems] == [
            ("place_differs", str(tmp_path / "00001_T1w.nii")),
            ("place_differs", str(tmp_path / "00002_labels.nii")),
        ]
        assert "up to 3 voxels" in problems[0].sentence
