"""Raw and retargeted flow side by side: what text, JSON, picture and page show of a sample that begins slowly, runs and
waits.
"""

import base64
import dataclasses
import re

import numpy as np
import pytest
from fixtures.inspection import SIZE, inspect, known_triplet, seen, several, write_set
from fixtures.libero import Demo, fast_recipe, write_file
from inspection.test_inspection_page import flows_in, page_of

from jobs.cli.exit_codes import UsageError
from jobs.commands.inspect import Inspect, inspect_command
from jobs.executors.local import LocalExecutor
from pipeline.build.run import ShardConfig, build
from pipeline.inspection.pictures import draw_sheet
from pipeline.inspection.retargeted import RAW, RETARGETED, retargeted
from pipeline.inspection.shard_paths import CannotInspect
from schemas.cameras import pose_from_quaternion
from schemas.flow_quanta import QUANTUM_PX
from schemas.scene_flow import SceneFlow

WAY = np.concatenate([0.25 * np.arange(9), 2 + 2.0 * np.arange(1, 13), np.full(12, 26.0)])
"""Steps of the fixture's size that have been gone at each of the 33 moments."""


def hurried(**changes):
    """The fixture's sample, in which a quarter of the points goes slowly, then fast, and then waits."""
    t = known_triplet(moving=100, **changes)
    step = t.flow.uvz[:, 1:2] - t.flow.uvz[:, :1]
    uvz = t.flow.uvz[:, :1] + step * WAY[:, None]
    return dataclasses.replace(t, flow=SceneFlow(uvz, t.flow.visible, t.flow.valid))


def test_the_way_is_the_same_and_its_steps_are_even():
    t = hurried()
    made = retargeted(t)
    np.testing.assert_allclose(
        np.interp(made.times, np.arange(33), WAY), 26 * np.arange(33) / 32, atol=0.2
    )  # things get a little farther away
    gone = np.linalg.norm((made.triplet.flow.uvz - made.triplet.flow.uvz[:, :1])[..., :2] * SIZE, axis=-1)
    np.testing.assert_allclose(np.diff(gone[:100], axis=1), gone[0, -1] / 32, rtol=0.05)
    np.testing.assert_allclose(made.triplet.flow.uvz[:, -1], t.flow.uvz[:, -1], atol=1e-6)
    assert not (made.triplet.flow.uvz[100:] - made.triplet.flow.uvz[100:, :1]).any(), (
        "what stands still is exactly still"
    )


def test_the_camera_is_where_it_was_at_those_times():
    t = hurried()
    poses = np.stack([pose_from_quaternion(np.array([0.01 * n, 0, 0]), np.array([1, 0, 0, 0.0])) for n in range(33)])
    made = retargeted(dataclasses.replace(t, camera=dataclasses.replace(t.camera, world_from_camera=poses)))
    np.testing.assert_allclose(made.triplet.camera.world_from_camera[:, 0, 3], 0.01 * made.times, atol=1e-9)


def test_a_sample_in_which_nothing_moves_is_the_same_both_ways():
    still = known_triplet(moving=0)
    made = retargeted(still)
    assert made.times.tolist() == list(range(33))
    np.testing.assert_array_equal(made.triplet.flow.uvz, still.flow.uvz)


def test_text_and_json_say_when_each_step_is_and_how_far_it_has_gone(tmp_path):
    folder = write_set(tmp_path / "set", [hurried()])
    _, facts = seen(folder, sample="0", retargeted=True)
    found = facts["retargeted"]
    raw, even = np.array(found["way_raw"]), np.array(found["way_retargeted"])
    np.testing.assert_allclose(raw / raw[-1], WAY / 26, atol=0.01)
    np.testing.assert_allclose(even / even[-1], np.arange(33) / 32, atol=0.01)
    assert found["times"][16] == pytest.approx(8 + 11 / 2, abs=0.1), "half of the way is gone after 13.5 steps"
    said = []
    inspect(folder, sample="0", retargeted=True, say=said.append)
    assert f"{RAW}, and {RETARGETED}" in said[0] and "step 16" in said[0]
    assert "retargeted" not in seen(folder, sample="0")[1]


