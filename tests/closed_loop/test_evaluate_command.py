"""``lamp-policy evaluate`` with a trained run, from the command's options to the page."""

import json
import sys
from pathlib import Path

import av
import pytest
import torch
from fixtures import policy as small
from fixtures.shard import STATE, write_shards
from training.test_model_training import trained

from jobs.cli.exit_codes import UsageError, run_command
from jobs.commands.compare import Compare, compare_command
from jobs.commands.evaluate_policy import EvaluatePolicy, _check_conventions, evaluate_policy_command
from lamp_model.closed_loop import benchmarks
from lamp_model.closed_loop.benchmarks import SUITES, Suite
from lamp_model.closed_loop.results import read_evaluation, read_results
from lamp_model.errors import BadMatch
from schemas.robot_conventions import BRIDGE_DELTA, BRIDGE_STATE

REACH = Suite(
    "reach",
    "fixtures.reach_benchmark:ReachBenchmark",
    {"cameras": ["image", "wrist"], "state": STATE},
    {"num_steps_wait": "settle_steps"},
    client="ANY",
    mirrored=False,
    group="reach",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two policies, one trained for longer."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("evaluated")
    data = write_shards(folder / "shards", episodes=3, frames=2)
    trained(1, data, folder / "stage1", steps=2)
    for name, steps in (("a", 2), ("b", 3)):
        trained(2, data, folder / name, folder / "stage1", steps=steps)
    return folder


@pytest.fixture(autouse=True)
def reach(monkeypatch):
    """The benchmark of the fixtures, among those that the command knows; it runs in this test's Python."""
    monkeypatch.setitem(benchmarks.SUITES, "reach", REACH)
    monkeypatch.setenv("LAMP_SIMULATOR_PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))


def evaluate(run, output, **options):
    options = {"benchmark": ("reach",), "tasks": (0,), "episodes": 1, "device": "cpu", **options}
    return run_command(lambda: evaluate_policy_command(EvaluatePolicy(str(run), output=output, **options)))


def test_a_run_is_evaluated_compared_and_shown(runs, tmp_path, capsys):
    assert evaluate(runs / "a", tmp_path / "a") == 0
    said = capsys.readouterr()
    assert ("0.0 to 79.3%" in said.out) or ("20.7 to 100.0%" in said.out)
    (result,) = read_results(tmp_path / "a")
    assert result.error is None and result.seconds["policy"] > 0
    with av.open(str(tmp_path / "a" / (result.video or ""))) as video:
        assert sum(1 for _ in video.decode(video=0)) >= 1 + result.steps // 5  # the start, and every fifth step
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert summary["suites"][0]["episodes"] == 1
    assert result.video in (tmp_path / "a" / "index.html").read_text()
    # Again: nothing is missing, nothing runs.
    lines = (tmp_path / "a" / "episodes.jsonl").read_text()
    assert evaluate(runs / "a", tmp_path / "a") == 0
    assert (tmp_path / "a" / "episodes.jsonl").read_text() == lines
    assert evaluate(runs / "b", tmp_path / "b", videos="none") == 0
    assert read_results(tmp_path / "b")[0].video is None
    capsys.readouterr()
    assert compare_command(Compare(tmp_path / "a", tmp_path / "b", json=True)) == 0
    (pairs,) = json.loads(capsys.readouterr().out)["pairs"]
    assert pairs["pairs"] == 1 and pairs["p_value"] == 1.0


def test_another_policy_or_protocol_in_the_folder_is_refused(runs, tmp_path, capsys):
    assert evaluate(runs / "a", tmp_path, videos="none") == 0
    assert evaluate(runs / "b", tmp_path) == 2
    assert "choose another --output" in capsys.readouterr().err
    assert evaluate(runs / "a", tmp_path, seed=8) == 2
    assert "another protocol (seed 7 against 8)" in capsys.readouterr().err
    assert read_evaluation(tmp_path).policy.source == str(runs / "a")
    assert len(read_results(tmp_path)) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"benchmark": ("reech",)}, "no benchmark 'reech'"),
        ({"episodes": 0}, "--episodes must be 1 or more, found 0"),
        ({"execute": 99}, "execute must lie between 1 and"),
        ({"reseed": True}, "does not take a seed before each reset"),
        ({"benchmark": ("libero_object",)}, "LIBERO in vla-eval"),
    ],
)
def test_what_cannot_be_is_refused_before_an_episode(runs, tmp_path, capsys, options, said):
    assert evaluate(runs / "a", tmp_path / "out", **options) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "out" / "episodes.jsonl").exists()


def test_a_policy_of_another_robot_is_refused_with_both_named():
    policy = small.policy(convention=BRIDGE_DELTA, state_names=BRIDGE_STATE)
    args = EvaluatePolicy("runs/bridge")
    with pytest.raises(BadMatch, match=r"LIBERO in vla-eval") as refused:
        _check_conventions(args, policy, [SUITES["libero_object"]])
    assert "the policy" in str(refused.value)
    _check_conventions(args, small.policy(), [SUITES["libero_object"]])


def test_another_stage_is_refused(runs, tmp_path, capsys):
    assert evaluate(runs / "stage1", tmp_path / "out") == 2
    assert "a run of stage 2 was expected" in capsys.readouterr().err
    with pytest.raises(UsageError):
        evaluate_policy_command(EvaluatePolicy(str(tmp_path / "nothing"), benchmark=("reach",)))
