"""Slices are drawn the right way up, in true proportions, with masks where they belong."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from t4e_utils.figures import overlap, scans, selection, slices, style, training
from t4e_utils.sampling import pictures
from t4e_utils.scans import geometry
from t4e_utils.scans.intensity import window_from_percentiles
from t4e_utils.scans.volume import Volume

REGIONS = {"WT": (1, 2, 4), "ET": (4,)}


def one_axes():
    return Figure().add_subplot()


def letters_of(axes):
    return {
        text.get_text(): text.get_position() for text in axes.texts if len(text.get_text()) == 1
    }


def rectangle(shape, rows, columns):
    mask = np.zeros(shape, bool)
    mask[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = True
    return mask


def asymmetric_volume(plane="axial", spacing=(4.0, 1.5, 1.0)):
    """A block of tissue with one bright voxel near the patient's left, front and top."""
    volume = np.zeros((12, 16, 20))
    volume[2:10, 3:14, 4:17] = 100
    # axial display: slices upwards, rows backwards, columns to the patient's left
    volume[8, 4, 15] = 500
    array, affine = geometry.reorient(volume, geometry.display_affine("axial", spacing), plane)
    return Volume(array, geometry.spacing_of(affine), affine)


@pytest.mark.parametrize("plane", geometry.PLANES)
def test_letters_of_stored_slices_are_those_of_the_display_convention(plane):
    assert (
        geometry.orientation_letters(geometry.display_affine(plane)) == slices.PLANE_LETTERS[plane]
    )


@pytest.mark.parametrize("stored_as", geometry.PLANES)
@pytest.mark.parametrize(
    ("plane", "row_is_first_half", "column_is_first_half"),
    [("axial", True, False), ("coronal", True, False), ("sagittal", True, True)],
)
def test_left_front_and_top_are_drawn_where_the_letters_say(
    stored_as, plane, row_is_first_half, column_is_first_half
):
    array, _ = geometry.reorient(
        asymmetric_volume(stored_as).array, asymmetric_volume(stored_as).affine, plane
    )
    piece = slices.cut(
        asymmetric_volume(stored_as),
        plane,
        index=int(array.max(axis=(1, 2)).argmax()),
        is_cropped=False,
    )
    row, column = np.unravel_index(piece.image.argmax(), piece.image.shape)
    assert (row < piece.image.shape[0] / 2) == row_is_first_half
    assert (column < piece.image.shape[1] / 2) == column_is_first_half


def test_letters_stand_at_the_edges_they_name():
    axes = one_axes()
    slices.draw_slice(axes, np.eye(4), letters=slices.PLANE_LETTERS["sagittal"])
    found = letters_of(axes)
    assert set(found) == set("APSI")
    assert found["A"][0] < 0.1 < 0.9 < found["P"][0]
    assert found["I"][1] < 0.1 < 0.9 < found["S"][1]


def test_aspect_is_row_distance_over_column_distance():
    piece = slices.cut(asymmetric_volume(), "sagittal")
    axes = one_axes()
    slices.draw_cut(axes, piece)
    assert piece.spacing_mm == (4.0, 1.5)
    assert axes.get_aspect() == pytest.approx(4.0 / 1.5)


def test_the_image_is_drawn_as_given_between_the_window():
    image = np.arange(12.0).reshape(3, 4)
    axes = one_axes()
    slices.draw_slice(axes, image, window=(2, 9), state_window=True)
    assert np.array_equal(axes.images[0].get_array(), image)
    assert axes.images[0].get_clim() == (2, 9)
    assert axes.get_xlabel() == "window 2 to 9"


@pytest.mark.parametrize(
    ("image", "window"),
    [
        (np.array([[5, 9]], np.uint8), (0, 255)),
        (np.array([[-1.0, np.nan, 7.0]]), (-1, 7)),
        (np.array([[np.nan]]), (0, 1)),
    ],
)
def test_the_window_of_an_image_is_8_bit_or_its_finite_extremes(image, window):
    assert slices.window_of(image) == window


def test_a_window_is_written_with_the_digits_that_matter():
    assert slices.window_text((-0.12345, 2009.4)) == "window -0.123 to 2,009"
    assert slices.window_text((0, 255)) == "window 0 to 255"


def test_a_constant_image_is_drawn_without_a_warning():
    axes = one_axes()
    slices.draw_slice(axes, np.full((3, 3), 7.0))
    assert axes.images[0].get_clim() == (7, 8)


