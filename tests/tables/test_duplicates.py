"""A patient under two ids is found by equal images, and stays in one fold."""

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest

from t4e_utils.scans.dicom_writing import write_dicom_series
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.volume import Volume
from t4e_utils.tables.catalog import CatalogError
from t4e_utils.tables.duplicates import deal_folds, shared_images

SPACING = (5.0, 1.0, 2.0)


def values(seed, n=5):
    return np.random.default_rng(seed).integers(1, 900, (n, 6, 7)).astype(np.int16)


def series(folder, array, patient_id="a"):
    volume = Volume(array, SPACING, display_affine("axial", SPACING))
    write_dicom_series(volume, folder, patient_id=patient_id, series_description=folder.name)
    return str(folder)


def table(**paths):
    return pd.DataFrame({"patient_id": [name[:1] for name in paths], "path": list(paths.values())})


def change(folder, **elements):
    for path in sorted(folder.iterdir()):
        dataset = pydicom.dcmread(path)
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)


@pytest.mark.parametrize("n", [1, 4, 5])
@pytest.mark.parametrize("is_reversed", [False, True])
def test_equal_images_link_two_ids_whatever_the_files_are_called(tmp_path, n, is_reversed):
    paths = {name: series(tmp_path / name, values(k, n)) for k, name in enumerate("abc")}
    paths["d"] = series(tmp_path / "d", values(0, n), patient_id="d")
    if is_reversed:
        for k in range(n):
            (tmp_path / "d" / f"Image-{k + 1}.dcm").rename(tmp_path / "d" / f"{n - k}.dcm")
    linked, problems = shared_images(table(**paths), n_jobs=1)
    assert linked == {"a": "a", "d": "a"}
    assert [(problem.code, problem.path) for problem in problems] == [("same_images", paths["d"])]
    assert "Patients a and d have the same images" in problems[0].sentence


def test_a_chain_of_equal_series_is_one_group(tmp_path):
    made = {"a1": 1, "b1": 1, "b2": 2, "c2": 2, "d3": 3}
    paths = {name: series(tmp_path / name, values(seed)) for name, seed in made.items()}
    assert shared_images(table(**paths), n_jobs=1)[0] == {"a": "a", "b": "a", "c": "a"}


def test_equal_series_of_one_patient_are_no_second_id(tmp_path):
    paths = {name: series(tmp_path / name, values(1)) for name in ("a1", "a2")}
    assert shared_images(table(**paths), n_jobs=1) == ({}, [])


def test_one_equal_image_among_others_links_nobody(tmp_path):
    other = values(2)
    other[2] = values(1)[2]
    paths = {"a": series(tmp_path / "a", values(1)), "b": series(tmp_path / "b", other)}
    assert shared_images(table(**paths), n_jobs=1) == ({}, [])


@pytest.mark.parametrize("fill", [lambda a: a * 0, lambda a: np.where(a > 450, 7, 0)])
def test_blank_and_padded_images_link_nobody(tmp_path, fill):
    blank = fill(values(1)).astype(np.int16)
    paths = {name: series(tmp_path / name, blank) for name in "ab"}
    assert shared_images(table(**paths), n_jobs=1) == ({}, [])


@pytest.mark.parametrize("seed_of_b", [1, 2])
def test_a_blank_image_in_the_middle_is_passed_over(tmp_path, seed_of_b):
    arrays = {"a": values(1), "b": values(seed_of_b)}
    for array in arrays.values():
        array[2] = 0
    paths = {name: series(tmp_path / name, array) for name, array in arrays.items()}
    assert shared_images(table(**paths), n_jobs=1)[0] == (
        {"a": "a", "b": "a"} if seed_of_b == 1 else {}
    )


def test_equal_uids_link_two_ids_though_the_values_differ(tmp_path):
    paths = {name: series(tmp_path / name, values(k)) for k, name in enumerate("abcd")}
    for name in "ac":
        for k, path in enumerate(sorted((tmp_path / name).iterdir())):
            dataset = pydicom.dcmread(path)
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{k}"
            dataset.save_as(path)
    linked, problems = shared_images(table(**paths), n_jobs=1)
    assert linked == {"a": "a", "c": "a"}
    assert [problem.path for problem in problems] == [paths["c"]]


@pytest.mark.parametrize("names", [("a1", "a2", "b1", "b2"), tuple("abcd")])
def test_a_uid_that_is_not_unique_says_nothing(tmp_path, names):
    paths = {name: series(tmp_path / name, values(k)) for k, name in enumerate(names)}
    for name in names:
        change(tmp_path / name, SOPInstanceUID="1.2.3")
    assert shared_images(table(**paths), n_jobs=1) == ({}, [])


def test_volumes_are_equal_however_they_are_stored(tmp_path):
    array, affine = values(1).transpose(2, 1, 0), np.diag([-1.0, -1.0, 2.0, 1.0])
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "a.nii.gz")
    turned = nib.Nifti1Image(array[::-1].astype(np.float32), affine @ np.diag([-1, 1, 1, 1]))
    nib.save(turned, tmp_path / "b.nii")
    nib.save(nib.Nifti1Image(values(2).transpose(2, 1, 0), affine), tmp_path / "c.nii.gz")
    (tmp_path / "d.nii.gz").write_bytes(b"no image")
    paths = {
        name[0]: str(tmp_path / name) for name in ("a.nii.gz", "b.nii", "c.nii.gz", "d.nii.gz")
    }
    linked, problems = shared_images(table(**paths), source="nifti", n_jobs=1)
    assert (linked, [problem.path for problem in problems]) == ({"a": "a", "b": "a"}, [paths["b"]])


def test_folders_that_cannot_be_read_are_no_error(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.dcm").write_text("no image")
    paths = {"a": str(tmp_path / "a"), "b": str(tmp_path / "gone")}
    assert shared_images(table(**paths), n_jobs=1) == ({}, [])
    assert shared_images(table(), n_jobs=1) == ({}, [])


def test_linked_patients_stay_in_one_fold_and_nothing_else_changes():
    ids = [f"{k:02d}" for k in range(12)]
    plain = deal_folds(ids, {}, n_folds=3, seed=1, labels=[0, 1] * 6)
    assert plain.columns.tolist() == ["patient_id", "fold"]
    linked = {"00": "00", "05": "00", "99": "98"}
    for seed in range(5):
        folds = deal_folds(ids, linked, n_folds=3, seed=seed, labels=[0, 1] * 6)
        of = folds.set_index("patient_id")
        assert of["fold"]["00"] == of["fold"]["05"]
        assert of["group"].tolist() == ["00" if each == "05" else each for each in ids]
        assert sorted(folds.groupby("fold").size()) == [4, 4, 4]
    other = deal_folds(ids, {"99": "98"}, n_folds=3, seed=1, labels=[0, 1] * 6)
    pd.testing.assert_frame_equal(other, plain)


def test_patients_who_all_share_images_cannot_be_dealt():
    with pytest.raises(CatalogError, match="n_folds = 2 does not fit 1 groups"):
        deal_folds(["a", "b"], {"a": "a", "b": "a"}, n_folds=2, seed=0)
