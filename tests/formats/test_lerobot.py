"""LeRobot datasets, versions 2.0, 2.1 and 3.0: what was written is read, and what is broken is named."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixtures.lerobot import AV1_SAMPLE, SAMPLE, encode_video, moving, write_lerobot

from pipeline.errors import UnreadableSource
from pipeline.formats.lerobot import list_lerobot, read_lerobot
from pipeline.formats.video import VideoSpan, read_video
from schemas.episode import BadEpisode, EpisodeRef

VERSIONS = ["v2.0", "v2.1", "v3.0"]
CAMERA = "observation.images.front"
LENGTHS = (12, 9, 5)


def listed(folder):
    return list(list_lerobot("some", folder.parent, folder, lambda meta: None))


def refs_in(folder):
    return [r for r in listed(folder) if isinstance(r, EpisodeRef)]


def problems_in(folder):
    return [u for u in listed(folder) if isinstance(u, UnreadableSource)]


def state_of(number):
    return np.arange(LENGTHS[number] * 3, dtype=np.float32).reshape(-1, 3) + 1000 * number


def write(folder, version, **options):
    episodes = [
        {
            "task": f"task {number % 2}",
            "video": {CAMERA: moving(length, seed=number)},
            "image": {"small": moving(length, 40, 40, seed=number + 7)},
            "columns": {"state": state_of(number), "words": [f"word {number}"] * length},
        }
        for number, length in enumerate(LENGTHS)
    ]
    return write_lerobot(folder / "set", version, episodes, **options)


@pytest.fixture(params=VERSIONS)
def dataset(request, tmp_path):
    return write(tmp_path, request.param)


def test_what_was_written_is_read(dataset):
    refs = refs_in(dataset)
    assert [r.episode for r in refs] == ["episode_000000", "episode_000001", "episode_000002"]
    assert not problems_in(dataset)
    for number, ref in enumerate(refs):
        episode = read_lerobot(ref)
        assert episode.length == LENGTHS[number]
        assert np.array_equal(episode.array("state"), state_of(number))
        assert episode.texts("words") == [f"word {number}"] * LENGTHS[number]
        assert episode.tasks() == [f"task {number % 2}"] * LENGTHS[number]
        assert len(episode.pictures("small")) == LENGTHS[number]


def test_frames_are_those_of_the_episode_in_order(dataset):
    for number, ref in enumerate(refs_in(dataset)):
        frames = read_video("x", read_lerobot(ref).video(CAMERA))
        expected = moving(LENGTHS[number], seed=number)
        assert frames.shape == expected.shape
        apart = np.abs(frames[:, None].astype(int) - expected[None]).mean((2, 3, 4))
        assert (apart.argmin(1) == np.arange(LENGTHS[number])).all() and apart.diagonal().max() < 6


def test_a_real_dataset_is_read_and_a_camera_that_is_only_named_is_missed_when_asked_for():
    (ref,) = refs_in(SAMPLE)
    episode = read_lerobot(ref)
    assert episode.length == 328 and episode.array("observation.state").shape == (328, 44)
    assert set(episode.tasks()) == {"pick the cupcake from the counter and place it in the plate"}
    with pytest.raises(BadEpisode, match=r"there is no file .*egoview/episode_000004.mp4") as error:
        read_video("x", episode.video("observation.images.egoview"))
    assert error.value.code == "missing_video"


def test_a_real_av1_video_is_decoded_whole():
    frames = read_video("x", VideoSpan(AV1_SAMPLE, 0.0, 169, 20.0, True))
    assert frames.shape == (169, 256, 256, 3)
    steps = np.abs(np.diff(frames[:, ::8, ::8].astype(int), axis=0)).mean((1, 2, 3))
    assert frames.std() > 20 and steps.max() < 30, "a film of a moving hand has no cuts"


def test_av1_within_a_shared_file(tmp_path):
    refs = refs_in(write(tmp_path, "v3.0", codec="libsvtav1"))
    frames = read_video("x", read_lerobot(refs[1]).video(CAMERA))
    assert np.abs(frames.astype(int) - moving(LENGTHS[1], seed=1)).mean() < 12


@pytest.mark.parametrize("wrong", [-1, 1])
def test_a_video_must_be_as_long_as_its_table(tmp_path, wrong):
    dataset = write(tmp_path, "v2.1")
    encode_video(dataset / f"videos/chunk-000/{CAMERA}/episode_000001.mp4", moving(LENGTHS[1] + wrong), 20)
    span = read_lerobot(refs_in(dataset)[1]).video(CAMERA)
    with pytest.raises(BadEpisode) as error:
        read_video("x", span)
    assert error.value.code == ("video_too_short" if wrong < 0 else "video_too_long")


def test_a_video_of_another_rate_is_refused(tmp_path):
    dataset = write(tmp_path, "v2.1")
    encode_video(dataset / f"videos/chunk-000/{CAMERA}/episode_000000.mp4", moving(LENGTHS[0]), 10)
    with pytest.raises(BadEpisode, match=r"frame 1 is shown 0.050 s after its time") as error:
        read_video("x", read_lerobot(refs_in(dataset)[0]).video(CAMERA))
    assert error.value.code == "timestamps_off"


@pytest.mark.parametrize("content", [b"", b"no video at all", None])
def test_a_broken_video_is_named(tmp_path, content):
    dataset = write(tmp_path, "v2.1")
    path = dataset / f"videos/chunk-000/{CAMERA}/episode_000000.mp4"
    path.write_bytes(path.read_bytes()[:600] if content is None else content)
    with pytest.raises(BadEpisode, match=r"episode_000000.mp4 cannot be decoded") as error:
        read_video("x", read_lerobot(refs_in(dataset)[0]).video(CAMERA))
    assert error.value.code == "bad_video"


def test_a_missing_table_is_named_and_the_rest_is_listed(tmp_path):
    dataset = write(tmp_path, "v2.1")
    (dataset / "data/chunk-000/episode_000001.parquet").unlink()
    assert len(refs_in(dataset)) == 2
    (problem,) = problems_in(dataset)
    assert problem.code == "missing_file" and "episode_000001.parquet" in str(problem)


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_a_table_that_is_no_parquet_is_named(tmp_path, version):
    dataset = write(tmp_path, version)
    ref = refs_in(dataset)[0]
    (dataset.parent / ref.source).write_bytes(b"nothing")
    with pytest.raises(BadEpisode, match="cannot be read as parquet") as error:
        read_lerobot(refs_in(dataset)[0])
    assert error.value.code == "unreadable_episode"


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_a_table_with_too_few_rows_is_refused(tmp_path, version):
    dataset = write(tmp_path, version)
    path = dataset.parent / refs_in(dataset)[2].source
    table = pq.read_table(path)
    pq.write_table(table.slice(0, table.num_rows - 1), path)
    with pytest.raises(BadEpisode, match="its file has") as error:
        read_lerobot(refs_in(dataset)[2])
    assert error.value.code == "rows_mismatch"


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
@pytest.mark.parametrize(("key", "code"), [("frame_index", "rows_mismatch"), ("timestamp", "timestamps_off")])
def test_rows_that_skip_are_refused(tmp_path, version, key, code):
    dataset = write(tmp_path, version)
    path = dataset.parent / refs_in(dataset)[0].source
    table = pq.read_table(path)
    values = np.array(table[key].to_pylist())
    values[4:] += 1
    pq.write_table(table.set_column(table.schema.get_field_index(key), key, pa.array(values)), path)
    with pytest.raises(BadEpisode) as error:
        read_lerobot(refs_in(dataset)[0])
    assert error.value.code == code


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"codebase_version": "v1.6"}, "says version v1.6; v2.0, v2.1 and v3.0 are read"),
        ({"fps": None}, "do not describe a LeRobot dataset"),
        ({"fps": 0}, "says 0 frames a second"),
        ({"chunks_size": 0, "data_path": None}, "do not describe a LeRobot dataset"),
        ({"features": None}, "do not describe a LeRobot dataset"),
        ({"data_path": "data/../../outside.parquet"}, "which leads out of the dataset's folder"),
        ({"video_path": "/etc/{video_key}.mp4"}, "which leads out of the dataset's folder"),
    ],
)
def test_a_description_that_cannot_be_used_is_named(dataset, changes, says):
    path = dataset / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    (problem,) = listed(dataset)
    assert problem.code == "bad_meta" and says in str(problem)


def test_no_damage_makes_reading_fail_in_another_way(dataset):
    """Bytes changed or cut anywhere give a named reason, or are not noticed; never another error."""
    rng = np.random.default_rng(0)
    files = sorted(path for path in dataset.rglob("*") if path.is_file())
    reasons = set()
    for _ in range(60):
        path = files[rng.integers(len(files))]
        good = path.read_bytes()
        bad = bytearray(good[: rng.integers(len(good))] if rng.random() < 0.2 else good)
        for place in rng.integers(len(bad), size=3) if bad else ():
            bad[place] = rng.integers(256)
        path.write_bytes(bytes(bad))
        for item in listed(dataset):
            if isinstance(item, UnreadableSource):
                reasons.add(item.code)
                continue
            try:
                episode = read_lerobot(item)
                episode.array("state"), episode.tasks(), episode.pictures("small")
                read_video("x", episode.video(CAMERA))
            except BadEpisode as error:
                reasons.add(error.code)
        path.write_bytes(good)
    assert len(reasons) >= 3


def test_a_list_that_lacks_episodes_is_not_taken_for_whole(dataset):
    path = dataset / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"total_episodes": 5}))
    (problem,) = problems_in(dataset)
    assert problem.code == "missing_episodes" and "says 5 episodes, 3 are listed" in str(problem)
    assert len(refs_in(dataset)) == 3


def test_an_episode_that_is_listed_twice_is_named(tmp_path):
    dataset = write(tmp_path, "v2.1")
    path = dataset / "meta/episodes.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[0], lines[2]]))
    assert [u.code for u in problems_in(dataset)] == ["duplicate_episode"]
    assert len(refs_in(dataset)) == 2


def test_a_missing_list_is_named(tmp_path):
    dataset = write(tmp_path, "v3.0")
    shutil.rmtree(dataset / "meta/episodes")
    assert "meta/episodes" in str(problems_in(dataset)[0])


def test_a_changed_video_is_a_changed_episode(tmp_path):
    dataset = write(tmp_path, "v2.1")
    before = refs_in(dataset)
    encode_video(dataset / f"videos/chunk-000/{CAMERA}/episode_000001.mp4", moving(LENGTHS[1], seed=9), 20)
    changed = [b.fingerprint != a.fingerprint for b, a in zip(before, refs_in(dataset), strict=True)]
    assert changed == [False, True, False]


def test_columns_that_are_not_there_or_no_numbers_are_named(dataset):
    episode = read_lerobot(refs_in(dataset)[0])
    for key, code in (("nothing", "missing_field"), ("words", "wrong_dtype")):
        with pytest.raises(BadEpisode) as error:
            episode.array(key)
        assert error.value.code == code
    with pytest.raises(BadEpisode, match="has no video nothing"):
        episode.video("nothing")
