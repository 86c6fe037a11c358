"""Fixtures of several test modules."""

from __future__ import annotations

import os

import pytest

# IPython warns if another environment is active than the one that it runs in, and so do its kernels
os.environ.pop("VIRTUAL_ENV", None)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """A folder with `training_runs.write_cases`, its tables pickled for other processes."""
    from helpers.training_runs import write_cases  # not for tests that need no torch

    root = tmp_path_factory.mktemp("cases")
    for name, table in zip(("slices", "chunks"), write_cases(root), strict=True):
        table.to_pickle(root / f"{name}.pkl")
    return root
