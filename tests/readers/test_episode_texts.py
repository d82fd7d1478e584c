"""An episode's words without its pictures: the same as those that the whole episode has, from every form, and no
picture is decoded.
"""

import av
import cv2
import numpy as np
import pytest
from fixtures.lerobot import moving, write_lerobot
from fixtures.libero import Demo, write_file
from fixtures.rlds import SAMPLE
from readers import test_bridge_raw, test_droid_raw, test_droid_reader, test_interndata_reader

from pipeline.readers import EpisodeTexts, TellsWords, words_of
from pipeline.readers.bridge import BridgeReader
from pipeline.readers.droid import DroidReader
from pipeline.readers.interndata_a1 import InternDataReader
from pipeline.readers.libero import LiberoReader
from schemas.episode import EpisodeRef

LENGTH = 6


def lerobot(folder, cameras, widths, **columns):
    video = {key: moving(LENGTH) for key in cameras}
    numbers = {key: np.zeros((LENGTH, width), np.float32) for key, width in widths.items()}
    write_lerobot(folder / "set", "v2.1", [{"task": "open it ", "video": video, "columns": numbers | columns}], 20)
    return folder


def droid_lerobot(folder):
    cameras = [f"observation.images.{name}" for name in ("exterior_1_left", "exterior_2_left", "wrist_left")]
    states = {"cartesian_position": 6, "gripper_position": 1, "joint_position": 7}
    return lerobot(
        folder,
        cameras,
        {"action.original": 7, **{f"observation.state.{name}": width for name, width in states.items()}},
        language_instruction=["lift the pot"] * LENGTH,
        is_episode_successful=np.zeros(LENGTH, bool),
    )


def libero_lerobot(folder):
    cameras = ["observation.images.image", "observation.images.wrist_image"]
    return lerobot(folder, cameras, {"observation.state": 8, "action": 7})


def bridge_lerobot(folder):
    return lerobot(folder, ["observation.images.image_0"], {"observation.state": 8, "action": 7})


def bridge_raw(folder):
    test_bridge_raw.write(folder)
    return folder


def libero_hdf5(folder):
    write_file(folder / "a_demo.hdf5", [Demo()])
    return folder


def droid_rlds(folder):
    test_droid_reader.write(folder, recording=test_droid_reader.RECORDING.replace("success", "failure"))
    return folder


def droid_raw(folder):
    test_droid_raw.write(folder)
    return folder


def interndata(folder):
    test_interndata_reader.read(folder, test_interndata_reader.columns_of())
    return folder


FORMS = {
    "libero hdf5": (LiberoReader, libero_hdf5),
    "libero lerobot": (LiberoReader, libero_lerobot),
    "bridge rlds": (BridgeReader, lambda folder: SAMPLE.parent.parent),
    "bridge lerobot": (BridgeReader, bridge_lerobot),
    "bridge raw": (BridgeReader, bridge_raw),
    "droid rlds": (DroidReader, droid_rlds),
    "droid lerobot": (DroidReader, droid_lerobot),
    "droid raw": (DroidReader, droid_raw),
    "interndata": (InternDataReader, interndata),
}


@pytest.mark.parametrize("form", FORMS)
def test_words_are_the_episodes_own_and_cost_no_picture(form, tmp_path, monkeypatch):
    make_reader, write = FORMS[form]
    reader = make_reader()
    refs = [ref for ref in reader.list_episodes(write(tmp_path)) if isinstance(ref, EpisodeRef)]
    episodes = [reader.read(ref) for ref in refs]
    assert refs and isinstance(reader, TellsWords)

    def decoded(*_, **__):
        raise AssertionError("a picture was decoded")

    for library, name in ((cv2, "imdecode"), (av, "open")):
        monkeypatch.setattr(library, name, decoded)
    found = [words_of(reader, ref) for ref in refs]
    assert found == [EpisodeTexts(episode.instructions, episode.success) for episode in episodes]
    assert all(words.instructions for words in found)
    if form.startswith("droid"):
        assert [words.success for words in found] == [form == "droid raw"]


def test_a_reader_that_cannot_say_words_reads_the_episode_for_them(tmp_path):
    class Plain:
        list_episodes = LiberoReader.list_episodes
        read = LiberoReader.read
        config = LiberoReader().config

    (ref,) = Plain().list_episodes(libero_hdf5(tmp_path))
    assert not isinstance(Plain(), TellsWords)
    assert words_of(Plain(), ref) == LiberoReader().words(ref)
