"""Wheels for Kaggle's Python, with a stand-in for pip."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from t4e_utils.workflow import PipelineError, kaggle_wheels
from t4e_utils.workflow.kaggle_wheels import build_package, fetch_wheels


def test_wheels_are_asked_for_kaggles_python_without_dependencies(tmp_path, monkeypatch):
    calls = []

    def pip(command, **options):
        calls.append(command)
        name, version = command[-1].split("==")
        (
            tmp_path / f"{name.replace('-', '_')}-{version}-cp312-cp312-manylinux_2_28_x86_64.whl"
        ).write_bytes(b"")
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(kaggle_wheels.subprocess, "run", pip)
    found = fetch_wheels(tmp_path)
    assert [path.name.split("-")[0] for path in found] == [
        "segmentation_models_pytorch",
        "python_gdcm",
    ]
    assert all(
        {"--no-deps", "--only-binary=:all:"} <= set(call)
        and call[call.index("--python-version") + 1] == "312"
        for call in calls
    )
    assert fetch_wheels(tmp_path) == found
    assert len(calls) == 2
    monkeypatch.setattr(
        kaggle_wheels.subprocess,
        "run",
        lambda *_, **__: SimpleNamespace(returncode=1, stderr="ERROR: no such host\n"),
    )
    found[1].unlink()
    with pytest.raises(
        PipelineError, match=r"cannot make the wheel of python-gdcm \(ERROR: no such host\)"
    ):
        fetch_wheels(tmp_path)


def test_the_package_is_packed_without_what_links_lead_to(tmp_path, monkeypatch):
    project, packed = tmp_path / "project", []
    (project / "t4e_utils" / "__pycache__").mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements.txt", "t4e_utils/a.py"):
        (project / name).write_text("")
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "secret.py").write_text("")
    (project / "t4e_utils" / "linked").symlink_to(tmp_path / "private")
    (project / "t4e_utils" / "secret.py").symlink_to(tmp_path / "private" / "secret.py")
    (tmp_path / "t4e_utils-0.0-py3-none-any.whl").write_bytes(b"of another version")

    def pip(command, **options):
        packed.extend(path.name for path in Path(command[-1]).rglob("*"))
        (tmp_path / "t4e_utils-9.9-py3-none-any.whl").write_bytes(b"")
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(kaggle_wheels.subprocess, "run", pip)
    assert build_package(project, tmp_path).name == "t4e_utils-9.9-py3-none-any.whl"
    names = {"pyproject.toml", "README.md", "LICENSE", "requirements.txt", "t4e_utils", "a.py"}
    assert set(packed) == names
