"""TFRecord framing, the tf.Example parser and RLDS episodes, against tensorflow-datasets and against every kind of
damage.
"""

import contextlib
import json
import shutil
import struct

import numpy as np
import pytest
import tensorflow_datasets as tfds
from fixtures.rlds import SAMPLE, SAMPLE_FILE, frame, masked_crc, write_rlds
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_datasets.proto import tf_example_pb2 as example
from tensorflow_datasets.proto import tf_feature_pb2 as proto

from pipeline.errors import UnreadableSource
from pipeline.formats.rlds import list_rlds, read_features, read_rlds
from pipeline.formats.tf_example import MalformedExample, parse_example
from pipeline.formats.tfrecord import DamagedRecord, index_records, masked_crc32c, read_record
from schemas.episode import BadEpisode, EpisodeRef

INT64 = st.integers(-(2**63), 2**63 - 1)


def listed(folder, needed=()):
    found = list(list_rlds("bridge", folder.parent.parent, folder, needed))
    return [r for r in found if isinstance(r, EpisodeRef)], [u for u in found if isinstance(u, UnreadableSource)]


@pytest.fixture
def copy(tmp_path):
    """A copy of the real set that may be damaged."""
    folder = tmp_path / "bridge_dataset" / "1.0.0"
    shutil.copytree(SAMPLE, folder)
    return folder


@given(st.binary(max_size=200))
def test_the_checksum_is_castagnolis_masked(data):
    assert masked_crc32c(data) == masked_crc(data)


def test_the_checksum_of_the_standards_example():
    crc = (masked_crc32c(b"123456789") - 0xA282EAD8) % 2**32
    assert (crc << 15 | crc >> 17) & 0xFFFFFFFF == 0xE3069283


def test_records_are_found_and_read_as_they_were_framed(tmp_path):
    records = [b"", b"a", bytes(range(256)) * 5]
    path = tmp_path / "some.tfrecord"
    path.write_bytes(b"".join(map(frame, records)))
    index = index_records(path)
    assert index.damage is None
    assert [read_record(path, span) for span in index.spans] == records


def test_every_flipped_bit_of_a_file_is_noticed_at_its_record(tmp_path):
    good = b"".join(map(frame, [b"first", b"second"]))
    path = tmp_path / "some.tfrecord"
    for byte in range(len(good)):
        data = bytearray(good)
        data[byte] ^= 1 << byte % 8
        path.write_bytes(bytes(data))
        index = index_records(path)
        intact = 0
        for span in index.spans:
            try:
                read_record(path, span)
                intact += 1
            except DamagedRecord:
                pass
        assert intact < 2


@given(st.lists(INT64, max_size=20), st.lists(st.floats(width=32, allow_nan=False), max_size=20), st.lists(st.binary()))
def test_the_parser_reads_what_protobuf_writes(integers, floats, texts):
    features = proto.Features(
        feature={
            "i": proto.Feature(int64_list=proto.Int64List(value=integers)),
            "f": proto.Feature(float_list=proto.FloatList(value=floats)),
            "b": proto.Feature(bytes_list=proto.BytesList(value=texts)),
        }
    )
    found = parse_example(example.Example(features=features).SerializeToString())
    assert found["i"].tolist() == integers
    assert found["f"].tolist() == floats
    assert [bytes(b) for b in found["b"]] == texts


@given(st.binary(max_size=60))
def test_no_bytes_make_the_parser_fail_in_another_way(data):
    with contextlib.suppress(MalformedExample):
        parse_example(data)


def test_a_real_episode_is_what_tensorflow_datasets_reads():
    (first, *_), problems = listed(SAMPLE)
    assert not problems
    episode = read_rlds(first)
    raw = read_record(SAMPLE_FILE, index_records(SAMPLE_FILE).spans[0])
    reference = tfds.builder_from_directory(SAMPLE).info.features.deserialize_example_np(
        raw, decoders={"steps": {"observation": {f"image_{i}": tfds.decode.SkipDecoding() for i in range(4)}}}
    )
    steps = list(reference["steps"])
    assert episode.length == len(steps) == 10
    for key, field in read_features(SAMPLE).items():
        if not key.startswith("steps/"):
            continue
        names = key.split("/")[1:]
        expected = [step[names[0]] if len(names) == 1 else step[names[0]][names[1]] for step in steps]
        if field.kind == "image":
            assert [bytes(image) for image in episode.images(key)] == expected
        elif field.kind == "text":
            assert [text.encode() for text in episode.texts(key)] == expected
        else:
            found = episode.array(key)
            assert np.array_equal(found, np.stack(expected)) and found.dtype == np.stack(expected).dtype
    assert episode.texts("episode_metadata/file_path")[0].encode() == reference["episode_metadata"]["file_path"]
    assert not episode.array("episode_metadata/has_image_0")


