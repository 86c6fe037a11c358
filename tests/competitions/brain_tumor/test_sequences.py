"""From a series folder to a sequence and a probability.

What is kept, what is done when nothing is, and that no series ends the run.
"""

import os
import shutil
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.stand_ins import BrightIsTumour, disc

from t4e_utils.competitions.brain_tumor.classifier import predict_held_out
from t4e_utils.competitions.brain_tumor.prediction import (
    PREDICTION_COLUMNS,
    predict_all,
    time_sentence,
    time_stages,
)
from t4e_utils.competitions.brain_tumor.sequences import (
    SequenceError,
    SeriesRule,
    prepare_all,
    prepare_patient,
    prepare_series,
    read_for_segmentation,
    write_sequences,
)
from t4e_utils.learning.networks import build_classifier
from t4e_utils.sampling.chunks import chunk_table
from t4e_utils.sampling.pictures import read_slice
from t4e_utils.scans.dicom_writing import write_dicom_series
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.problems import Problem
from t4e_utils.scans.volume import Volume
from t4e_utils.tables.catalog import CatalogError

RULE = SeriesRule(
    percentiles=(0, 100),
    segmenter_size=64,
    segmentation_zoom=1.0,
    sequence_length=6,
    chunk_stride=2,
)
SHAPE = (16, 40, 36)


