"""``lamp-data status``: the truth about a build from another process, whether it runs, was killed or has finished."""

import json
import os
import signal
import time
from functools import partial

import pytest
from fixtures.command import ended_lamp_data, lamp_data
from fixtures.libero import FAST, Demo, fast_recipe, replace, write_file

from jobs.cli.exit_codes import GOES_ON, UsageError, only_reads, run_command
from jobs.commands.status import Status, status_command
from jobs.executors.local import LocalExecutor
from pipeline.build import run
from pipeline.build.build_state import BuildState, StateWriter, kept_state, read_state
from pipeline.build.episode_store import Quarantined
from pipeline.build.executor import unnoticed
from pipeline.build.run import ShardConfig, build
from pipeline.build.work_folder import WORK
from schemas.durations import duration
from schemas.errors import StoreFailed


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Three episodes, the last of which is broken."""
    folder = tmp_path_factory.mktemp("libero")
    write_file(folder / "a_demo.hdf5", [Demo(0), Demo(1, 0, 14)])
    write_file(folder / "b_demo.hdf5", [Demo(0)], lambda file: replace(file, "actions", [[0.0] * 7] * 3))
    return folder


def test_a_running_build_says_what_is_done_under_way_and_quarantined(source, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, "kept_state", partial(kept_state, every_s=0.01))
    output, told = tmp_path / "out", []

    class Watched(LocalExecutor):
        def run(self, make_worker, tasks, *, begun=unnoticed, **options):
            def noted(task):
                begun(task)
                if getattr(task, "source", "") != "b_demo.hdf5":
                    return
                until = time.monotonic() + 60
                while not ((state := read_state(output / WORK)) and state.under_way and state.done == 2):
                    assert time.monotonic() < until
                for as_json in (False, True):
                    status_command(Status(output, as_json))
                    told.append(capsys.readouterr().out)

            yield from super().run(make_worker, tasks, begun=noted, **options)

    summary = build(fast_recipe(), source, output, ShardConfig(), Watched(), lambda *a: a[2])
    text, values = told[0], json.loads(told[1])
    assert len(summary.quarantined) == 1
    assert "under way for" in text and f"process {os.getpid()}" in text
    assert "stage        episodes, 2 of 3 done (66.7%), then shards" in text and "b_demo.hdf5:demo_0" in text
    assert (values["status"], values["done"], values["total"], values["workers"]) == ("under way", 2, 3, 1)
    assert list(values["under_way"]) == ["b_demo.hdf5:demo_0"] and values["per_second"] > 0
    ended = read_state(output / WORK)
    assert ended is not None and ended.ended == "finished" and ended.quarantined == {summary.quarantined[0].code: 1}


def test_the_summary_of_a_finished_build_is_shown_again_with_what_was_quarantined(source, tmp_path, capsys):
    output = tmp_path / "out"
    summary = build(fast_recipe(), source, output, ShardConfig(), LocalExecutor(), lambda *a: a[2])
    assert status_command(Status(output)) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{output}: finished\n  episodes     2 with 28 frames")
    assert f"quarantined  1 {summary.quarantined[0].code}\n    {summary.quarantined[0].message}" in text
    status_command(Status(tmp_path, json=True))
    (values,) = json.loads(capsys.readouterr().out)
    assert values["status"] == "finished" and values["kept"] == summary.kept


def test_a_killed_build_is_not_called_running_and_its_state_survives(source, tmp_path):
    output = tmp_path / "out"
    words = ("build", "--dataset", "libero", "--input", source, "--output", output, *FAST, "--executor", "local")
    assert ended_lamp_data("SIGKILL@rename:6", *words, folder=tmp_path).returncode == -signal.SIGKILL
    ran = lamp_data("status", output, folder=tmp_path)
    assert ran.returncode == 0 and "not running: process" in ran.stdout and "is gone" in ran.stdout
    assert "the same command goes on from there" in ran.stdout and "stage        episodes" in ran.stdout
    values = json.loads(lamp_data("status", output, "--json", folder=tmp_path).stdout)
    assert values["status"] == "ended" and values["total"] == 3 and values["seconds_left"] is None


def test_rate_and_time_left_are_those_of_this_run(tmp_path):
    now = [1000.0]
    writer = StateWriter(tmp_path, lambda: now[0])
    writer.enter("episodes", total=100, before=60)
    for number in range(10):
        writer.begun(f"e{number}")
        writer.finished(f"e{number}")
    now[0] += 5
    writer.quarantine(*[Quarantined("f", str(n), "no_depth", f"f:{n}: no depth") for n in range(7)])
    writer.write()
    state = read_state(tmp_path)
    assert state is not None
    assert (state.done, state.per_second, state.seconds_left) == (70, 2.0, 15.0)
    assert state.quarantined == {"no_depth": 7} and len(state.messages["no_depth"]) == 5


def test_a_build_elsewhere_runs_while_it_is_heard_of_and_one_here_while_its_process_is():
    there = BuildState(host="elsewhere", process=1, heard=1000.0)
    assert there.running(1059.0) and not there.running(1061.0)
    here = BuildState(process=os.getpid(), heard=1000.0)
    assert here.running(1059.0) and not here.running(1061.0), "another process may have the number by now"
    assert not BuildState(ended="finished", heard=1000.0).running(1000.0)


def test_the_state_is_written_while_nothing_happens_and_says_what_ended_the_build(tmp_path):
    def work():
        with kept_state(tmp_path, every_s=0.01) as writer:
            before, until = writer.state.heard, time.monotonic() + 60
            while writer.state.heard == before and time.monotonic() < until:
                time.sleep(0.01)
            assert writer.state.heard > before
            raise OSError("the disk\nis full")

    with pytest.raises(OSError, match="disk"):
        work()
    state = read_state(tmp_path)
    assert state is not None and state.ended == "the disk is full"
    assert list(tmp_path.iterdir()) == [tmp_path / "state.json"]


def test_a_folder_without_a_build_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no build"):
        status_command(Status(tmp_path))


@pytest.mark.parametrize(
    ("seconds", "said"), [(-1, "0 s"), (119, "119 s"), (120, "2 min"), (9000, "2.5 h"), (300_000, "3.5 days")]
)
def test_durations_are_said_in_the_unit_that_fits(seconds, said):
    assert duration(seconds) == said


def test_a_command_that_only_reads_does_not_say_that_it_goes_on_from_what_was_finished(capsys):
    def fail(args):
        raise StoreFailed(f"s3://b/{args} does not answer")

    assert run_command(lambda: fail("x")) == 1 and GOES_ON in capsys.readouterr().err
    assert run_command(lambda: only_reads(fail)("x")) == 1
    said = capsys.readouterr().err
    assert said.strip().endswith("s3://b/x does not answer") and GOES_ON not in said
