"""A camera of a LeRobot episode that cannot be read, or ends early, costs only what it must."""

from dataclasses import replace

import numpy as np
import pytest
from fixtures.lerobot import encode_video, moving, write_lerobot
from readers.test_mapped_reader import PLAIN, read_all, reader_of

from pipeline.episodes.camera_choice import chosen_cameras, seen_by
from pipeline.episodes.slicing import take_frames
from pipeline.recipe import Recipe, WindowConfig
from pipeline.timing import Stopwatch
from pipeline.windows.maker import SkippedCamera, TripletMaker
from schemas.episode import BadEpisode
from schemas.plugins import PluginChoice

LENGTH = 12
TOP, SIDE, WRIST = (f"observation.images.{name}" for name in ("top", "side", "wrist"))
MAPPING = {**PLAIN, "wrist": WRIST, "cameras": {TOP: {"fov_y": 45, "fixed": True}, SIDE: {}, WRIST: {}}}


def write(folder, version="v2.1"):
    video = {key: moving(LENGTH, seed=number) for number, key in enumerate((TOP, SIDE, WRIST))}
    episode = {"task": "x", "video": video, "columns": {"action": np.ones((LENGTH, 2), np.float32)}}
    return write_lerobot(folder / "set", version, [episode], 10.0)


def video_of(dataset, key):
    return next(path for path in (dataset / "videos").rglob("*.mp4") if key in path.parts)


def read(folder):
    (episode,) = read_all(reader_of(MAPPING), folder)
    return episode


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
@pytest.mark.parametrize(
    ("content", "code"), [(None, "missing_video"), (b"\0" * 999, "bad_video"), (moving(LENGTH - 2), "video_too_short")]
)
def test_another_camera_costs_only_itself(tmp_path, version, content, code):
    video = video_of(write(tmp_path, version), SIDE)
    video.unlink()
    if isinstance(content, bytes):
        video.write_bytes(content)
    elif content is not None:
        encode_video(video, content, 10)
    episode = read(tmp_path)
    assert list(episode.views) == [TOP, WRIST] and episode.wrist == WRIST
    assert chosen_cameras(episode, ["primary"]) == [TOP] and chosen_cameras(episode, ["all"]) == [TOP, WRIST]
    assert episode.notes[f"camera {SIDE}"].startswith(f"{code}: ")
    with pytest.raises(BadEpisode, match=f"episode_000000: {SIDE}: ") as error:
        chosen_cameras(episode, [SIDE])
    assert error.value.code == code


def test_a_missing_wrist_is_built_without(tmp_path):
    video_of(write(tmp_path), WRIST).unlink()
    episode = read(tmp_path)
    assert episode.wrist is None and list(episode.views) == [SIDE, TOP]
    assert episode.notes[f"camera {WRIST}"].startswith("missing_video: ")


def test_a_missing_primary_costs_the_episode_only_where_it_is_asked_for(tmp_path):
    video_of(write(tmp_path), TOP).unlink()
    episode = read(tmp_path)
    with pytest.raises(BadEpisode, match="there is no file") as error:
        chosen_cameras(episode, ["primary"])
    assert error.value.code == "missing_video" and chosen_cameras(episode, [SIDE]) == [SIDE]


def test_an_episode_without_a_camera_that_can_be_read_is_refused_by_the_first_of_them(tmp_path):
    dataset = write(tmp_path)
    for key in (TOP, SIDE, WRIST):
        video_of(dataset, key).unlink()
    with pytest.raises(BadEpisode, match=f"{SIDE}: there is no file") as error:
        read(tmp_path)
    assert error.value.code == "missing_video"


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_a_video_one_picture_short_costs_the_last_frame_of_what_shows_it(tmp_path, version):
    encode_video(video_of(write(tmp_path, version), WRIST), moving(LENGTH - 1, seed=2), 10)
    whole = read(tmp_path)
    assert whole.length == LENGTH and whole.notes[f"camera {WRIST}"] == "1 picture short of its table"
    seen = seen_by(whole, TOP)
    assert seen.length == LENGTH - 1 == len(seen.actions) and seen.source_frame(LENGTH - 2) == LENGTH - 2
    assert take_frames(whole, np.arange(LENGTH - 1)).views[WRIST].short == 0 == whole.views[TOP].short
    assert take_frames(whole, np.arange(2, LENGTH)).views[WRIST].short == 1
    for number, key in ((0, TOP), (2, WRIST)):
        frames = seen.views[key].some_frames(np.arange(LENGTH - 1))
        assert np.abs(frames.astype(int) - moving(LENGTH - 1, seed=number)).mean() < 6
    assert seen_by(replace(whole, wrist=None), TOP).length == LENGTH, "another camera's last picture is not missed"


def test_where_all_cameras_are_wanted_it_is_skipped_by_name(tmp_path):
    video_of(write(tmp_path), SIDE).unlink()
    recipe = Recipe(
        dataset=PluginChoice("bridge"),
        actions=PluginChoice("raw"),
        cameras=("all",),
        windows=WindowConfig(stride=4, horizon=6, grid=4),
        language="optional",
    )
    assert next(TripletMaker(recipe).cameras(read(tmp_path), list, Stopwatch())) == SkippedCamera(SIDE, "missing_video")
