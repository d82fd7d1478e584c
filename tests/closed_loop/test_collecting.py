"""Which attempts are made, what is kept of them, and (with a simulator) that what is kept can be used."""

import json
import random
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from fixtures.command import start_lamp_data
from fixtures.simulator import needed_simulator, run_in_simulator

from jobs.cli.exit_codes import UsageError
from jobs.commands.collect import Collect, collect_command
from lamp_model.closed_loop.collecting import TaskProgress
from lamp_model.closed_loop.demonstrations import (
    ATTEMPTS,
    AttemptResult,
    BadCollection,
    Collection,
    CollectionFolder,
    demos_in,
)
from lamp_model.closed_loop.simulation.perturbations.spec import episode_seed
from lamp_model.closed_loop.simulation.scripted.disturbances import Pushes, Sway
from pipeline.readers.libero import LiberoReader

FAILS = {1, 2, 5}


def result(attempt: int, success: bool = True) -> AttemptResult:
    return AttemptResult(0, "lift", attempt, 7, success, "" if success else "missed", 3)


@pytest.mark.parametrize("simulators", [1, 2, 4])
def test_the_same_attempts_are_made_on_any_number_of_simulators(simulators):
    """Whatever the order in which they end."""
    task, chance, running = TaskProgress(0, wanted=5, most=50), random.Random(simulators), []
    while task.waits or running:
        while task.waits and len(running) < simulators:
            running.append(task.hand_out())
        ended = running.pop(chance.randrange(len(running)))
        task.running -= 1
        task.count(result(ended, ended not in FAILS))
    assert task.handed == set(range(8)) and task.successes == 5
    assert task.reasons == {"missed": 3}


def test_a_task_ends_after_its_last_attempt():
    task = TaskProgress(0, wanted=5, most=3)
    for _ in range(3):
        ended = task.hand_out()
        task.running -= 1
        task.count(result(ended, False))
    assert task.ended and task.attempts == 3


def write_part(folder: CollectionFolder, attempt: int) -> None:
    path = folder.part_of(0, attempt)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["env_name"] = "Lift"
        file["data"].create_group("demo_0")["actions"] = np.full((3, 7), attempt)


def test_an_interrupted_collection_goes_on_with_what_is_missing(tmp_path):
    collection = Collection("robosuite", demos=2)
    folder = CollectionFolder(tmp_path, collection)
    for attempt in (0, 1, 3):
        folder.add(result(attempt, attempt != 1))
        write_part(folder, attempt)
    folder.part_of(0, 3).unlink()  # of a success whose part was lost
    with open(folder.folder / ATTEMPTS, "ab") as file:
        file.write(b'{"task": 0, "na')  # cut off
    again = CollectionFolder(tmp_path, collection)
    assert [one.attempt for one in again.made(0)] == [0, 1]
    again.add(result(2))
    write_part(again, 2)
    path = again.assemble(0, "lift")
    assert demos_in(path) == 2 and not again.part_of(0, 0).exists()
    with h5py.File(path) as file:
        assert [int(file[f"data/demo_{n}/actions"][0, 0]) for n in range(2)] == [0, 2]
        assert file["data"].attrs["total"] == 6 and file["data"].attrs["env_name"] == "Lift"


def test_a_folder_is_not_gone_on_with_otherwise(tmp_path):
    CollectionFolder(tmp_path, Collection("robosuite", demos=2, seed=4))
    CollectionFolder(tmp_path, Collection("robosuite", demos=2)).add(result(0, False))  # nothing was made with seed 4
    CollectionFolder(tmp_path, Collection("robosuite", demos=3))
    with pytest.raises(BadCollection, match=r"with --size 256, not 64, --perturb none, not camera:1: choose another"):
        CollectionFolder(tmp_path, Collection("robosuite", demos=2, side=64, perturb=("camera:1",)))


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match=r"must be a folder, and \S+file is a file"):
            collect_command(Collect("libero_object", output, simulator_python=Path(sys.executable)))


