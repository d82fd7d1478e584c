"""What the page shows beside the flow itself: real frames, space, histograms, scores, and what was left out."""

import base64
import dataclasses
import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.inspection import SIZE, inspect, known_triplet, seen, several, write_set
from fixtures.libero import Demo, fast_recipe, write_file

from jobs.cli.exit_codes import UsageError
from jobs.commands.inspect import Inspect, inspect_command
from jobs.executors.local import LocalExecutor
from pipeline.build.run import ShardConfig, build
from pipeline.inspection.flow_statistics import DISTANCE_EDGES, NORMALISED_EDGES, FlowStatistics, measure, positions
from pipeline.inspection.histogram import Histogram
from pipeline.inspection.pictures import depth_change_limit
from pipeline.inspection.ranking import choose
from pipeline.inspection.rejected_flow import rejected_flow
from pipeline.inspection.rejections import RejectedWindow, read_rejections
from pipeline.inspection.score import score_of
from pipeline.inspection.shard_paths import CannotInspect
from pipeline.inspection.source_frames import NoWayBack, WayBack, frame_offsets
from pipeline.inspection.summary import Candidate
from pipeline.inspection_page import library as libraries
from pipeline.inspection_page.data import flow_data
from pipeline.readers import dataset_choice, libero
from pipeline.recipe import QualityConfig
from pipeline.vision.lift import LiftedTracks
from pipeline.windows.quality import evaluate
from schemas.cameras import pose_from_quaternion
from schemas.files import canonical_json, digest_of, sha256_of
from schemas.mixture import Member, Mixture
from schemas.plugins import PluginChoice, plugin_names, recorded_options
from schemas.scene_flow import MOTION_SCALE, MOVES, PointFlag, SceneFlow
from schemas.shard_set import ShardSet
from schemas.structured import structure
from schemas.triplet import Resampling

