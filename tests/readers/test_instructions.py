"""Instructions that change within an episode: each frame has its own, and one that is said once holds throughout."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from fixtures.lerobot import moving, write_lerobot
from fixtures.rlds import jpeg, textured, write_rlds
from readers.test_mapped_reader import PLAIN, read_all, reader_of

from pipeline.readers import words_of
from pipeline.readers._instructions import instructions_of


@pytest.mark.parametrize(
    ("columns", "every", "by_frame"),
    [
        ([["open it"] * 3], ("open it",), None),
        ([["open it", "", ""]], ("open it",), None),
        ([["", "", ""]], (), None),
        ([], (), None),
        ([["a", "a", "b"]], ("a", "b"), (("a",), ("a",), ("b",))),
        ([["a", " ", "b "]], ("a", "b"), (("a",), (), ("b",))),
        ([["all"] * 3, ["a", "b", "b"]], ("all", "a", "b"), (("all", "a"), ("all", "b"), ("all", "b"))),
        ([["all", "of it"], ["a", "b", "all"]], ("all", "of it", "a", "b"), None),
    ],
)
def test_texts_belong_to_their_frames(columns, every, by_frame):
    found = instructions_of(columns, 3)
    if columns and len(columns[0]) == 2:  # texts of the whole episode beside those of its frames
        by_frame = (("all", "of it", "a"), ("all", "of it", "b"), ("all", "of it"))
    assert (found.every, found.by_frame) == (every, by_frame)


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_lerobots_task_of_each_frame(tmp_path, version):
    columns = {"action": np.zeros((4, 2), np.float32)}
    episode = {"tasks": ["reach", "reach", "lift", "lift"], "video": {"observation.images.top": moving(4)}}
    write_lerobot(tmp_path / "set", version, [{**episode, "columns": columns}], 10.0)
    reader = reader_of({**PLAIN, "language": "task_index"})
    (read,) = read_all(reader, tmp_path)
    assert read.instructions == ("reach", "lift") == words_of(reader, read.ref).instructions
    assert [read.instructions_at(frame) for frame in range(4)] == [("reach",), ("reach",), ("lift",), ("lift",)]


@pytest.mark.parametrize("written_as", ["text", "characters"])
def test_a_text_for_each_step_of_rlds(tmp_path, written_as):
    texts = ["reach", "reach", "lift", "lift"]
    said = [np.array(list(text.encode().ljust(8, b"\0")), np.int32) for text in texts]
    kind = tfds.features.Text() if written_as == "text" else tfds.features.Tensor(shape=(8,), dtype=np.int32)
    features = tfds.features.FeaturesDict(
        {
            "steps": tfds.features.Dataset(
                {"image": tfds.features.Image(shape=(64, 96, 3), encoding_format="jpeg"), "told": kind}
            )
        }
    )
    steps = [
        {"image": jpeg(textured(64, 96, number)), "told": (texts if written_as == "text" else said)[number]}
        for number in range(4)
    ]
    write_rlds(tmp_path / "set" / "1.0.0", features, [{"steps": steps}])
    reader = reader_of({**PLAIN, "primary": "steps/image", "cameras": {"steps/image": {}}, "language": "steps/told"})
    (read,) = read_all(reader, tmp_path)
    assert read.instructions == ("reach", "lift")
    assert [read.instructions_at(frame) for frame in range(4)] == [(text,) for text in texts]
