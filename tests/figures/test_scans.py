"""Patients, series and label maps are drawn in the planes and with the regions they have."""

import numpy as np
import pytest
from helpers.pictures import asymmetric_volume, legend_of

from t4e_utils.figures import scans, slices
from t4e_utils.figures.palette import FigureError
from t4e_utils.scans.intensity import window_from_percentiles
from t4e_utils.scans.volume import Volume

REGIONS = {"WT": (1, 2, 4), "ET": (4,)}
LOOK = {"regions": REGIONS, "percentiles": (0.5, 99.5)}


def test_a_patient_has_a_row_a_plane_and_a_column_a_series():
    volume = asymmetric_volume()
    labels = np.where(volume.array > 400, 4, 0).astype(np.uint8)
    figure = scans.patient_overview(
        {"FLAIR": volume, "T2w": volume}, labels=labels, patient_id="00006", **LOOK
    )
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[::2] == [
        "FLAIR\naxial slice 8 of 12",
        "FLAIR\ncoronal slice 4 of 16",
        "FLAIR\nsagittal slice 15 of 20",
    ]
    assert figure.get_suptitle() == "Patient 00006"
    assert figure.axes[0].get_xlabel() == slices.window_text(
        window_from_percentiles(volume.array, LOOK["percentiles"])
    )
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["WT", "ET"]
    assert all(axes.collections for axes in figure.axes)


def test_series_on_other_grids_than_the_labels_have_no_contours():
    volume, other = asymmetric_volume(), asymmetric_volume("coronal")
    labels = Volume(np.where(volume.array > 400, 4, 0), volume.spacing_mm, volume.affine)
    assert scans.region_masks(volume, labels, REGIONS).sum() == 2
    assert scans.region_masks(other, labels, REGIONS) is None
    moved = Volume(volume.array, volume.spacing_mm, volume.affine + np.eye(4, k=3) * 5)
    assert scans.region_masks(moved, labels, REGIONS) is None
    assert scans.region_masks(volume, None, REGIONS) is None


def test_series_are_shown_in_their_own_plane_when_asked():
    figure = scans.patient_overview({"T1w": asymmetric_volume("sagittal")}, planes=None, **LOOK)
    assert [axes.get_title().split()[1] for axes in figure.axes] == ["sagittal"]
    assert not figure.legends


def test_a_strip_goes_from_the_first_to_the_last_slice():
    figure = scans.series_strip(
        asymmetric_volume(),
        n=4,
        columns=4,
        patient_id="00006",
        series="FLAIR",
        percentiles=(0.5, 99.5),
    )
    assert [axes.get_title() for axes in figure.axes] == [
        "slice 0",
        "slice 4",
        "slice 7",
        "slice 11",
    ]
    assert "axial, 12 slices · window" in figure.get_suptitle()


def test_planes_predicted_one_by_one_show_expert_and_prediction():
    volume = asymmetric_volume()
    truth, predicted = (
        np.stack([volume.array > 50, volume.array > 400]),
        np.stack([volume.array > 50, volume.array > 999]),
    )

    class PlaneCut:
        image, affine = np.clip(volume.array, 0, 255).astype(np.uint8), volume.affine

    PlaneCut.truth, PlaneCut.predicted = truth, predicted
    figure = scans.predicted_planes([PlaneCut], patient_id="00006", series="FLAIR")
    axes = figure.axes[0]
    assert axes.get_title() == "axial slice 2 of 12"
    assert len(axes.collections) == 1
    assert (axes.images[1].get_array()[..., 3] > 0).sum() == 11 * 13
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "WT expert",
        "ET expert",
        "WT predicted",
        "ET predicted",
    ]


def test_the_slices_of_a_volume_are_pictures_with_their_regions():
    volume = asymmetric_volume(spacing=(4.0, 1.5, 1.0))
    labels = np.where(volume.array > 400, 4, 0)
    found = scans.slice_pictures(volume, labels, "coronal", **LOOK)
    assert len(found) == 16
    assert (found[4].names, found[4].spacing_mm) == (("image", "WT", "ET"), (4.0, 1.0))
    assert (found[4].plane, found[4].title) == ("coronal", "slice 4")
    assert [int(each.masks.sum()) for each in found[3:6]] == [0, 2, 0]
    assert found[4].image[found[4].masks[0]].tolist() == [found[4].image.max()]


def test_slices_and_labels_of_different_grids_stop_with_a_sentence():
    with pytest.raises(FigureError, match=r"label map \(2, 3, 4\) does not lie on the grid"):
        scans.slice_pictures(asymmetric_volume(), np.zeros((2, 3, 4)), "axial", **LOOK)


def test_labels_stand_with_their_names_and_numbers(palette):
    volume = asymmetric_volume()
    labels = np.where(volume.array > 400, 4, np.where(volume.array > 50, 2, 0))
    names = {2: "oedema", 4: "something"}
    figure = scans.labels_and_regions(volume, labels, label_names=names, planes=["axial"], **LOOK)
    assert legend_of(figure) == ["2 oedema", "4 something", "WT", "ET"]
    assert [axes.get_title().split("\n")[0] for axes in figure.axes] == [
        "image",
        "labels",
        "WT and ET",
    ]
