"""Shards: both formats hold the same samples, are the same bytes every time, and never give anything but what was
written.
"""

import io
import json
import pickle
import shutil
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import webdataset
from fixtures.libero import outputs_of, partials_in, random_places
from fixtures.triplet import make_triplet, same

from schemas.files import sha256_of
from schemas.manifest import NAME, STATISTICS, BadManifest, Manifest, read_manifest, read_statistics, write_statistics
from schemas.sample_codec import decode_triplet, encode_triplet
from schemas.sample_metadata import CorruptSample
from schemas.shard_formats import INDEX_DTYPE, CorruptShard, open_shard, shard_digests, suffix_of, write_shard
from schemas.shard_formats import webdataset as tar_format
from schemas.shard_set import ShardSet

FORMATS = ("webdataset", "zarr")
TRIPLETS = [
    make_triplet(seed, episode=f"{seed // 2:016x}", grid=4, steps=6, wrist=seed != 1, size=(48, 40))
    for seed in range(4)
]
STATISTICS_OF_SET = {"state": {"min": [0.0]}, "action": {"min": [1.0]}}


def samples_of(triplets):
    return [(t.key, t.episode, encode_triplet(t)) for t in triplets]


def write_set(folder: Path, format_name: str, triplets=TRIPLETS, per_shard: int = 2) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    shards = [
        write_shard(format_name, folder, f"set-{n:06d}", samples_of(triplets[i : i + per_shard]))
        for n, i in enumerate(range(0, len(triplets), per_shard))
    ]
    write_statistics(folder, STATISTICS_OF_SET)
    Manifest(
        dataset={"name": "test"},
        recipe={"windows": {"stride": 5}, "quality": {"static_px": 0.5}},
        recipe_digest="0" * 64,
        format=format_name,
        shards=shards,
        samples=len(triplets),
        counts={"kept": len(triplets)},
        files={STATISTICS: sha256_of(folder / STATISTICS)},
    ).write(folder)
    return folder


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A finished set in each format, not to be changed."""
    return {name: write_set(tmp_path_factory.mktemp("sets") / name, name) for name in FORMATS}


@pytest.fixture(params=FORMATS)
def own_set(request, sets, tmp_path):
    """A copy of a finished set that a test may damage."""
    return shutil.copytree(sets[request.param], tmp_path / request.param)


def read_all(folder: Path):
    shards = ShardSet(folder)
    try:
        shards.statistics()
        return [shards.read(number) for number in range(len(shards))]
    finally:
        shards.close()


def read_or_refusal(folder: Path, read=read_all):
    """All triplets, or what was said against reading them."""
    try:
        return read(folder)
    except (CorruptShard, BadManifest) as error:
        return str(error)


def flip(path: Path, byte: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << bit
    path.write_bytes(data)


# What is written is what is read


def test_both_formats_read_back_equal(sets):
    tar, zarr = (read_all(sets[name]) for name in FORMATS)
    assert len(tar) == len(TRIPLETS)
    for expected, a, b in zip(TRIPLETS, tar, zarr, strict=True):
        assert same(a, b)
        assert same(a, decode_triplet(expected.key, encode_triplet(expected)))
        assert a.images == expected.images and a.instructions == expected.instructions


def test_what_was_read_is_written_again_as_the_same_bytes(sets, tmp_path):
    for name in FORMATS:
        again = write_set(tmp_path / name, name, read_all(sets[name]))
        assert outputs_of(again) == outputs_of(sets[name])


@pytest.mark.parametrize("name", FORMATS)
def test_equal_samples_give_equal_bytes_at_another_time_and_place(sets, name, tmp_path):
    time.sleep(1.1)  # past the whole second that file formats like to note
    assert outputs_of(write_set(tmp_path / "other" / name, name)) == outputs_of(sets[name])


@pytest.mark.parametrize("name", FORMATS)
def test_the_manifest_holds_size_and_digests_of_what_stands_on_disk(sets, name):
    for entry in read_manifest(sets[name]).shards:
        path = sets[name] / entry.name
        assert path.name.endswith(suffix_of(name))
        assert shard_digests(path) == (entry.sha256, entry.index_sha256)
        assert entry.bytes == sum(
            p.stat().st_size for p in (path.rglob("*") if path.is_dir() else [path]) if p.is_file()
        )


def test_the_webdataset_library_reads_the_tar_as_it_is(sets):
    found = {}
    for path in sorted(sets["webdataset"].glob("*.tar")):
        for sample in webdataset.WebDataset(str(path), shardshuffle=False):
            found[sample["__key__"]] = {k: v for k, v in sample.items() if not k.startswith("__")}
    assert list(found) == [t.key for t in TRIPLETS]
    for triplet in TRIPLETS:
        assert same(
            decode_triplet(triplet.key, found[triplet.key]), decode_triplet(triplet.key, encode_triplet(triplet))
        )


def test_a_tar_header_says_nothing_of_when_and_by_whom(sets):
    with tarfile.open(next(sets["webdataset"].glob("*.tar"))) as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
            assert member.isfile() and not member.pax_headers


def test_the_index_tiles_the_tar_without_a_gap(sets):
    for path in sets["webdataset"].glob("*.tar"):
        index = tar_format.read_index(path)
        ends = np.cumsum(index["size"])
        assert np.array_equal(index["offset"], ends - index["size"])
        assert path.stat().st_size == ends[-1] + 2 * tar_format.BLOCK
        assert (index["offset"] % tar_format.BLOCK == 0).all()


@pytest.mark.parametrize("name", FORMATS)
def test_samples_are_read_in_any_order_alike(sets, name):
    shards = ShardSet(sets[name])
    assert [shards.read(n).key for n in (3, 0, 2, 1, 3)] == [TRIPLETS[n].key for n in (3, 0, 2, 1, 3)]
    assert [row["key"].decode() for row in shards.index] == [t.key for t in TRIPLETS]
    assert [row["episode"].decode() for row in shards.index] == [t.episode for t in TRIPLETS]
    for number in (-1, len(TRIPLETS)):
        with pytest.raises(IndexError):
            shards.read(number)


# Writing is all or nothing


@pytest.mark.parametrize("name", FORMATS)
def test_a_writer_that_fails_leaves_what_stood_there_and_nothing_else(own_set, name):
    before = outputs_of(own_set)
    format_name = read_manifest(own_set).format

    def broken():
        yield from samples_of(TRIPLETS[:1])
        raise OSError(5, "the disk failed")

    for stem in ("set-000000", "set-000009"):
        with pytest.raises(OSError, match="the disk failed"):
            write_shard(format_name, own_set, stem, broken())
    assert outputs_of(own_set) == before and not partials_in(own_set)


def test_zarr_refuses_samples_of_different_shapes_and_says_what_to_do(tmp_path):
    mixed = [TRIPLETS[0], make_triplet(9, grid=5, steps=6)]
    with pytest.raises(ValueError, match="--format webdataset"):
        write_shard("zarr", tmp_path, "mixed", samples_of(mixed))
    assert not list(tmp_path.iterdir())
    write_shard("webdataset", tmp_path, "mixed", samples_of(mixed))
    assert open_shard(tmp_path / "mixed.tar").read(1).flow.uvz.shape == (25, 7, 3)


# One-bit flips


def test_every_flip_in_a_tars_samples_is_found_by_reading_and_names_shard_and_sample(sets, tmp_path):
    path = shutil.copytree(sets["webdataset"], tmp_path / "set") / "set-000000.tar"
    original, index = path.read_bytes(), tar_format.read_index(path)
    for byte, bit in random_places(int(index["size"].sum()), 300):
        flip(path, byte, bit)
        row = int(np.searchsorted(index["offset"], byte, side="right")) - 1
        shard = open_shard(path)
        with pytest.raises(CorruptShard, match=f"set-000000.tar: sample {index[row]['key'].decode()} is damaged"):
            shard.read(row)
        assert shard.read(1 - row).key == index[1 - row]["key"].decode(), "the neighbour is read as before"
        shard.close()
        path.write_bytes(original)


def test_every_flip_in_any_file_is_found_by_reading_or_leaves_every_triplet_as_it_was_and_changes_the_digest(own_set):
    """Bits that carry nothing (padding, an unused field of zarr's metadata) may read alike; SHA-256 finds those too."""
    expected = read_all(own_set)
    manifest = read_manifest(own_set)
    digests = {e.name: shard_digests(own_set / e.name) for e in manifest.shards}
    found = 0
    files = [p for p in sorted(own_set.rglob("*")) if p.is_file() and "000001" not in str(p.relative_to(own_set))]
    for number, path in enumerate(files):
        original = path.read_bytes()
        for byte, bit in random_places(len(original), 40 if len(files) < 8 else 4, seed=number):
            flip(path, byte, bit)
            again = read_or_refusal(own_set)
            if isinstance(again, str):
                found += 1
                assert any(part in again for part in ("set-000000", NAME, STATISTICS))
            else:
                assert all(same(a, b) for a, b in zip(expected, again, strict=True)), (path, byte, bit)
            if "set-000000" in str(path):
                name = next(e.name for e in manifest.shards if "000000" in e.name)
                assert shard_digests(own_set / name) != digests[name], (path, byte, bit)
            path.write_bytes(original)
    assert found > 30
    assert all(same(a, b) for a, b in zip(expected, read_all(own_set), strict=True))


@pytest.mark.parametrize("name", ["set-000000.index.npy", NAME, STATISTICS])
def test_every_flip_in_index_manifest_and_statistics_is_found_when_the_set_is_opened(sets, tmp_path, name):
    folder = shutil.copytree(sets["webdataset"], tmp_path / "set")
    path = folder / name
    original = path.read_bytes()
    for byte, bit in random_places(len(original), 250, seed=1):
        flip(path, byte, bit)
        said = read_or_refusal(folder, lambda f: ShardSet(f).statistics())
        if isinstance(said, str):
            assert name.split(".")[0] in said and "\n" not in said
        else:  # the same number in another spelling, 1e-4 and 1E-4, is no damage
            assert name == NAME and json.loads(path.read_bytes()) == json.loads(original)
        path.write_bytes(original)


# Truncation, deletion, mixing up


@pytest.mark.parametrize("keep", [0, 1, 511, 512, 0.3, 0.9, -1024, -512, -1])
def test_a_tar_that_was_cut_is_refused(sets, tmp_path, keep):
    path = shutil.copytree(sets["webdataset"], tmp_path / "set") / "set-000001.tar"
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(CorruptShard, match=r"set-000001\.tar has \d+ bytes, its index says"):
        ShardSet(path.parent)


def test_a_tar_that_grew_is_refused(sets, tmp_path):
    path = shutil.copytree(sets["webdataset"], tmp_path / "set") / "set-000001.tar"
    path.write_bytes(path.read_bytes() + b"\0" * 512)
    with pytest.raises(CorruptShard, match="cut, extended or mixed up"):
        ShardSet(path.parent)


@pytest.mark.parametrize("keep", [0, 10, 100, -1, -len(np.zeros(1, INDEX_DTYPE).tobytes())])
def test_an_index_that_was_cut_is_refused(sets, tmp_path, keep):
    path = shutil.copytree(sets["webdataset"], tmp_path / "set") / "set-000001.index.npy"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CorruptShard, match=r"set-000001"):
        ShardSet(path.parent)


