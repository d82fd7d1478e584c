"""Every camera that is wanted becomes its own windows, and no other camera's pictures are decoded."""

import json
from dataclasses import replace

import numpy as np
import pytest
from fixtures.libero import Demo, fast_recipe, samples_of, write_file
from fixtures.rlds import SAMPLE

from jobs.executors.local import LocalExecutor
from pipeline.build.run import ShardConfig, build
from pipeline.build.workers import EpisodeMaker
from pipeline.episodes.camera_choice import chosen_cameras
from pipeline.readers.bridge import BridgeReader
from pipeline.readers.libero import LiberoReader
from pipeline.timing import Stopwatch
from pipeline.windows.maker import SkippedCamera, TripletMaker
from schemas.episode import BLACK_CAMERAS, BadEpisode, EpisodeRef
from schemas.manifest import EPISODES, read_manifest
from schemas.sample_codec import encode_triplet
from schemas.triplet import Triplet

FRONT, WRIST, SIDE = "agentview", "eye_in_hand", "side.view"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_file(tmp_path_factory.mktemp("libero") / "a_demo.hdf5", [Demo(0, 0, 20)]).parent


@pytest.fixture
def episode(folder):
    """A real episode with a third camera, which shows the first one's pictures in a mirror."""
    (ref,) = LiberoReader().list_episodes(folder)
    read = LiberoReader().read(ref)
    front = read.views[FRONT]
    depth = replace(front.depth, read=lambda: np.ascontiguousarray(front.depth.read()[:, :, ::-1]))
    side = replace(
        front, name=SIDE, read_frames=lambda: np.ascontiguousarray(front.read_frames()[:, :, ::-1]), depth=depth
    )
    return replace(read, views={**read.views, SIDE: side})


def made(episode, *cameras):
    found = []
    for camera in TripletMaker(fast_recipe(cameras=cameras)).cameras(episode, lambda window: window, Stopwatch()):
        found += [camera] if isinstance(camera, SkippedCamera) else camera.windows
    return found


def members(windows):
    return {t.key: encode_triplet(t) for t in windows if isinstance(t, Triplet)}


def test_a_camera_gives_the_same_samples_alone_among_others_and_as_the_primary_one(episode):
    every = made(episode, "all")
    both = members(made(episode, SIDE, FRONT))
    assert members(every) == both
    assert members(made(episode, SIDE)) == {k: v for k, v in both.items() if "side_view" in k}
    assert members(made(episode, "primary")) == {k: v for k, v in both.items() if "agentview" in k}
    assert members(made(replace(episode, primary=SIDE), "primary")) == members(made(episode, SIDE))
    by_camera = {
        camera: [t for t in every if isinstance(t, Triplet) and t.source.camera == camera] for camera in (FRONT, SIDE)
    }
    assert len(by_camera[FRONT]) == len(by_camera[SIDE]) == 3
    for front, side in zip(*by_camera.values(), strict=True):
        assert front.images["wrist"] == side.images["wrist"] and front.images["image"] != side.images["image"]
        assert np.array_equal(front.state, side.state) and np.array_equal(front.actions, side.actions)


def test_all_skips_and_names_what_cannot_be_used_and_a_camera_by_name_is_refused(episode):
    assert [w for w in made(episode, "all") if isinstance(w, SkippedCamera)] == [SkippedCamera(WRIST, "no_depth")]
    with pytest.raises(BadEpisode) as error:
        made(episode, WRIST)
    assert error.value.code == "no_depth"
    with pytest.raises(BadEpisode, match="has no camera nose with pictures; it has agentview, eye_in_hand"):
        made(episode, "nose")


def test_an_episode_without_a_usable_camera_is_refused_for_its_primary_ones_reason(episode):
    moving = {name: replace(view, fixed=False) for name, view in episode.views.items()}
    with pytest.raises(BadEpisode) as error:
        made(replace(episode, views=moving), "all")
    assert error.value.code == "moving_camera" and FRONT in error.value.message


def test_pictures_of_other_cameras_are_not_decoded(episode):
    def read():
        raise AssertionError("nobody asked for this camera")

    unseen = replace(episode, views={**episode.views, SIDE: replace(episode.views[SIDE], read_frames=read)})
    assert members(made(unseen, "primary")) == members(made(episode, "primary"))