def head(tumour_slices=(), *, radius=6, n_discs=1, brightness=1000, slice_mm=4.0):
    """A brain of grey 300 in slices 2 to 14, with bright discs in some of them.

    Slice 0 holds the brightest pixel.
    """
    array = np.zeros(SHAPE, np.uint16)
    array[2:14, disc(SHAPE[1:], (20, 18), 15)] = 300
    array[0, 0, 0] = 1000
    for index in tumour_slices:
        for k in range(n_discs):
            array[
                index,
                disc(
                    SHAPE[1:], (20 - 8 * (n_discs > 1) + 4 * (k // 3) * 2, 8 + 8 * (k % 3)), radius
                ),
            ] = brightness
    return Volume(array, (slice_mm, 1.0, 1.0), display_affine("axial", (slice_mm, 1.0, 1.0)))


class Counting(BrightIsTumour):
    """Counts the slices that it segments."""

    n_slices = 0

    def forward(self, images):
        self.n_slices += len(images)
        return super().forward(images)


def prepared(volume, *, segmenter=None, rule=RULE):
    top = volume.array.max()
    return prepare_series(
        volume,
        (volume.array / top * 255).round().astype(np.uint8),
        segmenter or BrightIsTumour().eval(),
        rule,
    )


@pytest.fixture
def series(tmp_path):
    """Two patients with two series each; one of the series holds no image."""
    rows = []
    for patient, tumour in (("00002", (5, 6, 7)), ("00011", (8, 9))):
        for name in ("FLAIR", "T2w"):
            folder = tmp_path / "train" / patient / name
            write_dicom_series(head(tumour), folder, patient_id=patient, series_description=name)
            rows.append({"patient_id": patient, "series": name, "path": str(folder)})
    for file in (tmp_path / "train" / "00011" / "T2w").iterdir():
        file.write_bytes(b"no image at all")
    return pd.DataFrame(rows)


def test_slices_with_enough_tumour_are_kept_and_pictured():
    found = prepared(head((5, 6, 7)))
    assert found.kept.tolist() == [5, 6, 7]
    assert found.fallback == ""
    assert found.pictures.shape == (3, 40, 36, 3)
    assert found.pictures[1, 20, 8].tolist() == [255, 255, 255]
    assert found.pictures[1, 30, 25].tolist() == [round(300 / 1000 * 255), 0, 0]


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
    exact, coarse = Counting().eval(), Counting().eval()
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
        segmenter = Counting().eval()
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
    segmenter = Counting().eval()
    assert (
        prepared(volume, segmenter=segmenter, rule=replace(RULE, segmentation_stride=2)).fallback
        == "central slices"
    )
    assert segmenter.n_slices == 0


def test_the_expected_finish_is_compared_with_the_limit(series, capsys):
    assert "that is 0.50 of 9 hours, within the limit" in time_sentence(60, 3, 90, limit_hours=9)
    assert "that is 10.00 of 9 hours, too long: take a larger segmentation_stride" in time_sentence(
        360, 3, 300, limit_hours=9
    )
    classifiers = {
        "FLAIR": [build_classifier("test_nfnet", lstm_hidden=8, sequence_length=6).eval()]
    }
    many = pd.concat([series.head(1).assign(patient_id=f"{k:05d}") for k in range(5)])
    predict_all(many, BrightIsTumour().eval(), classifiers, RULE, size=32, limit_hours=9)
    assert capsys.readouterr().out.count("3 of 5 patients in") == 1


VOTES = replace(RULE, series_weights={"WT": {"FLAIR": 3, "T2w": 1}})


def as_read(volume):
    return volume, (volume.array / 1000 * 255).round().astype(np.uint8)


def test_series_that_vote_share_one_whole_tumour_whatever_each_would_draw():
    moved = head((9, 10))  # sees something else where FLAIR sees nothing
    read = {"FLAIR": as_read(head((5, 6, 7))), "T1w": as_read(head()), "T2w": as_read(moved)}
    alone = {
        name: prepare_series(*each, BrightIsTumour().eval(), RULE) for name, each in read.items()
    }
    # three votes of four times 0.7 is above 0.5
    sure = prepare_series(
        *read["FLAIR"], BrightIsTumour().eval(), replace(RULE, mask_threshold=0.7)
    )
    together = prepare_patient(read, BrightIsTumour().eval(), VOTES)
    assert list(together) == ["FLAIR", "T1w", "T2w"]
    assert [alone[name].fallback for name in read] == ["", "central slices", ""]
    for name, found in together.items():
        assert found.kept.tolist() == [5, 6, 7], name
        assert found.fallback == ""
        assert (
            np.where(found.pictures[..., 0] > 0, sure.pictures[..., 1], 0) <= found.pictures[..., 1]
        ).all()
        assert (found.pictures[..., 1] <= alone["FLAIR"].pictures[..., 1]).all()
        np.testing.assert_array_equal(found.pictures[..., 0], read[name][1][5:8])
        # nobody has a say in it
        np.testing.assert_array_equal(found.measures["et_area"], alone[name].measures["et_area"])


def test_a_series_without_a_say_is_not_segmented_and_a_missing_one_leaves_the_others_to_vote():
    counting, rule = (
        Counting().eval(),
        replace(RULE, series_weights={"WT": {"FLAIR": 3, "T2w": 1}, "ET": {"FLAIR": 1}}),
    )
    flair, native = as_read(head((5, 6, 7))), as_read(head((9,)))
    together = prepare_patient({"FLAIR": flair, "T1w": native}, counting, rule)
    assert counting.n_slices == 12  # slices 2 to 13 of FLAIR
    assert together["T1w"].kept.tolist() == [5, 6, 7]
    only = prepare_patient({"T1w": native}, counting, rule)["T1w"]
    assert only.kept.tolist() == prepare_series(*native, counting, RULE).kept.tolist() == [9]


def test_a_series_that_lies_nobody_knows_where_draws_its_own_mask_and_has_no_say():
    flair, other = as_read(head((5, 6, 7))), as_read(head((9, 10)))
    guessed = (
        replace(flair[0], meta={"problems": [Problem("no_positions", "", "sorted by number")]}),
        flair[1],
    )
    found = prepare_patient({"FLAIR": guessed, "T2w": other}, BrightIsTumour().eval(), VOTES)
    assert [found[name].kept.tolist() for name in ("FLAIR", "T2w")] == [[5, 6, 7], [9, 10]]
    pictures = prepare_patient(
        {"FLAIR": flair, "T2w": other}, BrightIsTumour().eval(), replace(VOTES, source="jpg")
    )
    assert [pictures[name].kept.tolist() for name in ("FLAIR", "T2w")] == [[5, 6, 7], [9, 10]]


def test_a_mask_of_other_series_ends_where_this_one_shows_nothing():
    wide, cut = as_read(head((5, 6, 7))), as_read(head())
    cut[1][:, :20] = 0
    found = prepare_patient({"FLAIR": wide, "T1w": cut}, BrightIsTumour().eval(), VOTES)["T1w"]
    assert found.pictures[..., 1].any()
    assert not found.pictures[found.pictures[..., 0] == 0][:, 1].any()


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
    with pytest.raises(SequenceError, match=words):
        replace(RULE, series_weights=weights, segmentation_stride=stride)


def test_a_misspelt_series_among_the_weights_is_refused(series, tmp_path):
    with pytest.raises(
        SequenceError, match="series_weights names FLAYR, but the series here are FLAIR, T2w"
    ):
        write_sequences(
            series,
            BrightIsTumour().eval(),
            replace(RULE, series_weights={"WT": {"FLAYR": 3, "T2w": 1}}),
            tmp_path / "slices",
            root=tmp_path,
        )


def test_series_that_vote_are_prepared_patient_by_patient_however_the_table_is_sorted(series):
    mixed = series.iloc[[0, 2, 1, 3]]
    found = [
        (row.patient_id, row.series, isinstance(result, Problem))
        for row, result in prepare_all(mixed, BrightIsTumour().eval(), VOTES)
    ]
    assert found == [
        ("00002", "FLAIR", False),
        ("00002", "T2w", False),
        ("00011", "FLAIR", False),
        ("00011", "T2w", True),
    ]


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
    first, again, changed = Counting().eval(), Counting().eval(), Counting().eval()
    found, _ = write_sequences(table, first, VOTES, tmp_path / "slices", root=tmp_path)
    same, _ = write_sequences(table, again, VOTES, tmp_path / "slices", root=tmp_path)
    assert (first.n_slices, again.n_slices) == (4 * 12, 0)
    pd.testing.assert_frame_equal(found, same)
    os.utime(next((other / "T2w").iterdir()), (1, 1))
    write_sequences(table, changed, VOTES, tmp_path / "slices", root=tmp_path)
    assert changed.n_slices == 2 * 12


def test_a_series_with_a_say_is_read_although_it_has_no_classifier(series):
    classifiers = {"T2w": [build_classifier("test_nfnet", lstm_hidden=8, sequence_length=6).eval()]}
    first = series[series["patient_id"] == "00002"]
    counting = Counting().eval()
    predictions, problems = predict_all(first, counting, classifiers, VOTES, size=32)
    assert (predictions["series"].tolist(), problems, counting.n_slices) == (["T2w"], [], 2 * 12)
    assert time_stages(first, counting, classifiers, VOTES, size=32)["classify"] > 0


def test_a_series_without_contrast_is_a_problem_not_a_sequence(tmp_path):
    write_dicom_series(
        Volume(np.full(SHAPE, 7, np.uint16), (4, 1, 1), display_affine("axial", (4.0, 1.0, 1.0))),
        tmp_path / "s",
        patient_id="00001",
        series_description="FLAIR",
    )
    table = pd.DataFrame(
        {"patient_id": ["00001"], "series": ["FLAIR"], "path": [str(tmp_path / "s")]}
    )
    ((_, found),) = prepare_all(table, BrightIsTumour().eval(), RULE)
    assert isinstance(found, Problem)
    assert found.code == "blank"


def test_all_series_come_in_order_and_an_unreadable_one_is_a_problem(series):
    found = list(prepare_all(series, BrightIsTumour().eval(), RULE))
    assert [(row.patient_id, row.series) for row, _ in found] == list(
        zip(series["patient_id"], series["series"], strict=True)
    )
    assert [isinstance(result, Problem) for _, result in found] == [False, False, False, True]


def test_written_sequences_read_back_as_they_were(series, tmp_path):
    table, problems = write_sequences(
        series, BrightIsTumour().eval(), RULE, tmp_path / "cls" / "slices", root=tmp_path
    )
    assert [problem.code for problem in problems] == ["no_pixels"]
    kept = table[table["is_kept"]]
    assert kept.groupby(["patient_id", "series"]).size().to_dict() == {
        ("00002", "FLAIR"): 3,
        ("00002", "T2w"): 3,
        ("00011", "FLAIR"): 2,
    }
    volume, image = read_for_segmentation(series["path"][0], RULE)
    again = prepare_series(volume, image, BrightIsTumour().eval(), RULE)
    stored = [
        read_slice(tmp_path / path)
        for path in kept[(kept["patient_id"] == "00002") & (kept["series"] == "FLAIR")]["path"]
    ]
    np.testing.assert_array_equal(stored, again.pictures)
    assert table.loc[~table["is_kept"], "path"].eq("").all()
    assert kept["plane"].eq("axial").all()


class BreaksDown(Counting):
    """Segments so many slices, then fails."""

    def __init__(self, n_slices):
        super().__init__()
        self.limit = n_slices

    def forward(self, images):
        if self.n_slices + len(images) > self.limit:
            raise KeyboardInterrupt
        return super().forward(images)


def test_interrupted_work_goes_on_with_the_series_that_are_missing(series, tmp_path):
    options = {"root": tmp_path, "provenance": {"segmenter": "a"}}
    whole = Counting().eval()
    undisturbed, problems = write_sequences(
        series, whole, RULE, tmp_path / "undisturbed", root=tmp_path, provenance={"segmenter": "a"}
    )
    n_first = len(read_for_segmentation(series["path"][0], RULE)[1][2:14])
    with pytest.raises(KeyboardInterrupt):
        write_sequences(series, BreaksDown(n_first).eval(), RULE, tmp_path / "slices", **options)
    rest = Counting().eval()
    table, again = write_sequences(series, rest, RULE, tmp_path / "slices", **options)
    assert rest.n_slices == whole.n_slices - n_first
    pd.testing.assert_frame_equal(
        table,
        undisturbed.assign(path=undisturbed["path"].str.replace("undisturbed", "slices", n=1)),
    )
    assert again == problems  # a series with problems says them again
    for path in undisturbed.loc[undisturbed["is_kept"], "path"]:
        assert (tmp_path / path.replace("undisturbed", "slices", 1)).read_bytes() == (
            tmp_path / path
        ).read_bytes()


@pytest.mark.parametrize(
    "changed", ["another segmenter", "another rule", "another file", "everything anew"]
)
def test_what_decides_about_slices_prepares_them_again(series, tmp_path, changed):
    own, first = series.head(1), Counting().eval()
    write_sequences(own, first, RULE, tmp_path, root=tmp_path, provenance={"segmenter": "a"})
    if changed == "another file":
        copied = shutil.copytree(own["path"][0], tmp_path / "copy")
        write_sequences(
            own.assign(path=str(copied)),
            Counting().eval(),
            RULE,
            tmp_path,
            root=tmp_path,
            provenance={"segmenter": "a"},
        )
        os.utime(next(copied.iterdir()), (1, 1))
        own = own.assign(path=str(copied))
    provenance = {"segmenter": "b" if changed == "another segmenter" else "a"}
    second = Counting().eval()
    rule = replace(RULE, mask_threshold=0.6) if changed == "another rule" else RULE
    write_sequences(
        own,
        second,
        rule,
        tmp_path,
        root=tmp_path,
        provenance=provenance,
        overwrite=changed == "everything anew",
    )
    assert second.n_slices == first.n_slices > 0


def test_when_no_series_can_be_read_the_first_reason_is_given(series, tmp_path):
    with pytest.raises(CatalogError, match="None of 1 series could be read"):
        write_sequences(
            series.tail(1), BrightIsTumour().eval(), RULE, tmp_path / "out", root=tmp_path
        )


def test_chunks_follow_the_kept_slices():
    slices = pd.DataFrame(
        {"patient_id": ["00001"] * 9, "series": ["T1w"] * 9, "is_kept": [True] * 8 + [False]}
    )
    table = chunk_table(slices, length=6, stride=2)
    assert table[["chunk", "start", "stop"]].to_numpy().tolist() == [[0, 0, 6], [1, 2, 8]]
    assert chunk_table(slices[~slices["is_kept"]], length=6, stride=2).empty


def test_scans_and_their_stored_slices_are_predicted_alike(series, tmp_path):
    torch.manual_seed(0)
    classifier = build_classifier("test_nfnet", lstm_hidden=8, sequence_length=6).eval()
    readable = series.head(3)
    table, _ = write_sequences(
        readable, BrightIsTumour().eval(), RULE, tmp_path / "slices", root=tmp_path
    )
    flair = table[table["is_kept"] & (table["series"] == "FLAIR")]
    stored = predict_held_out(
        classifier,
        flair,
        ["00002", "00011", "00404"],
        root=tmp_path,
        size=32,
        views=("identity",),
        length=6,
        stride=2,
    )
    direct, problems = predict_all(
        readable,
        BrightIsTumour().eval(),
        {"FLAIR": [classifier]},
        RULE,
        size=32,
        views=("identity",),
    )
    assert direct["patient_id"].tolist() == ["00002", "00011"]
    np.testing.assert_allclose(
        stored.groupby("patient_id")["probability"].mean(), direct["probability"], atol=1e-6
    )
    assert tuple(direct.columns) == PREDICTION_COLUMNS
    assert problems == []


def test_only_series_that_have_a_classifier_are_read(series):
    predictions, problems = predict_all(series, BrightIsTumour().eval(), {}, RULE, size=32)
    assert predictions.empty
    assert problems == []


def test_predictions_do_not_depend_on_batch_size_workers_or_the_order_of_patients(series):
    torch.manual_seed(0)
    classifiers = {
        "FLAIR": [build_classifier("test_nfnet", lstm_hidden=8, sequence_length=6).eval()]
    }
    first = predict_all(series, BrightIsTumour().eval(), classifiers, RULE, size=32)[0].set_index(
        "patient_id"
    )
    assert first["probability"].nunique() == 2
    for table, batch_size, num_workers in (
        (series, 1, 1),
        (series[::-1], 7, 3),
        (series.sample(frac=1, random_state=5), 2, 4),
    ):
        other = predict_all(
            table,
            BrightIsTumour().eval(),
            classifiers,
            RULE,
            size=32,
            batch_size=batch_size,
            num_workers=num_workers,
        )[0].set_index("patient_id")
        np.testing.assert_allclose(
            first["probability"], other.loc[first.index, "probability"], atol=1e-4
        )


def test_stages_are_timed_apart_and_add_up_to_no_more_than_the_whole(series):
    classifiers = {
        "FLAIR": [build_classifier("test_nfnet", lstm_hidden=8, sequence_length=6).eval()],
        "T2w": [],
    }
    begin = time.perf_counter()
    one = series[
        (series["series"] == "FLAIR") & (series["patient_id"] == series["patient_id"].iloc[0])
    ]
    seconds = time_stages(one, BrightIsTumour().eval(), classifiers, RULE, size=32)
    whole = time.perf_counter() - begin
    assert list(seconds) == ["read and window", "segment and filter", "classify"]
    assert min(seconds.values()) > 0
    assert sum(seconds.values()) <= whole
    damaged = series[(series["patient_id"] == "00011") & (series["series"] == "T2w")]
    assert (
        sum(time_stages(damaged, BrightIsTumour().eval(), classifiers, RULE, size=32).values()) == 0
    )
