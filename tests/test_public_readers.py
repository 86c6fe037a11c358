"""Whatever lies at a path, a public reader returns something or says in a sentence what to do."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import signal
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pytest

import t4e_utils
from benchmarks.fuzz_kinds import KINDS
from t4e_utils import T4EError
from t4e_utils.learning import checkpoints, networks, weights
from t4e_utils.sampling import pictures
from t4e_utils.scans import dicom, dicom_series, dicom_walk, images, nifti, reading
from t4e_utils.tables import catalog, store
from t4e_utils.workflow import executed

NAMED_LIKE_READERS = ("read", "load", "find_scans")
PATHS = {"path", "folder", "root", "weights", "paths"}  # what a reader's first argument is called
NETWORK = networks.Recipe("image", "test_byobnet", size=32)

READERS: dict[Callable, Callable[[Path], object]] = {
    catalog.find_scans: partial(catalog.find_scans, pattern="{patient_id}"),
    catalog.read_ids: partial(catalog.read_ids, id_column="id", value_column="value"),
    catalog.read_labels: partial(catalog.read_labels, id_column="id", label_column="value"),
    store.read_table: partial(store.read_table, made_by="01_eda", columns=["patient_id"]),
    store.read_json: partial(store.read_json, made_by="01_eda"),
    store.read_scores: store.read_scores,
    pictures.read_picture: pictures.read_picture,
    dicom.read_file: lambda path: dicom.read_file(path, []),
    dicom_walk.read_header: lambda path: dicom_walk.read_header(path, [], with_pixels=True),
    dicom_series.read_dicom_series: dicom_series.read_dicom_series,
    images.read_jpeg_series: images.read_jpeg_series,
    nifti.read_nifti: nifti.read_nifti,
    reading.read_series: reading.read_series,
    weights.read_weights: weights.read_weights,
    weights.read_card: weights.read_card,
    weights.load_weights: lambda path: weights.load_weights(networks.build(NETWORK), path),
    weights.load_start: lambda path: weights.load_start(networks.build(NETWORK), "", path),
    networks.load_network: networks.load_network,
    checkpoints.read_checkpoint: lambda path: checkpoints.read_checkpoint(path.parent),
    executed.read: executed.read,
}
HEADERS = {  # they do not begin with "read"
    reading.series_header: reading.series_header,
    dicom_series.dicom_series_header: dicom_series.dicom_series_header,
    images.jpeg_series_header: images.jpeg_series_header,
    nifti.nifti_header: nifti.nifti_header,
}


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
    if os.access(path, os.R_OK):
        pytest.skip("The superuser may read everything.")
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
    "unreadable": unreadable,
    "what cannot be read": lambda path: link(path, to="/proc/self/mem"),  # as a broken disk
    "noise": lambda path: [path.write_bytes(bytes(range(256)) * 40), path][1],
    **{kind: partial(holding, kind=kind) for kind in ("nifti", "user table", "card", "table")},
    **{kind: partial(holding, kind=kind) for kind in ("dicom", "picture", "weights", "notebook")},
}
SUFFIXES = {
    "table": ".parquet",
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
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _give_up(*_):
    raise TimeoutError("The reader waits.")


@pytest.mark.usefixtures("_never_waits")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("reader", [*READERS, *HEADERS], ids=lambda reader: reader.__name__)
def test_what_lies_at_a_path_is_read_or_refused_by_name(reader, place, tmp_path):
    suffix = next((end for word, end in SUFFIXES.items() if word in reader.__name__), "")
    path = PLACES[place](tmp_path / f"given{suffix}")
    try:
        (READERS | HEADERS)[reader](path)
    except T4EError as error:
        said = str(error)
        assert "given" in said or tmp_path.name in said
        assert len(said.splitlines()) == 1
        assert said.endswith((".", '"'))


def test_no_public_reader_of_a_path_is_left_out():
    found = set()
    for module in pkgutil.walk_packages(t4e_utils.__path__, "t4e_utils."):
        if module.name.endswith("__main__"):
            continue
        for function in vars(importlib.import_module(module.name)).values():
            if inspect.isfunction(function) and function.__module__ == module.name:
                first = next(iter(inspect.signature(function).parameters), "")
                is_reader = function.__name__.startswith(NAMED_LIKE_READERS) and first in PATHS
                if (is_reader or function.__name__.endswith("_header")) and first in PATHS:
                    found.add(function)
    assert {f"{f.__module__}.{f.__name__}" for f in found - {*READERS, *HEADERS}} == set()
