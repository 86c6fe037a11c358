"""Catalogues of patients and series: ids stay text, and what is odd gets a sentence."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from t4e_utils.scans.dicom_writing import write_dicom_series
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.nifti import write_nifti
from t4e_utils.scans.problems import Problem
from t4e_utils.scans.reading import series_header
from t4e_utils.scans.volume import Volume
from t4e_utils.tables import catalog, inventory

SERIES = ("FLAIR", "T1w")
CONTRASTS = {"FLAIR": ("_flair", "-t2f"), "labels": ("_seg",)}
COLUMNS = {"id_column": "BraTS21ID", "value_column": "MGMT_value"}


def ids(n: int) -> list[str]:
    return [f"{i:05d}" for i in range(n)]


def csv(tmp_path, text: str):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return path


def test_series_folders_are_listed_by_patient_with_ids_as_text(tmp_path):
    for name in ("00006/T1w", "00006/FLAIR", "00002/T1w", "00002/notes", ".cache/FLAIR"):
        (tmp_path / "train" / name).mkdir(parents=True)
    (tmp_path / "train" / "readme.txt").touch()
    found = catalog.find_series(tmp_path, split="train", series=SERIES)
    assert found[["patient_id", "split", "series"]].to_numpy().tolist() == [
        ["00002", "train", "T1w"],
        ["00006", "train", "FLAIR"],
        ["00006", "train", "T1w"],
    ]
    assert found["path"][0] == str(tmp_path / "train" / "00002" / "T1w")
    assert catalog.missing_series(found, ["00002", "00006"], series=SERIES, root=tmp_path) == [
        Problem("missing_series", str(tmp_path), "Patient 00002 has no FLAIR.")
    ]


def test_volumes_are_found_under_each_of_their_names(tmp_path):
    for name in (
        "P-00001/P-00001-t2f.nii.gz",
        "P-00002/P-00002_flair.nii",
        "P-00002/P-00002_seg.nii.gz",
        "P-00003/other_flair.nii",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = catalog.find_volumes(tmp_path, contrasts=CONTRASTS, patient_id=lambda name: name[2:])
    assert found[["patient_id", "series"]].to_numpy().tolist() == [
        ["00001", "FLAIR"],
        ["00002", "FLAIR"],
        ["00002", "labels"],
    ]
    assert found["path"][0].endswith("P-00001-t2f.nii.gz")


def test_a_folder_without_any_volume_is_refused_with_the_name_that_was_expected(tmp_path):
    (tmp_path / "P-00001").mkdir()
    with pytest.raises(
        catalog.CatalogError, match=r"holds no file such as P-00001/P-00001_flair\.nii\.gz"
    ):
        catalog.find_volumes(tmp_path, contrasts=CONTRASTS, patient_id=lambda name: name[2:])


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
            "The shape is (3, 4, 6), that of its labels (3, 4, 5).",
        )
    ]


def test_a_missing_or_empty_data_folder_is_refused(tmp_path):
    with pytest.raises(
        catalog.CatalogError, match="train is not there: give the folder of the data set"
    ):
        catalog.find_series(tmp_path, split="train", series=SERIES)
    (tmp_path / "train").mkdir()
    with pytest.raises(
        catalog.CatalogError, match=r"holds no patient folder: is the data set unpacked there\?"
    ):
        catalog.find_series(tmp_path, split="train", series=SERIES)


def test_ids_and_labels_are_read_in_order_and_ids_stay_text(tmp_path):
    path = csv(tmp_path, "BraTS21ID,MGMT_value,other\n00006,1,x\n00002,0,y\n")
    assert catalog.read_ids(path, **COLUMNS).to_numpy().tolist() == [["00006", "1"], ["00002", "0"]]
    labels = catalog.read_labels(path, id_column="BraTS21ID", label_column="MGMT_value")
    assert labels.to_numpy().tolist() == [["00006", 1], ["00002", 0]]
    assert labels["label"].dtype == int


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: it must have the columns BraTS21ID and MGMT_value"),
        (
            "BraTS21ID,label\n00001,1\n",
            "has no column MGMT_value; it has BraTS21ID, label: correct the header",
        ),
        ("BraTS21ID,MGMT_value\n", "has no rows: it must name at least one patient"),
        ("BraTS21ID,MGMT_value\n00001,1\n,0\n", r"has a row without BraTS21ID \(line 3\)"),
        ("BraTS21ID,MGMT_value\n00001,1\n00001,0\n", "names 00001 more than once"),
        (
            "BraTS21ID,MGMT_value\n00001,2\n",
            "gives 00001 the MGMT_value '2': a label must be 0 or 1",
        ),
        (
            "BraTS21ID,MGMT_value\n00001,\n",
            "gives 00001 the MGMT_value nan: a label must be 0 or 1",
        ),
    ],
)
def test_a_label_table_that_cannot_be_used_is_refused(tmp_path, text, message):
    with pytest.raises(catalog.CatalogError, match=message):
        catalog.read_labels(csv(tmp_path, text), id_column="BraTS21ID", label_column="MGMT_value")


def test_a_missing_label_table_is_refused(tmp_path):
    with pytest.raises(
        catalog.CatalogError, match=r"labels\.csv is not there: see the README's section on data"
    ):
        catalog.read_ids(tmp_path / "labels.csv", **COLUMNS)


def test_only_patients_with_folder_and_label_are_joined_and_the_others_are_named(tmp_path):
    found = pd.DataFrame(
        {"patient_id": ["00001", "00001", "00002"], "series": ["FLAIR", "T1w", "FLAIR"]}
    )
    labels = pd.DataFrame({"patient_id": ["00003", "00002"], "label": [0, 1]})
    both, problems = catalog.join_labels(found, labels, root=tmp_path)
    assert both.to_numpy().tolist() == [["00002", 1]]
    assert [(p.code, p.sentence) for p in problems] == [
        ("label_without_folder", "Patient 00003 has a label but no folder."),
        ("folder_without_label", "Patient 00001 has a folder but no label."),
    ]


def test_ids_that_do_not_belong_together_are_refused_with_an_example_of_each(tmp_path):
    found, labels = (
        pd.DataFrame({"patient_id": ["00001"]}),
        pd.DataFrame({"patient_id": ["1"], "label": [1]}),
    )
    with pytest.raises(
        catalog.CatalogError,
        match=r"folders such as 00001, labels such as 1\): do the ids belong together",
    ):
        catalog.join_labels(found, labels, root=tmp_path)


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


def test_a_damaged_cache_is_made_anew(tmp_path):
    table, cache = two_series(tmp_path / "data", 1), tmp_path / "cache.parquet"
    cache.write_text("no table")
    first, _ = inventory.take_inventory(table, n_jobs=1, cache=cache)
    assert cache.read_bytes().startswith(b"PAR1")
    pd.testing.assert_frame_equal(inventory.take_inventory(table, n_jobs=1, cache=cache)[0], first)


def test_problems_become_a_table_even_if_there_are_none():
    assert list(catalog.problems_table([]).columns) == ["code", "path", "sentence"]
    assert catalog.problems_table([Problem("gap", "/x", "A gap.")]).to_numpy().tolist() == [
        ["gap", "/x", "A gap."]
    ]
