"""From a series folder to a sequence.

What is kept, what is done when nothing is, on what series agree, and that no series ends the run.
"""

import os
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.small_heads import RULE, SHAPE, Counting, head, preparer, stand_in
from helpers.stand_ins import disc, precisions_of

from t4e_utils.competitions.brain_tumor.sequences import write_sequences
from t4e_utils.prediction import PredictionError
from t4e_utils.prediction.streaming import for_each
from t4e_utils.sampling.chunks import chunk_table
from t4e_utils.sampling.pictures import read_picture
from t4e_utils.scans.dicom_writing import write_dicom_series
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.problems import Problem, VolumeError
from t4e_utils.scans.volume import Volume


def prepared(volume, *, segmenter=None, rule=RULE):
    image = (volume.array / volume.array.max() * 255).round().astype(np.uint8)
    return preparer(rule, segmenter).prepare_series(volume, image)


def as_read(volume):
    return volume, (volume.array / 1000 * 255).round().astype(np.uint8)


def write(series, root, segmenter=None, *, rule=RULE, folder="slices", **options):
    """Write sequences below `root/folder`."""
    options = {"provenance": {"segmenter": "a"}, **options}
    return write_sequences(series, preparer(rule, segmenter), root / folder, root=root, **options)


def test_slices_with_enough_tumour_are_kept_and_pictured():
    found = prepared(head((5, 6, 7)))
    assert found.kept.tolist() == [5, 6, 7]
    assert found.fallback == ""
    assert found.pictures.shape == (3, 40, 36, 3)
    assert found.pictures[1, 20, 8].tolist() == [255, 255, 255]
    assert found.pictures[1, 30, 25].tolist() == [round(300 / 1000 * 255), 0, 0]


def test_the_kept_slices_are_drawn_with_their_numbers():
    found = prepared(head((5, 6, 7)))
    drawn = found.drawn()
    assert [picture.title for picture in drawn] == ["slice 5", "slice 6", "slice 7"]
    assert {(picture.plane, picture.spacing_mm) for picture in drawn} == {("axial", (1.0, 1.0))}
    assert drawn[0].regions == ("WT", "ET")
    np.testing.assert_array_equal([picture.channels for picture in drawn], found.pictures)


def test_too_little_tumour_and_too_many_pieces_are_filtered_then_the_fallback_says_so():
    small = prepared(head((5, 6), radius=1))
    assert small.fallback == "largest tumour"
    assert small.kept.tolist() == [5, 6]
    pieces = prepared(head((5,), radius=2, n_discs=6))
    assert pieces.measures["n_components"].max() == 6
    assert pieces.fallback == "largest tumour"


def test_without_any_predicted_tumour_the_central_slices_are_kept():
    found = prepared(head())
    assert found.fallback == "central slices"
    assert found.kept.tolist() == [5, 6, 7, 8, 9, 10]


def test_blank_slices_are_not_segmented():
    volume = head((5,))
    volume.array[1, :2, :5] = 1000
    assert prepared(volume).measures["wt_area"].tolist()[1] == 0


def test_a_coarse_pass_leads_to_the_same_slices_with_fewer_passes():
    exact, coarse = stand_in(Counting), stand_in(Counting)
    volume = head((6, 7, 8, 9), slice_mm=1.0)
    every, some = (
        prepared(volume, segmenter=exact),
        prepared(volume, segmenter=coarse, rule=replace(RULE, segmentation_stride=4)),
    )
    assert exact.n_slices == 12  # 2 to 13
    # 2, 6, 10, 13, then 3 to 5 and 7 to 9 around slice 6, which shows tumour
    assert coarse.n_slices == 10
    np.testing.assert_array_equal(some.pictures, every.pictures)
    assert some.measures["is_kept"].tolist() == every.measures["is_kept"].tolist()


@pytest.mark.parametrize("tumour", [(4,), ()])
def test_a_coarse_pass_that_finds_nothing_is_followed_by_the_exact_one(tumour):
    every, some = (
        prepared(head(tumour, slice_mm=1.0), rule=replace(RULE, segmentation_stride=stride))
        for stride in (1, 5)
    )
    assert some.kept.tolist() == every.kept.tolist()
    assert some.fallback == every.fallback


def test_slices_of_a_coarse_pass_are_not_far_apart():
    passes = []
    for slice_mm in (1.0, 2.0, 4.0):
        segmenter = stand_in(Counting)
        prepared(
            head((6,), slice_mm=slice_mm),
            segmenter=segmenter,
            rule=replace(RULE, segmentation_stride=4),
        )
        passes.append(segmenter.n_slices)
    assert passes == [10, 9, 12]  # every 4th, every 2nd, every slice; and what is around slice 6


