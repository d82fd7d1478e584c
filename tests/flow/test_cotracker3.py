"""The cotracker3 tracker, through torch.hub's own local path, with a small real module in the place of CoTracker's
network.

The clip's colours say where on the scene each pixel lies, and the module reads them: it answers from the pixels and
queries that it is given, so an error of half a pixel, of an order or of a frame anywhere on the way shows in the
tracks.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pipeline.errors import BuildError
from pipeline.licences import licences_of, restriction_words
from pipeline.recipe import Recipe
from pipeline.trackers import Tracker, cotracker3
from pipeline.trackers.cotracker3 import clips
from schemas.plugins import MissingDependency, PluginChoice, configure, recorded_options

torch.set_num_threads(1)
HUB = '''
import torch

CALLS = []


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.zeros(1))
        self.most = None


class Predictor(torch.nn.Module):
    """Reads a point's colour, and finds where that colour is in other frames by a plane fitted to each channel."""

    def __init__(self, step=None):
        super().__init__()
        self.model, self.interp_shape = Network(), (96, 128)
        if step:
            self.step = step

    def follow(self, video, queries):
        assert video.dtype == torch.float32 and video.shape[0] == 1 and video.shape[2:] == (3, 96, 128)
        assert 1 < video.max() <= 255 and queries.shape[0] == 1 and queries.shape[2] == 3
        CALLS.append((video.shape[1], queries.shape[1]))
        if self.model.most is not None and queries.shape[1] > self.model.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")
        y, x = torch.meshgrid(torch.arange(96.0), torch.arange(128.0), indexing="ij")
        inner = (slice(8, -8), slice(8, -8))
        places = torch.stack([x[inner].ravel(), y[inner].ravel(), torch.ones(80 * 112)], -1)
        planes = [torch.linalg.lstsq(places, f[:2][(slice(None), *inner)].reshape(2, -1).T).solution for f in video[0]]
        t, xy = queries[0, :, 0].long(), queries[0, :, 1:]
        colour = torch.stack([torch.cat([p, torch.ones(1)]) @ planes[k] for p, k in zip(xy, t)])
        tracks = torch.stack([torch.linalg.solve(q[:2].T, (colour - q[2]).T).T for q in planes])
        visible = video[0, :, 2].mean((1, 2))[:, None].expand(tracks.shape[:2]) < 200  # a blue frame hides all
        return tracks[None] * self.model.gain, visible[None]


class Offline(Predictor):
    def forward(self, video, queries):
        return self.follow(video, queries)


class Online(Predictor):
    def forward(self, video_chunk, is_first_step=False, queries=None):
        if is_first_step:
            self.queries, self.seen = queries, video_chunk[:, :0]
            return None, None
        assert video_chunk.shape[1] <= 2 * self.step
        overlap = min(self.seen.shape[1], self.step)
        assert torch.equal(self.seen[:, self.seen.shape[1] - overlap:], video_chunk[:, :overlap])
        self.seen = torch.cat([self.seen, video_chunk[:, overlap:]], 1)
        return self.follow(self.seen, self.queries)


def cotracker3_offline(*, pretrained=True):
    assert not pretrained, "weights come from a file or a pinned address, never through a pickle"
    return Offline()


def cotracker3_online(*, pretrained=True):
    assert not pretrained
    return Online(step=8)
