"""Catalogues of patients and series: ids stay text, and what is odd gets a sentence."""

from __future__ import annotations

import hashlib
import os
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t4e_utils.scans.dicom_writing import write_dicom_series
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.problems import CODES, Problem
from t4e_utils.scans.volume import Volume
from t4e_utils.tables import catalog
from t4e_utils.tables.store import write_table

SHARED = Path(__file__).parents[3] / "shared" / "data"


def touch(root: Path, *names: str) -> Path:
    """Make empty files, and folders where a name ends with a slash."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).mkdir(parents=True) if name.endswith("/") else (root / name).touch()
    return root


def rows(root: Path, pattern: str) -> list[tuple]:
    """Fields and path below the root of what is found."""
    found = catalog.find_scans(root, pattern)
    found["path"] = [os.path.relpath(path, root) for path in found["path"]]
    return list(found.itertuples(index=False, name=None))


def test_folders_are_found_in_natural_order_without_files_and_hidden_names(tmp_path):
    touch(tmp_path, "train/P10/T1/", "train/P9/T1/", "train/P9/.T2/", "train/.P1/T1/", "a/b")
    touch(tmp_path, "train/P9/note", "test/P9/T1/", "train/P9/T1/x/")
    assert rows(tmp_path, "{split}/{patient_id}/{series}") == [
        ("test", "P9", "T1", "test/P9/T1"),
        ("train", "P9", "T1", "train/P9/T1"),
        ("train", "P10", "T1", "train/P10/T1"),
    ]
    assert rows(tmp_path, "train/{patient}/T1/") == [("P9", "train/P9/T1"), ("P10", "train/P10/T1")]
    table = catalog.find_scans(tmp_path, "{split}/{patient_id}/{series}")
    assert list(table.columns) == ["split", "patient_id", "series", "path"]
    assert table["path"][0] == str(tmp_path / "test" / "P9" / "T1")


def test_files_are_found_by_the_dot_in_the_pattern(tmp_path):
    touch(tmp_path, "subset10/1.2.3.mhd", "subset9/1.2.10.mhd", "subset9/1.2.9.mhd", "other/1.mhd")
    touch(tmp_path, "subset9/1.2.9.raw", "subset9/folder.mhd/", "subset9/xmhd")
    assert rows(tmp_path, "subset*/{scan}.mhd") == [
        ("1.2.9", "subset9/1.2.9.mhd"),
        ("1.2.10", "subset9/1.2.10.mhd"),
        ("1.2.3", "subset10/1.2.3.mhd"),
    ]
    assert rows(tmp_path, "subset9/*.raw") == [("subset9/1.2.9.raw",)]


def test_of_several_fields_in_a_name_the_first_takes_most_and_the_same_field_must_agree(tmp_path):
    touch(tmp_path, "P_1/P_1_t1_ce.nii.gz", "P_1/P_2_flair.nii.gz", "P_2/P_2_flair.nii.gz")
    touch(tmp_path, "P_2/P_2_flair.nii", "P_2/P_2_flair.nii.gz.part")
    assert rows(tmp_path, "{patient_id}/{name}_{contrast}.nii.gz") == [
        ("P_1", "P_1_t1", "ce", "P_1/P_1_t1_ce.nii.gz"),
        ("P_1", "P_2", "flair", "P_1/P_2_flair.nii.gz"),
        ("P_2", "P_2", "flair", "P_2/P_2_flair.nii.gz"),
    ]
    assert rows(tmp_path, "{patient_id}/{patient_id}_{contrast}.nii.gz") == [
        ("P_1", "t1_ce", "P_1/P_1_t1_ce.nii.gz"),
        ("P_2", "flair", "P_2/P_2_flair.nii.gz"),
    ]
    assert rows(tmp_path, "{patient_id}/{name}_{contrast}.nii") == [
        ("P_2", "P_2", "flair", "P_2/P_2_flair.nii")
    ]


NAMES = st.sampled_from(
    ["a", "b", "a1", "a10", "a2", "01", "1", ".a", "a.b", "a_b", "a*", "(", "é"]
)


@given(
    paths=st.sets(st.tuples(NAMES, NAMES, NAMES), min_size=1, max_size=12),
    pattern=st.sampled_from(
        ["{x}/{y}/{z}.", "{x}/{x}/{y}.", "a*/{y}/{z}.", "{x}/a/{y}_{z}.", "{x}/*/{y}*{z}."]
    ),
)
@settings(max_examples=80, deadline=None)
def test_what_is_found_is_what_a_walk_over_all_files_finds(tmp_path_factory, paths, pattern):
    root = tmp_path_factory.mktemp("walk")
    touch(root, *("/".join(path) + "." for path in paths))
    expected = []
    for path in paths:
        if any(name.startswith(".") for name in path):
            continue
        # the slow second way: each part by itself, with every way to cut it into fields
        fields, fits = {}, True
        parts = [*pattern[:-1].split("/")]
        for part, name in zip(parts, path, strict=True):
            cut = re.fullmatch(
                re.sub(r"\\{(\w)\\}", r"(?P<\1>.+)", re.escape(part)).replace(r"\*", ".*"), name
            )
            fits = fits and cut is not None
            for key, value in (cut.groupdict() if cut else {}).items():
                fits = fits and fields.setdefault(key, value) == value
        if fits:
            expected.append((*fields.values(), "/".join(path) + "."))
    if not expected:
        with pytest.raises(catalog.CatalogError, match=r"is the data set unpacked there\?"):
            catalog.find_scans(root, pattern)
        return
    assert sorted(rows(root, pattern)) == sorted(expected)
    assert rows(root, pattern) == rows(root, pattern)


def test_many_files_in_one_folder_take_no_time(tmp_path):
    for i in range(20_000):
        os.close(os.open(tmp_path / f"ID_{i * 7919 % 1_000_003:06x}.dcm", os.O_CREAT))
    start = time.process_time()
    found = catalog.find_scans(tmp_path, "{image}.dcm")
    assert time.process_time() - start < 5  # 0.4 s here
    assert len(found) == 20_000
    assert found["image"].is_unique


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        (
            "test/{patient}",
            r"holds no test \(looked for test/{patient}\): is the data set unpacked",
        ),
        ("train/{patient}/{series}", r"holds no train/{patient}/{series} \(looked for"),
        ("train/{patient}/a/b", r"holds no train/{patient}/a \(looked for train/{patient}/a/b\)"),
        ("train/{patient", r"pattern train/{patient makes no sense .*: write each field as {name}"),
        ("{}/x", "makes no sense"),
        ("{a b}/x", "makes no sense"),
        ("train/{path}", "makes no sense .* with another name than path"),
    ],
)
def test_a_pattern_that_finds_nothing_is_named(tmp_path, pattern, sentence):
    touch(tmp_path, "train/00001/", "train/00002/file.dcm")
    with pytest.raises(catalog.CatalogError, match=sentence):
        catalog.find_scans(tmp_path, pattern)


def test_a_folder_that_is_missing_or_closed_is_named(tmp_path, monkeypatch):
    with pytest.raises(
        catalog.CatalogError, match="data is not there: give the folder of the data set"
    ):
        catalog.find_scans(tmp_path / "data", "{patient}")

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(
        catalog.CatalogError, match=r"cannot be listed \(Permission denied\): make it readable"
    ):
        catalog.find_scans(tmp_path, "{patient}")


def test_a_folder_below_that_cannot_be_listed_costs_its_rows_and_is_named(tmp_path):
    touch(tmp_path, "00001/a.dcm", "00003/a.dcm")
    (tmp_path / "00002").symlink_to(tmp_path / "unmounted")
    (tmp_path / "00004").symlink_to("00004")
    with pytest.warns(UserWarning, match=r"cannot be listed \(.*\): make it readable") as said:
        found = catalog.find_scans(tmp_path, "{patient}/{image}.dcm")
    assert found["patient"].tolist() == ["00001", "00003"]
    assert sorted(str(one.message)[:-1].split("(")[1][:22] for one in said) == [
        "No such file or direct",
        "Too many levels of sym",
    ]


def test_a_link_that_leads_nowhere_yet_has_a_row(tmp_path):
    touch(tmp_path, "00001/a.dcm")
    (tmp_path / "00002").symlink_to(tmp_path / "unmounted")
    (tmp_path / "00003").symlink_to("00003")
    (tmp_path / "00001" / "b.dcm").symlink_to("../objects/1234")
    (tmp_path / "00001" / "up").symlink_to("..")
    patients = catalog.find_scans(tmp_path, "{patient}")
    assert patients["patient"].tolist() == ["00001", "00002", "00003"]
    images = catalog.find_scans(tmp_path / "00001", "{image}.dcm")
    assert images["image"].tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [(b"caf\xe9", r"caf\\udce9"), (b"a\x1b[2J", r"a\\x1b\[2J"), (b"a\nb", r"a\\nb")],
)
def test_a_name_that_no_table_can_hold_is_refused_in_letters_that_any_terminal_shows(
    tmp_path, name, shown
):
    os.mkdir(os.path.join(os.fsencode(tmp_path), name))
    with pytest.raises(catalog.CatalogError, match=rf"The name {shown} below .*: rename it"):
        catalog.find_scans(tmp_path, "{patient}")
    with pytest.raises(catalog.CatalogError, match=r"rename it|holds no"):
        catalog.find_scans(os.path.join(tmp_path, os.fsdecode(name)), "{patient}")


def test_a_table_of_problems_holds_nothing_that_steers_a_terminal_or_is_no_text(tmp_path):
    problem = Problem("damaged", "/a\x1b[2J\udce9", "The \u202ename\r is odd.")
    table = catalog.problems_table([problem])
    table.to_parquet(tmp_path / "problems.parquet")
    assert table.to_numpy().tolist() == [
        ["damaged", r"/a\x1b[2J\udce9", r"The \u202ename\r is odd."]
    ]


def flat_folder(root: Path, *patients: str) -> list[Path]:
    """One folder with the images of a study for each patient, two per series."""
    volume = Volume(np.zeros((2, 4, 5), np.int16), (1.0, 1.0, 1.0), display_affine("axial"))
    for number, patient in enumerate(patients):
        options = {"series_description": "a", "name_pattern": f"{number}-{{}}.dcm"}
        write_dicom_series(volume, root, patient_id=patient, uid_seed=str(number), **options)
    return sorted(root.iterdir())


def test_files_are_grouped_by_their_headers_and_no_id_leaves_them(tmp_path):
    secret = "Meier^4711"
    paths = flat_folder(tmp_path / "flat", secret, secret, "other")
    table, problems = catalog.group_by_header(paths, n_jobs=1)
    assert problems == []
    assert table["path"].tolist() == [str(path) for path in paths]
    headers = [pydicom.dcmread(path) for path in paths]
    assert table["series"].tolist() == [header.SeriesInstanceUID for header in headers]
    assert table["study"].tolist() == [header.StudyInstanceUID for header in headers]
    assert table["patient"].nunique() == 2
    assert table["patient"][:4].nunique() == 1
    assert table["patient"].str.fullmatch("[0-9a-f]{12}").all()
    assert table["patient"][0] == hashlib.sha256(b"patient:" + secret.encode()).hexdigest()[:12]
    written = write_table(table, tmp_path / "t.parquet").read_bytes()
    table.to_parquet(tmp_path / "plain.parquet", compression=None)
    for content in (written, (tmp_path / "plain.parquet").read_bytes(), table.to_csv().encode()):
        assert secret.encode() not in content
        assert b"Meier" not in content


def test_files_without_a_place_are_problems_and_the_others_go_on(tmp_path):
    paths = flat_folder(tmp_path, "a", "b", "c")
    paths[1].write_bytes(paths[1].read_bytes()[:200])
    paths[2].write_text("no image")
    paths[3].unlink()
    for path, keyword in ((paths[4], "PatientID"), (paths[5], "SeriesInstanceUID")):
        header = pydicom.dcmread(path)
        delattr(header, keyword)
        header.save_as(path)
    table, problems = catalog.group_by_header(paths, n_jobs=2)
    assert table["path"].tolist() == [str(paths[0]), str(paths[4])]
    assert table["patient"][1] == ""
    assert table["series"][1] != ""
    assert {problem.path for problem in problems} >= {str(paths[3]), str(paths[4])}
    assert {problem.code for problem in problems} == {"damaged", "no_pixels", "bad_value"}
    assert {problem.code for problem in problems} <= set(CODES)
    text = " ".join(problem.sentence for problem in problems)
    assert "The file does not say of which patient it is." in text
    assert "The file is no image of a series: take it out. (and 2 more files)" in text
    assert re.search(r"The file cannot be read \(.*No such file", text)


def test_no_id_is_in_what_is_said_of_a_damaged_file(tmp_path):
    path = tmp_path / "a.dcm"
    # an element of 201 bytes where four belong: pydicom quotes them all, with the patient's id
    start = bytes(128) + b"DICM" + b"\x02\0\0\0UL\xc9\0" + b"\x10\0\x20\0LO\x0a\0Meier^4711"
    path.write_bytes(start + bytes(400))
    with pytest.raises(pydicom.errors.BytesLengthException, match=r"Meier\^4711"):
        pydicom.dcmread(path)
    table, problems = catalog.group_by_header([path], n_jobs=1)
    assert table.empty
    assert problems == [
        Problem(
            "damaged", str(path), "The file cannot be read (BytesLengthException): get it again."
        )
    ]


def test_no_files_give_an_empty_table():
    table, problems = catalog.group_by_header([], n_jobs=1)
    assert list(table.columns) == ["patient", "study", "series", "path"]
    assert problems == []


@pytest.mark.skipif(not (SHARED / "haemorrhage").is_dir(), reason="the sample is not there")
def test_real_files_whose_identifiers_are_no_uids_are_grouped(tmp_path):
    found = catalog.find_scans(SHARED / "haemorrhage" / "stage_2_train", "{image}.dcm")
    table, problems = catalog.group_by_header(found["path"], n_jobs=1)
    assert problems == []
    assert len(table) == len(found) > 0
    assert table["series"].str.fullmatch("ID_[0-9a-f]{10}").all()


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


def test_labels_are_matched_to_folders_by_number_and_that_is_said_once(tmp_path):
    found = pd.DataFrame({"patient_id": ["00006", "00008", "00008", "00010"]})
    labels = pd.DataFrame({"patient_id": ["8", "10.0", "6", "7"], "label": [1, 0, 1, 0]})
    both, problems = catalog.join_labels(found, labels, root=tmp_path, table="labels.csv")
    assert both.to_numpy().tolist() == [["00006", 1], ["00008", 1], ["00010", 0]]
    spelling, lonely = problems
    assert (spelling.code, spelling.path) == ("id_spelling", "labels.csv")
    assert spelling.sentence.startswith("3 of 4 ids are spelled otherwise than their folders, such")
    assert lonely.sentence == "Patient 7 has a label but no folder."


def test_ids_that_do_not_belong_together_are_refused_with_an_example_of_each(tmp_path):
    found, labels = (
        pd.DataFrame({"patient_id": ["00001"]}),
        pd.DataFrame({"patient_id": ["2"], "label": [1]}),
    )
    with pytest.raises(
        catalog.CatalogError,
        match=r"folders such as 00001, labels such as 2\): do the ids belong together",
    ):
        catalog.join_labels(found, labels, root=tmp_path)


def test_names_of_folders_are_listed_and_none_is_no_error(tmp_path):
    touch(tmp_path, "b/", "a/", ".hidden/", "file")
    (tmp_path / "c").symlink_to(tmp_path / "nowhere")
    assert catalog.folder_names(tmp_path) == ["a", "b", "c"]  # a link can be filled later
    assert catalog.folder_names(tmp_path / "a") == catalog.folder_names(tmp_path / "x") == []
    for wrong in ("c", "file"):
        with pytest.raises(catalog.CatalogError, match=f"{wrong}/? cannot be listed"):
            catalog.folder_names(tmp_path / wrong)


def test_problems_become_a_table_even_if_there_are_none():
    assert list(catalog.problems_table([]).columns) == ["code", "path", "sentence"]
    assert catalog.problems_table([Problem("gap", "/x", "A gap.")]).to_numpy().tolist() == [
        ["gap", "/x", "A gap."]
    ]
