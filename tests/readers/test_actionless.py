"""Data without actions, as plain video is: built in every shard format, learnt from in stage 1, refused in stage 2."""

import json

import cv2
import numpy as np
import pytest
from fixtures.lerobot import write_lerobot

from jobs.executors.local import Config as LocalConfig
from jobs.executors.local import build as local_executor
from lamp_model.data.loader import Loader, SampleConfig
from lamp_model.errors import BadRun
from lamp_model.training.request import Request
from lamp_model.training.run import prepare
from pipeline.build.run import ShardConfig, build
from pipeline.readers import dataset_choice
from pipeline.recipe import Recipe, WindowConfig
from schemas.manifest import read_manifest, read_statistics
from schemas.shard_set import ShardSet

LENGTH, SIZE = 40, 64
MAPPING = """
name: plain
licence: mine
fps: 10
primary: observation.images.top
cameras: {observation.images.top: {fixed: true, fov_y: 60, depth: {key: depth, metres_per_unit: 0.001}}}
language: task_index
"""


def write_set(folder):
    """A near square slides over a far wall; two episodes, depth in millimetres."""
    rng = np.random.default_rng(0)
    wall, square = (
        cv2.resize(rng.integers(0, 255, (n, n, 3), dtype=np.uint8), (size, size)) for n, size in ((16, SIZE), (8, 24))
    )
    frames, depth = np.repeat(wall[None], LENGTH, 0), np.full((LENGTH, SIZE, SIZE), 1000, np.uint16)
    for number in range(LENGTH):
        left = 2 + number * 3 // 4
        frames[number, 20:44, left : left + 24], depth[number, 20:44, left : left + 24] = square, 800
    pictures = [{"bytes": cv2.imencode(".png", image)[1].tobytes(), "path": "x.png"} for image in depth]
    episode = {"task": "push", "video": {"observation.images.top": frames}, "columns": {"depth": pictures}}
    write_lerobot(folder, "v2.1", [episode, episode], 10.0)
    info = json.loads((folder / "meta/info.json").read_text())
    info["features"]["depth"] = {"dtype": "image", "shape": [SIZE, SIZE, 1], "names": None}
    (folder / "meta/info.json").write_text(json.dumps(info))


@pytest.fixture(scope="module", params=["webdataset", "zarr"])
def shards(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("plain")
    write_set(folder / "set")
    (folder / "my.yaml").write_text(MAPPING)
    build(
        Recipe(dataset_choice(str(folder / "my.yaml"), {}), windows=WindowConfig(stride=20)),
        folder / "set",
        folder / "shards",
        ShardConfig(format=request.param),
        local_executor(LocalConfig()),
        lambda what, count, items: items,
    )
    return folder / "shards"


def test_shards_hold_samples_without_states_and_actions(shards):
    triplet = ShardSet(shards).read(0)
    assert triplet.actions.shape == (32, 0) and triplet.state.shape == (0,) and not triplet.action_mask.any()
    assert triplet.action_convention.name == "none" and triplet.depth_unit == "m"
    manifest = read_manifest(shards)
    assert manifest.dataset["name"] == "plain" and manifest.dataset["licence"] == "mine"
    assert manifest.recipe["dataset"]["options"]["mapping"]["primary"] == "observation.images.top"
    statistics = read_statistics(shards, manifest)
    assert statistics["action"]["count"] == 0 and statistics["state"]["max"] == []
    assert {shard.name.split("-")[0] for shard in manifest.shards} == {"plain"}


def test_stage_1_learns_from_them(shards, tmp_path):
    prepared = prepare(Request(stage=1, data=shards, output=tmp_path / "run"))
    loader = Loader(prepared.data, range(4), SampleConfig(("image",), 10, 400, 32), 2, 0)
    batch = loader.batch(0)
    assert batch.actions.shape == (2, 10, 0) and batch.motion_mask.any() and batch.instructions == ("push", "push")


def test_stage_2_refuses_them_in_a_sentence(shards, tmp_path):
    with pytest.raises(BadRun, match="holds plain without actions, which stage 2 learns: train stage 1 on them"):
        prepare(Request(stage=2, data=shards, output=tmp_path / "run"))
