"""Episodes in processes of their own: outcomes, order, faults, going on."""

import re
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.reach_policy import CHUNK, ReachServer
from vla_eval.api import serve_background

from lamp_model.closed_loop.benchmarks import Suite
from lamp_model.closed_loop.child import Simulator, SimulatorFailed, SimulatorProcess
from lamp_model.closed_loop.protocol import Protocol
from lamp_model.closed_loop.results import Evaluation, PolicyIdentity, ResultFolder, read_results
from lamp_model.closed_loop.run import EvaluationFailed, Plan, Runner

TESTS = Path(__file__).parents[1]
REACH = Suite(
    "reach", "fixtures.reach_benchmark:ReachBenchmark", client="REACH", place=2, mirrored=False, group="reach"
)
HERE = Evaluation(PolicyIdentity("runs/reach", "abcd"), Protocol())
SIMULATOR = Simulator(Path(sys.executable), path=(TESTS,), step_seconds=120.0, start_seconds=300.0)


@pytest.fixture(scope="module")
def server():
    policy = ReachServer()
    with serve_background(policy) as handle:
        policy.url = handle.url
        yield policy


def evaluate(
    folder, server, suite=REACH, simulator=SIMULATOR, keep=lambda result, recording: result, parallel=1, **plan
):
    results = ResultFolder(folder, HERE)
    plan = Plan(suite, **{"episodes": 2, "record": False, **plan})
    Runner(plan, results, simulator, keep).run(server.url, parallel)
    return {(r.task, r.episode): r for r in results.results}


def test_the_policy_acts_and_outcomes_are_told_apart(tmp_path, server):
    before = len(server.seeds)
    found = evaluate(tmp_path, server, episodes=2)
    assert {key: r.success for key, r in found.items()} == {(0, 0): True, (0, 1): True, (1, 0): False, (1, 1): False}
    assert server.seeds[before:] == [7 + 200_000 + 1_000 * task + episode for task in (0, 1) for episode in (0, 1)]
    assert [r.seed for r in found.values()] == server.seeds[before:]
    assert found[1, 0].steps == 12  # the benchmark's limit
    assert found[0, 0].text == "reach" and found[0, 0].seconds["total"] > 0


def test_only_observations_that_are_looked_at_carry_pictures(tmp_path, server):
    pictures, observations = server.pictures, server.observations
    steps = evaluate(tmp_path, server, episodes=1, tasks=(1,))[1, 0].steps
    assert server.observations - observations == steps == 12
    assert server.pictures - pictures == -(-steps // CHUNK)


def test_it_goes_on_where_it_was(tmp_path, server):
    first = evaluate(tmp_path, server, episodes=1)
    lines = (tmp_path / "episodes.jsonl").read_text().splitlines()
    server_saw = len(server.seeds)
    both = evaluate(tmp_path, server, episodes=2)
    assert (tmp_path / "episodes.jsonl").read_text().splitlines()[:2] == lines
    assert len(server.seeds) - server_saw == 2
    assert {key: both[key] for key in first} == first


def test_the_first_initial_states_can_be_left_out(tmp_path, server):
    assert set(evaluate(tmp_path, server, tasks=(0,), episodes=1, first=3)) == {(0, 3)}


def test_parallel_simulators_come_to_the_same_outcomes(tmp_path, server):
    one = evaluate(tmp_path / "one", server)
    two = evaluate(tmp_path / "two", server, parallel=2)
    assert {k: (r.success, r.steps, r.seed) for k, r in one.items()} == {
        k: (r.success, r.steps, r.seed) for k, r in two.items()
    }


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("crash_at", r"the simulator's process ended \(exit code 13\)"),
        ("hang_at", "a step of the simulator took more than 5 s: the process was ended"),
        ("raise_at", "simulator: ValueError: the arm left the world"),
    ],
)
def test_a_fault_of_the_simulator_is_named_and_the_rest_goes_on(tmp_path, server, fault, said):
    suite = replace(REACH, params={fault: [0]})
    found = evaluate(tmp_path, server, suite, replace(SIMULATOR, step_seconds=5.0), tasks=(0,))
    assert found[0, 0].success is None and found[0, 1].success is True
    assert re.search(said, found[0, 0].error)


