"""LIBERO's RLDS against its HDF5: the shipped episode, converted as the published conversion did, reads as the same
episode.
"""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from fixtures.libero import INSTRUCTION, ROOT, Demo, write_file
from fixtures.rlds import jpeg, write_rlds

from pipeline.errors import SeveralForms, UnreadableSource
from pipeline.formats.rlds import RldsEpisode, read_features
from pipeline.formats.tf_example import parse_example
from pipeline.formats.tfrecord import read_record
from pipeline.inspection.source_frames import WayBack
from pipeline.readers._libero_rlds import episode_of_record
from pipeline.readers.libero import LiberoReader
from schemas.episode import BadEpisode, EpisodeRef
from schemas.triplet import Source

READER = LiberoReader()
SIZE = 128


def features_of(size=SIZE):
    """The features of the published modified RLDS sets."""
    picture = tfds.features.Image(shape=(size, size, 3), dtype=np.uint8, encoding_format="jpeg")
    return tfds.features.FeaturesDict(
        {
            "steps": tfds.features.Dataset(
                {
                    "observation": tfds.features.FeaturesDict(
                        {
                            "image": picture,
                            "wrist_image": picture,
                            "state": tfds.features.Tensor(shape=(8,), dtype=np.float32),
                            "joint_state": tfds.features.Tensor(shape=(7,), dtype=np.float32),
                        }
                    ),
                    "action": tfds.features.Tensor(shape=(7,), dtype=np.float32),
                    "discount": np.float32,
                    "reward": np.float32,
                    "is_first": np.bool_,
                    "is_last": np.bool_,
                    "is_terminal": np.bool_,
                    "language_instruction": tfds.features.Text(),
                }
            ),
            "episode_metadata": tfds.features.FeaturesDict({"file_path": tfds.features.Text()}),
        }
    )


def converted(stored, wrist_stored, state, actions):
    """Steps as the conversion made them: both pictures as stored in HDF5, turned by ``[::-1, ::-1]``."""
    last = len(actions) - 1
    return [
        {
            "observation": {
                "image": jpeg(stored[t][::-1, ::-1]),
                "wrist_image": jpeg(wrist_stored[t][::-1, ::-1]),
                "state": state[t],
                "joint_state": np.zeros(7, np.float32),
            },
            "action": actions[t],
            "discount": 1.0,
            "reward": float(t == last),
            "is_first": t == 0,
            "is_last": t == last,
            "is_terminal": t == last,
            "language_instruction": INSTRUCTION,
        }
        for t in range(len(actions))
    ]


@pytest.fixture
def both(tmp_path):
    """The same demo from HDF5 and from RLDS."""
    write_file(tmp_path / "hdf5" / "one_demo.hdf5", [Demo(0, 0, 0, 6)])
    (ref,) = READER.list_episodes(tmp_path / "hdf5")
    official = READER.read(ref)
    pictures = [official.views[name].frames[:, ::-1] for name in ("agentview", "eye_in_hand")]
    steps = converted(*pictures, official.state, official.actions)
    episode = {"steps": steps, "episode_metadata": {"file_path": "/data/one_demo.hdf5"}}
    folder = tmp_path / "rlds" / "libero_10_no_noops" / "1.0.0"
    write_rlds(folder, features_of(), [episode], "liber_o10-train")
    (ref,) = READER.list_episodes(tmp_path / "rlds")
    return official, READER.read(ref)


def test_the_mirror_is_undone(both):
    official, episode = both
    for mine, theirs in (("image", "agentview"), ("wrist_image", "eye_in_hand")):
        expected, found = official.views[theirs].frames.astype(int), episode.views[mine].frames
        error, mirrored = (np.abs(f - expected).mean() for f in (found, found[:, :, ::-1]))
        assert error < 2 and mirrored > 4 * error


def test_the_cameras_are_those_of_the_official_files(both):
    official, episode = both
    for mine, theirs in (("image", "agentview"), ("wrist_image", "eye_in_hand")):
        assert np.allclose(episode.views[mine].intrinsics, official.views[theirs].intrinsics)
        assert episode.views[mine].fixed == official.views[theirs].fixed
    assert episode.primary == "image" and episode.wrist == "wrist_image"


def test_the_published_focal_length_at_256():
    from schemas.cameras import intrinsics_from_fov

    assert intrinsics_from_fov(45, 256, 256)[0, 0] == pytest.approx(309.02, abs=0.01)


