"""Labels checked without exact flow: closed-form tracks get the numbers that they must, wrong ones are found."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from fixtures.lerobot import encode_video

from jobs.lamp_data import main
from pipeline.evaluation.ground_truth import from_rigid_world
from pipeline.evaluation.sweep import combinations
from pipeline.evaluation.synthetic_scene import moving_card
from pipeline.recipe import QualityConfig
from pipeline.self_check.background import background_points, stands_still
from pipeline.self_check.doubts import doubts
from pipeline.self_check.pictures import draw_doubtful, title_of
from pipeline.self_check.report import as_markdown, as_text
from pipeline.self_check.run import CheckConfig, candidates_of, self_check
from pipeline.self_check.windows import Candidate, references_of, returned
from schemas.episode import BadEpisode
from schemas.perception import Tracks2D
from schemas.plugins import PluginChoice
from schemas.scene_flow import keypoint_grid

HORIZON = 12
WORLD = from_rigid_world(moving_card(frames=16, size=(128, 96), camera_moves=False), "still", (0,), True, HORIZON)
PARTS = {"depth": [PluginChoice("recorded")], "camera": [PluginChoice("static")]}


def lk() -> Candidate:
    (found,) = candidates_of(combinations([PluginChoice("tracked")], {"tracker": [PluginChoice("lk")], **PARTS}))
    return found


@dataclass
class Slides:
    """A wrong tracker: every point moves to the right, forwards as well as backwards, and is lost at the border."""

    by: float

    def track(self, frames, references, keypoints, horizon):
        steps = np.arange(horizon + 1)
        uv = keypoints[:, None] + np.stack([self.by * steps, 0 * steps], axis=1)
        return [Tracks2D(r, uv, uv[..., 0] < frames.shape[2]) for r in references]


def checked(*candidates):
    return self_check("world", [WORLD.episode], candidates, CheckConfig(HORIZON, 8, 10), QualityConfig())


def test_a_good_tracker_returns_and_leaves_the_background_where_it_is():
    result = checked(lk())
    m = result.metrics
    assert m is not None and m["windows"] == 1 == m["still_cameras"] and not result.refused + result.unlabelled
    assert 10 < m["moving_points"] < 60 and m["background_points"] > 5
    moving, still = m["tracks"]["lk"]["moving"], m["tracks"]["lk"]["still"]
    assert moving["cycle_within"]["4"] > 0.8 and still["cycle_within"]["1"] > 0.98
    ((_, exact),) = WORLD.windows
    (window,) = result.worst
    known = keypoint_grid(*WORLD.size, 10)
    truly = np.ptp(moving_card(16, WORLD.size, False).flow(0, known, HORIZON).uvz, axis=1).max(axis=1) < 1e-9
    assert window.background is not None and not (window.background & ~truly).any() and exact.horizon == window.steps
    # Some are dragged by the card that passes; the label's test against depth puts most of them back.
    assert m["tracks"]["lk"]["background"]["movers"] <= 4 and m["labels"]["lk"]["background"]["movers"] <= 1
    label = m["labels"]["lk"]
    assert label["units"] == ["m"] and label["still"]["kept"] > 0.8 and label["background"]["p99"] < 0.5
    assert m["agreement"] == {} == m["label_agreement"]


def test_a_tracker_that_slides_is_found_by_every_check():
    good = lk()
    slides = Candidate("slides", Slides(1.0), good.source, good.depth)
    result = checked(good, slides)
    m = result.metrics
    assert m is not None
    wrong = m["tracks"]["slides"]
    # forwards and backwards it slides 12 px each, 48 px of a picture 256 wide
    assert wrong["moving"]["cycle_px"]["median"] == pytest.approx(48) and wrong["moving"]["cycle_within"]["4"] == 0
    assert wrong["background"]["movers"] == m["background_points"] and wrong["background"]["max"] == pytest.approx(24)
    apart = m["agreement"]["lk | slides"]
    assert apart["moving"]["within"]["4"] < 0.5 and apart["moving"]["by_step"][8]["median"] > 10
    assert m["moving_points"] == m["points"]  # what one of them moves is judged as moving for both
    (window,) = result.worst
    found = doubts(window)
    assert found.drift["slides"].sum() == m["background_points"] > 4 * found.drift["lk"].sum()
    assert found.count >= found.stray["slides"].sum() > 60
    for said in (as_text(result), as_markdown(result)):
        assert "lk \\| slides" in said or "lk | slides" in said


def test_what_is_not_seen_at_the_end_is_no_error_and_what_is_lost_on_the_way_back_is():
    clip = np.zeros((4, 8, 16, 3), np.uint8)
    starts = np.array([[2.5, 2.5], [11.5, 2.5], [14.5, 2.5]])
    tracker = Slides(1.0)
    (tracks,) = tracker.track(clip, [0], starts, 3)
    away = returned(tracker, clip, tracks)
    assert away[0] == 6 and np.isinf(away[1]) and np.isnan(away[2])


def test_background_is_what_looks_the_same_there_and_nowhere_beside():
    rng = np.random.default_rng(0)
    grey = np.full((6, 60, 80), 90, np.uint8)
    grey[:, 10:30, 10:30] = rng.integers(0, 255, (20, 20))  # a texture that stays
    grey[:, 40:60, 10:30] = (40 * (np.arange(20) % 5)).astype(np.uint8)  # stripes: may slide along themselves
    for frame in range(6):
        grey[frame, 10:30, 45 + frame : 65 + frame] = rng.integers(0, 255, (20, 20))  # changes all the time
    points = np.array([[20.5, 20.5], [20.5, 50.5], [70.5, 50.5], [56.5, 20.5]])
    assert background_points(grey, points, np.arange(6)).tolist() == [True, False, False, False]


def test_a_camera_that_moves_has_no_background_and_a_short_clip_is_refused():
    moving = from_rigid_world(moving_card(frames=16, size=(128, 96)), "moves", (0,), False).episode
    assert not stands_still(moving.views[moving.primary]) and stands_still(WORLD.episode.views["main"])
    config = CheckConfig(HORIZON, 8, 6)
    result = self_check("w", [moving, BadEpisode("bad_video", "a.mp4 is none")], [lk()], config, QualityConfig())
    assert result.refused == ["a.mp4 is none"] and "moves; --camera static" in result.unlabelled[0]
    assert result.metrics is not None and result.metrics["still_cameras"] == 0 and result.metrics["labels"] == {}
    assert "no camera stands still" in as_text(result)
    assert references_of(8, 32, 8) == [] and references_of(20, 32, 8) == [0] and references_of(50, 32, 8) == [0, 8, 16]


def test_a_sheet_says_of_how_many_and_nothing_is_cut():
    result = checked(lk(), Candidate("a tracker with a long name:window=21,levels=2", Slides(0.5), lk().source, "none"))
    figure = draw_doubtful(result.worst * 2)
    title = title_of(result.worst[0])
    assert "tracks do not return" in title.replace("\n", " ") and "frame 0, 12 steps" in title.replace("\n", " ")
    figure.canvas.draw()
    wide, high = figure.canvas.get_width_height()
    for text in [*figure.texts, *(axes._left_title for axes in figure.axes)]:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= wide and box.y0 >= 0 and box.y1 <= high


def run(monkeypatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["lamp-data", "evaluate", "--truth", "none", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_command_checks_plain_videos_and_says_what_it_cannot(tmp_path, monkeypatch, capsys):
    frames = WORLD.episode.views["main"].frames
    encode_video(tmp_path / "a.mp4", frames, 10)
    words = ("--dataset", "video:text=none", "--input", str(tmp_path), "--grid", "8", "--horizon", "12")
    assert run(monkeypatch, *words, "--json", "--picture", str(tmp_path / "a.png")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["points"] == 64 and list(found["metrics"]["agreement"]) == ["lk | dis"]
    assert found["metrics"]["labels"] == {} and (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert run(monkeypatch, *words, "--markdown") == 0
    assert "| lk, moving |" in capsys.readouterr().out
    for wrong, says in (
        (("--truth", "none", "files"), "cannot stand beside another"),
        (("--flow", "simulator"), "use --flow tracked"),
        (("--stride", "0"), "--stride must be 1 or more"),
        (("--dataset", "nonsense"), "there are: "),
    ):
        assert run(monkeypatch, *words, *wrong) == 2 and says in capsys.readouterr().err
    encode_video(tmp_path / "a.mp4", frames[:5], 10)
    assert run(monkeypatch, *words) == 1 and "no episode could be checked" in capsys.readouterr().err
