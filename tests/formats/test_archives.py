"""Archives from strangers: what is whole is read, what is hostile is named, and nothing is written elsewhere."""

import gzip
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from fixtures.lerobot import moving, write_lerobot
from readers.test_interndata_reader import HEAD, LENGTH, SIZE, columns_of

from pipeline.episodes.camera_choice import chosen_cameras
from pipeline.errors import SeveralForms, UnreadableSource
from pipeline.formats.archive_cache import FILES, ArchiveCache
from pipeline.formats.archives import CHUNK, archive_key, unpack
from pipeline.readers.interndata_a1 import Config, InternDataReader
from schemas.episode import BadEpisode, EpisodeRef


def member(name, data=b"x", kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data) if kind == tarfile.REGTYPE else 0, kind, link
    return info, io.BytesIO(data)


def pack(path: Path, *members) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for info, data in members:
            archive.addfile(info, data)
    return path


def pack_folder(path: Path, folder: Path, *members) -> Path:
    """A folder under its own name, after some members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for info, data in members:
            archive.addfile(info, data)
        archive.add(folder, folder.name)
    return path


def files_below(folder: Path) -> dict[str, int]:
    return {p.relative_to(folder).as_posix(): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}


HOSTILE = {
    "archive_escape": [
        member("../outside"),
        member("a/../../outside"),
        member("/tmp/lamp_outside"),
        member("a\\..\\outside"),
        member(".."),
    ],
    "archive_link": [
        member("link", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        member("hard", kind=tarfile.LNKTYPE, link="../../outside"),
    ],
    "archive_device": [
        member("null", kind=tarfile.CHRTYPE),
        member("disk", kind=tarfile.BLKTYPE),
        member("pipe", kind=tarfile.FIFOTYPE),
    ],
    "archive_bad_name": [member("a\x1b[31m"), member("n" * 3000), member("n" * 300)],
    "archive_unknown_member": [member("odd", kind=b"Z")],
}


@pytest.mark.parametrize(("code", "bad"), [(code, bad) for code, members in HOSTILE.items() for bad in members])
def test_a_hostile_member_is_named_and_the_rest_is_taken(tmp_path, code, bad):
    path = pack(tmp_path / "a.tar.gz", member("good"), bad, member("in/good", b"yy"))
    inside = tmp_path / "deep" / "inside"
    inside.mkdir(parents=True)
    result = unpack(path, inside, 1 << 20)
    assert [reason for reason, _ in result.refused] == [code] and result.damage is None
    assert files_below(inside) == {"good": 1, "in/good": 2}
    assert set(files_below(tmp_path)) == {"a.tar.gz", "deep/inside/good", "deep/inside/in/good"}
    assert not Path("/tmp/lamp_outside").exists()
    assert all(said.isprintable() for _, said in result.refused)


def test_what_is_written_through_a_link_stays_inside(tmp_path):
    """A link that was refused is not there to be followed by the member after it."""
    (tmp_path / "outside").mkdir()
    link = member("a", kind=tarfile.SYMTYPE, link=str(tmp_path / "outside"))
    path = pack(tmp_path / "x.tar.gz", link, member("a/file"))
    (tmp_path / "inside").mkdir()
    unpack(path, tmp_path / "inside", 1 << 20)
    assert not any((tmp_path / "outside").iterdir()) and files_below(tmp_path / "inside") == {"a/file": 1}


@pytest.mark.parametrize("second", ["a", "./a", "a/b"])
def test_duplicates_are_refused_and_the_first_stands(tmp_path, second):
    path = pack(tmp_path / "x.tar.gz", member("a", b"first"), member(second, b"other"))
    (tmp_path / "inside").mkdir()
    result = unpack(path, tmp_path / "inside", 1 << 20)
    assert [code for code, _ in result.refused] == ["archive_duplicate"]
    assert (tmp_path / "inside" / "a").read_bytes() == b"first"


def test_giant_sizes_are_refused_by_what_they_declare(tmp_path):
    """Neither a file of many bytes, nor an endless one that compresses to nothing, nor a header that declares
    gigabytes.
    """
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
    path = pack(tmp_path / "a.tar.gz", member("small"), member("large", b"0" * 5000))
    result = unpack(path, tmp_path / "a", 4000)
    assert [code for code, _ in result.refused] == ["archive_too_large"] and "5,001 bytes, 4,000 are" in result.refused[
        0
    ][1]
    assert files_below(tmp_path / "a") == {"small": 1}

    info = tarfile.TarInfo("endless")
    info.size = 1 << 60
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)))
    result = unpack(tmp_path / "b.tar.gz", tmp_path / "b", 1 << 40)
    assert [code for code, _ in result.refused] == ["archive_too_large"] and not files_below(tmp_path / "b")

    info = tarfile.TarInfo("header")
    info.size, info.type = 64 * CHUNK, tarfile.XHDTYPE
    (tmp_path / "c.tar.gz").write_bytes(gzip.compress(info.tobuf() + bytes(64 * CHUNK)))
    result = unpack(tmp_path / "c.tar.gz", tmp_path / "c", 1 << 40)
    assert "a header declares 67,108,864 bytes" in (result.damage or "")


def test_too_many_refusals_end_the_reading(tmp_path):
    path = pack(tmp_path / "x.tar.gz", *[member(f"../{number}") for number in range(200)])
    (tmp_path / "inside").mkdir()
    result = unpack(path, tmp_path / "inside", 1 << 20)
    assert len(result.refused) == 100 and "100 members were refused" in (result.damage or "")


@pytest.mark.parametrize("cut", [0.3, 0.9, 0.999])
def test_an_archive_that_was_cut_short_gives_what_was_whole(tmp_path, cut):
    noise = np.random.default_rng(0).bytes(30_000)
    path = pack(tmp_path / "x.tar.gz", *[member(f"{number}", noise[number * 1000 :][:3000]) for number in range(10)])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * cut)])
    (tmp_path / "inside").mkdir()
    result = unpack(path, tmp_path / "inside", 1 << 20)
    assert result.damage and set(files_below(tmp_path / "inside").values()) <= {3000}


def test_a_wrong_checksum_condemns_the_whole_archive(tmp_path):
    """The bytes of some file are not what was packed, and nobody can say of which."""
    folder = write_set(tmp_path / "set")
    data = gzip.decompress(pack_folder(tmp_path / "x.tar.gz", folder).read_bytes())
    wrong = bytearray(gzip.compress(data))
    wrong[-8] ^= 1
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.tar.gz").write_bytes(bytes(wrong))
    (problem,) = InternDataReader(Config(cache=str(tmp_path / "cache"))).list_episodes(tmp_path / "data")
    assert problem.code == "damaged_archive" and "CRC check failed" in str(problem)


def test_no_archive_at_all_is_damage(tmp_path):
    (tmp_path / "inside").mkdir()
    for data in (b"", b"no gzip", gzip.compress(b"no tar" * 200)):
        (tmp_path / "x.tar.gz").write_bytes(data)
        assert unpack(tmp_path / "x.tar.gz", tmp_path / "inside", 1 << 20).damage


def noise(size, seed=0):
    """Bytes that cannot be compressed."""
    return np.random.default_rng(seed).bytes(size)


def test_holes_take_no_room(tmp_path):
    path = pack(tmp_path / "x.tar.gz", member("meta/info.json", b"{}"), member("video.mp4", noise(1 << 20)))
    folder, result = ArchiveCache(tmp_path / "cache", 1 << 30).skeleton(path)
    assert files_below(folder) == {"meta/info.json": 2, "video.mp4": 1 << 20} and result.files == 2
    assert (folder / "meta/info.json").read_bytes() == b"{}" and (folder / "video.mp4").stat().st_blocks * 512 < 1 << 16


def archives(tmp_path, count=3, size=1000):
    return [pack(tmp_path / f"{number}.tar.gz", member("f", noise(size, number))) for number in range(count)]


def unpacked_in(cache):
    return {place.name for place in cache.folder.iterdir() if (place / FILES).is_dir()}


def test_the_cache_holds_no_more_than_its_limit_and_drops_the_oldest(tmp_path):
    first, second, third = archives(tmp_path)
    cache = ArchiveCache(tmp_path / "cache", 2500)
    for archive in (first, second):
        assert (cache.lease(archive).folder / "f").stat().st_size == 1000
    os.utime(cache.folder / f"{archive_key(first)}.lock", ns=(1 << 62, 1 << 62))  # used again just now
    cache.lease(third)
    assert unpacked_in(cache) == {archive_key(first), archive_key(third)}
    cache.clear()
    assert not unpacked_in(cache) and (cache.skeleton(first)[0] / "f").exists()


def test_what_is_in_use_stays_and_is_not_unpacked_twice(tmp_path):
    first, second, third = archives(tmp_path)
    cache = ArchiveCache(tmp_path / "cache", 1500)
    held = cache.lease(first)
    stamp = (held.folder / "f").stat().st_mtime_ns
    other = ArchiveCache(tmp_path / "cache", 1500)  # as another process would open it
    for archive in (second, third):
        other.lease(archive)
    assert unpacked_in(cache) == {archive_key(first), archive_key(third)}
    assert (other.lease(first).folder / "f").stat().st_mtime_ns == stamp
    del held
    other.lease(second)
    assert unpacked_in(cache) == {archive_key(second)}


def test_a_higher_limit_is_tried_anew(tmp_path):
    (path,) = archives(tmp_path, 1)
    _, small = ArchiveCache(tmp_path / "cache", 10).skeleton(path)
    folder, large = ArchiveCache(tmp_path / "cache", 10_000).skeleton(path)
    assert [code for code, _ in small.refused] == ["archive_too_large"] and not large.refused
    assert (folder / "f").stat().st_size == 1000


def test_an_archive_is_known_by_its_content_wherever_it_lies(tmp_path):
    (path,) = archives(tmp_path, 1)
    (tmp_path / "moved").mkdir()
    copy = tmp_path / "moved" / "other.tgz"
    copy.write_bytes(path.read_bytes())
    assert archive_key(copy) == archive_key(path)
    copy.write_bytes(path.read_bytes()[:-1] + b"\1")
    assert archive_key(copy) != archive_key(path)


@pytest.fixture
def packed(tmp_path):
    """Two InternData sets, one packed deep in a folder, beside a reader with a cache of its own."""
    folder = write_set(tmp_path / "made" / "set")
    pack_folder(tmp_path / "data" / "pick" / "franka.tar.gz", folder.parent)
    return tmp_path / "data", InternDataReader(Config(cache=str(tmp_path / "cache"))), folder


def write_set(folder, version="v2.1"):
    video = {f"images.rgb.{name}": moving(LENGTH, SIZE[1], SIZE[0], i) for i, name in enumerate(("head", "hand"))}
    episodes = [{"task": text, "video": video, "columns": columns_of()} for text in ("pour", "stir")]
    return write_lerobot(folder, version, episodes, 30.0)


def test_a_packed_set_is_read_as_an_unpacked_one(packed):
    data, reader, folder = packed
    refs = list(reader.list_episodes(data))
    assert [ref.source for ref in refs] == [
        f"pick/franka.tar.gz/made/set/data/chunk-000/episode_00000{number}.parquet" for number in range(2)
    ]
    own = [reader.read(ref) for ref in reader.list_episodes(folder)]
    for ref, expected in zip(refs, own, strict=True):
        episode = reader.read(ref)
        assert episode.ref == ref and episode.instructions == expected.instructions
        assert np.array_equal(episode.state, expected.state)
        for name, view in episode.views.items():
            assert np.array_equal(view.frames, expected.views[name].frames)
            assert np.array_equal(view.some_frames(np.array([1, 3])), view.frames[[1, 3]])


def test_frames_can_be_asked_for_after_the_archive_had_to_make_room(packed, tmp_path):
    """The episode holds its archive; only when it is gone may the files go."""
    data, _, _ = packed
    pack_folder(data / "place.tar.gz", write_set(tmp_path / "more" / "set", "v3.0").parent)
    reader = InternDataReader(Config(cache=str(tmp_path / "small"), cache_gb=5e-5))
    refs = [ref for ref in reader.list_episodes(data) if isinstance(ref, EpisodeRef)]
    assert len(refs) == 4
    episodes = [reader.read(ref) for ref in refs]
    assert all(len(episode.views[HEAD].frames) == LENGTH for episode in episodes)
    del episodes
    pack_folder(data / "third.tar.gz", write_set(tmp_path / "third" / "set").parent)
    third = [ref for ref in reader.list_episodes(data) if ref.source.startswith("third")]
    assert reader.read(third[0]).length == LENGTH
    assert len(unpacked_in(ArchiveCache(tmp_path / "small", 1))) == 1


def test_packed_and_unpacked_are_asked_apart(packed):
    data, reader, folder = packed
    os.rename(folder, data / "set")
    with pytest.raises(SeveralForms, match=r"choose with --form tar\.gz or --form lerobot"):
        list(reader.list_episodes(data))
    assert len(list(reader.list_episodes(data, "tar.gz"))) == len(list(reader.list_episodes(data, "lerobot"))) == 2


def test_hostile_members_and_damage_are_named_and_the_rest_is_read(packed):
    data, reader, folder = packed
    bad = [member("../x"), member("l", kind=tarfile.SYMTYPE, link="/etc")]
    pack_folder(data / "hostile.tar.gz", folder, *bad)
    (data / "none.tar.gz").write_bytes(b"nothing")
    pack(data / "other.tar.gz", member("readme"))
    listed = list(reader.list_episodes(data))
    problems = [(item.source, item.code) for item in listed if isinstance(item, UnreadableSource)]
    assert problems == [
        ("hostile.tar.gz", "archive_escape"),
        ("hostile.tar.gz", "archive_link"),
        ("none.tar.gz", "damaged_archive"),
        ("other.tar.gz", "foreign_archive"),
    ]
    assert len(listed) - len(problems) == 4


def test_an_episode_whose_video_was_refused_is_quarantined_alone(tmp_path):
    folder = write_set(tmp_path / "set")
    video = folder / f"videos/chunk-000/{HEAD}/episode_000000.mp4"
    video.unlink()
    video.symlink_to("/etc/hostname")
    path = tmp_path / "data" / "a.tar.gz"
    pack_folder(path, folder)
    reader = InternDataReader(Config(cache=str(tmp_path / "cache")))
    problem, first, second = reader.list_episodes(tmp_path / "data")
    assert problem.code == "archive_link"
    with pytest.raises(BadEpisode) as error:
        chosen_cameras(reader.read(first), ["primary"])
    assert error.value.code == "missing_video"
    assert chosen_cameras(reader.read(second), ["primary"]) == [HEAD]


def test_where_the_cache_lies_decides_nothing():
    from pipeline.recipe import Recipe
    from schemas.plugins import PluginChoice

    options = [{}, {"cache": "/scratch", "cache_gb": 7.0}]
    assert len({Recipe(PluginChoice("interndata-a1", chosen)).digest for chosen in options}) == 1
