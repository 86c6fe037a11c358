"""Damaged bytes are read or refused, whatever they are: a short run of the fuzzing."""

from __future__ import annotations

import pytest

from benchmarks import fuzzing


def test_no_damage_brings_another_exception_a_hang_or_the_end_of_the_process():
    counts, failures = fuzzing.fuzz(520, seed=1)
    assert failures == []
    assert sum(counts.values()) == 520
    assert {kind for kind, _ in counts} == set(fuzzing.KINDS)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("os.abort()", "the child died (SIGABRT)"),
        ("time.sleep(60)", "hangs for more than 3 s"),
        ("raise KeyError('x')", "KeyError: 'x'"),
        ("np.empty(3 << 30, np.uint8)", "MemoryError"),
    ],
)
def test_a_reader_that_dies_hangs_or_raises_is_a_failure_and_the_others_are_read(
    monkeypatch, tmp_path, fault, message
):
    """The fuzzing is worth nothing if it does not see these."""
    (tmp_path / "sitecustomize.py").write_text(
        f"""
import os, sys, time
if "--child" in sys.orig_argv:
    import numpy as np
    from t4e_utils.scans import nifti
    read = nifti.read_nifti
    def faulty(path, **options):
        if not os.path.exists({str(tmp_path / "done")!r}):
            open({str(tmp_path / "done")!r}, "w").close()
            {fault}
        return read(path, **options)
    nifti.read_nifti = faulty
"""
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{fuzzing.os.pathsep}{fuzzing.ROOT}")
    monkeypatch.setattr(fuzzing, "HANG_SECONDS", 3.0)
    counts, failures = fuzzing.fuzz(6, seed=1, kinds=["nifti"])
    assert [message in failure for failure in failures] == [True]
    assert sum(counts.values()) == 6
