"""Files as downloads leave them: pointers in place of files, hidden files of another system, marks and line ends."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixtures.libero import Demo, write_file
from fixtures.rlds import SAMPLE
from formats.test_lerobot import CAMERA, VERSIONS, listed, problems_in, refs_in, write
from readers.test_mapped_reader import PLAIN, reader_of, written

from pipeline.errors import UnreadableSource
from pipeline.formats.lerobot import read_lerobot
from pipeline.formats.video import read_video
from pipeline.readers.bridge import BridgeReader
from pipeline.readers.libero import LiberoReader
from schemas.episode import BadEpisode

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"


def mapped(folder):
    return written(folder) / "data/chunk-000/episode_000000.parquet", reader_of(PLAIN)


def archive(folder):
    written(folder)
    (folder / "sets.tar.gz").write_bytes(b"")
    return folder / "sets.tar.gz", reader_of(PLAIN)


def hdf5(folder):
    write_file(folder / "a_demo.hdf5", [Demo()])
    return folder / "a_demo.hdf5", LiberoReader()


def tfrecord(folder):
    shutil.copytree(SAMPLE, folder / "bridge_dataset" / "1.0.0")
    return next(folder.rglob("*.tfrecord-*")), BridgeReader()


@pytest.mark.parametrize("make", [mapped, archive, hdf5, tfrecord])
def test_a_pointer_in_place_of_a_file_is_called_that(tmp_path, make):
    path, reader = make(tmp_path)
    path.write_bytes(POINTER)
    found = [item for item in reader.list_episodes(tmp_path) if isinstance(item, UnreadableSource)]
    (said,) = [item for item in found if item.code == "lfs_pointer"]
    name = path.relative_to(tmp_path).as_posix()
    assert said.source == name and str(said).startswith(f"{name} is a Git LFS pointer") and "git lfs pull" in str(said)
    assert all(item.source != name for item in found if item is not said)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_pointer_in_place_of_a_video_or_a_description_is_called_that(tmp_path, version):
    dataset = write(tmp_path, version)
    video = min((dataset / "videos").rglob("*.mp4"))
    video.write_bytes(POINTER)
    with pytest.raises(BadEpisode, match=f"{video.name} is a Git LFS pointer") as error:
        read_video("x", read_lerobot(refs_in(dataset)[0]).video(CAMERA))
    assert error.value.code == "lfs_pointer"
    tasks = next((dataset / "meta").glob("tasks.*"))
    tasks.write_bytes(POINTER)
    (problem,) = listed(dataset)
    assert problem.code == "bad_meta" and f"set/meta/{tasks.name} is a Git LFS pointer" in str(problem)


@pytest.mark.parametrize("version", VERSIONS)
def test_hidden_files_of_another_system_are_passed_over(tmp_path, version):
    dataset = write(tmp_path, version)
    before = refs_in(dataset)
    for path in [p for p in dataset.rglob("*") if p.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\26\7 not what the name says")
    assert refs_in(dataset) == before and not problems_in(dataset)


def test_hidden_files_beside_records_and_demonstrations_are_passed_over(tmp_path):
    for make in (hdf5, tfrecord):
        path, reader = make(tmp_path / make.__name__) if make is tfrecord else make(_made(tmp_path / make.__name__))
        root = tmp_path / make.__name__
        before = list(reader.list_episodes(root))
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\26\7")
        assert list(reader.list_episodes(root)) == before


def _made(folder):
    folder.mkdir()
    return folder


@pytest.mark.parametrize("version", ["v2.0", "v2.1"])
def test_a_mark_at_the_beginning_and_other_line_ends_change_nothing(tmp_path, version):
    dataset = write(tmp_path, version)
    tasks = [{"task_index": number, "task": f"task {number}\u2028 more"} for number in (0, 1)]
    lines = [json.dumps(task, ensure_ascii=False) + "\n" for task in tasks]
    (dataset / "meta/tasks.jsonl").write_text("".join(lines), encoding="utf-8")
    for path in (dataset / "meta").iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert len(refs_in(dataset)) == 3 and not problems_in(dataset)
    assert read_lerobot(refs_in(dataset)[1]).tasks()[0] == "task 1\u2028 more"


@pytest.mark.parametrize(
    "columns",
    [
        {"task": ["task 0", "task 1"], "category": ["a", "b"]},
        {"category": ["a", "b"], "__index_level_0__": ["task 0", "task 1"]},
        {"__index_level_0__": ["0", "1"], "task": ["task 0", "task 1"]},
        {"task": pa.array(["task 0", "task 1"]).dictionary_encode()},
        {"said": pa.array(["task 0", "task 1"], pa.large_string())},
    ],
)
def test_texts_beside_the_task_are_no_fault(tmp_path, columns):
    dataset = write(tmp_path, "v3.0")
    pq.write_table(pa.table({"task_index": [0, 1], **columns}), dataset / "meta/tasks.parquet")
    assert [set(read_lerobot(ref).tasks()) for ref in refs_in(dataset)] == [{"task 0"}, {"task 1"}, {"task 0"}]


def test_a_list_of_tasks_in_which_nothing_is_the_task_is_named(tmp_path):
    dataset = write(tmp_path, "v3.0")
    pq.write_table(pa.table({"task_index": [0], "a": ["x"], "b": ["y"]}), dataset / "meta/tasks.parquet")
    (problem,) = listed(dataset)
    said = "tasks.parquet must have a column task or __index_level_0__, or one column of text, found a, b"
    assert said in str(problem)
