"""Stored slices, sequences and their chunks are shown as a network receives them."""

import numpy as np
import pytest
from helpers.pictures import legend_of

from t4e_utils.figures import sequences
from t4e_utils.sampling.pictures import Picture

NAMES = ("image", "WT", "ET")


def letters_of(axes):
    return [text.get_text() for text in axes.texts if len(text.get_text()) == 1]


def test_the_three_channels_of_a_stored_slice_are_shown_apart():
    stored = np.zeros((6, 8, 3), np.uint8)
    stored[..., 0], stored[2:4, 2:6, 1], stored[3, 3, 2] = 90, 255, 255
    figure = sequences.slice_channels(Picture(stored, NAMES, (2.0, 1.0), "coronal", "one"))
    assert figure.get_suptitle() == "one"
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


def test_a_film_strip_names_slices_and_zero_images():
    stored = np.zeros((4, 6, 6, 3), np.uint8)
    stored[:2, 2:4, 2:4, 0] = 200
    titles = ["slice 7", "slice 9", "", ""]
    frames = [Picture(each, NAMES, title=title) for each, title in zip(stored, titles, strict=True)]
    strip = sequences.film_strip(frames)
    assert [a.get_title() for a in strip.axes[:4]] == ["slice 7", "slice 9", "zero", "zero"]
    assert legend_of(strip) == ["WT predicted", "ET predicted"]
    assert [a.get_title() for a in sequences.film_strip(stored).axes[:4]] == [
        "0",
        "1",
        "zero",
        "zero",
    ]


@pytest.mark.parametrize("channels", [False, True])
def test_a_film_strip_has_the_proportions_of_its_slices(channels):
    stored = np.full((3, 6, 8, 3), 255, np.uint8)
    frames = [Picture(each, NAMES, (3.0, 1.5), "coronal") for each in stored]
    figure = sequences.film_strip(frames, channels=channels, columns=3)
    assert [axes.get_aspect() for axes in figure.axes if axes.images] == [2.0] * (
        9 if channels else 3
    )
    assert [text.get_text() for text in figure.axes[0].texts] == (
        [] if channels else ["R", "L", "S", "I"]
    )


def test_a_film_strip_shows_each_channel_in_a_row():
    stored = np.full((3, 6, 6, 3), 255, np.uint8)
    figure = sequences.film_strip(stored, channels=True, columns=3)
    assert [figure.axes[k].get_ylabel() for k in (0, 3, 6)] == ["image", "WT", "ET"]
    assert (figure.axes[8].images[0].get_array() == 255).all()


def test_chunks_are_windows_and_what_is_missing_is_hatched():
    axes = sequences.chunk_windows([(0, 20)], 20, length=35).axes[0]
    slices_bar, missing = axes.patches
    assert (slices_bar.get_x(), slices_bar.get_width()) == (0, 20)
    assert (missing.get_x(), missing.get_width(), missing.get_hatch()) == (20, 15, "////")
    assert axes.get_title(loc="left") == "1 chunk of 35 from 20 slices"


def test_chunks_lie_on_the_axis_of_the_series_where_its_slices_are():
    axes = sequences.chunk_windows([(0, 3), (2, 4)], 4, length=3, positions=[5, 6, 9, 20]).axes[0]
    assert [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches] == [
        (4.5, 9.5),
        (8.5, 20.5),
    ]
    assert [each.get_xdata().tolist() for each in axes.lines] == [[5, 6, 9], [9, 20]]
    assert [text.get_text() for text in axes.texts] == ["3 slices", "2 slices"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_slice_of_two_channels_has_no_colours_of_a_file(dtype):
    stored = np.zeros((6, 8, 2), dtype)
    stored[..., 0], stored[2:4, 2:6, 1] = 90, 255
    stored[0, 0, 0] = 7
    figure = sequences.slice_channels(Picture(stored, ("image", "vessel")))
    grey = "0 to 255" if dtype == np.uint8 else "7 to 90"
    assert [axes.get_title() for axes in figure.axes] == [
        f"1: image, {grey}",
        "2: vessel, 8 pixels",
        "masks over image",
    ]


def test_a_sequence_of_a_data_set_is_drawn_as_it_is():
    channels = np.zeros((2, 3, 6, 6), np.uint8)
    channels[:, 0], channels[1, 2, 2:4, 2:4] = 50, 255
    figure = sequences.film_strip(channels)
    assert [axes.get_title() for axes in figure.axes[:2]] == ["0", "1"]
    assert (figure.axes[1].images[1].get_array()[..., 3] > 0).sum() == 4