MAPPINGS = Path(__file__).parents[2] / "jobs/recipes/mappings"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A dataset of two episodes and its shards."""
    source, output = tmp_path_factory.mktemp("libero"), tmp_path_factory.mktemp("shards")
    write_file(source / "a_demo.hdf5", [Demo(0), Demo(1, 0, 14)])
    build(fast_recipe(), source, output, ShardConfig(), LocalExecutor(), lambda *a: a[2])
    return source, output


def page_of(path, file, **options) -> str:
    inspect(path, html=file, say=lambda text: None, **options)
    return file.read_text()


def flows_in(page: str) -> list[dict]:
    return [json.loads(found) for found in re.findall(r"class='flow'>(.*?)</script>", page, flags=re.DOTALL)]


# ---- the dataset's own frames
# --------------------------------------------------------------------------------------------


def test_the_way_back_leads_to_the_frames_that_a_sample_was_made_from(built):
    source, output = built
    shards, way = ShardSet(output), WayBack(source)
    reader = libero.build(libero.Config())
    episodes = {ref.digest: reader.read(ref) for ref in reader.list_episodes(source)}
    for number in range(len(shards)):
        t = shards.read(number)
        frames = way.frames(t.source, t.episode, frame_offsets(t), shards.manifest)
        expected = episodes[t.episode].views[t.source.camera].frames
        assert len(frames) == t.flow.horizon + 1
        np.testing.assert_array_equal(frames[0], expected[t.source.frame])
        np.testing.assert_array_equal(frames[3], expected[min(t.source.frame + 3, len(expected) - 1)])
        np.testing.assert_array_equal(frames[-1], expected[min(t.source.frame + t.flow.horizon, len(expected) - 1)])


def test_frames_that_a_build_left_out_are_left_out_again(tmp_path):
    recipe = fast_recipe(actions=PluginChoice("standard", {"noop_filter": "yes"}))
    folder = tmp_path / "idle"
    folder.mkdir()

    def idle(file):
        file["data/demo_0/actions"][3:6, :6] = 0  # frames 3 to 5 do nothing

    write_file(folder / "a_demo.hdf5", [Demo(0, frames=20)], change=idle)
    build(recipe, folder, tmp_path / "out", ShardConfig(), LocalExecutor(), lambda *a: a[2])
    shards, way = ShardSet(tmp_path / "out"), WayBack(folder)
    reader = libero.build(libero.Config())
    frames = reader.read(next(iter(reader.list_episodes(folder)))).views["agentview"].frames
    t = next(t for t in map(shards.read, range(len(shards))) if t.source.frame == 0)
    found = way.frames(t.source, t.episode, frame_offsets(t), shards.manifest)
    number = [int(np.flatnonzero([np.array_equal(f, g) for g in frames])[0]) for f in found]
    assert 4 not in number and number[0] == 0 and number == sorted(number)


def test_steps_between_frames_show_the_nearer_frame():
    t = known_triplet(resampled=Resampling(0.02, "for a test"), fps=20.0)
    assert frame_offsets(t).tolist() == [round(0.4 * step) for step in range(33)]


def test_the_page_plays_those_frames_and_says_why_where_it_cannot(built, tmp_path):
    source, output = built
    page = page_of(output, tmp_path / "page.html", dataset=source, shown=2)
    t = ShardSet(output).read(0)
    kept = re.sub(r"id='left-out'>.*?<details class='section", "", page, flags=re.DOTALL)
    for flow in flows_in(kept):
        assert len(flow["video"]) == t.flow.horizon + 1
    video = [base64.b64decode(f) for f in flows_in(page)[0]["video"]]
    assert cv2.imdecode(np.frombuffer(video[0], np.uint8), cv2.IMREAD_COLOR).shape == (128, 128, 3)
    (tmp_path / "empty").mkdir()
    page = page_of(output, tmp_path / "page.html", dataset=tmp_path / "empty", shown=2)
    assert "No video: " in page and not any(flow["video"] for flow in flows_in(page))
    other = tmp_path / "other"
    other.mkdir()
    write_file(other / "b_demo.hdf5", [Demo(0)])
    page = page_of(output, tmp_path / "page.html", dataset=other, shown=2)
    assert "does not hold a_demo.hdf5" in page
    with pytest.raises(CannotInspect, match="is no folder"):
        inspect(output, html=tmp_path / "page.html", dataset=tmp_path / "nowhere")


def test_an_episode_that_cannot_be_read_is_no_end(built):
    source, output = built
    t = ShardSet(output).read(0)
    gone = dataclasses.replace(t.source, camera="behind the door")
    with pytest.raises(NoWayBack, match="no camera behind the door"):
        WayBack(source).frames(gone, t.episode, np.arange(2), None)


@pytest.mark.parametrize("said", [*plugin_names("pipeline.readers"), *map(str, sorted(MAPPINGS.glob("*.yaml")))])
def test_every_reader_is_found_again_from_what_a_recipe_records(said):
    choice = dataset_choice(said, {})
    config = choice.configure("pipeline.readers")
    recorded = json.loads(canonical_json(recorded_options(config)))
    assert structure(type(config), recorded, "the recipe") == config


def test_with_a_moving_camera_points_are_drawn_where_each_frame_shows_them():
    still = known_triplet(moving=0)
    poses = np.tile(np.eye(4), (33, 1, 1))
    poses[:, 0, 3] = 0.01 * np.arange(33)  # the camera slides to the right
    turned = np.stack([pose_from_quaternion(p[:3, 3], np.array([1, 0, 0, 0.0])) for p in poses])
    camera = dataclasses.replace(still.camera, world_from_camera=turned)
    t = dataclasses.replace(still, camera=camera)
    data = flow_data(t, measure(t), 0.05)
    own = np.frombuffer(base64.b64decode(data["own"]), "<i2").reshape(400, 33, 2) * 0.04
    left = -camera.intrinsics[0, 0] * 0.01 * np.arange(33) / positions(t)[:, :1, 2]
    assert np.abs(own[..., 0] - left).max() <= 0.021 and not own[..., 1].any()
    assert flow_data(still, measure(still), 0.05)["own"] is None


# ---- what moves
# ------------------------------------------------------------------------------------------------------------


def test_the_points_that_are_said_to_move_are_those_that_the_build_counts():
    t = known_triplet(moving=0, inside=33)
    t.flow.uvz[:, 1:, 2] += np.linspace(0, 2 * MOVES, 400)[:, None]  # about half of them beyond the threshold
    nothing = np.zeros(t.flow.valid.shape, bool)
    lifted = LiftedTracks(t.flow, nothing, nothing, exact=True)
    counted = evaluate(lifted, 32, t.fps, t.camera.intrinsics, t.camera.size, QualityConfig())
    assert 150 < measure(t).moving.sum() == counted.measures["moving_points"] < 250


# ---- in space
# ------------------------------------------------------------------------------------------------------------


def test_without_the_plotting_library_the_page_says_how_to_get_it(tmp_path, monkeypatch):
    folder = write_set(tmp_path / "set", several(3))
    with_it = page_of(folder, tmp_path / "page.html")
    assert "In space</button>" in with_it and "drag to turn" in with_it and libraries.MISSING not in with_it
    monkeypatch.setattr("pipeline.inspection_page.page.plotting_library", lambda: None)
    without = page_of(folder, tmp_path / "page.html")
    assert html.escape(libraries.MISSING, quote=True) in without and "In space</button>" not in without
    assert "drag to turn" not in without, "nothing promises what is not there"
    assert len(without) < len(with_it) / 2


# ---- histograms
# ----------------------------------------------------------------------------------------------------------


def test_binned_shares_are_those_of_the_values():
    values = np.random.default_rng(0).normal(scale=300, size=5000).round() * 0.002
    histogram = Histogram(0.002)
    histogram.add(values)
    edges = np.linspace(-1.501, 1.501, 62)  # no value lies on an edge
    expected = np.histogram(values, edges)[0] / len(values)
    np.testing.assert_allclose(histogram.shares(edges), expected, atol=1e-12)
    assert not Histogram(1).shares(edges).any()


def test_histograms_are_of_moving_points_over_the_published_scale():
    t = known_triplet(moving=100)
    statistics = FlowStatistics("m")
    statistics.add(t, measure(t))
    bins = statistics.result()["histograms_of_moving_points"]
    step = np.diff(positions(t)[0], axis=0)[0] / [*SIZE, 1] / MOTION_SCALE
    for axis, name in enumerate(("du", "dv", "dz")):
        (bin_,) = np.flatnonzero(bins[name]["shares"])
        assert NORMALISED_EDGES[bin_] <= step[axis] < NORMALISED_EDGES[bin_ + 1]
        assert bins[name]["shares"][bin_] == 1
    assert sum(bins["distance"]["shares"]) == pytest.approx(1)
    assert len(bins["distance"]["edges"]) == len(DISTANCE_EDGES)


def test_a_mixture_is_its_members(tmp_path):
    members = []
    for name, count in (("one", 3), ("two", 2)):
        (tmp_path / name).mkdir()
        manifest = write_set(tmp_path / name, several(count), name=name) / "manifest.json"
        members.append(Member(name, name, None, sha256_of(manifest), count, 1, {"name": name}))
    Mixture("both", tuple(members)).write(tmp_path)
    for path in (tmp_path, tmp_path / "mixture.json"):
        assert [s["samples"] for s in seen(path)[1]["sets"]] == [3, 2]
    write_set(tmp_path / "two", several(1), name="two")
    with pytest.raises(CannotInspect, match="was built again") as caught:
        inspect(tmp_path, say=lambda text: None)
    assert caught.value.exit_code == 1


def test_several_sets_stand_side_by_side(tmp_path):
    for name, count in (("one", 4), ("two", 2)):
        (tmp_path / name).mkdir()
        write_set(tmp_path / name, several(count), name=name)
    code, facts = seen(tmp_path)
    assert code == 0 and [s["samples"] for s in facts["sets"]] == [4, 2]
    page = page_of(tmp_path, tmp_path / "page.html", shown=4, order="spread")
    assert "one, two</h1>" in page and page.count("class='key'") == 2
    assert len(re.findall(r"<article class='card'>", page)) == 4
    with pytest.raises(CannotInspect, match="2 sets of shards"):
        inspect(tmp_path, sample="0", say=lambda text: None)
    assert seen(tmp_path / "two")[1]["samples"] == 2


# ---- scores
# --------------------------------------------------------------------------------------------------------------


def test_the_score_is_what_it_is_said_to_be():
    t = known_triplet(moving=100, inside=11)
    assert score_of(t, measure(t)).value == 1
    t.flow.valid[:40, 5:] = False
    t.point_flags[:20] |= np.uint8(PointFlag.JUMP)
    t.point_flags[10:30] |= np.uint8(PointFlag.DEPTH_EDGE)
    t.point_flags[200:] |= np.uint8(PointFlag.LOST | PointFlag.CARRIED)
    found = score_of(t, measure(t))
    assert found.valid == pytest.approx(1 - 40 * 6 / (400 * 11))
    assert found.value == pytest.approx(found.valid * (1 - 30 / 400))
    assert found.flagged == {"lost": 0.5, "depth_edge": 0.05, "jump": 0.05, "carried": 0.5}


def test_worst_and_best_are_those_by_score(tmp_path):
    candidates = [Candidate(i, tmp_path, i, f"k{i}", f"e{i}", 0, 1.0, trust=(i * 7 % 10) / 10) for i in range(10)]
    assert [c.trust for c in choose(candidates, 3, "worst")] == [0, 0.1, 0.2]
    assert [c.trust for c in choose(candidates, 3, "best")] == [0.9, 0.8, 0.7]
    triplets = several(4, episode="a" * 16)
    flow = triplets[2].flow
    triplets[2] = dataclasses.replace(
        triplets[2], flow=SceneFlow(flow.uvz, flow.visible, flow.valid & (np.arange(400)[:, None] > 100))
    )
    folder = tmp_path / "set"
    folder.mkdir()
    page = page_of(write_set(folder, triplets), tmp_path / "page.html", shown=1)
    worst = page.split("id='worst'")[1].split("id='best'")[0]
    assert worst.index(triplets[2].key) < worst.index("score 1.00")
    assert triplets[2].key not in page.split("id='best'")[1]


# ---- what was left out
# ---------------------------------------------------------------------------------------------------


def test_what_was_left_out_is_counted_and_every_example_is_one(built):
    source, output = built
    found, manifest = read_rejections(output), ShardSet(output).manifest
    assert dict(found.windows) == manifest.counts["rejected"] and found.windows
    kept = {(t.episode, t.source.frame) for t in map(ShardSet(output).read, range(manifest.samples))}
    lengths = {
        ref.digest: libero.build(libero.Config()).read(ref).length
        for ref in libero.build(libero.Config()).list_episodes(source)
    }
    for reason, windows in found.examples.items():
        assert 0 < len(windows) <= min(4, found.windows[reason])
        for window in windows:
            assert (window.digest, window.source.frame) not in kept
            assert (
                window.measure
                == lengths[window.digest] - 1 - window.source.frame
                < manifest.recipe["quality"]["min_steps"]
            )


def test_the_page_shows_them_with_the_threshold_and_pictures(built, tmp_path):
    source, output = built
    page = page_of(output, tmp_path / "page.html", dataset=source)
    least = ShardSet(output).manifest.recipe["quality"]["min_steps"]
    assert f"steps left in the episode, at least {least} wanted" in page
    shown = sum(len(windows) for windows in read_rejections(output).examples.values())
    assert len(re.findall(r"<figcaption>too short: \d+, at least", page)) == shown > 0
    left_out = page.split("id='left-out'")[1].split("<details class='section'")[0]
    assert len(flows_in(left_out)) == shown, "each of them shows its flow"


def test_the_flow_of_a_rejected_window_is_what_the_build_had(built):
    """Windows that were kept, taken for rejected ones, come out as they stand in the shards."""
    source, output = built
    shards, way = ShardSet(output), WayBack(source)
    kept = [t for t in map(shards.read, range(len(shards))) if t.episode == shards.read(0).episode]
    windows = [RejectedWindow(t.key, "jumps", t.episode, t.source, None) for t in kept]
    episode = way.episode(kept[0].source, kept[0].episode, shards.manifest)
    made = rejected_flow(episode, windows, shards.manifest.recipe)
    for t, window in zip(kept, windows, strict=True):
        np.testing.assert_array_equal(made[window].flow.valid, t.flow.valid)
        np.testing.assert_array_equal(made[window].point_flags, t.point_flags)
        assert np.abs((made[window].flow.uvz - t.flow.uvz)[t.flow.valid]).max() < 5e-4
    with pytest.raises(ValueError, match="not one that this version writes"):
        rejected_flow(episode, windows, {"dataset": "x"})


# ---- the page's order
# -------------------------------------------------------------------------------------------------------


def test_a_sample_comes_first_then_the_contents_and_everything_else_is_folded(built, tmp_path):
    source, output = built
    page = page_of(output, tmp_path / "page.html", dataset=source, order="spread", shown=3)
    body = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    assert body.index("<article class='card'>") < body.index("<nav") < body.index("<details class='section")
    links = re.findall(r"<a href='#(.*?)'>", body)
    assert links == re.findall(r"<details class='section(?: wide)?' id='(.*?)'>", body)
    assert links == ["inside-0", "samples", "histograms", "left-out", "worst", "best"]
    assert "2 more of" in body and len(re.findall("<details class='sample'>", body)) == 2
    unfolded = re.sub(r"<details class='section.*", "", body, flags=re.DOTALL)
    assert len(re.findall("class='look'", unfolded)) == 1 and "<details open" not in body


def test_one_page_has_one_scale_of_colours(tmp_path):
    near, far = known_triplet(moving=5), known_triplet(moving=50, key="0123456789abcdef-front-000100")
    far.flow.uvz[:] *= [1, 1, 3]
    page = page_of(write_set(tmp_path, [near, far]), tmp_path / "page.html", order="spread")
    limits = {flow["limit"] for flow in flows_in(page)}
    assert limits == {depth_change_limit([(near, measure(near)), (far, measure(far))])}
    scales = re.findall(r"<div class='scale cividis'>(.*?)</div>", page)
    assert len(scales) == 2 and set(scales) == {"<span>1.00 m</span><i></i><span>3.00 m</span>"}


def test_damaged_lines_are_passed_over_and_quarantined_ones_told(tmp_path):
    fault = {"quarantined": {"code": "no_depth", "message": "<b>no</b> depth", "source": "x", "episode": "y"}}
    lines = ["{", "[1]", json.dumps(fault), '{"rejected": 3}', "{}"]
    (tmp_path / "episodes.jsonl").write_text("\n".join(lines))
    found = read_rejections(tmp_path)
    assert (dict(found.quarantined_counts), found.quarantined) == ({"no_depth": 1}, {"no_depth": ["<b>no</b> depth"]})
    assert not found.windows


# ---- in a browser
# --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_the_script_runs_in_a_browser(built, tmp_path):
    source, output = built
    page_of(output, tmp_path / "page.html", dataset=source, shown=1, retargeted=True)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    ran = subprocess.run(
        ["chromium", *flags, "--virtual-time-budget=2000", str(tmp_path / "page.html")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    steps = ShardSet(output).read(0).flow.horizon
    labels = re.findall(r"<output>(.*?)</output>", ran.stdout)
    seen = [label for label in labels if label]  # cards in folded sections are made when they are opened
    assert 0 < len(seen) < len(labels) and all(label.startswith(f"step {steps} of {steps}") for label in seen)
    assert re.search(r'data-view="video" aria-pressed="true"', ran.stdout)
    assert "stage in-video" in ran.stdout


TURN = """<script>
addEventListener('load', async () => {
  const look = document.querySelector('.look'), wait = ms => new Promise(done => setTimeout(done, ms));
  look.querySelector('[data-view=space]').click();
  const element = look.querySelector('.space');
  while (!(element._fullLayout && element._fullLayout.scene._scene)) await wait(50);
  const eye = () => {
    const { x, y, z } = element._fullLayout.scene._scene.getCamera().eye;
    return [x, y, z].map(v => v.toFixed(3)).join();
  };
  const before = eye(), canvas = element.querySelector('canvas'), box = canvas.getBoundingClientRect();
  const mouse = (kind, x, buttons) => canvas.dispatchEvent(new MouseEvent(kind, {
    bubbles: true, buttons, clientX: box.x + x, clientY: box.y + 100 }));
  mouse('mousemove', 100, 0);
  mouse('mousedown', 100, 1);
  for (let x = 100; x <= 200; x += 10) { mouse('mousemove', x, 1); await wait(30); }
  await wait(200);
  const turned = eye(), slider = look.querySelector('input');
  for (const step of [1, 2, 3]) { slider.value = step; slider.dispatchEvent(new Event('input')); await wait(100); }
  document.title = ['turned', before, turned, eye()].join(' ');
});
</script>"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_the_view_in_space_stays_as_it_was_turned_when_the_next_step_is_drawn(tmp_path):
    page = page_of(write_set(tmp_path, several(2)), tmp_path / "page.html")
    page = re.sub(r'<meta http-equiv="Content-Security-Policy".*?>', "", page)
    (tmp_path / "page.html").write_text(page.replace("</body>", TURN + "</body>"))
    flags = ["--headless", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--dump-dom"]
    ran = subprocess.run(
        ["chromium", *flags, f"--user-data-dir={tmp_path / 'profile'}", "--timeout=60000",
         "--virtual-time-budget=30000", str(tmp_path / "page.html")],
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    found = re.search(r"<title>turned (\S+) (\S+) (\S+)</title>", ran.stdout)
    if found is None:
        pytest.skip("this machine's chromium draws nothing in space")
    before, turned, after = found.groups()
    assert before != turned == after


def test_a_manifest_and_lines_that_something_else_wrote_cannot_stop_the_page(built, tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    write_set(folder, several(2))
    manifest = ShardSet(folder).manifest
    for recipe in ({"quality": [1]}, {"quality": {"min_steps": "many", "max_jumps": None}, "dataset": ["x"]}, {}):
        counts = {"kept": 2, "notes": ["x"], "rejected": {"jumps": 1}}
        line = {"digest": [], "dataset": {}, "source": 3, "episode": None, "rejected": {"jumps": 1}}
        line["rejected_windows"] = [[{"a": 1}, 2, "jumps", 0.5]]
        (folder / "episodes.jsonl").write_text(json.dumps(line) + "\n")
        files = {"episodes.jsonl": sha256_of(folder / "episodes.jsonl")}
        dataclasses.replace(manifest, recipe=recipe, recipe_digest=digest_of(recipe), counts=counts, files=files).write(
            folder
        )
        page = page_of(folder, tmp_path / "page.html", dataset=built[0])
        assert "What was left out" in page and "No picture: " in page


def test_the_folder_of_the_dataset_serves_the_page_only(tmp_path):
    with pytest.raises(UsageError, match="give --html FILE with it"):
        inspect_command(Inspect(tmp_path, input=tmp_path))
