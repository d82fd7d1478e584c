"""Shards without flow: stage 2 trains on them, alone or beside others; whatever learns flow refuses them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.shard import write_shards

from lamp_model.data.sample import SampleConfig, to_sample
from lamp_model.errors import BadRun, BadSample
from lamp_model.training.request import Request
from lamp_model.training.run import _loaders, prepare, train
from pipeline.build.mixture import MixtureBuild, write_mixture
from schemas.scene_flow import no_flow
from schemas.shard_set import ShardSet

OPTIONS = {"steps": 2, "batch_size": 2, "validate_every": 2, "checkpoint_every": 2}


def bare(triplet):
    return replace(triplet, flow=no_flow(), point_flags=np.zeros(0, np.uint8), depth_unit="none")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("bare")
    write_shards(folder / "bare", episodes=3, frames=2, change=bare)
    write_shards(folder / "full", episodes=3, frames=2)
    write_mixture(folder, "both", [MixtureBuild("bare", "bare", None), MixtureBuild("full", "full", None)])
    train(prepare(Request(1, folder / "full", folder / "stage1", options=OPTIONS, device="cpu")))
    return folder


@pytest.mark.parametrize("data", ["bare", "."])
def test_stage_2_trains_on_them_with_the_motion_of_a_run(folder, tmp_path, data):
    options = {**OPTIONS, "chunk": 10}
    request = Request(2, folder / data, tmp_path / "run", folder / "stage1", options=options, device="cpu")
    metrics = train(prepare(request))
    assert np.isfinite(metrics["val_loss"]) and (tmp_path / "run" / "model.safetensors").is_file()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any("loss" in line for line in lines)


def test_a_policy_gets_the_same_batches_from_shards_with_flow_and_without(folder, tmp_path):
    def first(data):
        request = Request(2, folder / data, tmp_path / data, prior="none", options=OPTIONS, device="cpu")
        return _loaders(prepare(request))[0].batch(0)

    with_flow, without = first("full"), first("bare")
    for name in ("state", "actions", "action_mask", "motion", "motion_mask"):
        assert torch.equal(getattr(with_flow, name), getattr(without, name))
    assert all(torch.equal(a, b) for a, b in zip(with_flow.images, without.images, strict=True))
    assert with_flow.motion.shape == (2, 0, 0, 3)


@pytest.mark.parametrize("data", ["bare", "."])
def test_what_learns_flow_refuses_them_in_a_sentence(folder, tmp_path, data):
    with pytest.raises(BadRun, match=r"holds (fixture|bare) without flow, which stage 1 learns: build it with another"):
        prepare(Request(1, folder / data, tmp_path / "run", device="cpu"))
    joint = {"objective": "joint"}
    with pytest.raises(BadRun, match="without flow, which --objective joint learns"):
        prepare(Request(2, folder / data, tmp_path / "run", folder / "stage1", options=joint, device="cpu"))


def test_a_single_sample_without_flow_is_named(folder):
    triplet = ShardSet(folder / "bare").read(0)
    with pytest.raises(BadSample, match=f"sample {triplet.key} has no flow"):
        to_sample(triplet, SampleConfig(("image",), 10, 400, 32), "x")
