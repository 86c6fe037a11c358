"""Pictures come back as they were written, whatever their channels and bits."""

from __future__ import annotations

import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from t4e_utils.sampling import SamplingError
from t4e_utils.sampling.pictures import (
    Picture,
    choose_channels,
    picture_of,
    read_picture,
    split_channels,
    stack_channels,
    write_picture,
)


def noise(shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("n_channels", [1, 2, 3, 4])
def test_a_picture_comes_back_as_it_was_written(tmp_path, n_channels, dtype):
    channels = noise((7, 9, n_channels), dtype)
    path = write_picture(tmp_path / "new" / "1.png", channels)
    stored = read_picture(path, n_channels=n_channels)
    assert stored.flags.c_contiguous
    assert stored.dtype == dtype
    np.testing.assert_array_equal(stored, channels)


@pytest.mark.parametrize("n_channels", [1, 3, 4])
def test_others_see_the_channels_in_their_order(tmp_path, n_channels):
    channels = noise((7, 9, n_channels))
    with Image.open(write_picture(tmp_path / "1.png", channels)) as opened:
        found = np.asarray(opened).reshape(channels.shape)
    np.testing.assert_array_equal(found, channels)


def test_two_channels_are_stored_with_a_third_of_zeros(tmp_path):
    channels = noise((7, 9, 2))
    path = write_picture(tmp_path / "1.png", channels)
    stored = read_picture(path)
    np.testing.assert_array_equal(stored[..., :2], channels)
    assert not stored[..., 2].any()


def test_an_image_with_two_masks_looks_red_green_and_blue_to_others(tmp_path):
    image, masks = np.full((4, 4), 200, np.uint8), np.zeros((2, 4, 4), bool)
    masks[0, 1], masks[1, 2] = True, True
    with Image.open(write_picture(tmp_path / "1.png", stack_channels(image, masks))) as opened:
        assert opened.getpixel((0, 0)) == (200, 0, 0)
        assert opened.getpixel((0, 1)) == (200, 255, 0)
        assert opened.getpixel((0, 2)) == (200, 0, 255)


@pytest.mark.parametrize("shape", [(7, 9), (3, 7, 9)])
def test_stacked_channels_split_into_image_and_masks(shape):
    image, masks = noise(shape), np.random.default_rng(1).random((2, *shape)) < 0.4
    channels = stack_channels(image, masks)
    assert (channels.shape, channels.dtype) == ((*shape, 3), np.uint8)
    found, found_masks = split_channels(channels)
    np.testing.assert_array_equal(found, image)
    np.testing.assert_array_equal(found_masks, masks)


def test_a_blurred_border_of_a_mask_is_cut_in_the_middle():
    channels = np.array([[[9, 127], [9, 128]]], np.uint8)
    assert split_channels(channels)[1].tolist() == [[[False, True]]]


def test_no_half_written_picture_is_left(tmp_path):
    write_picture(tmp_path / "1.png", np.zeros((4, 4, 3), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["1.png"]


@pytest.mark.parametrize(
    "channels",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.int16),
        np.zeros((4, 4, 3), np.uint32),
        np.zeros((4, 4, 3), bool),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((4, 4, 0), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
    ],
    ids=lambda channels: f"{channels.dtype} {channels.shape}",
)
def test_arrays_that_are_no_picture_are_refused(tmp_path, channels):
    with pytest.raises(SamplingError, match=r"1\.png: a picture is \(H, W, 1 to 4\) uint8 or"):
        write_picture(tmp_path / "1.png", channels)
    assert not list(tmp_path.iterdir())


def test_a_missing_picture_is_named(tmp_path):
    with pytest.raises(SamplingError, match=r"7\.png is not there: run 04_cls"):
        read_picture(tmp_path / "7.png", made_by="04_cls_data")


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "grey", "jpeg", "floats", "claim"])
def test_a_damaged_picture_is_refused_with_the_notebook_that_writes_it_again(tmp_path, damage):
    path = write_picture(tmp_path / "1.png", np.zeros((40, 40, 3), np.uint8))
    colours = np.zeros((4, 4, 3), np.uint8)
    claim = bytearray(path.read_bytes())  # a header of 2^31 - 1 pixels a side, with its checksum
    claim[16:24] = b"\x7f\xff\xff\xff" * 2
    claim[29:33] = zlib.crc32(claim[12:29]).to_bytes(4, "big")
    contents = {
        "empty": b"",
        "cut": path.read_bytes()[:-30],
        "text": b"no image",
        "grey": cv2.imencode(".png", colours[..., 0])[1].tobytes(),
        "jpeg": cv2.imencode(".jpg", colours)[1].tobytes(),
        "floats": cv2.imencode(".tiff", colours.astype(np.float32))[1].tobytes(),
        "claim": bytes(claim),
    }
    path.write_bytes(contents[damage])
    with pytest.raises(
        SamplingError,
        match=r"1\.png is damaged or no PNG of 3 channels: delete it and run 04_cls_data again, it "
        "writes what is missing",
    ):
        read_picture(path, made_by="04_cls_data")


