"""``--flow none``: every frame of an episode with its pictures, state and actions, and nothing measured."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.command import lamp_data
from fixtures.inspection import inspect, seen, several, write_set
from fixtures.libero import ROOT, Demo, fast_recipe, samples_of, write_file
from fixtures.triplet import make_triplet, same

from jobs.executors.local import LocalExecutor
from lamp_model.shards import open_shards
from pipeline.build.run import ShardConfig, build
from pipeline.episodes.chunks import ChunkConfig
from pipeline.flow_sources.none import recorded_cameras
from pipeline.readers import make_reader
from pipeline.recipe import Recipe, WindowConfig
from schemas.episode import CameraView, EpisodeRef
from schemas.manifest import read_manifest, read_statistics
from schemas.plugins import PluginChoice
from schemas.sample_codec import decode_triplet, encode_triplet
from schemas.scene_flow import no_flow
from schemas.shard_set import ShardSet
from schemas.triplet import NONE

FRAMES = 14
DEMOS = (Demo(0, 0, 0, FRAMES), Demo(1, 1, 5, FRAMES))
RECIPE = Recipe(PluginChoice("libero"), PluginChoice("none"), windows=WindowConfig(stride=1, action_horizon=6))


def made(recipe: Recipe, source: Path, output: Path, **options) -> ShardSet:
    build(recipe, source, output, ShardConfig(**options), LocalExecutor(), lambda what, count, items: items)
    return ShardSet(output)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """LIBERO as it is published, without depth, built without flow."""
    folder = tmp_path_factory.mktemp("without")
    write_file(folder / "data" / "task_demo.hdf5", DEMOS, depth=False)
    made(RECIPE, folder / "data", folder / "out")
    return folder


def test_every_frame_with_an_action_is_a_sample_of_the_episodes_own_numbers(place):
    reader = make_reader(PluginChoice("libero"))
    refs = [ref for ref in reader.list_episodes(place / "data") if isinstance(ref, EpisodeRef)]
    episodes = {ref.digest: reader.read(ref) for ref in refs}
    shards = ShardSet(place / "out")
    found = {(t.episode, t.source.frame): t for t in map(shards.read, range(len(shards)))}
    assert sorted(found) == sorted((digest, frame) for digest in episodes for frame in range(FRAMES - 1))
    for (digest, frame), triplet in found.items():
        episode = episodes[digest]
        left = min(6, FRAMES - 1 - frame)  # the last frame of LIBERO has no action
        assert triplet.action_mask.tolist() == [True] * left + [False] * (6 - left)
        np.testing.assert_array_equal(triplet.actions[:left], episode.actions[frame : frame + left])
        np.testing.assert_array_equal(triplet.state, episode.state[frame])
        assert not triplet.actions[left:].any() and triplet.instructions == episode.instructions
        assert not triplet.has_flow and triplet.depth_unit == NONE and set(triplet.images) == {"image", "wrist"}
        assert triplet.camera.world_from_camera.shape == (1, 4, 4) and triplet.camera.intrinsics[0, 0] > 0


def test_a_frame_that_no_action_follows_is_counted(place):
    manifest = read_manifest(place / "out")
    assert manifest.counts["rejected"] == {"no_action": 2} and manifest.samples == 2 * (FRAMES - 1)
    assert read_statistics(place / "out", manifest)["action"]["count"] == 2 * (FRAMES - 1)


def test_the_recipe_holds_nothing_that_has_no_effect():
    other = replace(RECIPE, windows=WindowConfig(1, 8, 5, 6, 2.0), quality=replace(RECIPE.quality, min_steps=3))
    assert other.digest == RECIPE.digest
    assert RECIPE.as_dict()["windows"] == {"stride": 1, "action_horizon": 6}
    assert not RECIPE.as_dict().keys() & {"quality", "tracker", "depth", "camera"}
    assert replace(RECIPE, windows=WindowConfig(2, action_horizon=6)).digest != RECIPE.digest


def test_pictures_and_actions_are_those_of_a_build_with_flow(tmp_path):
    write_file(tmp_path / "data" / "task_demo.hdf5")
    recipe = fast_recipe()
    with_flow = made(recipe, tmp_path / "data", tmp_path / "flow")
    without = made(replace(recipe, flow=PluginChoice("none")), tmp_path / "data", tmp_path / "none")
    plain = {t.key: t for t in map(without.read, range(len(without)))}
    for triplet in map(with_flow.read, range(len(with_flow))):
        other = plain[triplet.key]
        assert triplet.has_flow and triplet.images == other.images
        for name in ("actions", "action_mask", "state", "standard_actions", "source"):
            assert same(getattr(triplet, name), getattr(other, name)), name


def test_chunks_and_formats_give_the_same_samples(place, tmp_path):
    output = tmp_path / "chunks"
    small = ChunkConfig(megapixels=0.05)  # three frames
    executor = LocalExecutor()
    build(RECIPE, place / "data", output, ShardConfig(), executor, lambda what, n, items: items, chunks=small)
    assert samples_of(output) == samples_of(place / "out")
    tar, zarr = ShardSet(place / "out"), made(RECIPE, place / "data", tmp_path / "zarr", format="zarr")
    assert len(tar) == len(zarr) and all(same(tar.read(n), zarr.read(n)) for n in range(len(tar)))


@pytest.mark.parametrize("standard", [True, False])
def test_a_sample_without_flow_survives_the_format_and_is_refused_by_older_programs(standard):
    triplet = replace(make_triplet(3, standard=standard), flow=no_flow(), point_flags=np.zeros(0, np.uint8), quality={})
    triplet = replace(triplet, depth_unit=NONE, depth_source=NONE, flow_source=NONE)
    members = encode_triplet(triplet)
    assert not [name for name in members if name.endswith(".blosc")] and json.loads(members["json"])["version"] == 2
    assert encode_triplet(decode_triplet(triplet.key, members)) == members
    assert json.loads(encode_triplet(make_triplet(3))["json"])["version"] == 1


def test_flow_may_be_left_in_the_shard():
    triplet = make_triplet(4)
    members = encode_triplet(triplet)
    left = decode_triplet(triplet.key, members, flow=False)
    whole = decode_triplet(triplet.key, members)
    assert not left.has_flow and whole.has_flow
    assert same(replace(whole, flow=left.flow, point_flags=left.point_flags), left)


def test_shards_open_as_any_others(place):
    sample = open_shards(place / "out")[0]
    assert sample["flow"].shape == (0, 0, 3) and sample["positions"].shape == (0, 1, 3)
    assert sample["image"].shape == (128, 128, 3) and sample["depth_unit"] == NONE


def test_inspecting_says_that_there_is_no_flow_and_draws_none(place, tmp_path):
    code, facts = seen(place / "out", picture=tmp_path / "sheet.png", html=tmp_path / "page.html")
    assert (
        code == 0 and facts["flow_ranges"] == [] and facts["quality"] == {} and facts["bytes_per_sample"]["flow"] == 0
    )
    page = (tmp_path / "page.html").read_text()
    assert "No flow was measured." in page and "no action follows" in page
    for absent in ("id='histograms'", "id='worst'", "<canvas>", "The checks"):
        assert absent not in page
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    said: list[str] = []
    assert inspect(place / "out", said.append, sample="0", html=tmp_path / "one.html") == 0
    assert "flow                none" in said[0] and "point flags" not in said[0]
    assert seen(place / "out", sample="0", picture=tmp_path / "one.png")[1]["flow"] is None


def test_the_command_takes_every_frame_and_asks_videos_for_no_camera(place, tmp_path):
    ran = lamp_data("build", "--dataset", "libero", "--input", place / "data", "--flow", "none", "--executor", "local",
                    "--output", tmp_path / "out", "--action-horizon", "6", folder=tmp_path)  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert samples_of(tmp_path / "out") == samples_of(place / "out")
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "clip.mp4").symlink_to(ROOT / "tests/samples/libero_goal_wrist_av1.mp4")
    ran = lamp_data("build", "--dataset", "video", "--input", videos, "--flow", "none", "--executor", "local",
                    "--dataset-options", "text=filename", "clip_frames=20", "--stride", "10", "--output",
                    tmp_path / "v", folder=tmp_path)  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    triplet = ShardSet(tmp_path / "v").read(0)
    assert not triplet.camera.intrinsics.any() and triplet.camera.intrinsics_source == "unknown"


def test_there_is_nothing_to_evaluate(tmp_path):
    ran = lamp_data("evaluate", "--flow", "none", "--truth", "rigid-world", folder=tmp_path)
    assert ran.returncode == 2 and "--flow none measures no flow" in ran.stderr


def test_both_formats_leave_flow_in_the_shard_when_it_is_not_wanted(tmp_path):
    for name in ("webdataset", "zarr"):
        write_set(tmp_path / name, several(2), name)
    tar, zarr = ShardSet(tmp_path / "webdataset"), ShardSet(tmp_path / "zarr")
    for number in range(2):
        left = tar.read(number, flow=False)
        assert not left.has_flow and same(left, zarr.read(number, flow=False)) and zarr.read(number).has_flow


def test_poses_that_no_camera_has_are_unknown_and_refuse_no_episode():
    frames = np.zeros((3, 40, 40, 3), np.uint8)
    view = CameraView("eye", lambda: frames, 3, (40, 40), world_from_camera=np.tile(np.eye(4), (3, 1, 1)))
    assert recorded_cameras(view).moving and recorded_cameras(view).intrinsics_source == "unknown"
    for broken in (np.full((3, 4, 4), np.nan), np.tile(np.eye(4), (2, 1, 1)), 2 * np.tile(np.eye(4), (3, 1, 1))):
        cameras = recorded_cameras(replace(view, world_from_camera=broken))
        assert cameras.pose_source == "unknown" and np.array_equal(cameras.world_from_camera, [np.eye(4)] * 3)
