"""What a label means is decided for a data set, and never guessed against its names."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from t4e_utils.annotations.regions import regions_from_labels
from t4e_utils.competitions.brain_tumor import conventions
from t4e_utils.competitions.brain_tumor.data import REGIONS
from t4e_utils.competitions.brain_tumor.rules import SliceRule
from t4e_utils.sampling.cutting import cut_patients
from t4e_utils.scans.problems import VolumeError
from t4e_utils.tables.catalog import CatalogError
from t4e_utils.tables.run import MissingInputError

LAST = {"2021": "_seg", "2023": "-seg", "2024": "-seg"}
NAMES = {"2021": "BraTS2021_{:05d}", "2023": "BraTS-GLI-{:05d}-000", "2024": "BraTS-GLI-{:05d}-100"}
# voxels of labels 0 to 4 in a row of ten: five, one, one, one, two
ROW = np.array([0, 0, 1, 2, 3, 4, 4, 0, 0, 0], np.uint8)


def write(root, name, year, labels):
    """A segmentation with these labels, one voxel each, in a folder as the year has it."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    array = np.zeros((6, 5, 4), np.uint8)
    array[: len(labels), 2, 1] = list(labels)
    path = folder / f"{name}{LAST[year]}.nii.gz"
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return {"series": "labels", "path": str(path)}


def data_set(root, year, *patients):
    return pd.DataFrame(
        [write(root, NAMES[year].format(k), year, labels) for k, labels in enumerate(patients)]
    )


def decide(files):
    return conventions.convention_of(files, conventions.labels_present(files, n_jobs=1))


@pytest.mark.parametrize(
    ("convention", "expected"),
    [  # whole tumour and enhancing tumour of ROW, by hand
        ("BraTS 2023", {"WT": [0, 0, 1, 1, 1], "ET": [0, 0, 0, 0, 1]}),
        ("BraTS 2024", {"WT": [0, 0, 1, 1, 1, 0, 0], "ET": [0, 0, 0, 0, 1, 0, 0]}),
        ("BraTS 2021", {"WT": [0, 0, 1, 1, 0, 1, 1], "ET": [0, 0, 0, 0, 0, 1, 1]}),
    ],
)
def test_the_regions_are_those_of_the_convention(tmp_path, convention, expected):
    row = ROW.copy()
    row[np.isin(row, [*{1, 2, 3, 4} - {*conventions.CONVENTIONS[convention]}])] = 0
    nib.save(nib.Nifti1Image(row.reshape(10, 1, 1), np.diag([-1, -1, 1, 1])), tmp_path / "a.nii")
    volume = conventions.read_labels(tmp_path / "a.nii", convention=convention)
    assert volume.array.dtype == np.uint8
    masks = regions_from_labels(volume.array, REGIONS).reshape(2, 10)
    for mask, values in zip(masks, expected.values(), strict=True):
        assert mask.tolist() == [bool(v) for v in values] + [False] * (10 - len(values))


@pytest.mark.parametrize(("convention", "label"), [("BraTS 2021", 3), ("BraTS 2023", 4)])
def test_a_label_of_another_convention_is_refused(tmp_path, convention, label):
    path = write(tmp_path, "a", "2021", {label})["path"]
    with pytest.raises(VolumeError, match=rf"labels \[{label}\] are not known") as error:
        conventions.read_labels(path, convention=convention)
    assert error.value.code == "unknown_labels"


@pytest.mark.parametrize(
    ("year", "patients", "found"),
    [
        ("2021", [{1, 2, 4}, {2}, {1, 2, 4}], "BraTS 2021"),
        ("2021", [{1, 2, 3}, {1, 2, 3}, {1}], "BraTS 2023"),  # converted to 1, 2, 3
        ("2021", [{1, 2}, set()], "BraTS 2021"),
        ("2021", [{1, 2, 4}, {2, 4}, {4}, {3}], "BraTS 2021"),  # one is odd, and left out later
        ("2023", [{1, 2, 3}, {3}], "BraTS 2023"),
        ("2023", [{1, 2}], "BraTS 2023"),
        ("2024", [{1, 2, 3, 4}, {2, 4}, {1, 2, 3}], "BraTS 2024"),
        ("2024", [{1, 2, 4}, {2, 4}], "BraTS 2024"),  # nothing enhances; 4 is the cavity
        ("2021", [{1, 2, 4}, {7}], "BraTS 2021"),  # 7 is nobody's, and that patient's affair
    ],
)
def test_names_and_labels_decide_for_the_set(tmp_path, year, patients, found):
    assert decide(data_set(tmp_path, year, *patients)) == found


