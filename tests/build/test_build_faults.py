"""Builds that die, run out of room or cannot write: nothing half-written, a sentence, and the same bytes in the end."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys

import pytest
from fixtures.command import ENVIRONMENT, ended_lamp_data, lamp_data, said
from fixtures.libero import FAST, QUALITY, Demo, fast_recipe, outputs_of, partials_in, samples_of, write_file

from jobs.cli.build_options import Build
from jobs.cli.exit_codes import run_command
from jobs.commands.build import build_command
from jobs.executors.local import LocalExecutor
from pipeline.build.run import ShardConfig, build
from schemas.manifest import EPISODES, NAME

LOCAL = [*FAST, "--executor", "local", "--samples-per-shard", "6"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data/libero in it, as a person would have it."""
    folder = tmp_path_factory.mktemp("place")
    write_file(folder / "data" / "libero" / "a_demo.hdf5", [Demo(0), Demo(1, 0, 14), Demo(2, 0, 28), Demo(3, 1)])
    return folder


@pytest.fixture(scope="module")
def wanted(place):
    """What an undisturbed build gives."""
    build(
        fast_recipe(),
        place / "data" / "libero",
        place / "wanted",
        ShardConfig(samples_per_shard=6),
        LocalExecutor(),
        lambda *a: a[2],
    )
    return outputs_of(place / "wanted")


def goes_on(place, output, wanted):
    """Without the obstacle the same command ends well, with the same bytes."""
    ran = lamp_data("build", "--dataset", "libero", "--output", output, *LOCAL, folder=place)
    assert ran.returncode == 0, ran.stderr
    assert outputs_of(output) == wanted and not partials_in(output)


@pytest.mark.parametrize(("format_name", "seeds", "most"), [("webdataset", "0,1,2", 25), ("zarr", "1", 250)])
def test_dying_inside_any_write_leaves_no_partial_file_and_going_on_gives_the_same_bytes(
    tmp_path, format_name, seeds, most
):
    write_file(tmp_path / "in" / "a_demo.hdf5", [Demo(0, 0, 0, 10), Demo(1, 1, 12, 10)])
    write_file(tmp_path / "in" / "b_demo.hdf5", [Demo(0, 0, 20, 10)])
    script = [sys.executable, "-m", "fixtures.killed_build", tmp_path / "in", tmp_path / "work"]
    ran = subprocess.run(
        [*script, format_name, seeds, str(most)], capture_output=True, text=True, env=ENVIRONMENT, cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["wrong"] == [] and told["deaths"] > 8


def test_kill_9_of_the_command_again_and_again_and_going_on_gives_the_same_bytes(place, tmp_path, wanted):
    """Each time before another file gets its name: of two episodes, of a shard, and one beside the manifest."""
    for renames in (3, 12, 13, 6):
        words = ("build", "--dataset", "libero", "--output", tmp_path / "out", *LOCAL)
        ran = ended_lamp_data(f"SIGKILL@rename:{renames}", *words, folder=place)
        assert ran.returncode == -signal.SIGKILL
        standing = {n: d for n, d in outputs_of(tmp_path / "out").items() if ".partial" not in n}
        assert standing.items() <= wanted.items() and NAME not in standing
    assert {"libero-000001.tar", EPISODES} <= standing.keys() < wanted.keys()
    goes_on(place, tmp_path / "out", wanted)


@pytest.mark.parametrize(("most_bytes", "names"), [(20_000, ".tar"), (100_000, "libero-00000")])
def test_no_room_for_a_file_is_one_sentence_with_its_name_and_with_room_it_goes_on(
    place, tmp_path, wanted, most_bytes, names
):
    """A limit on the size of files stands for a quota: the first stops a part, the second a shard."""
    output = tmp_path / "out"
    ran = lamp_data(
        *("build", "--dataset", "libero", "--output", output, *LOCAL),
        folder=place,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes)),
    )
    assert ran.returncode == 1 and ran.stdout == ""
    assert "File too large" in said(ran) and names in said(ran) and "the same command goes on" in said(ran)
    assert outputs_of(output).items() <= wanted.items() and not partials_in(output)
    goes_on(place, output, wanted)