def test_a_series_of_blank_slices_only_is_not_segmented():
    volume = Volume(
        np.eye(40, 36, dtype=np.uint16)[None].repeat(5, 0),
        (4.0, 1.0, 1.0),
        display_affine("axial", (4.0, 1.0, 1.0)),
    )
    segmenter = stand_in(Counting)
    assert (
        prepared(volume, segmenter=segmenter, rule=replace(RULE, segmentation_stride=2)).fallback
        == "central slices"
    )
    assert segmenter.n_slices == 0


VOTES = replace(RULE, series_weights={"WT": {"FLAIR": 3, "T2w": 1}})


def test_series_that_vote_share_one_whole_tumour_whatever_each_would_draw():
    moved = head((9, 10))  # sees something else where FLAIR sees nothing
    read = {"FLAIR": as_read(head((5, 6, 7))), "T1w": as_read(head()), "T2w": as_read(moved)}
    alone = {name: preparer().prepare_series(*own) for name, own in read.items()}
    # three votes of four times 0.7 is above 0.5
    sure = preparer(replace(RULE, mask_threshold=0.7)).prepare_series(*read["FLAIR"])
    together = preparer(VOTES).prepare_patient(read)
    assert list(together) == ["FLAIR", "T1w", "T2w"]
    assert [alone[name].fallback for name in read] == ["", "central slices", ""]
    for name, found in together.items():
        assert found.kept.tolist() == [5, 6, 7], name
        assert found.fallback == ""
        inside = found.pictures[..., 0] > 0
        assert (np.where(inside, sure.pictures[..., 1], 0) <= found.pictures[..., 1]).all()
        assert (found.pictures[..., 1] <= alone["FLAIR"].pictures[..., 1]).all()
        np.testing.assert_array_equal(found.pictures[..., 0], read[name][1][5:8])
        # nobody has a say in it
        np.testing.assert_array_equal(found.measures["et_area"], alone[name].measures["et_area"])


def test_a_series_without_a_say_is_not_segmented_and_a_missing_one_leaves_the_others_to_vote():
    counting = stand_in(Counting)
    rule = replace(RULE, series_weights={"WT": {"FLAIR": 3, "T2w": 1}, "ET": {"FLAIR": 1}})
    flair, native = as_read(head((5, 6, 7))), as_read(head((9,)))
    together = preparer(rule, counting).prepare_patient({"FLAIR": flair, "T1w": native})
    assert counting.n_slices == 12  # slices 2 to 13 of FLAIR
    assert together["T1w"].kept.tolist() == [5, 6, 7]
    only = preparer(rule).prepare_patient({"T1w": native})["T1w"]
    assert only.kept.tolist() == preparer().prepare_series(*native).kept.tolist() == [9]


def test_a_series_that_lies_nobody_knows_where_draws_its_own_mask_and_has_no_say():
    flair, other = as_read(head((5, 6, 7))), as_read(head((9, 10)))
    meta = {"problems": [Problem("no_positions", "", "sorted by number")]}
    guessed = replace(flair[0], meta=meta), flair[1]
    found = preparer(VOTES).prepare_patient({"FLAIR": guessed, "T2w": other})
    assert [found[name].kept.tolist() for name in ("FLAIR", "T2w")] == [[5, 6, 7], [9, 10]]
    assert found["FLAIR"].problems == meta["problems"]
    jpeg = preparer(replace(VOTES, source="jpg"))
    pictures = jpeg.prepare_patient({"FLAIR": flair, "T2w": other})
    assert [pictures[name].kept.tolist() for name in ("FLAIR", "T2w")] == [[5, 6, 7], [9, 10]]


def test_a_mask_of_other_series_ends_at_the_outline_of_what_this_one_shows():
    wide, cut = as_read(head((5, 6, 7))), as_read(head())
    cut[1][:, :20] = 0
    found = preparer(VOTES).prepare_patient({"FLAIR": wide, "T1w": cut})["T1w"]
    assert found.pictures[..., 1].any()
    assert not found.pictures[found.pictures[..., 0] == 0][:, 1].any()


def test_a_mask_of_series_that_vote_has_no_holes_where_dark_necrosis_is_black():
    flair, enhanced = as_read(head((5, 6, 7))), as_read(head())
    necrosis = disc(SHAPE[1:], (20, 8), 3)
    enhanced[1][5:8, necrosis] = 0
    intact, found = (
        preparer(VOTES).prepare_patient({"FLAIR": flair, "T1wCE": each})["T1wCE"]
        for each in (as_read(head()), enhanced)
    )
    assert not found.pictures[:, necrosis, 0].any()
    assert found.pictures[:, necrosis, 1].all()
    np.testing.assert_array_equal(found.pictures[..., 1], intact.pictures[..., 1])