def test_seeds_differ_by_task_attempt_and_collection():
    seeds = {Collection("s", 1, seed).attempt_seed(task, n) for seed in (0, 1) for task in range(3) for n in range(4)}
    assert len(seeds) == 24
    acted = {episode_seed(seed, task, episode) for seed in (0, 1) for task in range(3) for episode in range(4)}
    assert not seeds & acted  # no policy acts where things stand as in a demonstration


@pytest.mark.parametrize(("options", "said"), [
    ({"tasks": ("10",)}, "the tasks of libero_object are 0, 1"), ({"demos": 0}, "--demos must be 1 or more"),
    ({"perturb": ("camera:x",)}, "'x' is no strength"), ({"pushes": -1.0}, "--pushes must be 0 to 100, found -1"),
    ({"sway": 2.0}, "--sway must be 0 to 1, found 2"),
    ({"workers": 0}, "--workers must be 1 or more"),
])  # fmt: skip
def test_a_wrong_command_is_refused_before_anything_starts(tmp_path, options, said):
    with pytest.raises(UsageError, match=said):
        collect_command(Collect("libero_object", tmp_path / "out", **options))
    assert not (tmp_path / "out").exists()


def collected(folder: Path, words: list[str], name: str) -> Path:
    process = start_lamp_data(*words, folder=folder)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    (path,) = folder.glob(f"{name}/*/*.hdf5")
    return path


def test_demonstrations_of_the_simulator_can_be_replayed_and_read(tmp_path):
    """robosuite's Lift, perturbed in what is told and seen: a success that its actions reach again from its first
    state, that its seed makes again, and that the reader takes with depth, state and instruction."""
    python = needed_simulator("robosuite")
    words = ["collect", "--suite", "robosuite", "--tasks", "lift", "--demos", "1", "--size", "64", "--depth"]
    words += ["--perturb", "language:1", "camera:1", "--simulator-python", str(python), "--output"]
    files = [collected(tmp_path, [*words, name], name) for name in ("one", "two")]
    with h5py.File(files[0]) as first, h5py.File(files[1]) as second:
        demo = first["data/demo_0"]
        for name in ("states", "actions", "obs/agentview_rgb", "obs/joint_states"):
            assert np.array_equal(demo[name][:], second[f"data/demo_0/{name}"][:])
        drawn = json.loads(demo.attrs["perturbations"])
        assert set(drawn) == {"camera", "language"} and demo.attrs["seed"] > 0
        assert abs(demo["actions"][:]).max() <= 1 and np.isfinite(demo["states"][:]).all()
    changed = files[0].stat().st_mtime_ns
    collected(tmp_path, [*words, "one"], "one")
    assert files[0].stat().st_mtime_ns == changed
    assert run_in_simulator(python, "fixtures.replayed", files[0]).split()[-1] == "solved"
    reader = LiberoReader()
    (ref,) = reader.list_episodes(tmp_path / "one")
    episode = reader.read(ref)
    assert episode.instructions == (drawn["language"]["instruction"],) and episode.success
    depth = episode.views["agentview"].depth.read()
    assert np.isfinite(depth).mean() > 0.9 and 0.3 < np.nanmedian(depth) < 3


def test_what_is_collected_looks_and_begins_as_what_is_evaluated(tmp_path):
    """The same state gives the same pictures to the last bit; the arm starts off its rest pose, as in the published
    initial states."""
    python = needed_simulator("libero")
    words = ["collect", "--suite", "libero_object", "--tasks", "0", "--demos", "1", "--simulator-python", str(python)]
    path = collected(tmp_path, [*words, "--output", "out"], "out")
    found = json.loads(
        run_in_simulator(python, "fixtures.shown_as_recorded", path, "libero_object", 0).splitlines()[-1]
    )
    assert found["equal"] == [True] * 6
    off = np.abs(found["off_rest"])
    assert len(off) == 7 and 0.003 < off.mean() < 0.05 and off.max() < 0.1