def test_a_full_disk_is_one_sentence_and_with_room_it_goes_on(place, tmp_path, wanted):
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("mounting a small disk needs root; the limit on file size stands for it")
    try:
        ran = lamp_data("build", "--dataset", "libero", "--output", disk / "out", *LOCAL, folder=place)
        assert ran.returncode == 1
        assert "No space left on device" in said(ran) and str(disk) in said(ran)
        assert outputs_of(disk / "out").items() <= wanted.items() and not partials_in(disk / "out")
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        goes_on(place, disk / "out", wanted)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        ran = lamp_data("build", "--dataset", "libero", "--output", disk / "other", *LOCAL, folder=place)
        assert ran.returncode == 1 and "Read-only file system" in said(ran) and "--output" in said(ran)
        ran = lamp_data("build", "--dataset", "libero", "--output", disk / "out", *LOCAL, "--seed", "1", folder=place)
        assert ran.returncode == 1 and "Read-only file system" in said(ran)
        assert outputs_of(disk / "out") == wanted
    finally:
        subprocess.run(["umount", disk], check=True)


def test_an_output_that_cannot_be_a_folder_is_one_sentence(place):
    (place / "file").write_text("in the way")
    for output in (place / "file", place / "file" / "below"):
        ran = lamp_data("build", "--dataset", "libero", "--output", output, *LOCAL, folder=place)
        assert ran.returncode == 1
        assert str(output) in said(ran) and "choose another --output" in said(ran)
    assert (place / "file").read_text() == "in the way"


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.ENOSPC])
def test_whichever_call_fails_there_is_a_sentence_no_partial_file_and_a_way_on(
    place, tmp_path, wanted, monkeypatch, capsys, function, code
):
    output, works, calls = tmp_path / "out", getattr(os, function), 0
    args = Build(
        dataset="libero",
        input=place / "data" / "libero",
        output=output,
        stride=4,
        horizon_steps=8,
        grid=6,
        action_horizon=4,
        quality=QUALITY,
        samples_per_shard=6,
        executor="local",
    )
    fails_at = iter((1, 5, 14, 27))

    def failing(*arguments):
        nonlocal calls
        calls += 1
        if calls == next_failure:
            raise OSError(code, os.strerror(code))
        return works(*arguments)

    monkeypatch.setattr(os, function, failing)
    for next_failure in fails_at:
        calls = 0
        exit_code = run_command(lambda: build_command(args))
        err = capsys.readouterr().err
        if calls >= next_failure:
            assert exit_code == 1 and os.strerror(code) in err and "goes on from there" in err
            assert not (output / NAME).exists()
        assert not partials_in(output)
        assert outputs_of(output).items() <= wanted.items()
    monkeypatch.undo()
    assert run_command(lambda: build_command(args)) == 0
    assert outputs_of(output) == wanted
    assert len(samples_of(output)) == 12


def test_a_signal_to_end_is_one_sentence_with_its_exit_code_and_it_goes_on(place, tmp_path, wanted):
    for name, code, says in (
        ("SIGINT", 130, "interrupted"),
        ("SIGTERM", 143, "ended by SIGTERM"),
        ("SIGHUP", 129, "ended by SIGHUP"),
    ):
        words = ("build", "--dataset", "libero", "--output", tmp_path / "out", *LOCAL)
        ran = ended_lamp_data(f"{name}@rename:4", *words, folder=place)
        assert ran.returncode == code and ran.stdout == ""
        assert said(ran).endswith(f": {says}; what was finished stays, and the same command goes on from there")
    goes_on(place, tmp_path / "out", wanted)


def test_an_ignored_signal_stays_ignored(place, tmp_path, wanted):
    """As nohup asks for."""
    ran = ended_lamp_data(
        *("SIGHUP@rename:4", "build", "--dataset", "libero", "--output", tmp_path / "out", *LOCAL),
        folder=place,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert ran.returncode == 0 and outputs_of(tmp_path / "out") == wanted