@pytest.mark.parametrize(("cameras", "says"), [((), "found nothing"), (("all", FRONT), "no other can be named beside")])
def test_a_choice_that_makes_no_sense_is_refused(cameras, says):
    with pytest.raises(ValueError, match=says):
        fast_recipe(cameras=cameras)


def test_the_order_and_doubling_of_names_is_no_other_recipe(episode):
    assert fast_recipe(cameras=(SIDE, FRONT, SIDE)).digest == fast_recipe(cameras=(FRONT, SIDE)).digest
    assert chosen_cameras(episode, (SIDE, FRONT, "primary")) == [FRONT, SIDE]
    with pytest.raises(BadEpisode, match="differ only in signs"):
        chosen_cameras(replace(episode, views={**episode.views, "side_view": episode.views[SIDE]}), ("all",))


def test_a_build_counts_skipped_cameras_and_says_which_in_the_list_of_episodes(folder, tmp_path):
    def run(output, *cameras):
        recipe = fast_recipe(cameras=cameras)
        return build(recipe, folder, output, ShardConfig(), LocalExecutor(), lambda *a: a[2], keep_episodes=True)

    assert run(tmp_path / "all", "all").skipped_cameras == {"no_depth": 1}
    assert read_manifest(tmp_path / "all").counts["skipped_cameras"] == {"no_depth": 1}
    assert json.loads((tmp_path / "all" / EPISODES).read_bytes())["skipped_cameras"] == {WRIST: "no_depth"}
    run(tmp_path / "primary", "primary")
    assert samples_of(tmp_path / "all") == samples_of(tmp_path / "primary")
    assert run(tmp_path / "all", "all").already_complete


def test_a_black_camera_is_skipped_and_counted_and_refused_by_name(episode):
    black = replace(episode, notes={BLACK_CAMERAS: "image_1, image_3"})
    said = {w.camera: w.reason for w in made(black, "all") if isinstance(w, SkippedCamera)}
    assert said == {"image_1": "black_camera", "image_3": "black_camera", WRIST: "no_depth"}
    with pytest.raises(BadEpisode, match="every frame of image_3 is black"):
        made(black, "image_3")


def test_another_cameras_samples_are_the_same_whether_or_not_the_primary_one_is_black(episode):
    views = {name: view for name, view in episode.views.items() if name != FRONT}
    black = replace(episode, views=views, notes={BLACK_CAMERAS: FRONT})
    assert members(made(black, SIDE)) == members(made(episode, SIDE)) == members(made(black, "all"))
    with pytest.raises(BadEpisode, match=f"every frame of {FRONT} is black"):
        made(black, "primary")


def test_the_black_camera_of_a_real_file_is_known():
    reader = BridgeReader()
    refs = [ref for ref in reader.list_episodes(SAMPLE.parent.parent) if isinstance(ref, EpisodeRef)]
    assert [reader.read(ref).black_cameras for ref in refs] == [("image_3",)] * 3


def test_a_camera_that_fails_midway_leaves_nothing_of_itself_behind(episode, folder):
    """Its flow fails at the third window; the other camera's part is the same as alone."""

    class Breaking:
        def __init__(self, source):
            self.source = source

        def __getattr__(self, name):
            return getattr(self.source, name)

        def follow(self, scene, *args):
            flow = self.source.follow(scene, *args)
            return replace(flow, windows=self.broken(flow.windows)) if scene.episode.primary == SIDE else flow

        def broken(self, windows):
            for number, window in enumerate(windows):
                if number == 2:
                    raise BadEpisode("lost", "the rest is damaged")
                yield window

    def part_of(*cameras, views=episode.views):
        maker = EpisodeMaker(fast_recipe(cameras=cameras))
        maker.maker.source = Breaking(maker.maker.source)
        return maker._make(episode.ref, replace(episode, views=views), Stopwatch())

    whole = part_of("all")
    alone = part_of("all", views={name: view for name, view in episode.views.items() if name != SIDE})
    assert whole.report.skipped_cameras == {SIDE: "lost", WRIST: "no_depth"}
    assert whole.regions == alone.regions and len(whole.regions) == 3
    assert whole.report.rows == alone.report.rows and whole.values == alone.values
    assert whole.report.rejected == alone.report.rejected
    assert [offset for _, offset, _ in whole.report.rows] == [0, *np.cumsum([s for _, _, s in whole.report.rows])[:-1]]
