"""Whatever lies at a path, a public reader returns something or says in a sentence what to do."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import re
import signal
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pandas as pd
import pytest

import t4e_utils
from benchmarks.fuzz_kinds import KINDS
from t4e_utils import T4EError
from t4e_utils.competitions.brain_tumor import conventions, data, folders, prediction, trained
from t4e_utils.learning import checkpoints, networks, weights
from t4e_utils.sampling import pictures
from t4e_utils.scans import dicom, dicom_series, dicom_walk, images, nifti, reading
from t4e_utils.tables import catalog, provenance, store, user_tables
from t4e_utils.workflow import executed, report

NAMED_LIKE_READERS = re.compile(r"(?!_)((read|load|find)(_.*)?|.*_header)")
PATHS = {"path", "folder", "root", "weights", "run", "rsna", "models"}  # first arguments

READERS: dict[Callable, Callable[[Path], object]] = {
    catalog.find_scans: partial(catalog.find_scans, pattern="{patient_id}"),
    user_tables.read_user_table: partial(user_tables.read_user_table, columns=["id"]),
    user_tables.read_ids: partial(user_tables.read_ids, id_column="id", value_column="value"),
    user_tables.read_labels: partial(user_tables.read_labels, id_column="id", label_column="value"),
    data.read_fold_table: partial(data.read_fold_table, patient_ids=pd.Series(["00001"])),
    store.read_table: partial(store.read_table, made_by="01_eda", columns=["patient_id"]),
    store.read_json: partial(store.read_json, made_by="01_eda"),
    store.read_scores: store.read_scores,
    provenance.read_current: partial(provenance.read_current, provenance={}),
    pictures.read_picture: pictures.read_picture,
    dicom.read_file: lambda path: dicom.read_file(path, []),
    dicom_walk.read_header: lambda path: dicom_walk.read_header(path, [], with_pixels=True),
    dicom_series.read_dicom_series: dicom_series.read_dicom_series,
    dicom_series.dicom_series_header: dicom_series.dicom_series_header,
    images.read_jpeg_series: images.read_jpeg_series,
    images.jpeg_series_header: images.jpeg_series_header,
    nifti.read_nifti: nifti.read_nifti,
    nifti.nifti_header: nifti.nifti_header,
    conventions.read_labels: partial(conventions.read_labels, convention="BraTS 2021"),
    reading.read_series: reading.read_series,
    reading.series_header: reading.series_header,
    weights.read_weights: weights.read_weights,
    weights.read_card: weights.read_card,
    trained.read_classifier_card: partial(trained.read_classifier_card, series="FLAIR"),
    networks.load_network: networks.load_network,
    checkpoints.read_checkpoint: lambda path: checkpoints.read_checkpoint(path.parent),
    executed.read: executed.read,
    # of a folder, in which files have names of their own
    data.read_sample: data.read_sample,
    folders.find_series: partial(folders.find_series, split="", series=("FLAIR",)),
    folders.find_volumes: partial(
        folders.find_volumes, contrasts={"FLAIR": ("_flair",)}, patient_id=str, study_id=str
    ),
    trained.read_segmenter_card: partial(trained.read_segmenter_card, fold=0),
    trained.read_summary: trained.read_summary,
    trained.read_out_of_fold: trained.read_out_of_fold,
}
INSIDE_OTHERS = {weights.load_torch, report.find_copies, report.find_scores}
NEED_A_RUN = {prediction.load_predictor}  # cards that other readers have checked


def below_a_file(path: Path) -> Path:
    path.write_text("a file")
    return path / path.name


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def link(path: Path, *, to: str) -> Path:
    path.symlink_to(to)
    return path


def unreadable(path: Path) -> Path:
    path.write_bytes(b"0" * 1000)
    path.chmod(0)
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def holding(path: Path, *, kind: str) -> Path:
    path.write_bytes(undamaged(kind))
    return path


@cache
def undamaged(kind: str) -> bytes:
    with tempfile.TemporaryDirectory() as drafts:
        return KINDS[kind](Path(drafts)).files[0]


PLACES: dict[str, Callable[[Path], Path]] = {
    "nothing": lambda path: path,
    "a folder": folder,
    "an empty file": lambda path: [path.write_bytes(b""), path][1],
    "below a file": below_a_file,
    "a name too long": lambda path: path.with_name(path.stem * 100 + path.suffix),
    "a link to itself": lambda path: link(path, to=path.name),
    "a link to nothing": lambda path: link(path, to="nowhere"),
    "a pipe": pipe,
    **({} if os.geteuid() == 0 else {"unreadable": unreadable}),  # root may read everything
    "what cannot be read": lambda path: link(path, to="/proc/self/mem"),  # as a broken disk
    "noise": lambda path: [path.write_bytes(bytes(range(256)) * 40), path][1],
    **{kind: partial(holding, kind=kind) for kind in ("nifti", "user table", "card", "table")},
    **{kind: partial(holding, kind=kind) for kind in ("dicom", "picture", "weights", "notebook")},
}
SUFFIXES = {
    "table": ".parquet",
    "current": ".parquet",
    "card": ".json",
    "header": "",
    "json": ".json",
    "scores": ".json",
    "nifti": ".nii.gz",
    "weights": ".pth",
    "network": ".safetensors",
    "picture": ".png",
}


@pytest.fixture
def _never_waits():
    """A reader that waits, as for the other end of a pipe, fails instead."""
    before = signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _give_up(*_):
    raise AssertionError("The reader waits.")  # no OSError, which readers know


@pytest.mark.usefixtures("_never_waits")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_what_lies_at_a_path_is_read_or_refused_by_name(reader, place, tmp_path):
    suffix = next((end for word, end in SUFFIXES.items() if word in reader.__name__), "")
    path = PLACES[place](tmp_path / f"given{suffix}")
    try:
        READERS[reader](path)
    except T4EError as error:
        said = str(error)
        assert "given" in said or tmp_path.name in said
        assert len(said.splitlines()) == 1
        assert said.endswith((".", '"', "?"))


def test_no_public_reader_of_a_path_is_left_out():
    found = set()
    for module in pkgutil.walk_packages(t4e_utils.__path__, "t4e_utils."):
        if module.name.endswith("__main__"):
            continue
        for name, function in vars(importlib.import_module(module.name)).items():
            if inspect.isfunction(function) and function.__module__ == module.name:
                first = next(iter(inspect.signature(function).parameters), "")
                if NAMED_LIKE_READERS.fullmatch(name) and first in PATHS:
                    found.add(function)
    left_out = found - {*READERS} - INSIDE_OTHERS - NEED_A_RUN
    assert {f"{one.__module__}.{one.__name__}" for one in left_out} == set()
