"""The real environments: LIBERO with the pack's or the original assets, and robosuite's own tasks."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures import policy as small
from fixtures.simulator import DEMONSTRATIONS, needed_simulator, run_in_simulator
from vla_eval.api import serve_background

from lamp_model.closed_loop.benchmarks import SUITES
from lamp_model.closed_loop.child import Simulator
from lamp_model.closed_loop.protocol import Protocol
from lamp_model.closed_loop.results import Evaluation, PolicyIdentity, ResultFolder
from lamp_model.closed_loop.run import Plan, Runner
from lamp_model.policy import LampPolicy
from lamp_model.prediction import Prediction
from lamp_model.serving.conventions import LIBERO_VLA_EVAL, match
from lamp_model.serving.episode import Served
from lamp_model.serving.protocols.vla_eval import LampModelServer
from lamp_model.serving.service import PolicyService


class Replayed(LampPolicy):
    """A policy that gives recorded actions, in LIBERO's training convention (gripper 1 open), chunk by chunk.

    Attributes:
        seen: the observations, as the networks would take them.
    """

    def __init__(self, simulator_actions: np.ndarray):
        base = small.policy()
        super().__init__(
            base.model, base.state_range, base.action_range, None, base.action_convention, base.state_names, "libero"
        )
        actions = simulator_actions.astype(np.float32)
        actions[:, 6] = 1 - np.clip(actions[:, 6], 0, 1)  # as pipeline.actions.libero standardises recorded actions
        self._left = torch.from_numpy(actions)
        self.seen = []

    def predict_batch(self, seen, noise, wanted):
        """The next chunk; the arm rests when all were given."""
        self.seen += seen
        chunk, self._left = self._left[: small.CHUNK], self._left[small.CHUNK :]
        rest = torch.tensor([[0.0] * 6 + [1.0]])
        chunk = torch.cat([chunk, rest.repeat(small.CHUNK - len(chunk), 1)])
        return [Prediction(chunk, chunk, None)]


def replay(policy, suite, python, folder):
    """Episode 0 of task 0, through service, server, client and environment."""
    results = ResultFolder(folder, Evaluation(PolicyIdentity("recorded", "recorded"), Protocol()))
    with PolicyService(policy) as service:
        served = Served(service, match(policy, LIBERO_VLA_EVAL))
        with serve_background(LampModelServer(served)) as handle:
            plan = Plan(suite, tasks=(0,), episodes=1, record=False)
            Runner(plan, results, Simulator(python), lambda result, _: result).run(handle.url)
    (result,) = results.results
    return result


@pytest.mark.parametrize(("kind", "package", "name"), [
    ("lift", "robosuite", "robosuite_lift"), ("libero", "libero", "libero_object"),
])  # fmt: skip
def test_recorded_actions_solve_the_task_through_server_and_client(tmp_path, kind, package, name):
    python = needed_simulator(package)
    if kind == "libero" and not DEMONSTRATIONS.is_dir():
        pytest.skip("needs the scripted demonstrations of ../shared")
    run_in_simulator(python, "fixtures.scripted_episode", kind, tmp_path / "actions.npy")
    actions = np.load(tmp_path / "actions.npy")
    policy = Replayed(actions)
    result = replay(policy, SUITES[name], python, tmp_path / "out")
    assert result.success is True and result.error is None
    assert result.steps <= len(actions)
    if kind == "libero":
        assert result.objects.keys() == {"alphabet_soup_1"}  # not the basket, which it is put into
        soup = result.objects["alphabet_soup_1"]
        assert soup["raised_m"] > 0.05 and soup["nearest_m"] < 0.03 and result.lifted
    assert len(policy.seen) == -(-result.steps // small.CHUNK)
    first = policy.seen[0]
    assert first.instruction == result.text
    # The benchmark's pictures are mirrored; what the policy sees is upright: the arm comes from the top, the table
    # is below. A second image is of the hand.
    assert len(first.images) == 2 and first.images[0].shape == (256, 256, 3)
    spent = result.seconds
    assert spent["physics"] > 0 and spent["rendering"] > 0 and spent["total"] >= spent["physics"] + spent["rendering"]


def test_a_wrong_gripper_fails_the_same_task(tmp_path):
    """The other sign must not succeed, else the test above would show nothing."""
    python = needed_simulator("robosuite")
    run_in_simulator(python, "fixtures.scripted_episode", "lift", tmp_path / "actions.npy")
    actions = np.load(tmp_path / "actions.npy")
    actions[:, 6] *= -1
    suite = replace(SUITES["robosuite_lift"], params={"tasks": ["Lift"], "max_steps": len(actions)})
    result = replay(Replayed(actions), suite, python, tmp_path / "out")
    assert result.success is False and result.steps == len(actions)


def test_rendering_on_demand_changes_nothing_but_the_time():
    python = needed_simulator("libero")
    found = json.loads(run_in_simulator(python, "fixtures.render_on_demand", "libero_goal", 4).splitlines()[-1])
    assert found["equal"] == [True] * 8  # two episodes: a start, two looks, the state at the end
    assert found["second_alone"] == [True] * 4  # the second episode, begun first, is the same one
    assert found["episodes_differ"] and found["contrast"] > 10
    assert "were not rendered" in found["refused"]


def test_each_perturbation_changes_what_it_names_and_nothing_else():
    python = needed_simulator("libero")
    found = json.loads(run_in_simulator(python, "fixtures.perturbed_episode", "libero_object", 0).splitlines()[-1])
    assert found.pop("again") is True  # the same episode, drawn again
    for axis, seen in found.items():
        assert seen["drawn"] == [axis]
        assert (seen["state"] > 1e-3) == (axis in ("layout", "robot")), axis
        assert (seen["picture"] > 0.5) == (axis != "language"), axis
        assert seen["told"] == (axis == "language"), axis