'''
SIZE = (64, 48)
"""The clip's, half of the module's, so that everything is resized."""


def speed(frame: int) -> np.ndarray:
    """Px by which the scene has moved: not along a line, so that mixed up frames are noticed."""
    return np.array([0.4 * frame, 0.02 * frame**2])


def clip(frames: int) -> np.ndarray:
    x, y = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    made = np.zeros((frames, SIZE[1], SIZE[0], 3))
    for t in range(frames):
        u, v = x - speed(t)[0], y - speed(t)[1]
        made[t, ..., 0], made[t, ..., 1] = 100 + 1.6 * u, 120 + 1.3 * v - 0.4 * u
    dither = np.random.default_rng(0).random(made.shape)  # rounding alone would shift a slope by a tenth of a px
    return np.clip(made + dither, 0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone" / "hubconf.py").write_text(HUB)
    torch.save({"gain": torch.ones(1)}, tmp_path / "weights.pth")
    return tmp_path


def tracker(folder: Path, **options) -> cotracker3.CoTracker:
    config = cotracker3.Config(repo=str(folder / "clone"), weights=str(folder / "weights.pth"), device="cpu", **options)
    built = cotracker3.build(config)
    assert isinstance(built, Tracker)
    return built


def calls(built: cotracker3.CoTracker) -> list[tuple[int, int]]:
    """(frames, points) of every call of the module."""
    return type(built.predictor).forward.__globals__["CALLS"]


KEYPOINTS = np.array([[20.5, 16.5], [31.2, 24.9], [40.5, 12.5], [12.0, 30.0]])


@pytest.mark.parametrize("mode", ["offline", "online"])
@pytest.mark.parametrize("references", [[0, 5, 10, 15], [3], [21, 22, 23]])
def test_points_of_every_window_lie_where_the_scene_has_moved(folder, mode, references):
    for track, reference in zip(
        tracker(folder, mode=mode).track(clip(24), references, KEYPOINTS, 8), references, strict=True
    ):
        assert track.reference == reference and track.uv.shape == (4, 9, 2)
        inside = np.arange(reference, reference + 9) < 24
        expected = KEYPOINTS[:, None] + np.stack([speed(t) - speed(reference) for t in range(reference, reference + 9)])
        np.testing.assert_array_equal(track.uv[:, 0], KEYPOINTS)
        assert np.abs(track.uv - expected)[:, inside].max() < 0.06
        assert track.visible[:, inside].all() and not track.visible[:, ~inside].any()


def test_a_larger_picture_is_brought_to_the_models_size_and_back(folder):
    big = np.stack([cv2.resize(f, (192, 144), interpolation=cv2.INTER_LINEAR) for f in clip(6)])
    (track,) = tracker(folder).track(big, [0], 3 * KEYPOINTS, 5)
    expected = 3 * (KEYPOINTS[:, None] + np.stack([speed(t) for t in range(6)]))
    assert np.abs(track.uv - expected).max() < 0.3


def test_overlapping_windows_share_a_call_and_few_points_are_given_company(folder):
    built = tracker(folder, clip=24, support=3)
    built.track(clip(40), [0, 5, 10, 15, 20], KEYPOINTS, 12)
    assert calls(built) == [(23, 3 * 4 + 9), (18, 2 * 4 + 9)]


def test_points_are_asked_for_in_pieces_that_fit_and_come_out_the_same(folder):
    whole = tracker(folder).track(clip(12), [0, 2], KEYPOINTS, 8)
    small = tracker(folder, memory_gb=3 * 11 * cotracker3.BYTES / 1e9, support=2)
    pieces = small.track(clip(12), [0, 2], KEYPOINTS, 8)
    assert [points for _, points in calls(small)] == [3 + 4, 3 + 4, 2 + 4]
    for one, other in zip(whole, pieces, strict=True):
        np.testing.assert_allclose(one.uv, other.uv, atol=1e-3)
        np.testing.assert_array_equal(one.visible, other.visible)


def test_when_memory_runs_out_pieces_shrink_and_at_the_end_it_is_said(folder):
    built = tracker(folder, support=0)
    built.predictor.model.most = 3
    (track,) = built.track(clip(6), [0], KEYPOINTS, 5)
    assert [points for _, points in calls(built)] == [4, 2, 2] and track.visible.all()
    built.predictor.model.most = 0
    with pytest.raises(BuildError, match=r"a single item does not fit .* use a smaller clip"):
        built.track(clip(6), [0], KEYPOINTS, 5)


def test_a_hidden_point_keeps_its_last_place_and_one_that_left_the_picture_is_hidden(folder):
    frames = clip(8)
    frames[3:5, ..., 2] = 255
    at = np.array([[20.0, 20.0], [62.5, 20.0]])
    (track,) = tracker(folder).track(frames, [0], at, 7)
    np.testing.assert_array_equal(track.visible[0], [1, 1, 1, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(track.uv[0, 3:5], np.repeat(track.uv[0, 2:3], 2, axis=0))
    assert track.visible[1, :4].tolist() == [True, True, True, False] and not track.visible[1, 4:].any()


def test_windows_are_grouped_by_the_frames_that_they_need():
    assert clips([0, 5, 10, 15], 12, 23) == [[0, 5, 10], [15]]
    assert clips([0, 30], 32, 16) == [[0], [30]]
    assert clips([], 32, 60) == []


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "clone" / "hubconf.py").unlink(), "must be a folder with a clone"),
        (lambda f: (f / "clone" / "hubconf.py").write_text("x = 1"), "gives no cotracker3_offline"),
        (lambda f: (f / "weights.pth").unlink(), "weights must be a file"),
        (lambda f: (f / "weights.pth").write_bytes(b"nonsense"), "cannot be read"),
        (lambda f: torch.save({"other": torch.ones(1)}, f / "weights.pth"), "are not those of cotracker3_offline"),
        (lambda f: torch.save(Path("x"), f / "weights.pth"), "cannot be read"),
    ],
)
def test_code_or_weights_that_cannot_be_used_are_refused_before_any_work(folder, spoil, says):
    spoil(folder)
    config = cotracker3.Config(repo=str(folder / "clone"), weights=str(folder / "weights.pth"), device="cpu")
    with pytest.raises(MissingDependency, match=says) as error:
        cotracker3.check(config)
    assert "\n" not in str(error.value)


def test_without_a_network_it_is_said_what_to_give(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(MissingDependency, match=r"code is not on this machine .* give repo=FOLDER"):
        cotracker3.check(cotracker3.Config(device="cpu"))
    with pytest.raises(MissingDependency, match=r"weights are not on this machine .* weights=FILE"):
        cotracker3.check(cotracker3.Config(repo=str(folder / "clone"), device="cpu"))


def test_the_recipe_holds_what_code_and_weights_contain_and_not_where_they_lie(folder, tmp_path):
    def recorded(where: Path) -> dict:
        return recorded_options(cotracker3.Config(repo=str(where / "clone"), weights=str(where / "weights.pth")))

    one = recorded(folder)
    assert str(folder) not in str(one)
    torch.save({"gain": torch.zeros(1)}, folder / "weights.pth")
    assert recorded(folder)["weights"] != one["weights"] and recorded(folder)["repo"] == one["repo"]


@pytest.mark.parametrize("option", [{"clip": 3}, {"memory_gb": 0.0}, {"support": -1}])
def test_nonsense_is_refused_with_the_field_named(option):
    with pytest.raises(ValueError, match=f"cotracker3.{next(iter(option))}"):
        cotracker3.Config(**option)


def test_options_come_from_the_command_line():
    config = configure("pipeline.trackers", "cotracker3", {"mode": "online", "memory-gb": "2.5"})
    assert config.mode == "online" and config.memory_gb == 2.5
    with pytest.raises(ValueError, match="must be one of offline, online"):
        configure("pipeline.trackers", "cotracker3", {"mode": "sideways"})


def test_its_licence_stands_in_the_manifest_and_is_said():
    recipe = Recipe(PluginChoice("libero"), tracker=PluginChoice("cotracker3"))
    licences = licences_of(recipe)
    assert "CC-BY-NC" in licences["tracker cotracker3"]
    assert "not for commercial use" in (restriction_words(licences) or "")
    assert "tracker lk" not in licences_of(Recipe(PluginChoice("libero")))