def test_every_missing_file_is_refused_and_named_and_never_read_as_zeros(own_set):
    for path in sorted(p for p in own_set.rglob("*") if p.is_file()):
        data = path.read_bytes()
        path.unlink()
        with pytest.raises((CorruptShard, BadManifest)) as error:
            read_all(own_set)
        assert path.relative_to(own_set).parts[0] in str(error.value)
        path.write_bytes(data)
    shutil.rmtree(own_set / "set-000001.zarr", ignore_errors=True)
    (own_set / "set-000001.tar").unlink(missing_ok=True)
    with pytest.raises(CorruptShard, match=r"set-000001\.(tar|zarr) is missing"):
        ShardSet(own_set)


def test_shards_that_changed_places_are_refused(own_set):
    names = [p.name for p in own_set.iterdir() if "set-000000" in p.name]
    for name in names:
        other = own_set / name.replace("000000", "000001")
        (own_set / name).rename(own_set / "kept")
        other.rename(own_set / name)
        (own_set / "kept").rename(other)
    if (own_set / "set-000000.tar").exists():
        with pytest.raises(CorruptShard, match="SHA-256 differs"):
            ShardSet(own_set)
    entry = read_manifest(own_set).shards[0]
    assert shard_digests(own_set / entry.name) != (entry.sha256, entry.index_sha256)


