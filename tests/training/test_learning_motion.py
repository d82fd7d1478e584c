"""Stage 1 learns motion: on held-out episodes it beats "nothing moves", and it says what it is worth."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from fixtures.shard import write_shards

from lamp_model.model import MotionModel
from lamp_model.storage import run_folder
from lamp_model.storage.checkpoints import read_tensors
from lamp_model.training.metrics import read_metrics
from lamp_model.training.motion_report import validation_line, verdict
from lamp_model.training.request import Request
from lamp_model.training.run import prepare, train
from schemas.scene_flow import GRID, HORIZON, PointFlag, SceneFlow

DIRECTIONS = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]) * 0.004


def seen_world(triplet):
    """A rigid block slides where the picture's colour says, further or less far by its brightness."""
    rng = np.random.default_rng(int(triplet.episode, 16) % 2**32 + triplet.source.frame)
    which, speed = rng.integers(4), rng.uniform(0.5, 1.5)
    moving = (np.arange(GRID * GRID) % GRID) < GRID // 2
    steps = np.arange(HORIZON + 1)[None, :, None] * moving[:, None, None]
    uvz = np.repeat(triplet.flow.uvz[:, :1], HORIZON + 1, axis=1)
    uvz[..., :2] += (steps * DIRECTIONS[which] * speed).astype(np.float32)
    every = np.ones(uvz.shape[:2], bool)
    colour = np.zeros((64, 64, 3), np.uint8)
    colour[..., which % 3] = int(160 * speed)
    colour[:32] //= 2 if which == 3 else 1
    picture = cv2.imencode(".jpg", colour)[1].tobytes()
    return replace(
        triplet,
        images={"image": picture, "wrist": picture},
        instructions=("move it",),
        flow=SceneFlow(uvz, every, every),
        point_flags=np.where(moving, 0, int(PointFlag.STATIC)).astype(np.uint8),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("learning")
    data = write_shards(folder / "shards", episodes=20, frames=4, change=seen_world)
    options = {"steps": 80, "batch_size": 8, "learning_rate": 4e-3, "validate_every": 80}
    prepared = prepare(Request(1, data, folder / "run", options=options, device="cpu"))
    motion = replace(prepared.config.model.motion, layers=1, heads=2, head_dim=16, patch_size=10)
    backbone = {**prepared.config.model.backbone_options, "image_size": 64}
    model = replace(prepared.config.model, motion=motion, backbone_options=backbone)
    metrics = train(replace(prepared, config=replace(prepared.config, model=model)))
    return folder / "run", metrics


def test_it_learns_what_moves_where(run):
    _, metrics = run
    assert metrics["first_px_moving"] < 0.5 * metrics["still_px_moving"]
    assert metrics["rollout_px_moving"] < 0.6 * metrics["still_px_moving"]
    assert metrics["best_px_moving"] <= metrics["rollout_px_moving"]
    assert metrics["probe_px_moving"] < metrics["still_px_moving"]


def test_every_look_has_both_baselines(run):
    folder, metrics = run
    lines = [line for line in read_metrics(folder / "metrics.jsonl") if "val_loss" in line]
    names = {f"{who}_px_{group}" for who in ("first", "rollout", "still", "probe") for group in ("moving", "all")}
    assert [line["step"] for line in lines] == [0, 80] and all(names <= set(line) for line in lines)
    assert lines[0]["first_px_all"] == pytest.approx(lines[0]["still_px_all"])  # from scratch nothing moves
    told = validation_line(metrics)
    assert told is not None and "best of 8" in told and "linear probe" in told


def test_what_was_counted_over_the_training_set_stays_with_the_weights(run):
    folder, _ = run
    kept = read_tensors(folder / "model.safetensors")
    assert 0 < float(kept["motion_head.sigma"]) < 1
    deviation = kept["motion_head.feature_norm.std"]
    assert (deviation > 0).all() and not (deviation == 1).all()
    config = run_folder.finished_run(folder, 1)
    model = MotionModel(run_folder.local_backbone(folder, config.model))
    run_folder.load_motion_weights(folder, model)
    assert torch.equal(model.motion_head.sigma, kept["motion_head.sigma"])
    assert torch.equal(model.motion_head.feature_norm.std, deviation)


def test_a_run_that_is_worse_than_the_probe_says_so():
    worse = {"first_px_moving": 5.0, "probe_px_moving": 4.0, "still_px_moving": 10.0}
    assert "does NOT beat the linear probe" in str(verdict(worse))
    assert "beats the linear probe" in str(verdict({**worse, "probe_px_moving": 6.0}))
    assert verdict({"first_px_moving": 5.0, "still_px_moving": 10.0}) is None
