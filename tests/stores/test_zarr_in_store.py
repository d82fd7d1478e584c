"""zarr shards in a store: the bytes and samples of a folder's, read by ranges, and nothing taken for a shard that is
none."""

import pytest
from fixtures.libero import Demo, fast_recipe, outputs_of, write_file
from fixtures.object_server import store_folder
from fixtures.shard import write_shards
from fixtures.triplet import make_triplet, same
from fixtures.typed import typed

from jobs.executors.local import LocalExecutor
from pipeline.build.run import ShardConfig, build
from schemas.errors import StoreFailed
from schemas.files import write_whole
from schemas.locations import locate
from schemas.sample_codec import encode_triplet
from schemas.shard_formats import CorruptShard, open_shard, write_shard
from schemas.shard_set import ShardSet

pytest.importorskip("obstore")
URL = "s3://bucket/shards"
TRIPLETS = [make_triplet(seed, grid=4, steps=6, wrist=seed != 1, size=(48, 40)) for seed in range(4)]


def written(folder, triplets=TRIPLETS):
    samples = [(t.key, t.episode, encode_triplet(t)) for t in triplets]
    return write_shard("zarr", folder, "set-000000", samples)


@pytest.fixture
def stored(server, tmp_path):
    store_folder(server, "bucket/shards", write_shards(tmp_path / "here", format="zarr"))
    return server


def test_a_shard_in_a_store_has_the_bytes_of_one_in_a_folder(server, tmp_path):
    assert written(locate(URL)) == written(tmp_path)
    here = tmp_path / "set-000000.zarr"
    files = {p.relative_to(here).as_posix(): p.read_bytes() for p in here.rglob("*") if p.is_file()}
    assert server.below("bucket/shards/set-000000.zarr") == files
    assert server.written[-1] == "bucket/shards/set-000000.zarr/zarr.json", "without it there is no shard"


def test_a_shard_that_stood_there_leaves_nothing(server, tmp_path):
    written(locate(URL), TRIPLETS[:2])
    write_whole(locate(f"{URL}/set-000000.zarr/left/over"), b"1")
    written(locate(URL))
    written(tmp_path)
    assert len(server.below("bucket/shards")) == sum(p.is_file() for p in tmp_path.rglob("*"))
    assert len(open_shard(locate(f"{URL}/set-000000.zarr"))) == 4


def test_a_writer_that_ends_on_the_way_leaves_no_shard(server, monkeypatch):
    monkeypatch.setenv("LAMP_STORE_TRIES", "1")
    written(locate(URL))
    server.faults, server.only = ["503"], "pictures/zarr.json"
    with pytest.raises(StoreFailed, match="failed"):
        written(locate(URL))
    assert server.below("bucket/shards")
    with pytest.raises(CorruptShard, match="is missing or is no zarr v3 group"):
        open_shard(locate(f"{URL}/set-000000.zarr"))


def test_samples_are_those_of_the_folder(stored, tmp_path):
    here, there = ShardSet(tmp_path / "here"), ShardSet(locate(URL))
    assert len(there) == len(here) > 2
    for number in range(len(here)):
        assert same(here.read(number), there.read(number))


def test_a_sample_is_read_by_ranges(stored):
    shards = ShardSet(locate(URL))
    shards.read(1)
    stored.requests.clear()
    stored.sent.clear()
    shards.read(0)
    whole = sum(len(data) for name, data in stored.objects.items() if "shard-000000.zarr" in name)
    assert 0 < sum(stored.sent.values()) < whole / 3
    assert sum(stored.requests.values()) <= 9, "one for each array and picture"


def test_what_is_damaged_or_missing_in_a_store_is_named(stored):
    name = "bucket/shards/shard-000000.zarr/flow/c/0/0/0/0"
    right = stored.objects[name]
    stored.objects[name] = right[:40] + bytes([right[40] ^ 1]) + right[41:]
    with pytest.raises(CorruptShard, match=r"s3://bucket/shards/shard-000000.zarr: sample .* is damaged"):
        ShardSet(locate(URL)).read(0)
    del stored.objects[name]  # zarr reads zeros
    with pytest.raises(CorruptShard, match=r"sample .* is damaged: its CRC-32C differs"):
        ShardSet(locate(URL)).read(0)
    del stored.objects["bucket/shards/shard-000000.zarr/zarr.json"]
    with pytest.raises(CorruptShard, match="is missing or is no zarr v3 group"):
        ShardSet(locate(URL))


def test_a_store_that_fails_is_no_damage(stored, monkeypatch):
    monkeypatch.setenv("LAMP_STORE_TRIES", "1")
    shards = ShardSet(locate(URL))
    stored.faults = ["503"] * 40
    with pytest.raises(StoreFailed, match=r"s3://bucket/shards/.*failed"):
        shards.read(0)
    with pytest.raises(StoreFailed, match=r"s3://bucket/shards/.*failed"):
        open_shard(locate(f"{URL}/shard-000000.zarr"))


def test_a_build_into_a_store_is_inspected_there_and_copied_back(server, tmp_path):
    write_file(tmp_path / "data/libero/a_demo.hdf5", [Demo(0), Demo(1, 0, 14)])

    def made(output):
        build(fast_recipe(), tmp_path / "data", output, ShardConfig("zarr", 4), LocalExecutor(), lambda *a: a[2])

    made(tmp_path / "out")
    made(locate("s3://bucket/out"))
    code, out, err = typed("inspect", "s3://bucket/out")
    assert code == 0 and "no failure in 6 samples" in out, out + err
    assert typed("copy", "s3://bucket/out", tmp_path / "back")[0] == 0
    assert outputs_of(tmp_path / "back") == outputs_of(tmp_path / "out")
    server.written.clear()
    made(locate("s3://bucket/out"))
    assert not [name for name in server.written if ".zarr/" in name], "it is complete"
