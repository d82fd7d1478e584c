"""Grid and horizon of what is learnt: the shards' own, or chosen, and refused before a model is made."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.shard import random_triplet, write_shards

from lamp_model.data.sample import SampleConfig, to_sample
from lamp_model.errors import BadRun
from lamp_model.training import run as running
from lamp_model.training.request import Request
from lamp_model.training.run import prepare
from pipeline.build.mixture import MixtureBuild, write_mixture
from schemas.scene_flow import GRID, HORIZON, SceneFlow


def cut(grid, horizon):
    """A change of a triplet to a smaller grid and a shorter horizon."""

    def change(triplet):
        rows = np.arange(grid)
        taken, steps = (rows[:, None] * GRID + rows).ravel(), horizon + 1
        f = triplet.flow
        flow = SceneFlow(f.uvz[taken, :steps], f.visible[taken, :steps], f.valid[taken, :steps])
        return replace(triplet, flow=flow, point_flags=triplet.point_flags[taken])

    return change


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("sizes")
    write_shards(folder / "small", episodes=2, frames=2, change=cut(8, 6))
    write_shards(folder / "odd", episodes=2, frames=2, change=cut(6, 6))
    write_shards(folder / "full", episodes=2, frames=2)
    return folder


def sizes(folder, name, stage=1, motion=None, prior=None, **options):
    request = Request(stage, folder / name, folder / "run", motion, prior, options=options, device="cpu")
    prepared = prepare(request)
    batch = running._loaders(prepared)[0].batch(0)
    motion = prepared.config.model.motion
    return (motion.grid, motion.horizon), tuple(batch.motion.shape[1:3])


def test_they_are_those_of_the_shards(folder):
    assert sizes(folder, "small") == ((8, 6), (64, 6))
    assert sizes(folder, "full") == ((GRID, HORIZON), (GRID**2, HORIZON))


def test_a_smaller_grid_and_a_shorter_horizon_are_chosen(folder):
    assert sizes(folder, "full", grid=4, horizon=10) == ((4, 10), (16, 10))
    assert sizes(folder, "small", horizon=4) == ((8, 4), (64, 4))


def test_the_first_steps_and_every_nth_keypoint_are_taken():
    triplet = random_triplet(0, 0)
    whole = to_sample(triplet, SampleConfig(("image",), 10, GRID**2, HORIZON), "x")
    taken = to_sample(triplet, SampleConfig(("image",), 10, 16, 10), "x")
    rows = np.arange(2, GRID, 5)  # the middle of each 5 x 5
    points = (rows[:, None] * GRID + rows).ravel()
    assert torch.equal(taken.motion[0], whole.motion[0][points, :10])
    assert torch.equal(taken.motion_mask[0], whole.motion_mask[0][points, :10])
    scene = taken.scenes[0]
    assert np.array_equal(scene.uvz, triplet.flow.uvz[points, :11])
    assert np.array_equal(scene.valid, triplet.flow.valid[points, :11])


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("small", {"grid": 12}, "a grid of 12 was asked for, and the samples of .* have 8: choose a grid that divides"),
        ("full", {"grid": 8}, "a grid of 8 was asked for, and the samples of .* have 20: choose a grid that divides"),
        ("small", {"horizon": 8}, "a horizon of 8 was asked for, and the samples of .* have 6: choose as many steps"),
        (
            "odd",
            {},
            "a grid of 6 and a horizon of 6, which the Motion Expert cannot have: .* multiple of patch",
        ),
        ("full", {"grid": 10}, "the grid must be a multiple of patch_size"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_model_is_made(folder, name, options, says, monkeypatch):
    monkeypatch.setattr(running, "_build", lambda *_: pytest.fail("a model was built"))
    with pytest.raises(ValueError, match=says):
        sizes(folder, name, **options)
    assert not (folder / "run").exists()


def test_members_that_differ_have_to_be_chosen_for(folder, tmp_path):
    write_shards(tmp_path / "a", episodes=2, frames=1)
    write_shards(tmp_path / "b", episodes=2, frames=1, change=cut(GRID, 16))
    write_mixture(tmp_path, "m", [MixtureBuild("a", "a", None), MixtureBuild("b", "b", None)])
    with pytest.raises(BadRun, match=r"differ in their horizon \(a 32, b 16\): choose one with --horizon"):
        prepare(Request(1, tmp_path, tmp_path / "run"))
    assert sizes(tmp_path, ".", horizon=16) == ((GRID, 16), (GRID**2, 16))


def test_a_policy_takes_no_flow_whatever_the_grid(folder):
    assert sizes(folder, "odd", stage=2, prior="none")[1] == (0, 0)
