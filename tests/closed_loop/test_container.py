"""What a container would run, run by vla-eval in this process; and what is said where there is no simulator."""

import functools
from dataclasses import replace

import pytest
import vla_eval
import vla_eval.registry
from fixtures.reach_policy import ReachServer
from vla_eval.api import serve_background

from lamp_model.closed_loop.benchmarks import SUITES, Suite
from lamp_model.closed_loop.container import episode_of, run_suite, suite_config
from lamp_model.closed_loop.protocol import Protocol
from lamp_model.closed_loop.results import Evaluation, PolicyIdentity, ResultFolder
from lamp_model.closed_loop.simulators import find_python, how_to_get

REACH = Suite("reach", "fixtures.reach_benchmark:ReachBenchmark", client="REACH", group="reach")


def test_vla_eval_runs_a_suite_and_its_episodes_become_results(tmp_path):
    results = ResultFolder(tmp_path / "out", Evaluation(PolicyIdentity("runs/reach", "abcd"), Protocol()))
    run = functools.partial(vla_eval.run, docker=False, no_save=True, output_dir=tmp_path / "vla-eval")
    with serve_background(ReachServer()) as handle:
        suite = replace(REACH, params={"raise_at": [1]})
        run_suite(suite, 3, results, run, handle.url, "gpu")
    found = {(r.task, r.episode): r for r in results.results}
    assert {key: r.success for key, r in found.items()} == {
        (0, 0): True, (0, 1): None, (0, 2): True, (1, 0): False, (1, 1): None, (1, 2): False,
    }  # fmt: skip
    assert "the arm left the world" in found[0, 1].error
    assert found[1, 2].seed == 7 + 1_000 + 2 and found[1, 2].steps == 12 and found[1, 2].text == "reach the mirror"


def test_the_container_is_configured_by_the_protocol():
    config = suite_config(SUITES["libero_goal"], Protocol(environment_seed=3, max_steps=9), 5, "ws://x", "cpu")
    (entry,) = config["benchmarks"]
    assert entry["benchmark"] == "vla_eval.benchmarks.libero.benchmark:LIBEROBenchmark"  # ours is not in the container
    assert entry["params"]["env_seed"] == 3 and entry["params"]["suite"] == "libero_goal"
    assert "reseed" not in entry["params"] and entry["max_steps"] == 9 and entry["episodes_per_task"] == 5
    assert config["docker"]["image"].endswith("/libero") and config["render"] == "cpu"
    (widowx,) = suite_config(SUITES["simpler_widowx_stack_cube"], Protocol(), 24, "ws://x", "gpu")["benchmarks"]
    assert widowx["params"]["task_name"] == "widowx_stack_cube" and widowx["params"]["seed"] == 7


@pytest.mark.parametrize("name", [name for name, suite in SUITES.items() if suite.image])
def test_vla_eval_takes_the_arguments_of_every_suite(name):
    config = suite_config(SUITES[name], Protocol(), 1, "ws://x", "gpu")
    entry = config["benchmarks"][0]
    benchmark = vla_eval.registry.resolve_import_string(entry["benchmark"])
    assert benchmark(**entry["params"]).get_metadata() is not None


@pytest.mark.parametrize(("changed", "what"), [
    ({"reseed": True}, "a seed before each reset"), ({"picture_size": 128}, "pictures of another size"),
])  # fmt: skip
def test_a_container_refuses_what_vla_evals_own_classes_cannot_do(tmp_path, changed, what):
    results = ResultFolder(tmp_path, Evaluation(PolicyIdentity("a", "a"), Protocol(**changed)))
    with pytest.raises(ValueError, match=f"in a container does not take {what}"):
        run_suite(SUITES["libero_goal"], 1, results, lambda config: [], "ws://x", "gpu")


def test_an_error_there_is_no_failure_here():
    told = {"episode_id": 4, "metrics": {"success": False}, "failure_reason": "env_step", "failure_detail": "boom"}
    result = episode_of(REACH, 0, "reach", told, Protocol())
    assert result.success is None and result.error == "env_step: boom" and result.episode == 4


def test_without_a_simulator_the_command_that_makes_one_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAMP_SIMULATOR_PYTHON", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert find_python(None, SUITES["libero_goal"]) is None
    assert "`lamp-policy simulator .venv-sim`" in how_to_get(SUITES["libero_goal"])
    light = SUITES["libero_plus:light:goal"]
    assert "for which Docker or Charliecloud must be installed, then give --container" in how_to_get(light)
    assert "which docker runs with --container" in how_to_get(light, "docker")
    with pytest.raises(ValueError, match="--simulator-python must be a Python"):
        find_python(tmp_path / "nothing", SUITES["libero_goal"])
    made = tmp_path / ".venv-sim" / "bin" / "python"
    made.parent.mkdir(parents=True)
    made.touch()
    assert find_python(None, SUITES["libero_goal"]) == made
    assert find_python(None, SUITES["libero_plus:light:goal"]) is None  # LIBERO-Plus is another package of that name
