"""Builds with estimated depth, as typed: real Bridge pictures, weights in a folder, samples that say where their metres
come from.
"""

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace

import pytest
import torch
from fixtures.depth import depth_anything, save
from fixtures.libero import Demo, write_file
from fixtures.rlds import SAMPLE
from windows.test_chunks import WINDOWS, episode

from jobs.lamp_data import main
from lamp_model.errors import BadRun
from lamp_model.training.request import Request
from lamp_model.training.run import prepare, train
from pipeline.depth._hub_models import DepthModel
from pipeline.episodes.chunks import ChunkConfig
from pipeline.evaluation.ground_truth import from_rigid_world
from pipeline.evaluation.scoring import score_episode
from pipeline.evaluation.synthetic_scene import moving_card
from pipeline.recipe import QualityConfig, Recipe
from pipeline.timing import Stopwatch
from pipeline.windows.maker import TripletMaker
from schemas.episode import BadEpisode
from schemas.plugins import PluginChoice, configure, load_plugin
from schemas.sample_codec import encode_triplet
from schemas.shard_set import ShardSet
from schemas.triplet import Triplet

torch.set_num_threads(1)
LENIENT = [
    "--quality.max-edges",
    "1",
    "--quality.max-holes",
    "1",
    "--quality.max-jumps",
    "1",
    "--quality.min-valid",
    "0",
    "--quality.min-moving-points",
    "0",
]
"""Random weights see edges everywhere; what is looked at here is what samples say."""
ANYTHING = QualityConfig(max_edges=1, max_holes=1, max_jumps=1, min_valid=0, min_moving_points=0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save(tmp_path_factory.mktemp("weights"), *depth_anything())


def typed(*words):
    """The command in this process: exit code, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["lamp-data", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
    return end.value.code, out.getvalue(), err.getvalue()


def bridge(weights, output, *more):
    source = (
        "build",
        "--dataset",
        "bridge",
        "--input",
        SAMPLE,
        "--output",
        output,
        "--executor",
        "local",
        "--limit",
        2,
    )
    depth = ("--depth", "depth-anything-v2", "--depth-options", f"weights={weights}", "device=cpu")
    return (*source, *depth, "--camera-options", "fov_y=50", *LENIENT, *more)


@pytest.fixture(scope="module")
def built(weights, tmp_path_factory):
    """A folder of shards of Bridge with estimated depth, and what the build said."""
    folder = tmp_path_factory.mktemp("built") / "shards"
    code, out, err = typed(*bridge(weights, folder))
    assert code == 0, err
    return folder, out


def test_bridge_without_anything_to_align_to_is_relative_and_says_so(weights, built):
    folder, out = built
    shards = ShardSet(folder)
    sample = shards.read(0)
    assert sample.depth_unit == "relative" and sample.depth_alignment is None
    assert "Depth Anything V2, local weights" in sample.depth_source and str(weights) not in sample.depth_source
    assert shards.manifest.counts["relative_depth"] == len(shards) == 2
    assert f"{len(shards)} triplets have depth without a scale" in out
    options = shards.manifest.recipe["depth"]["options"]
    assert options["weights"].startswith("sha256:") and str(weights) not in json.dumps(shards.manifest.recipe)


def test_the_same_weights_elsewhere_give_the_same_bytes(built, tmp_path):
    copy = save(tmp_path / "elsewhere", *depth_anything())
    assert typed(*bridge(copy, tmp_path / "shards"))[0] == 0
    assert (tmp_path / "shards" / "manifest.json").read_bytes() == (built[0] / "manifest.json").read_bytes()


def test_an_estimate_that_does_not_fit_the_recorded_depth_is_set_aside(weights, tmp_path):
    write_file(tmp_path / "libero" / "suite" / "a_demo.hdf5", [Demo(0)])
    words = (
        "build",
        "--dataset",
        "libero",
        "--input",
        tmp_path / "libero",
        "--output",
        tmp_path / "shards",
        "--executor",
        "local",
    )
    depth = ("--depth", "depth-anything-v2", "--depth-options", f"weights={weights}", "device=cpu", "align=recorded")
    code, _, err = typed(*words, *depth)
    assert code == 1 and "of the anchors agree, at least 50% are needed" in err


def test_weights_that_are_nowhere_end_the_build_before_it_begins(tmp_path):
    code, _, err = typed(*bridge(tmp_path / "nowhere", tmp_path / "shards"))
    assert code == 1 and "there is no such folder" in err and "Traceback" not in err
    assert not list((tmp_path / "shards").glob("*.tar"))


def test_motion_is_not_learnt_from_depth_without_a_scale_unless_asked(built, tmp_path):
    """Refused with three ways on; each of them goes on. What is left out with 2d is said by the model itself."""
    asked = Request(1, built[0], tmp_path / "run", options={"steps": 1, "batch_size": 1}, device="cpu")
    with pytest.raises(
        BadRun, match=r"all of the 2 samples .* relative depth, without a scale .*--motion 2d .*--relative-depth"
    ):
        prepare(asked)
    assert not prepare(replace(asked, prior="2d")).config.model.motion.depth
    prepared = prepare(replace(asked, relative_depth=True))
    motion = replace(prepared.config.model.motion, layers=1, heads=2, head_dim=16, patch_size=10)
    small = replace(
        prepared.config.model,
        motion=motion,
        backbone_options={**prepared.config.model.backbone_options, "image_size": 64},
    )
    verdict = train(replace(prepared, config=replace(prepared.config, model=small)))
    assert any("relative" in name for name in verdict) and not any("_m_" in name for name in verdict)
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_a_long_episode_in_pieces_gives_the_same_bytes_and_estimates_each_frame_once(weights, monkeypatch):
    seen = counted(monkeypatch)
    long, made = episode(40), {}
    for megapixels in (0.05, 32.0):
        options = {"weights": str(weights), "device": "cpu", "align": "none"}
        recipe = Recipe(
            PluginChoice("bridge"), depth=PluginChoice("depth-anything-v2", options), windows=WINDOWS, quality=ANYTHING
        )
        windows = TripletMaker(recipe, ChunkConfig(megapixels)).windows(long)
        made[megapixels] = [encode_triplet(t) for t in windows if isinstance(t, Triplet)]
    assert made[0.05] == made[32.0] and len(made[0.05]) > 5
    assert sum(seen) == 2 * 40


def test_what_is_no_weight_is_answered_with_the_choices(tmp_path):
    code, _, err = typed(
        "build", "--dataset", "bridge", "--input", SAMPLE, "--depth", "midas", "--depth-options", "size=huge"
    )
    assert code == 2 and "midas.size must be one of hybrid, large" in err


def test_depth_without_a_scale_is_not_judged_in_metres(weights):
    exact = from_rigid_world(moving_card(12, (96, 72), camera_moves=False), "test", (0,), True, horizon=8, grid=4)
    options = {"weights": str(weights), "device": "cpu", "align": "none"}
    config = configure("pipeline.flow_sources", "tracked", {"depth": PluginChoice("depth-anything-v2", options)})
    source = load_plugin("pipeline.flow_sources", "tracked").build(config)
    with pytest.raises(BadEpisode, match=r"its depth is relative .*measured in metres"):
        score_episode(exact, source, QualityConfig(), Stopwatch())


def counted(monkeypatch):
    """A list to which every batch's number of frames is added."""
    seen, predict = [], DepthModel._predict
    monkeypatch.setattr(DepthModel, "_predict", lambda self, frames: seen.append(len(frames)) or predict(self, frames))
    return seen


def test_pictures_were_looked_at_once_each(weights, monkeypatch, tmp_path):
    seen = counted(monkeypatch)
    assert typed(*bridge(weights, tmp_path / "shards", "--stride", 1, "--quality.min-steps", 1))[0] == 0
    assert sum(seen) == 2 * 10, "two episodes of ten frames, however many windows"
    assert len(ShardSet(tmp_path / "shards")) > 10