def test_a_fault_that_passes_costs_nothing(tmp_path, server, caplog):
    suite = replace(REACH, params={"crash_at": [0], "once": str(tmp_path)})
    found = evaluate(tmp_path / "out", server, suite, tasks=(0,), episodes=1)
    assert found[0, 0].success is True
    assert "it is tried again" in caplog.text


def test_an_episode_without_outcome_is_tried_again_by_the_same_command(tmp_path, server):
    broken = replace(REACH, params={"raise_at": [0]})
    assert evaluate(tmp_path, server, broken, tasks=(0,), episodes=1)[0, 0].success is None
    assert evaluate(tmp_path, server, REACH, tasks=(0,), episodes=1)[0, 0].success is True
    assert [r.success for r in read_results(tmp_path)] == [True]


def test_a_simulator_that_always_fails_ends_the_evaluation(tmp_path, server):
    suite = replace(REACH, params={"raise_at": list(range(9))})
    with pytest.raises(EvaluationFailed, match="3 episodes in a row came to no outcome, the last with: simulator: Val"):
        evaluate(tmp_path, server, suite, episodes=5)
    assert len(read_results(tmp_path)) == 3


def test_a_benchmark_that_does_not_open_is_said_before_any_episode(tmp_path, server):
    suite = replace(REACH, benchmark="fixtures.absent:Benchmark")
    with pytest.raises(EvaluationFailed, match=r"reach does not open: simulator: ModuleNotFoundError.*fixtures.absent"):
        evaluate(tmp_path, server, suite)


def test_a_task_that_is_not_there_is_refused(tmp_path, server):
    with pytest.raises(EvaluationFailed, match="reach has tasks 0 to 1, and --tasks names 5"):
        evaluate(tmp_path, server, tasks=(0, 5))


def test_an_interrupted_evaluation_leaves_no_process(tmp_path, server):
    suite = replace(REACH, params={"hang_at": [0]})
    runner = Runner(Plan(suite, episodes=1, record=False), ResultFolder(tmp_path, HERE), SIMULATOR, lambda r, _: r)
    stopped = threading.Event()

    def interrupt():
        while not any(p._process.poll() is None for p in runner._open):
            if stopped.wait(0.05):
                return
        runner._halt(KeyboardInterrupt())

    other = threading.Thread(target=interrupt)
    other.start()
    with pytest.raises(KeyboardInterrupt):
        runner.run(server.url)
    stopped.set()
    other.join()
    assert not runner._open
    assert read_results(tmp_path) == []


def test_frames_and_motion_are_recorded(tmp_path, server):
    seen = {}

    def keep(result, recording):
        with np.load(recording) as stored:
            seen.update({name: stored[name] for name in stored})
        return result

    evaluate(tmp_path, server, tasks=(1,), episodes=1, record=True, frame_every=4, keep=keep)
    assert list(seen["steps"]) == [0, 4, 5, 8, 10, 12]  # every fourth, and what the policy looked at
    assert seen["frames"].shape == (6, 32, 32, 3) and seen["frames"].any()
    assert list(seen["motion_steps"]) == [0, 5, 10] and seen["motion"].shape == (3, 4, 2, 3)
    assert not list((tmp_path / "recordings").iterdir())


def test_a_process_that_is_gone_says_so(tmp_path):
    gone = replace(SIMULATOR, python=Path("/bin/false"))
    said = pytest.raises(SimulatorFailed, match=r"ended \(exit code 1\)")
    with SimulatorProcess(gone, tmp_path / "log") as process, said:
        process.open("a:B", {}, "ws://127.0.0.1:1")