def test_a_folder_in_the_place_of_a_picture_is_named(tmp_path):
    with pytest.raises(SamplingError, match=r"cannot be read .*delete it and run the notebook"):
        read_picture(tmp_path)


@pytest.mark.parametrize("place", range(9, 500, 61))
def test_a_picture_with_a_wrong_bit_is_refused_and_never_another_picture(tmp_path, place):
    path = write_picture(tmp_path / "1.png", noise((16, 16, 3)))
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(SamplingError, match="is damaged"):
        read_picture(path)


@pytest.mark.parametrize(("stored", "wanted"), [(1, 2), (1, 3), (2, 1), (2, 4), (3, 4), (4, 3)])
def test_another_number_of_channels_is_refused(tmp_path, stored, wanted):
    path = write_picture(tmp_path / "1.png", np.zeros((4, 4, stored), np.uint8))
    with pytest.raises(SamplingError, match=f"no PNG of {wanted} channels"):
        read_picture(path, n_channels=wanted)


def test_a_picture_knows_image_masks_and_regions():
    masks = np.random.default_rng(1).random((2, 7, 9)) < 0.4
    picture = Picture(stack_channels(noise((7, 9)), masks), ("image", "whole", "core"))
    np.testing.assert_array_equal(picture.image, noise((7, 9)))
    np.testing.assert_array_equal(picture.masks, masks)
    assert picture.regions == ("whole", "core")
    assert (picture.spacing_mm, picture.plane, picture.title) == ((1.0, 1.0), None, "")


def test_a_picture_of_one_channel_has_no_masks():
    picture = Picture(noise((7, 9, 1)), ("image",))
    assert (picture.masks.shape, picture.regions) == ((0, 7, 9), ())


def test_the_picture_of_a_row_has_its_spacing_plane_and_title(tmp_path):
    channels = noise((7, 9, 2))
    write_picture(tmp_path / "a" / "1.png", channels)
    row = {"path": "a/1.png", "row_mm": 2.0, "column_mm": 0.5, "plane": "coronal"}
    picture = picture_of(row, tmp_path, names=["image", "whole"], title="first")
    np.testing.assert_array_equal(picture.channels, channels)
    assert picture.names == ("image", "whole")
    assert (picture.spacing_mm, picture.plane, picture.title) == ((2.0, 0.5), "coronal", "first")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_chosen_channels_may_repeat_and_a_negative_number_is_zeros(dtype):
    pictures = noise((5, 7, 9, 3), dtype)
    assert choose_channels(pictures, (0, 1, 2)) is pictures
    for chosen in [(0, 0, 0), (-1, 1, 2), (2, -1), (0,)]:
        found = choose_channels(pictures, chosen)
        assert (found.shape, found.dtype) == ((5, 7, 9, len(chosen)), dtype)
        for place, source in enumerate(chosen):
            expected = pictures[..., source] if source >= 0 else 0 * pictures[..., 0]
            np.testing.assert_array_equal(found[..., place], expected)
