"""Shards in a store, as training reads them: the same samples in the same order, cached within a limit or by ranges."""

import logging
import time

import numpy as np
import pytest
from fixtures.object_server import store_folder
from fixtures.shard import write_shards

from lamp_model.shards import open_shards
from schemas.errors import StoreFailed
from schemas.file_cache import limit_cache
from schemas.locations import locate
from schemas.manifest import read_manifest
from schemas.shard_formats import CorruptShard
from schemas.shard_formats import _stored as store_shards
from schemas.shard_set import ShardSet

pytest.importorskip("obstore")
URL = "s3://bucket/shards"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder)
    return folder


@pytest.fixture
def stored(server, folder):
    store_folder(server, "bucket/shards", folder)
    return server


def tars(server):
    return sorted(name for name in server.objects if name.endswith(".tar"))


def fetched_whole(server):
    return [name for name in tars(server) if server.sent[name] >= len(server.objects[name])]


def until(condition):
    """Wait for a thread."""
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize("gigabytes", [0, 1])
def test_samples_are_those_of_the_folder(stored, folder, gigabytes):
    limit_cache(gigabytes)
    here, there = open_shards(folder), open_shards(URL)
    assert len(there) == len(here) > 2
    for number in range(len(here)):
        one, other = here[number], there[number]
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert np.array_equal(other[name], value), name


def test_the_first_sample_needs_one_range_of_one_shard(stored):
    limit_cache(0)
    shards = ShardSet(locate(URL))
    assert sum(stored.sent[name] for name in tars(stored)) == 0
    shards.read(0)
    assert sum(stored.sent[name] for name in tars(stored)) == shards.index[0]["size"]
    shards.close()


def test_shards_that_are_asked_for_are_fetched_once_and_then_read_from_the_disk(stored, tmp_path):
    shards = ShardSet(locate(URL))
    for number in range(len(shards)):
        shards.read(number)
    until(lambda: len(list((tmp_path / "cache").glob("*.tar"))) == len(tars(stored)))
    until(lambda: all(shard._mapped is not None for shard in shards._shards))
    stored.requests.clear()
    for number in range(len(shards)):
        shards.read(number)
    assert not stored.requests
    shards.close()
    again = ShardSet(locate(URL))
    again.read(0)
    until(lambda: again._shards[0]._mapped is not None)
    assert not [key for key in stored.requests if ".index.npy" in key and key.startswith("GET")]
    again.close()


def test_a_cache_that_is_too_small_holds_what_fits_and_the_rest_is_read_by_ranges(stored, tmp_path):
    first = read_manifest(locate(URL)).shards[0]
    limit_cache(first.bytes * 1.5 / 1e9)
    shards = ShardSet(locate(URL))
    for _ in range(3):
        for number in range(len(shards)):
            shards.read(number)
    until(lambda: shards._shards[0]._mapped is not None)
    assert [path.stat().st_size for path in (tmp_path / "cache").glob("*.tar")] == [first.bytes]
    shards.close()


def test_a_shard_that_is_damaged_in_the_store_is_named(stored):
    name = tars(stored)[0]
    data = bytearray(stored.objects[name])
    data[700] ^= 1
    stored.objects[name] = bytes(data)
    limit_cache(0)
    with pytest.raises(CorruptShard, match=rf"s3://{name}: sample .* is damaged"):
        ShardSet(locate(URL)).read(0)
    limit_cache(1)
    shards = ShardSet(locate(URL))
    shard = shards._shards[0]
    shard.fetch()
    with pytest.raises(CorruptShard, match=rf"s3://{name} is not the shard that was written"):
        shards.read(0)


@pytest.mark.parametrize("suffix", [".index.npy", ".tar"])
def test_a_missing_file_is_named_and_the_epoch_is_not_short(stored, suffix):
    name = next(n for n in sorted(stored.objects) if n.endswith(suffix))
    del stored.objects[name]
    limit_cache(0)
    with pytest.raises(CorruptShard, match=f"s3://{name} is missing"):
        ShardSet(locate(URL)).read(0)


def test_an_index_of_another_build_is_refused_and_not_kept_in_the_cache(stored):
    names = sorted(n for n in stored.objects if n.endswith(".index.npy"))
    right = stored.objects[names[0]]
    stored.objects[names[0]] = stored.objects[names[1]]
    with pytest.raises(CorruptShard, match="its index is not the one that was written"):
        ShardSet(locate(URL))
    stored.objects[names[0]] = right
    ShardSet(locate(URL)).read(0)


def test_a_store_that_fails_in_training_is_a_sentence(stored):
    limit_cache(0)
    shards = ShardSet(locate(URL))
    stored.faults = ["503"] * 20
    with pytest.raises(StoreFailed, match=r"reading s3://bucket/shards/.*failed 4 times"):
        shards.read(0)


def test_it_says_when_the_network_is_the_limit(caplog):
    watch = store_shards._Watch(URL)
    with caplog.at_level(logging.WARNING):
        for second in range(0, 70, 2):  # 0.2 of 2 seconds are spent waiting
            watch.add(second, second + 0.2, 1000)
    assert not caplog.messages
    watch = store_shards._Watch(URL)
    with caplog.at_level(logging.WARNING):
        for second in range(0, 700, 2):
            watch.add(second, second + 1.9, 10**6)
    assert len(caplog.messages) == 2, "once in ten minutes"
    assert "the network is the limit" in caplog.messages[0] and "0.5 MB/s" in caplog.messages[0]