def test_a_truth_is_a_contour_half_a_pixel_around_the_mask():
    axes = one_axes()
    slices.draw_slice(
        axes, np.zeros((10, 12)), truth=[rectangle((10, 12), (3, 5), (2, 7))], regions=["WT"]
    )
    extent = axes.collections[0].get_paths()[0].get_extents()
    assert (extent.x0, extent.x1, extent.y0, extent.y1) == (1.5, 7.5, 2.5, 5.5)
    assert tuple(axes.collections[0].get_edgecolor()[0]) == to_rgba(style.REGION_COLOURS["WT"])
    assert axes.get_xlim() == (-0.5, 11.5)
    assert axes.get_ylim() == (9.5, -0.5)


def test_a_mask_that_fills_the_image_has_a_closed_contour():
    axes = one_axes()
    slices.draw_contour(axes, np.ones((4, 4), bool), colour="red")
    extent = axes.collections[0].get_paths()[0].get_extents()
    assert (extent.x0, extent.x1) == (-0.5, 3.5)


def test_a_prediction_is_a_filled_overlay_and_the_inner_region_covers_the_outer():
    outer, inner = rectangle((8, 8), (1, 6), (1, 6)), rectangle((8, 8), (3, 4), (3, 4))
    axes = one_axes()
    slices.draw_slice(axes, np.zeros((8, 8)), prediction=np.stack([outer, inner]))
    filled = np.asarray(axes.images[1].get_array())
    assert filled[1, 1] == pytest.approx(to_rgba(style.REGION_COLOURS["WT"], 0.5))
    assert filled[3, 3] == pytest.approx(to_rgba(style.REGION_COLOURS["ET"], 0.5))
    assert filled[0, 0, 3] == 0
    assert axes.get_aspect() == 1


def test_empty_masks_draw_nothing():
    axes = one_axes()
    empty = np.zeros((2, 4, 4), bool)
    slices.draw_slice(axes, np.zeros((4, 4)), truth=empty, prediction=empty)
    assert len(axes.images) == 1
    assert not axes.collections


def test_the_slice_with_the_most_tumour_is_shown():
    masks = np.zeros((2, 5, 4, 4), bool)
    masks[0, 1, :2], masks[0, 3], masks[1, 2] = True, True, True
    assert slices.busiest_slice(np.zeros((5, 4, 4)), masks) == 3


def test_without_tumour_the_slice_with_most_tissue_is_shown():
    array = np.zeros((5, 4, 4))
    array[1, 0], array[4] = 9, 5
    assert slices.busiest_slice(array) == 4
    assert slices.busiest_slice(array, np.zeros((2, 5, 4, 4), bool)) == 4


def test_the_head_box_leaves_background_out():
    array = np.zeros((3, 100, 80))
    array[1, 20:70, 30:50] = 1
    assert slices.head_box(array, margin=0) == (slice(20, 70), slice(30, 50))
    assert slices.head_box(array, margin=0.1) == (slice(15, 75), slice(28, 52))
    assert slices.head_box(np.ones((2, 3, 3))) == (slice(None), slice(None))


def test_a_cut_crops_image_and_masks_alike():
    volume = asymmetric_volume()
    mask = volume.array > 400
    piece = slices.cut(volume, masks=mask[None])
    assert piece.index == 8
    assert piece.n == 12
    assert piece.image.shape == piece.masks.shape[1:]
    assert piece.image.shape < volume.array.shape[1:]
    assert np.array_equal(piece.image > 400, piece.masks[0])


def test_the_axes_of_a_grid_have_the_proportions_of_their_images():
    picture, axes = slices.slice_grid([2.0, 1.0], [3.0, 3.0, 1.0])
    picture.draw_without_rendering()
    assert axes.shape == (2, 3)
    boxes = [each.get_window_extent() for each in axes[0]]
    assert boxes[0].width / boxes[2].width == pytest.approx(3, rel=0.1)