def test_a_pushed_demonstration_keeps_what_the_controller_chose_and_what_was_done(tmp_path):
    """What was done reaches the goal again; where the hand was pushed, it went where the push did."""
    python = needed_simulator("robosuite")
    words = ["collect", "--suite", "robosuite", "--tasks", "lift", "--demos", "1", "--size", "16", "--pushes", "8"]
    path = collected(tmp_path, [*words, "--simulator-python", str(python), "--output", "out"], "out")
    with h5py.File(path) as file:
        demo = file["data/demo_0"]
        chosen, done, states = (demo[name][:] for name in ("actions", "executed_actions", "states"))
        hand = demo["obs/ee_pos"][:]
    pushed = np.flatnonzero((chosen != done).any(axis=1))
    assert 0 < len(pushed) < len(chosen) and len(states) == len(done)
    assert np.array_equal(chosen[:, 3:], done[:, 3:]) and abs(done).max() <= 1
    last = [row for row in pushed if row + 1 not in pushed and row - 2 in pushed]  # by then the hand has its speed
    assert last and all((hand[row] - hand[row - 1]) @ done[row, :3] > 0.005 for row in last)
    assert run_in_simulator(python, "fixtures.replayed", path).split()[-1] == "solved"


def test_a_swayed_demonstration_corrects_small_errors_until_it_has_taken_hold(tmp_path):
    python = needed_simulator("robosuite")
    words = ["collect", "--suite", "robosuite", "--tasks", "lift", "--demos", "1", "--size", "16", "--sway", "0.15"]
    path = collected(tmp_path, [*words, "--simulator-python", str(python), "--output", "out"], "out")
    with h5py.File(path) as file:
        chosen, done = (file[f"data/demo_0/{name}"][:] for name in ("actions", "executed_actions"))
    off = done - chosen
    assert np.array_equal(off[:, 3:], np.zeros_like(off[:, 3:])) and abs(done).max() <= 1
    swayed = off.any(axis=1)
    assert 0.5 < swayed.mean() < 1 and 0.05 < off[swayed, :3].std() < 0.25
    closing = np.flatnonzero(chosen[:, 6] > 0)[:8]
    assert not swayed[closing].any() and swayed[: closing[0]].all()
    assert run_in_simulator(python, "fixtures.replayed", path).split()[-1] == "solved"


def test_sway_has_its_size_lasts_some_steps_and_follows_the_seed():
    assert Sway(0.0, 3).next() is None
    one, other, again = (
        np.array([sway.next() for sway in [Sway(0.2, seed)] for _ in range(20000)]) for seed in (3, 4, 3)
    )
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    np.testing.assert_allclose(one.std(axis=0), 0.2, rtol=0.05)
    np.testing.assert_allclose(one.mean(axis=0), 0, atol=0.02)
    assert np.corrcoef(one[:-1, 0], one[1:, 0])[0, 1] == pytest.approx(0.8, abs=0.02)


def test_pushes_come_as_often_as_asked_never_down_and_by_the_seed():
    def drawn(rate, seed, steps=20000):
        pushes = Pushes(rate, seed)
        return [pushes.next() for _ in range(steps)]

    assert not any(push is not None for push in drawn(0.0, 3))
    some = drawn(2.0, 3)
    felt = np.array([push for push in some if push is not None])
    begun = sum(push is not None and before is not push for before, push in zip([None, *some], some, strict=False))
    assert 0.015 < begun / sum(push is None for push in some) < 0.025
    assert (felt[:, 2] >= 0).all() and abs(felt).max() <= 1 and np.allclose(np.hypot(*felt.T[:2]), 1)
    assert abs(felt[:, :2].mean(axis=0)).max() < 0.15
    again, other = drawn(2.0, 3), drawn(2.0, 4)
    assert all(np.array_equal(one, two) for one, two in zip(some, again, strict=True))
    assert [push is None for push in other] != [push is None for push in some]
