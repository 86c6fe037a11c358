"""Slices are drawn the right way up, in true proportions, with masks where they belong."""

import numpy as np
import pytest
from helpers.pictures import asymmetric_volume
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from t4e_utils.figures import slices
from t4e_utils.scans import geometry


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
    slices.draw_cut(axes, piece, title="")
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


def test_a_truth_is_a_contour_half_a_pixel_around_the_mask(palette):
    axes = one_axes()
    slices.draw_slice(axes, np.zeros((10, 12)))
    slices.draw_masks(axes, truth=[rectangle((10, 12), (3, 5), (2, 7))], regions=["WT"])
    extent = axes.collections[0].get_paths()[0].get_extents()
    assert (extent.x0, extent.x1, extent.y0, extent.y1) == (1.5, 7.5, 2.5, 5.5)
    assert tuple(axes.collections[0].get_edgecolor()[0]) == to_rgba(palette.colours["WT"])
    assert axes.get_xlim() == (-0.5, 11.5)
    assert axes.get_ylim() == (9.5, -0.5)


def test_a_mask_that_fills_the_image_has_a_closed_contour():
    axes = one_axes()
    slices.draw_contour(axes, np.ones((4, 4), bool), colour="red")
    extent = axes.collections[0].get_paths()[0].get_extents()
    assert (extent.x0, extent.x1) == (-0.5, 3.5)


def test_a_prediction_is_a_filled_overlay_and_the_inner_region_covers_the_outer(palette):
    outer, inner = rectangle((8, 8), (1, 6), (1, 6)), rectangle((8, 8), (3, 4), (3, 4))
    axes = one_axes()
    slices.draw_slice(axes, np.zeros((8, 8)))
    slices.draw_masks(axes, prediction=np.stack([outer, inner]))
    filled = np.asarray(axes.images[1].get_array())
    assert filled[1, 1] == pytest.approx(to_rgba(palette.colours["WT"], 0.5))
    assert filled[3, 3] == pytest.approx(to_rgba(palette.colours["ET"], 0.5))
    assert filled[0, 0, 3] == 0
    assert axes.get_aspect() == 1


def test_empty_masks_draw_nothing():
    axes = one_axes()
    empty = np.zeros((2, 4, 4), bool)
    slices.draw_slice(axes, np.zeros((4, 4)))
    slices.draw_masks(axes, truth=empty, prediction=empty)
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


def test_the_filled_box_leaves_background_out():
    array = np.zeros((3, 100, 80))
    array[1, 20:70, 30:50] = 1
    assert slices.filled_box(array, margin=0) == (slice(20, 70), slice(30, 50))
    assert slices.filled_box(array, margin=0.1) == (slice(15, 75), slice(28, 52))
    assert slices.filled_box(np.ones((2, 3, 3))) == (slice(None), slice(None))


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
    figure, axes = slices.slice_grid([2.0, 1.0], [3.0, 3.0, 1.0])
    figure.draw_without_rendering()
    assert axes.shape == (2, 3)
    boxes = [each.get_window_extent() for each in axes[0]]
    assert boxes[0].width / boxes[2].width == pytest.approx(3, rel=0.1)


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


def test_in_the_rendered_picture_contour_aspect_and_letters_are_where_they_belong(palette):
    mask, colour = (
        rectangle((20, 40), (5, 14), (10, 29)),
        np.array(to_rgba(palette.colours["WT"])[:3]) * 255,
    )
    # 60 mm high, 40 mm wide

    def draw(axes):
        slices.draw_slice(axes, np.zeros((20, 40), np.uint8), spacing_mm=(3.0, 1.0))
        slices.draw_masks(axes, truth=np.stack([mask, ~mask & mask]))

    picture = rendered(draw)
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