def test_a_patient_has_a_row_a_plane_and_a_column_a_contrast():
    volume = asymmetric_volume()
    labels = np.where(volume.array > 400, 4, 0).astype(np.uint8)
    figure = scans.patient_overview(
        {"FLAIR": volume, "T2w": volume}, labels=labels, regions=REGIONS, patient_id="00006"
    )
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[::2] == [
        "FLAIR\naxial slice 8 of 12",
        "FLAIR\ncoronal slice 4 of 16",
        "FLAIR\nsagittal slice 15 of 20",
    ]
    assert figure.get_suptitle() == "Patient 00006"
    assert figure.axes[0].get_xlabel() == slices.window_text(window_from_percentiles(volume.array))
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
    figure = scans.patient_overview(
        {"T1w": asymmetric_volume("sagittal")}, regions=REGIONS, planes=None
    )
    assert [axes.get_title().split()[1] for axes in figure.axes] == ["sagittal"]
    assert not figure.legends


def test_a_strip_goes_from_the_first_to_the_last_slice():
    figure = scans.series_strip(
        asymmetric_volume(), n=4, columns=4, patient_id="00006", series="FLAIR"
    )
    assert [axes.get_title() for axes in figure.axes] == [
        "slice 0",
        "slice 4",
        "slice 7",
        "slice 11",
    ]
    assert "axial, 12 slices · window" in figure.get_suptitle()


def test_densities_have_area_one_and_follow_the_window():
    volume = asymmetric_volume().array.astype(np.int16)
    volume[2:10] += np.arange(8, dtype=np.int16)[:, None, None] * (volume[2:10] > 0)
    figure = scans.intensity_densities({"FLAIR": [volume]}, n_bins=10)
    before, after = (axes.lines[0].get_xydata() for axes in figure.axes)
    for x, y in (before.T, after.T):
        assert np.sum(y) * (x[1] - x[0]) == pytest.approx(1)
    assert before[:, 0].max() >= 500
    assert after[:, 0].max() <= 256 + 26


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


def test_the_three_channels_of_a_stored_slice_are_shown_apart():
    stored = np.zeros((6, 8, 3), np.uint8)
    stored[..., 0], stored[2:4, 2:6, 1], stored[3, 3, 2] = 90, 255, 255
    figure = selection.slice_channels(stored, spacing_mm=(2.0, 1.0), plane="coronal")
    assert [axes.get_title() for axes in figure.axes][:3] == [
        "R: image, 0 to 255",
        "G: WT, 8 pixels",
        "B: ET, 1 pixel",
    ]
    assert (figure.axes[0].images[0].get_array() == 90).all()
    assert (figure.axes[1].images[1].get_array()[..., 3] > 0).sum() == 8
    assert np.array_equal(figure.axes[3].images[0].get_array(), stored)
    assert set(letters_of(figure.axes[4])) == set("RLSI")
    assert {axes.get_aspect() for axes in figure.axes} == {2.0}


@pytest.mark.parametrize("shape", ["channels last", "channels first"])
def test_stored_slices_split_into_image_and_masks(shape):
    stored = np.zeros((5, 6, 7, 3), np.uint8)
    stored[2, 3, 4] = 10, 255, 0
    images, masks = pictures.split_channels(
        stored if shape == "channels last" else np.moveaxis(stored, -1, 1)
    )
    assert images.shape == (5, 6, 7)
    assert images[2, 3, 4] == 10
    assert masks.shape == (2, 5, 6, 7)
    assert masks.sum() == 1
    assert masks[0, 2, 3, 4]


def test_a_film_strip_names_slices_and_zero_images():
    stored = np.zeros((4, 6, 6, 3), np.uint8)
    stored[:2, 2:4, 2:4, 0] = 200
    assert [a.get_title() for a in selection.film_strip(stored, positions=[7, 9]).axes[:4]] == [
        "slice 7",
        "slice 9",
        "zero",
        "zero",
    ]
    assert [a.get_title() for a in selection.film_strip(stored).axes[:4]] == [
        "0",
        "1",
        "zero",
        "zero",
    ]


@pytest.mark.parametrize("channels", [False, True])
def test_a_film_strip_has_the_proportions_of_the_head(channels):
    stored = np.full((3, 6, 8, 3), 255, np.uint8)
    figure = selection.film_strip(
        stored, channels=channels, columns=3, spacing_mm=(3.0, 1.5), plane="coronal"
    )
    assert [axes.get_aspect() for axes in figure.axes if axes.images] == [2.0] * (
        9 if channels else 3
    )
    assert [text.get_text() for text in figure.axes[0].texts] == (
        [] if channels else ["R", "L", "S", "I"]
    )


