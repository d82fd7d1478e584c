"""The cache of fetched files: once for all processes, within its limit, and nothing in use is removed."""

import errno
import os
import threading
from contextlib import suppress

import pytest

from schemas.errors import StoreFailed
from schemas.file_cache import FileCache, local_file
from schemas.locations import locate


def writes(data):
    return lambda path: path.write_bytes(data)


def never(path):
    raise AssertionError("it is there")


@pytest.fixture
def cache(tmp_path):
    return FileCache(tmp_path / "cache", 100)


def cached(cache):
    return sorted(path.name for path in cache.folder.iterdir() if not path.name.endswith(".lock"))


def test_a_file_is_fetched_once(cache):
    cache.held("a", 40, writes(b"a" * 40)).close()
    assert cache.held("a", 40, never).path.read_bytes() == b"a" * 40


def test_the_least_recently_used_goes_first(cache):
    for number, name in enumerate("abc"):
        cache.held(name, 30, writes(b"x" * 30)).close()
        os.utime(cache.folder / f"{name}.lock", (number, number))
    os.utime(cache.folder / "a.lock", (10, 10))
    cache.held("d", 40, writes(b"d" * 40)).close()
    assert cached(cache) == ["a", "c", "d"]


def test_a_file_in_use_stays_even_beyond_the_limit(cache):
    held = cache.held("a", 80, writes(b"a" * 80))
    cache.held("b", 80, writes(b"b" * 80)).close()
    assert held.path.read_bytes() == b"a" * 80
    held.close()
    cache.held("c", 80, writes(b"c" * 80)).close()
    assert cached(cache) == ["c"]


def test_a_fetch_that_fails_leaves_nothing(cache):
    def fails(path):
        path.write_bytes(b"half")
        raise StoreFailed("no")

    with pytest.raises(StoreFailed, match="no"):
        cache.held("a", 10, fails)
    assert cached(cache) == []


def test_a_full_disk_is_no_damaged_file(cache):
    """A reader would leave the episode out for an ``OSError``."""

    def fails(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreFailed, match=r"No space left on device.*LAMP_CACHE"):
        cache.held("a", 10, fails)
    assert cached(cache) == []


def test_many_at_once_fetch_each_file_once_and_keep_the_limit(cache):
    fetched, most = [], []

    def total():
        sizes = 0
        for path in cache.folder.iterdir():
            with suppress(FileNotFoundError):  # renamed meanwhile
                sizes += path.stat().st_size
        return sizes

    def use(name):
        def fetch(path):
            fetched.append(name)
            path.write_bytes(name.encode() * 20)
            most.append(total())

        for _ in range(5):
            held = cache.held(name, 20, fetch)
            assert held.path.read_bytes() == name.encode() * 20
            held.close()

    threads = [threading.Thread(target=use, args=(name,)) for name in "aabbccdd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(fetched) == list("abcd") and max(most) <= 100


def test_a_url_is_fetched_into_the_cache_and_a_path_is_itself(server, tmp_path):
    path = locate("s3://bucket/x.bin")
    path.put(b"12345")
    for _ in range(2):
        with local_file(path) as here:
            assert here.read_bytes() == b"12345" and here.suffix == ".bin"
    assert server.requests["GET bucket/x.bin"] == 1
    path.put(b"67890")
    with local_file(path) as here:
        assert here.read_bytes() == b"67890"
    with local_file(tmp_path) as here:
        assert here == tmp_path