def test_a_series_of_blank_slices_only_votes_for_nothing_and_shows_nothing():
    blank = head()
    blank.array[:] = 0
    blank.array[:, 0, 0] = 1000
    found = preparer(VOTES).prepare_patient(
        {"FLAIR": as_read(head((5, 6, 7))), "T2w": as_read(blank)}
    )
    assert found["FLAIR"].kept.tolist() == [5, 6, 7]
    assert found["T2w"].fallback == "central slices"
    assert not found["T2w"].pictures[..., 1:].any()


def test_the_fallback_keeps_the_largest_piece_of_tumour_and_not_stray_ones():
    volume = head((4, 5, 6), radius=2)
    volume.array[11, disc(SHAPE[1:], (20, 12), 1)] = 1000
    found = prepared(volume, rule=replace(RULE, min_tumour_share=0.5))
    assert found.measures["wt_area"].to_numpy().nonzero()[0].tolist() == [4, 5, 6, 11]
    assert (found.fallback, found.kept.tolist()) == ("largest tumour", [4, 5, 6])


@pytest.mark.parametrize(
    ("weights", "stride", "words"),
    [
        ({"whole": {"FLAIR": 1}}, 1, "for WT and ET"),
        ({"WT": {"FLAIR": 0}}, 1, "weights above 0"),
        ({"WT": {"FLAIR": "3"}}, 1, "weights above 0"),
        ({"WT": 3}, 1, "weights above 0"),
        ({"WT": {"FLAIR": 1}}, 5, "segmentation_stride is 5"),
    ],
)
def test_weights_that_cannot_be_meant_are_refused(weights, stride, words):
    with pytest.raises(PredictionError, match=words):
        replace(RULE, series_weights=weights, segmentation_stride=stride)


def test_a_misspelt_series_among_the_weights_is_refused(series, tmp_path):
    rule = replace(RULE, series_weights={"WT": {"FLAYR": 3, "T2w": 1}})
    with pytest.raises(
        PredictionError, match="series_weights names FLAYR, but the series here are FLAIR, T2w"
    ):
        write(series, tmp_path, rule=rule)


def test_series_that_vote_are_prepared_patient_by_patient_however_the_table_is_sorted(
    series, tmp_path
):
    mixed = series.iloc[[0, 2, 1, 3]]
    table, problems = write(mixed, tmp_path, rule=VOTES)
    found = table[["patient_id", "series"]].drop_duplicates().to_numpy().tolist()
    assert found == [["00002", "FLAIR"], ["00002", "T2w"], ["00011", "FLAIR"]]
    assert [problem.path for problem in problems] == [series["path"][3]]


def test_where_series_vote_a_change_of_one_prepares_its_patient_again(series, tmp_path):
    readable = series[series["patient_id"] == "00002"]
    other = tmp_path / "train" / "00003"
    shutil.copytree(tmp_path / "train" / "00002", other)
    table = pd.concat(
        [
            readable,
            readable.assign(
                patient_id="00003", path=[str(other / name) for name in readable["series"]]
            ),
        ],
        ignore_index=True,
    )
    first, again, changed = (stand_in(Counting) for _ in range(3))
    found, _ = write(table, tmp_path, first, rule=VOTES)
    same, _ = write(table, tmp_path, again, rule=VOTES)
    assert (first.n_slices, again.n_slices) == (4 * 12, 0)
    pd.testing.assert_frame_equal(found, same)
    os.utime(next((other / "T2w").iterdir()), (1, 1))
    write(table, tmp_path, changed, rule=VOTES)
    assert changed.n_slices == 2 * 12


def test_a_series_without_contrast_is_a_problem_not_a_sequence(tmp_path):
    write_dicom_series(
        Volume(np.full(SHAPE, 7, np.uint16), (4, 1, 1), display_affine("axial", (4.0, 1.0, 1.0))),
        tmp_path / "s",
        patient_id="00001",
        series_description="FLAIR",
    )
    with pytest.raises(VolumeError, match="the same value everywhere") as caught:
        preparer().read(tmp_path / "s")
    assert caught.value.code == "blank"


def test_all_series_come_in_order_and_an_unreadable_one_is_a_problem(series):
    def work(rows, read):
        return [
            (pd.DataFrame({"path": [row.path], "n": len(own[1])}), [])
            for row, own in zip(rows, read, strict=True)
        ]

    for rule in (RULE, VOTES):
        each = preparer(rule)
        found, problems = for_each(series, each.read, work, walk=each.walk)
        assert found["path"].tolist() == series["path"].tolist()[:3]
        assert [problem.code for problem in problems] == ["no_pixels"]