def test_the_page_plays_both_and_a_video_shows_the_frames_of_those_times(tmp_path):
    source = tmp_path / "libero"
    source.mkdir()
    write_file(source / "a_demo.hdf5", [Demo(0)])
    build(fast_recipe(), source, tmp_path / "out", ShardConfig(), LocalExecutor(), lambda *a: a[2])
    page = page_of(tmp_path / "out", tmp_path / "page.html", dataset=source, shown=1, retargeted=True)
    assert page.index(RAW) < page.index(RETARGETED)
    raw, even = flows_in(page)[:2]
    assert raw["times"] is None and len(even["times"]) == even["steps"] + 1 and raw["limit"] == even["limit"]
    assert even["video"] == [raw["video"][round(time)] for time in even["times"]]
    assert base64.b64decode(even["video"][0])[:2] == b"\xff\xd8"
    plain = page_of(tmp_path / "out", tmp_path / "page.html", shown=1)
    assert RETARGETED not in plain and flows_in(plain)[0]["times"] is None


def test_on_the_page_the_slow_beginning_is_passed_quickly(tmp_path):
    folder = write_set(tmp_path / "set", [hurried()])
    raw, even = (
        flow_moves(flow) for flow in flows_in(page_of(folder, tmp_path / "p.html", sample="0", retargeted=True))
    )
    way = np.linalg.norm(raw, axis=-1).mean(axis=0), np.linalg.norm(even, axis=-1).mean(axis=0)
    np.testing.assert_allclose(way[0] / way[0][-1], WAY / 26, atol=0.01)
    np.testing.assert_allclose(way[1] / way[1][-1], np.arange(33) / 32, atol=0.01)


def flow_moves(flow):
    """How far each moving point has moved in the image at each step, px."""
    moved = np.frombuffer(base64.b64decode(flow["moved"]), "<i2").reshape(-1, flow["steps"] + 1, 3)
    return moved[np.array(flow["moving"], bool), :, :2] * QUANTUM_PX


def test_a_picture_shows_each_sample_twice_with_dots_whose_distance_is_speed(tmp_path):
    figure = draw_sheet([hurried(), known_triplet(moving=0)], both=True)
    panels = figure.axes[:-1]
    titles = " ".join(text.get_text() for text in figure.texts)
    assert re.findall(f"{RAW}|{RETARGETED}", titles) == [RAW, RETARGETED] * 2
    dots = [np.asarray(panel.collections[-1].get_offsets()) for panel in panels]
    one, other = (
        np.linalg.norm(np.diff(d[:9], axis=0), axis=1) for d in dots[:2]
    )  # of the first point, every fourth step
    assert one.max() > 7 * one[0] > 0 and one[-1] == 0
    np.testing.assert_allclose(other, other[0], rtol=0.05)
    assert len(dots[2]) == len(dots[3]) == 0
    write = tmp_path / "sheet.png"
    inspect(write_set(tmp_path / "set", several(3)), picture=write, retargeted=True, say=lambda text: None)
    assert write.read_bytes()[:4] == b"\x89PNG"


def test_it_is_refused_where_no_sample_is_shown(tmp_path):
    folder = write_set(tmp_path / "set", several(2))
    with pytest.raises(CannotInspect, match="give --sample, --picture or --html with it") as error:
        inspect(folder, retargeted=True)
    assert error.value.exit_code == 2
    with pytest.raises(UsageError, match="--retargeted shows samples"):
        inspect_command(Inspect(folder, retargeted=True))
    write_file(tmp_path / "a_demo.hdf5", [Demo(0)])
    with pytest.raises(UsageError, match="--retargeted is for shards"):
        inspect_command(Inspect(tmp_path / "a_demo.hdf5", dataset="libero", retargeted=True))
