"""The kept index of TFRecord files: found once, believed only of the file that it was made from, never in the way."""

import json
import os

import pytest
from fixtures.rlds import SAMPLE, SAMPLE_FILE

from pipeline.errors import UnreadableSource
from pipeline.formats import rlds, tfrecord_index
from pipeline.formats.tfrecord import index_records
from pipeline.formats.tfrecord_index import RecordIndexes, cache_folder
from pipeline.readers.bridge import BridgeReader
from schemas.episode import BadEpisode

READER = BridgeReader()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The real file in a place of its own, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = tmp_path / "data" / "bridge_dataset" / "1.0.0"
    place.mkdir(parents=True)
    for path in SAMPLE.iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    return place


@pytest.fixture
def looked(monkeypatch):
    """Files that were gone through."""
    seen = []
    for module in (tfrecord_index, rlds):
        monkeypatch.setattr(module, "index_records", lambda path: seen.append(path.name) or index_records(path))
    return seen


def listing(folder):
    return list(READER.list_episodes(folder.parent.parent))


def kept():
    (path,) = cache_folder().iterdir()
    return path


def test_records_are_found_once_and_read_by_their_refs(folder, looked):
    first = listing(folder)
    assert looked == [SAMPLE_FILE.name] and len(first) == 3
    assert listing(folder) == first and len(looked) == 1
    assert READER.read(first[2]).ref.episode == "record_2" and len(looked) == 1, "the ref says where its record is"


def test_a_ref_without_a_place_is_read_too(folder, looked):
    import dataclasses

    ref = listing(folder)[1]
    assert READER.read(dataclasses.replace(ref, span=None)).instructions == READER.read(ref).instructions


def test_a_changed_file_is_gone_through_again(folder, looked):
    listing(folder)
    path = folder / SAMPLE_FILE.name
    end = index_records(path).spans[1]
    path.write_bytes(path.read_bytes()[: sum(end) + 4])
    found = listing(folder)
    assert len(looked) == 2 and len([r for r in found if not isinstance(r, UnreadableSource)]) == 2


def test_a_file_that_changed_after_it_was_listed_is_found_out_by_its_checksum(folder):
    refs = listing(folder)
    path = folder / SAMPLE_FILE.name
    path.write_bytes(b"\0" * 100 + path.read_bytes())
    with pytest.raises(BadEpisode) as error:
        READER.read(refs[0])
    assert error.value.code == "damaged_record"


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b'{"version": 1}',
        b'{"version": 1, "files": [1]}',
        b'{"version": 1, "files": {"%s": 3}}' % SAMPLE_FILE.name.encode(),
    ],
)
def test_a_broken_index_is_made_again(folder, looked, damage):
    first = listing(folder)
    kept().write_bytes(damage)
    assert listing(folder) == first and len(looked) == 2 and json.loads(kept().read_bytes())["version"] == 1


@pytest.mark.parametrize("spans", [[0], [0, 10**12], [-5, 3], ["a", 3], [0, True]])
def test_places_that_cannot_be_are_not_believed(folder, looked, spans):
    first = listing(folder)
    values = json.loads(kept().read_bytes())
    values["files"][SAMPLE_FILE.name]["spans"] = spans
    kept().write_text(json.dumps(values))
    assert listing(folder) == first and len(looked) == 2


def test_a_cache_that_cannot_be_written_is_done_without(folder, looked, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(listing(folder)) == len(listing(folder)) == 3 and len(looked) == 2


def test_damage_is_remembered_too(folder, looked):
    path = folder / SAMPLE_FILE.name
    path.write_bytes(path.read_bytes()[:-7])
    assert listing(folder)[-1].code == listing(folder)[-1].code == "damaged_records" and len(looked) == 1


def test_files_that_are_gone_leave_the_index(folder):
    indexes = RecordIndexes(folder)
    other = folder / "other"
    other.write_bytes(SAMPLE_FILE.read_bytes())
    indexes.of(other)
    indexes.keep()
    os.remove(other)
    listing(folder)
    assert list(json.loads(kept().read_bytes())["files"]) == [SAMPLE_FILE.name]