def test_a_tar_beside_the_index_of_another_is_refused(sets, tmp_path):
    folder = shutil.copytree(sets["webdataset"], tmp_path / "set")
    shutil.copy(folder / "set-000001.index.npy", folder / "set-000000.index.npy")
    with pytest.raises(CorruptShard, match="set-000000"):
        read_all(folder)


# Hostile bytes


def region_of(name: str, data: bytes, **changes) -> bytes:
    """A tar entry with whatever somebody may put into one."""
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    for attribute, value in changes.items():
        setattr(entry, attribute, value)
    return entry.tobuf(tarfile.USTAR_FORMAT) + data + b"\0" * (-len(data) % 512)


def sized(region: bytes, field: bytes) -> bytes:
    return region[:124] + field + region[136:]


HOSTILE = {
    "leads out": lambda k: region_of(f"{k}.../../x.json", b"{}"),
    "relative": lambda k: region_of(f"../{k}.json", b"{}"),
    "absolute": lambda k: region_of(f"/{k}.json", b"{}"),
    "folder in the prefix field": lambda k: region_of(f"{'d/' * 40}{k}.json", b"{}"),
    "a role that is a path": lambda k: region_of(f"{k}./etc/x.jpg", b"{}"),
    "not UTF-8": lambda k: region_of(f"{k}.x.json", b"{}").replace(b".x.json", b".\xff.json"),
    "symbolic link": lambda k: region_of(f"{k}.json", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard link": lambda k: region_of(f"{k}.json", b"", type=tarfile.LNKTYPE, linkname="x"),
    "folder": lambda k: region_of(f"{k}.json", b"", type=tarfile.DIRTYPE),
    "device": lambda k: region_of(f"{k}.json", b"", type=tarfile.CHRTYPE),
    "pax header": lambda k: region_of(f"{k}.json", b"12 path=../x", type=tarfile.XHDTYPE),
    "another sample's": lambda k: region_of("other.json", b"{}"),
    "doubled": lambda k: region_of(f"{k}.json", b"{}") * 2,
    "giant": lambda k: sized(region_of(f"{k}.json", b"{}"), b"77777777777\0"),
    "negative, that would read for ever": lambda k: sized(region_of(f"{k}.json", b"{}"), b"-0000001000\0"),
    "binary size": lambda k: sized(region_of(f"{k}.json", b"{}"), b"\x80" + b"\xff" * 11),
    "cut": lambda k: region_of(f"{k}.json", b"{}")[:700],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_entry_with_a_right_checksum_is_refused_and_nothing_is_written(tmp_path, kind):
    key = TRIPLETS[0].key
    good = tar_format.pack_sample(key, encode_triplet(TRIPLETS[0]))
    folder = tmp_path / "shards"
    for number, region in enumerate((HOSTILE[kind](key), good + HOSTILE[kind](key))):
        tar_format.write_regions(folder, f"s-{number}", [(key, "e", region)])
        before = outputs_of(tmp_path)
        with pytest.raises(CorruptShard, match=f"s-{number}.tar: sample {key}"):
            open_shard(folder / f"s-{number}.tar").read(0)
        assert outputs_of(tmp_path) == before


@pytest.mark.parametrize(("offset", "size"), [(-512, 512), (0, -512), (1 << 62, 1 << 62), (0, 1 << 40)])
def test_an_index_that_points_outside_its_shard_is_refused(tmp_path, offset, size):
    write_shard("webdataset", tmp_path, "s", samples_of(TRIPLETS[:1]))
    index = tar_format.read_index(tmp_path / "s.tar").copy()
    index["offset"], index["size"] = offset, size
    np.save(tmp_path / "s.index.npy", index)
    with pytest.raises(CorruptShard, match=r"s\.tar"):
        open_shard(tmp_path / "s.tar").read(0)


class Payload:
    """What a pickle may do to whoever loads it."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_pickles_are_refused_and_nothing_in_them_is_run(tmp_path):
    buffer, executed = io.BytesIO(), tmp_path / "executed"
    np.save(buffer, np.array([Payload(executed)], object), allow_pickle=True)
    members = encode_triplet(TRIPLETS[0])
    for bad in (buffer.getvalue(), pickle.dumps(Payload(executed))):
        with pytest.raises(CorruptSample, match="actions"):
            decode_triplet("k", {**members, "actions.npy": bad})
        write_shard("webdataset", tmp_path, "s", samples_of(TRIPLETS[:1]))
        (tmp_path / "s.index.npy").write_bytes(bad)
        with pytest.raises(CorruptShard, match=r"s\.index\.npy is no index"):
            open_shard(tmp_path / "s.tar")
    assert not executed.exists()
    pickle.loads(pickle.dumps(Payload(executed)))
    assert executed.exists(), "the payload would have worked"


def test_a_member_that_declares_a_giant_size_is_refused_before_memory_is_taken():
    members = encode_triplet(TRIPLETS[0])
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 45, 7)})
    meta = json.loads(members["json"])
    meta["flow"]["points"] = 1 << 24
    declared = (6 * meta["flow"]["steps"] * meta["flow"]["points"]).to_bytes(8, "little")[:4]
    flow = members["flow.blosc"]
    for changes in (
        {"actions.npy": header.getvalue()},
        {"flow.blosc": flow[:4] + b"\xff\xff\xff\x7f" + flow[8:]},
        {"json": json.dumps(meta).encode(), "flow.blosc": flow[:4] + declared + flow[8:]},
    ):
        with pytest.raises(CorruptSample, match="sample k"):
            decode_triplet("k", members | changes)


@pytest.mark.parametrize("name", ["../set-000000.tar", "/etc/passwd", "a/../../x.tar"])
def test_a_manifest_that_names_a_file_outside_its_folder_is_refused(sets, tmp_path, name):
    folder = shutil.copytree(sets["webdataset"], tmp_path / "set")
    manifest = read_manifest(folder)
    for changed in (
        {"shards": [type(manifest.shards[0])(name, 2, 1, "", "")]},
        {"files": {name: ""}},
    ):
        Manifest(**{**vars(manifest), **changed}).write(folder)
        with pytest.raises(BadManifest, match="leads out of"):
            ShardSet(folder)


def test_a_manifest_of_a_later_version_says_so(sets, tmp_path):
    folder = shutil.copytree(sets["webdataset"], tmp_path / "set")
    values = json.loads((folder / NAME).read_bytes())
    (folder / NAME).write_text(json.dumps({**values, "version": 2, "something_new": 1}))
    with pytest.raises(BadManifest, match="has version 2, this program reads up to 1"):
        read_manifest(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[" * 100_000, '{"version": "x", "sha256": ""}', "\xff"])
def test_what_is_no_manifest_is_refused_in_one_sentence(tmp_path, text):
    (tmp_path / NAME).write_text(text, encoding="latin-1")
    with pytest.raises(BadManifest, match=r"manifest\.json is no manifest") as error:
        read_manifest(tmp_path)
    assert "\n" not in str(error.value)


def test_changed_statistics_are_refused(own_set):
    write_statistics(own_set, {"state": {"min": [0.5]}})
    with pytest.raises(BadManifest, match=r"statistics\.json is not the file that the manifest names"):
        read_statistics(own_set, read_manifest(own_set))