def test_written_sequences_read_back_as_they_were(series, tmp_path):
    table, problems = write(series, tmp_path)
    assert [problem.code for problem in problems] == ["no_pixels"]
    kept = table[table["is_kept"]]
    assert kept.groupby(["patient_id", "series"]).size().to_dict() == {
        ("00002", "FLAIR"): 3,
        ("00002", "T2w"): 3,
        ("00011", "FLAIR"): 2,
    }
    again = preparer().prepare_series(*preparer().read(series["path"][0]))
    own = kept[(kept["patient_id"] == "00002") & (kept["series"] == "FLAIR")]
    stored = [read_picture(tmp_path / path) for path in own["path"]]
    np.testing.assert_array_equal(stored, again.pictures)
    assert table.loc[~table["is_kept"], "path"].eq("").all()
    assert kept["plane"].eq("axial").all()
    facts = own[["position", "height", "width", "row_mm", "column_mm", "n_slices", "fallback"]]
    assert facts.to_numpy().tolist() == [[k, 40, 36, 1.0, 1.0, 16, ""] for k in range(3)]


def test_series_are_windowed_as_the_recipe_of_the_segmenter_says(series):
    path = series["path"][0]
    images = [
        preparer(segmenter=stand_in(percentiles=window)).read(path)[1]
        for window in ((0, 100), (0.5, 99.5))
    ]
    # 300 of 0 to 1000, and the lowest of what is not 0
    assert [image[3, 20, 18] for image in images] == [round(0.3 * 255), 0]


@pytest.mark.parametrize("rule", [RULE, VOTES], ids=["alone", "votes"])
def test_slices_are_segmented_in_the_precision_of_the_recipe(series, tmp_path, rule):
    segmenter = stand_in(precision="bf16")
    found = precisions_of(segmenter)
    write(series.head(2), tmp_path, segmenter, rule=rule)
    assert found == {torch.bfloat16}


class BreaksDown(Counting):
    """Segments so many slices, then fails."""

    def __init__(self, n_slices, **recipe):
        super().__init__(**recipe)
        self.limit = n_slices

    def forward(self, images):
        if self.n_slices + len(images) > self.limit:
            raise KeyboardInterrupt
        return super().forward(images)


def test_interrupted_work_goes_on_with_the_series_that_are_missing(series, tmp_path):
    whole, rest = stand_in(Counting), stand_in(Counting)
    undisturbed, problems = write(series, tmp_path, whole, folder="undisturbed")
    n_first = len(preparer().read(series["path"][0])[1][2:14])
    with pytest.raises(KeyboardInterrupt):
        write(series, tmp_path, stand_in(BreaksDown, n_first))
    table, again = write(series, tmp_path, rest)
    assert rest.n_slices == whole.n_slices - n_first
    paths = undisturbed["path"].str.replace("undisturbed", "slices", n=1)
    pd.testing.assert_frame_equal(table, undisturbed.assign(path=paths))
    assert again == problems  # a series with problems says them again
    for path in undisturbed.loc[undisturbed["is_kept"], "path"]:
        other = tmp_path / path.replace("undisturbed", "slices", 1)
        assert other.read_bytes() == (tmp_path / path).read_bytes()


@pytest.mark.parametrize(
    "changed", ["another segmenter", "another rule", "another file", "everything anew", "nothing"]
)
def test_what_decides_about_slices_prepares_them_again(series, tmp_path, changed):
    first, second = stand_in(Counting), stand_in(Counting)
    copied = shutil.copytree(series["path"][0], tmp_path / "copy")
    own = series.head(1).assign(path=str(copied))
    write(own, tmp_path, first)
    if changed == "another file":
        os.utime(next(copied.iterdir()), (1, 1))
    write(
        own,
        tmp_path,
        second,
        rule=replace(RULE, mask_threshold=0.6) if changed == "another rule" else RULE,
        provenance={"segmenter": "b" if changed == "another segmenter" else "a"},
        overwrite=changed == "everything anew",
    )
    assert first.n_slices == 12
    assert second.n_slices == (0 if changed == "nothing" else 12)


def test_when_no_series_can_be_read_the_first_reason_is_given(series, tmp_path):
    with pytest.raises(PredictionError, match="None of 1 series could be read"):
        write(series.tail(1), tmp_path)


def test_chunks_follow_the_kept_slices():
    slices = pd.DataFrame(
        {"patient_id": ["00001"] * 9, "series": ["T1w"] * 9, "is_kept": [True] * 8 + [False]}
    )
    table = chunk_table(slices, length=6, stride=2)
    assert table[["chunk", "start", "stop"]].to_numpy().tolist() == [[0, 0, 6], [1, 2, 8]]
    assert chunk_table(slices[~slices["is_kept"]], length=6, stride=2).empty