def test_every_type_that_tensorflow_datasets_writes_comes_back(tmp_path):
    kinds = {"float32": 1.5, "float64": 0.1, "int32": -7, "int64": -(2**40), "uint8": 255, "bool": True}
    step = {name: tfds.features.Tensor(shape=(2,), dtype=np.dtype(name).type) for name in kinds}
    features = tfds.features.FeaturesDict(
        {"steps": tfds.features.Dataset({**step, "text": tfds.features.Text(), "one": np.float32})}
    )
    steps = [
        {**{n: np.full(2, v, n) for n, v in kinds.items()}, "text": t, "one": i}
        for i, t in enumerate(["", "grün", "x"])
    ]
    folder = tmp_path / "set" / "1.0.0"
    write_rlds(folder, features, [{"steps": steps}])
    (ref,), _ = listed(folder)
    episode = read_rlds(ref)
    for name, value in kinds.items():
        array = episode.array(f"steps/{name}")
        assert array.dtype == name and array.shape == (3, 2)
        assert np.allclose(array.astype(float), value, rtol=1e-7)
    assert episode.texts("steps/text") == ["", "grün", "x"]
    assert episode.array("steps/one").tolist() == [0, 1, 2]


def test_a_file_cut_within_a_record_gives_the_records_before_it_and_says_so(copy):
    path = copy / SAMPLE_FILE.name
    path.write_bytes(path.read_bytes()[:-10])
    refs, (problem,) = listed(copy)
    assert [r.episode for r in refs] == ["record_0", "record_1"]
    assert problem.code == "damaged_records" and "ends within record 2" in str(problem)


def test_a_file_cut_between_records_is_not_taken_for_whole(copy):
    path = copy / SAMPLE_FILE.name
    offset, size = index_records(path).spans[1]
    path.write_bytes(path.read_bytes()[: offset + size + 4])
    refs, (problem,) = listed(copy)
    assert len(refs) == 2 and problem.code == "missing_records"
    assert "holds 2 episode(s), dataset_info.json says 3" in str(problem)


def test_a_wrong_checksum_of_a_record_condemns_that_episode_alone(copy):
    path = copy / SAMPLE_FILE.name
    offset, size = index_records(path).spans[1]
    data = bytearray(path.read_bytes())
    data[offset + size // 2] ^= 1
    path.write_bytes(bytes(data))
    refs, problems = listed(copy)
    assert not problems and len(refs) == 3
    with pytest.raises(BadEpisode, match="record_1 is damaged: its checksum is") as error:
        read_rlds(refs[1])
    assert error.value.code == "damaged_record"
    assert read_rlds(refs[0]).length == read_rlds(refs[2]).length == 10


def test_a_wrong_checksum_of_a_length_ends_the_file_there(copy):
    path = copy / SAMPLE_FILE.name
    offset = index_records(path).spans[1][0] - 12
    data = bytearray(path.read_bytes())
    data[offset : offset + 8] = struct.pack("<Q", 2**60)
    path.write_bytes(bytes(data))
    refs, (problem,) = listed(copy)
    assert len(refs) == 1
    assert "damaged after 1 episode(s): the length of record 1 does not match its checksum" in str(problem)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"featuresDict": {"features": {}}}', '{"featuresDict": 3}'])
def test_features_that_cannot_be_understood_are_named(copy, text):
    (copy / "features.json").write_text(text)
    refs, (problem,) = listed(copy)
    assert not refs and problem.code == "bad_features"
    assert "features.json" in str(problem)


def test_missing_features_are_named(copy):
    (copy / "features.json").unlink()
    _, (problem,) = listed(copy)
    assert problem.code == "bad_features" and "has no features.json" in str(problem)


def test_features_of_another_dataset_are_not_read_as_this_one(copy):
    _, (problem,) = listed(copy, needed=("steps/observation/exterior_image_1_left",))
    assert problem.code == "foreign_features" and "has no steps/observation/exterior_image_1_left" in str(problem)


def test_features_that_do_not_fit_the_record_condemn_the_episode(copy):
    described = json.loads((copy / "features.json").read_text())
    step = described["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"]
    step["action"]["tensor"]["shape"]["dimensions"] = ["9"]
    step["invented"] = step["action"]
    (copy / "features.json").write_text(json.dumps(described))
    episode = read_rlds(listed(copy)[0][0])
    with pytest.raises(BadEpisode, match=r"promises \[10, 9\] numbers in steps/action, the record holds 70") as error:
        episode.array("steps/action")
    assert error.value.code == "features_mismatch"
    with pytest.raises(BadEpisode, match="holds nothing"):
        episode.array("steps/invented")


def test_a_record_that_is_no_example_is_named(copy):
    (copy / SAMPLE_FILE.name).write_bytes(frame(b"\x0a\x05abc"))
    (ref, *_), _ = listed(copy)
    with pytest.raises(BadEpisode, match=r"is no tf\.train\.Example") as error:
        read_rlds(ref)
    assert error.value.code == "bad_record"


def test_records_follow_their_files_name_and_number(copy):
    path = copy / SAMPLE_FILE.name
    data = path.read_bytes()
    path.unlink()
    for number in (10, 2):
        (copy / f"bridge_dataset-train.tfrecord-{number:05d}-of-00011").write_bytes(data)
    refs, (problem,) = listed(copy)
    assert problem.code == "missing_files" and "only 2 of the 11 files of bridge_dataset-train are there" in str(
        problem
    )
    assert [(r.source[-14:-9], r.episode) for r in refs] == [
        (f"{n:05d}", f"record_{i}") for n in (2, 10) for i in range(3)
    ]
    assert len({r.digest for r in refs}) == 6