@pytest.mark.parametrize(
    ("year", "patients", "labels"),
    [
        ("2021", [{1, 2, 3, 4}, {2, 3}, {2, 4}], "1, 2, 3, 4"),
        ("2021", [{1, 2, 3}, {1, 2, 4}], "1, 2, [34]"),
        ("2023", [{1, 2, 4}, {2, 4}], "1, 2, 4"),
        ("2023", [{1, 2, 3, 4}, {2, 3}], "1, 2, 3, 4"),
    ],
)
def test_labels_that_contradict_the_names_refuse_the_set(tmp_path, year, patients, labels):
    sentence = rf"names of BraTS {year} .* contradict that \(labels {labels}\)"
    with pytest.raises(CatalogError, match=sentence):
        decide(data_set(tmp_path, year, *patients))


def test_names_of_two_conventions_are_refused_with_a_file_of_each(tmp_path):
    files = pd.concat([data_set(tmp_path, year, {1, 2}) for year in ("2021", "2024")])
    sentence = r"BraTS 2021 \(.*BraTS2021_00000_seg.* and of BraTS 2024 \(.*GLI-00000-100-seg"
    with pytest.raises(CatalogError, match=sentence):
        decide(files)


def test_visits_before_and_after_treatment_are_read_as_2024(tmp_path):
    files = pd.concat([data_set(tmp_path, year, {1, 2, 3}) for year in ("2023", "2024")])
    assert decide(files) == "BraTS 2024"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("BraTS2021_00006/BraTS2021_00006_flair.nii.gz", "BraTS 2021"),
        ("00006/00006_seg.nii", "BraTS 2021"),
        ("BraTS-GLI-00006-001/BraTS-GLI-00006-001-t2f.nii.gz", "BraTS 2023"),
        ("BraTS-SSA-00006-000/BraTS-SSA-00006-000-seg.nii.gz", "BraTS 2023"),
        ("00006/00006-seg.nii.gz", "BraTS 2023"),
        ("BraTS-GLI-02000-100/BraTS-GLI-02000-100-t2f.nii.gz", "BraTS 2024"),
        ("00006-101/00006-101-seg.nii.gz", "BraTS 2024"),
    ],
)
def test_a_name_stands_for_a_convention(path, found):
    assert conventions.named_convention(path) == found


def test_a_data_set_where_labels_mean_other_tissues_is_refused():
    with pytest.raises(CatalogError, match="is of BraTS-PED, where labels mean other tissues"):
        conventions.named_convention("BraTS-PED-00001-000/BraTS-PED-00001-000-seg.nii.gz")


def test_patients_are_counted_by_label_and_what_cannot_be_read_is_left_to_others(tmp_path):
    files = data_set(tmp_path, "2024", {1, 2, 3}, {2, 4}, {9}, {2})
    (tmp_path / "bad.nii.gz").write_bytes(b"no image")
    bad = {"series": "labels", "path": str(tmp_path / "bad.nii.gz")}
    files = pd.concat([files, pd.DataFrame([bad, {**bad, "series": "FLAIR"}])], ignore_index=True)
    present = conventions.labels_present(files, n_jobs=1)
    assert present["present"].tolist() == [{1, 2, 3}, {2, 4}, {9}, {2}]
    assert conventions.label_table(present, "BraTS 2024").to_numpy().tolist() == [
        [1, "necrotic core", 1],
        [2, "oedema", 3],
        [3, "enhancing", 1],
        [4, "resection cavity", 1],
        [9, "not known", 1],
    ]


def test_slices_of_2024_show_the_enhancing_tumour_and_no_cavity(tmp_path):
    files = data_set(tmp_path, "2024", {1, 2, 3, 4}).assign(patient_id="00000")
    image = tmp_path / "image.nii.gz"
    nib.save(nib.Nifti1Image(np.arange(120, dtype=np.int16).reshape(6, 5, 4), np.eye(4)), image)
    scan = {"patient_id": "00000", "series": "FLAIR", "path": str(image)}
    files = pd.concat([files, pd.DataFrame([scan])])
    rule = SliceRule(planes=("axial",), convention="BraTS 2024")
    table, problems = cut_patients(files, tmp_path / "s", root=tmp_path, rule=rule, n_jobs=1)
    assert problems == []
    assert (table["wt_area"].sum(), table["et_area"].sum()) == (3, 1)
    with pytest.raises(VolumeError, match=r"labels \[3\] are not known"):
        SliceRule().read_labels(files["path"].iloc[0])


def test_slices_that_do_not_say_their_convention_are_made_again():
    assert conventions.stated({"convention": "BraTS 2023"}) == "BraTS 2023"
    with pytest.raises(MissingInputError, match="run 02_seg_data again"):
        conventions.stated({})