def test_a_film_strip_shows_each_channel_in_a_row():
    stored = np.full((3, 6, 6, 3), 255, np.uint8)
    figure = selection.film_strip(stored, channels=True, columns=3)
    assert [figure.axes[k].get_ylabel() for k in (0, 3, 6)] == ["image", "WT", "ET"]
    assert (figure.axes[8].images[0].get_array() == 255).all()


def test_kept_slices_stand_above_dropped_ones_and_blank_ones_are_no_examples():
    images = np.zeros((6, 5, 5), np.uint8)
    images[1:, 1:4, 1:4] = 80
    masks = np.zeros((2, 6, 5, 5), bool)
    masks[0, 4, 1:4, 1:4] = True
    measures = pd.DataFrame(
        {
            "brain_area": (images > 0).sum(axis=(1, 2)),
            "wt_area": masks[0].sum(axis=(1, 2)),
            "et_area": 0,
        }
    )
    figure = selection.kept_and_dropped(
        images, masks, measures, [False] * 4 + [True, False], n=4, reasons=["no tumour"] * 6
    )
    assert [figure.axes[k].get_ylabel() for k in (0, 4)] == ["kept (1)", "dropped (5)"]
    assert figure.axes[0].get_title() == "slice 4: 100.0%"
    assert [axes.get_title() for axes in figure.axes[4:]] == [
        f"slice {k}: 0.0%\nno tumour" for k in (1, 2, 3, 5)
    ]


def test_a_triptych_states_the_dice_of_each_region():
    truth = np.stack([rectangle((8, 8), (1, 4), (1, 4)), rectangle((8, 8), (2, 3), (2, 3))])
    predicted = np.stack([truth[0], np.zeros((8, 8), bool)])
    figure = overlap.triptychs(
        [np.ones((8, 8))], [truth], [predicted], names=["worst"], planes=["axial"]
    )
    image, expert, prediction = figure.axes
    assert prediction.get_title() == "Dice WT 1.00 · ET 0.00"
    assert image.get_ylabel() == "worst"
    assert len(expert.collections) == 2
    assert len(image.images) == 1
    assert set(letters_of(image)) == set("RLAP")


def test_a_batch_is_drawn_pixel_by_pixel():
    images = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    figure = training.batch_grid(images, names=["one", "two"])
    assert [axes.get_title() for axes in figure.axes] == ["one", "two"]
    assert np.array_equal(figure.axes[1].images[0].get_array(), images[1, 0])
    assert figure.axes[1].images[0].get_interpolation() == "nearest"
    assert "2 images, 4 × 4 pixels, uint8" in figure.get_suptitle()


def rendered(draw, *, size=400):
    """Draw into axes that fill a square picture; its pixels (size, size, 3)."""
    figure = Figure(figsize=(size / 100, size / 100), dpi=100, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    draw(axes)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def box_of(mask):
    rows, columns = np.nonzero(mask)
    return rows.min(), rows.max(), columns.min(), columns.max()


def test_in_the_rendered_picture_contour_aspect_and_letters_are_where_they_belong():
    mask, colour = (
        rectangle((20, 40), (5, 14), (10, 29)),
        np.array(to_rgba(style.REGION_COLOURS["WT"])[:3]) * 255,
    )
    # 60 mm high, 40 mm wide
    options = {"truth": np.stack([mask, ~mask & mask]), "spacing_mm": (3.0, 1.0)}
    picture = rendered(
        lambda axes: slices.draw_slice(axes, np.zeros((20, 40), np.uint8), **options)
    )
    top, bottom, left, right = box_of((picture < 250).any(axis=-1))
    assert (top, bottom) == (0, 399)
    assert (right - left + 1) / (bottom - top + 1) == pytest.approx(40 / 60, abs=0.01)
    drawn = box_of(np.abs(picture - colour).max(axis=-1) < 60)
    scale = 400 / 60
    # mm from the upper left corner of the image
    expected = (15 * scale, 45 * scale, left + 10 * scale, left + 30 * scale)
    assert np.abs(np.subtract(drawn, expected)).max() <= 2.5
    for edge, letter in slices.PLANE_LETTERS["axial"].items():
        lettered = rendered(
            lambda axes, one={edge: letter}: slices.draw_slice(
                axes, np.zeros((40, 40), np.uint8), letters=one
            )
        )
        top, bottom, left, right = box_of((lettered > 128).any(axis=-1))
        distance = {"top": top, "bottom": 399 - bottom, "left": left, "right": 399 - right}
        assert min(distance, key=distance.get) == edge
        assert distance[edge] < 20
