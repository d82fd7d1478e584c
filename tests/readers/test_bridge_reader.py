"""The Bridge reader on a real file, and on each way in which such files mislead."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from fixtures.rlds import SAMPLE, jpeg, textured, write_rlds

from pipeline.depth.recorded import RecordedDepthReader
from pipeline.errors import UnreadableSource
from pipeline.readers.bridge import BridgeReader
from schemas.episode import BadEpisode, EpisodeRef

READER = BridgeReader()


def refs_in(folder):
    return [r for r in READER.list_episodes(folder) if isinstance(r, EpisodeRef)]


def step(number, image, text="open the drawer", **changes):
    """A step of the real features; cameras 1 and 3 are missing."""
    black = np.zeros_like(image)
    observation = {
        **{f"image_{i}": jpeg(image if i in (0, 2) else black) for i in range(4)},
        "state": np.arange(7, dtype=np.float32) + number,
    }
    return {
        "observation": {**observation, **changes.pop("observation", {})},
        "action": np.full(7, number, np.float32),
        "language_embedding": np.zeros(512, np.float32),
        "language_instruction": text,
        "discount": 1.0,
        "reward": 0.0,
        "is_first": number == 0,
        "is_last": False,
        "is_terminal": False,
        **changes,
    }


def episode_of(tmp_path, steps):
    features = tfds.features.FeaturesDict.from_config(SAMPLE)
    metadata = {"file_path": "here", "episode_id": 7, "has_language": True} | {
        f"has_image_{i}": False for i in range(4)
    }
    known = features["episode_metadata"].keys()
    episode = {"steps": steps, "episode_metadata": {k: v for k, v in metadata.items() if k in known}}
    write_rlds(tmp_path / "bridge_dataset" / "1.0.0", features, [episode], "bridge_dataset-train")
    (ref,) = refs_in(tmp_path)
    return READER.read(ref)


@pytest.fixture
def real():
    return [READER.read(ref) for ref in refs_in(SAMPLE.parent.parent)]


def test_the_real_file_gives_its_episodes_with_the_way_back(real):
    assert len(real) == 3
    for number, episode in enumerate(real):
        assert episode.ref.source == "bridge_dataset/1.0.0/bridge_dataset-train.tfrecord-00000-of-00001"
        assert episode.ref.episode == f"record_{number}"
        assert episode.notes["file_path"].endswith("out.npy")


def test_a_split_that_is_named_and_not_there_is_no_fault():
    assert not [u for u in READER.list_episodes(SAMPLE.parent.parent) if isinstance(u, UnreadableSource)]


def test_cameras_are_found_by_their_pixels_though_the_metadata_denies_them(real):
    for episode in real:
        assert list(episode.views) == ["image_0", "image_1", "image_2"]
        assert episode.notes["black_cameras"] == "image_3"
        assert episode.primary == "image_0" and episode.wrist is None


def test_what_bridge_does_not_know_is_not_invented(real):
    view = real[0].views["image_0"]
    assert view.intrinsics is None and view.world_from_camera is None and view.depth is None
    assert view.fixed and view.size == (64, 64)
    assert real[0].success is None


def test_the_real_numbers_words_and_pixels(real):
    episode = real[0]
    assert episode.instructions == ("put cup from counter or drying rack into sink",)
    assert episode.fps == 5 and episode.length == 10
    assert episode.state[0] == pytest.approx([0.2338, 0.1124, 0.1750, 0.1000, -0.2138, 0.2133, 1.0008], abs=1e-4)
    assert episode.actions[0] == pytest.approx([0, 0, 0, 0, 0, 0, 1], abs=1e-6)
    assert episode.action_mask.all()
    frames = episode.views["image_0"].frames
    assert frames.shape == (10, 64, 64, 3) and frames.dtype == np.uint8


def test_actions_lead_from_one_state_to_the_next(real):
    """Commanded and measured motion agree in direction, so action t belongs to the step from state t to t + 1."""
    moved = np.concatenate([np.diff(e.state[:, :3], axis=0).ravel() for e in real])
    told = np.concatenate([e.actions[:-1, :3].ravel() for e in real])
    assert np.corrcoef(moved, told)[0, 1] > 0.6


def test_pictures_are_upright_unmirrored_and_rgb(tmp_path):
    image = textured(64, 64)
    frames = episode_of(tmp_path, [step(t, image) for t in range(3)]).views["image_0"].frames
    assert np.abs(frames[0].astype(int) - image).mean() < 6
    assert frames[0, 4, 4, 0] > 200 and frames[0, 4, 4, 2] < 60


def test_missing_cameras_are_left_out(tmp_path):
    episode = episode_of(tmp_path, [step(t, textured(64, 64)) for t in range(3)])
    assert list(episode.views) == ["image_0", "image_2"]
    assert episode.notes["black_cameras"] == "image_1, image_3"


def test_a_camera_that_is_black_only_at_first_is_there(tmp_path):
    image = textured(64, 64)
    late = [step(t, image, observation={"image_1": jpeg(image * (t == 2))}) for t in range(3)]
    assert "image_1" in episode_of(tmp_path, late).views


def test_an_episode_of_which_every_camera_is_black_is_refused(tmp_path):
    with pytest.raises(BadEpisode, match="image_3 is black; no camera was recorded") as error:
        episode_of(tmp_path, [step(t, np.zeros((64, 64, 3), np.uint8)) for t in range(3)])
    assert error.value.code == "black_camera"


def test_a_blank_instruction_is_none(tmp_path):
    assert episode_of(tmp_path, [step(t, textured(64, 64), text=" ") for t in range(3)]).instructions == ()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"action": np.full(7, np.nan, np.float32)}, "not_finite"),
        ({"observation": {"state": np.full(7, np.inf, np.float32)}}, "not_finite"),
    ],
)
def test_numbers_that_are_not_finite_condemn_the_episode(tmp_path, change, code):
    with pytest.raises(BadEpisode) as error:
        episode_of(tmp_path, [step(t, textured(64, 64), **change) for t in range(3)])
    assert error.value.code == code


def test_one_step_is_no_episode(tmp_path):
    with pytest.raises(BadEpisode, match="has 1 frame"):
        episode_of(tmp_path, [step(0, textured(64, 64))])


def test_a_broken_picture_condemns_the_episode_when_it_is_looked_at(tmp_path):
    image = textured(64, 64)
    steps = [step(t, image) for t in range(4)]
    cut = jpeg(image)
    cut.truncate(len(cut.getvalue()) // 2)
    steps[1]["observation"]["image_0"] = cut
    view = episode_of(tmp_path, steps).views["image_0"]
    with pytest.raises(BadEpisode, match="image_0, frame 1, is a JPEG picture that was cut short") as error:
        _ = view.frames
    assert error.value.code == "bad_picture"


def test_a_folder_without_bridge_says_what_belongs_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="bridge_dataset/1"):
        next(iter(READER.list_episodes(tmp_path)))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        next(iter(READER.list_episodes(tmp_path / "none")))


def test_recorded_depth_is_refused_with_the_choices(real):
    with pytest.raises(BadEpisode, match="camera image_0 has no usable recorded depth"):
        RecordedDepthReader().estimate(real[0], real[0].views["image_0"])


def test_reading_an_episode_decodes_no_more_than_it_must(monkeypatch):
    """Pixels of a camera are decoded once it is asked for, and not before."""
    import pipeline.readers._camera_views as views

    monkeypatch.setattr(views, "decode_pictures", lambda *_: pytest.fail("decoded all frames"))
    (ref, *_) = refs_in(SAMPLE.parent.parent)
    assert READER.read(ref).length == 10