def test_an_action_goes_with_its_own_step(both):
    official, episode = both
    assert np.array_equal(episode.actions, official.actions)
    assert episode.action_mask.all()
    assert np.array_equal(episode.state, official.state) and episode.state_names == official.state_names
    assert episode.action_convention == official.action_convention
    assert episode.instructions == (INSTRUCTION,) and episode.fps == 20 and episode.success


def test_the_misspelt_files_of_libero_10_are_found(both):
    _, episode = both
    assert episode.ref.source == "libero_10_no_noops/1.0.0/liber_o10-train.tfrecord-00000-of-00001"
    assert episode.notes["file_path"] == "/data/one_demo.hdf5"


def test_two_forms_in_one_folder_are_asked_apart(both, tmp_path):
    """They may be the same demonstrations twice."""
    with pytest.raises(
        SeveralForms, match="several forms, hdf5 in hdf5 and rlds in rlds/libero_10_no_noops/1"
    ) as error:
        list(READER.list_episodes(tmp_path))
    assert "choose with --form hdf5 or --form rlds" in str(error.value)
    assert [ref.source for ref in READER.list_episodes(tmp_path, "hdf5")] == ["hdf5/one_demo.hdf5"]
    assert [ref.episode for ref in READER.list_episodes(tmp_path, "rlds")] == ["record_0"]
    with pytest.raises(ValueError, match="--form must be one of hdf5, rlds, lerobot for this dataset, found 'zarr'"):
        list(READER.list_episodes(tmp_path, "zarr"))
    with pytest.raises(FileNotFoundError, match="in the form lerobot, which --form asks for"):
        list(READER.list_episodes(tmp_path, "lerobot"))


def test_the_way_back_leads_to_either_form(both, tmp_path):
    way = WayBack(tmp_path)
    for form in ("hdf5", "rlds"):
        ref = next(r for r in READER.list_episodes(tmp_path, form) if isinstance(r, EpisodeRef))
        episode = READER.read(ref)
        source = Source(ref.dataset, ref.source, ref.episode, episode.primary, 1)
        (frame,) = way.frames(source, ref.digest, np.array([0]), None)
        assert np.array_equal(frame, episode.views[episode.primary].frames[1])


def test_another_datasets_rlds_is_refused_by_name():
    (problem,) = READER.list_episodes(ROOT / "tests" / "samples" / "bridge")
    assert isinstance(problem, UnreadableSource) and problem.code == "foreign_features"
    assert "has no steps/observation/image, so it is not libero" in str(problem)


@pytest.mark.parametrize("damage", ["no feature", "no picture", "not square"])
def test_a_wrist_camera_that_cannot_be_used_costs_only_itself(tmp_path, damage):
    square = np.full((3, 64, 64, 3), 90, np.uint8)
    square[:, 10:20, 10:20] = 200
    wrist = np.full((3, 64, 96, 3), 90, np.uint8) if damage == "not square" else square
    steps = converted(square, wrist, np.zeros((3, 8), np.float32), np.zeros((3, 7), np.float32))
    folder = tmp_path / "libero_goal_no_noops" / "1.0.0"
    write_rlds(folder, features_of(), [{"steps": steps, "episode_metadata": {"file_path": "x"}}], "libero_goal-train")
    if damage == "no feature":
        features = json.loads((folder / "features.json").read_text())
        del features["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"][
            "observation"
        ]["featuresDict"]["features"]["wrist_image"]
        (folder / "features.json").write_text(json.dumps(features))
    (ref,) = READER.list_episodes(tmp_path)
    if damage == "no picture":
        path = next(folder.glob("*.tfrecord-*"))
        record = parse_example(read_record(path, ref.span))
        assert len(record["steps/observation/wrist_image"]) == 3
        record["steps/observation/wrist_image"] = record["steps/observation/wrist_image"][:2]
        episode = episode_of_record(ref, RldsEpisode(ref, read_features(folder), record))
    else:
        episode = READER.read(ref)
    assert list(episode.views) == ["image"] and episode.wrist is None and "wrist_image" in episode.unusable_cameras
    assert "wrist_image" in episode.notes["camera wrist_image"]


def test_a_picture_that_is_not_square_is_refused(tmp_path):
    wide = np.full((2, 64, 96, 3), 90, np.uint8)
    steps = converted(wide, wide, np.zeros((2, 8), np.float32), np.zeros((2, 7), np.float32))
    folder = tmp_path / "libero_goal_no_noops" / "1.0.0"
    write_rlds(folder, features_of(), [{"steps": steps, "episode_metadata": {"file_path": "x"}}], "libero_goal-train")
    (ref,) = READER.list_episodes(tmp_path)
    with pytest.raises(BadEpisode, match="image must be square, found 96 x 64"):
        READER.read(ref)
