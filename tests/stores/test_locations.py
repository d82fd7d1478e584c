"""Places by URL: paths that ask a store, what a failing store comes to, and what is refused."""

import os
import pickle
from pathlib import Path

import pytest

from schemas.errors import StoreFailed
from schemas.files import inside, sha256_of, write_whole, written_whole
from schemas.locations import StorePath, freeze, list_once, local_path, locate

pytest.importorskip("obstore")


@pytest.mark.parametrize("said", ["s3://bucket/a/b", "s3:/bucket/a/b", "S3://bucket/a//b/"])
def test_a_url_is_one_place_however_it_is_written(said):
    path = locate(Path(said))
    assert (str(path), path.name, str(path.parent)) == ("s3://bucket/a/b", "b", "s3://bucket/a")
    assert str(path / "c.tar") == "s3://bucket/a/b/c.tar"
    assert str((path / "c").relative_to(path)) == "c"
    assert path == locate("s3://bucket/a/b") and hash(path) == hash(locate("s3://bucket/a/b"))
    assert isinstance(pickle.loads(pickle.dumps(path)), StorePath)


def test_paths_of_this_machine_are_plain(tmp_path):
    assert type(locate(tmp_path)) is type(tmp_path)
    assert locate(f"file://{tmp_path}") == tmp_path
    assert locate("data/x") == Path("data/x")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("ftp://host/x", "known are"),
        ("hf://models/owner/name", "hf://datasets/OWNER/NAME"),
        ("hf://datasets/owner", "OWNER/NAME"),
        ("https://host/x?sig=1", "signed"),
        ("s3://", "s3:// names no bucket"),
        (Path("S3://"), "s3:// names no bucket"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(said, why):
    with pytest.raises(ValueError, match=why):
        locate(said)


def test_no_name_leads_out_of_a_url():
    with pytest.raises(ValueError, match="leads out"):
        inside(locate("s3://bucket/a"), "../b")


def test_a_url_is_no_file_name():
    """Whatever opens files by name is refused, instead of finding nothing or making a folder called ``s3:``."""
    path = locate("s3://bucket/a")
    for use in (os.fspath, open, os.stat, os.listdir):
        with pytest.raises(StoreFailed, match="lamp-data copy"):
            use(path)
    with pytest.raises(ValueError, match="only folders and files of this machine"):
        local_path(path, "--motion")


def test_what_a_store_holds_is_seen_as_folders_and_files(server):
    root = locate("s3://bucket/set")
    write_whole(root / "a.txt", b"one")
    with written_whole(root / "sub/b.bin") as file:
        file.write(b"two" * 10)
    assert (root / "a.txt").read_bytes() == b"one" and (root / "a.txt").read_text() == "one"
    assert (root / "sub/b.bin").stat().st_size == 30
    assert [path.name for path in root.iterdir()] == ["sub", "a.txt"]
    assert sorted(map(str, root.rglob("*"))) == ["s3://bucket/set/a.txt", "s3://bucket/set/sub/b.bin"]
    assert [str(path) for path in root.glob("*/b.*")] == ["s3://bucket/set/sub/b.bin"]
    assert root.is_dir() and not root.is_file() and not (root / "no").exists()
    assert sha256_of(root / "a.txt") == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    with (root / "sub/b.bin").open("rb") as file:
        file.seek(4)
        assert file.read(4) == b"wotw"
    (root / "a.txt").unlink()
    (root / "a.txt").unlink(missing_ok=True)
    assert list(server.below("bucket/set")) == ["sub/b.bin"]
    with pytest.raises(FileNotFoundError, match=r"s3://bucket/set/a\.txt"):
        (root / "a.txt").read_bytes()


def test_a_file_that_fails_halfway_never_appears(server):
    def half():
        with written_whole(locate("s3://bucket/x")) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert not server.objects and not server.requests


@pytest.mark.parametrize("fault", ["503", "cut", "stall"])
def test_a_passing_failure_is_tried_again(server, monkeypatch, fault):
    monkeypatch.setenv("LAMP_STORE_TIMEOUT", "0.4")
    path = locate("s3://bucket/x")
    path.put(bytes(range(256)) * 40)
    server.faults = [fault, fault]
    assert path.read_bytes() == bytes(range(256)) * 40
    server.faults = [fault]
    assert path.read_range(1000, 1010) == bytes(range(232, 242))
    if fault != "cut":
        server.faults = [fault]
        path.put(b"new")
        assert server.objects["bucket/x"] == b"new"


def test_a_failure_that_stays_becomes_a_sentence(server):
    path = locate("s3://bucket/x")
    server.faults = ["503"] * 100
    with pytest.raises(StoreFailed, match=r"writing s3://bucket/x failed 4 times, the last time with: .*503") as failed:
        path.put(b"new")
    assert "\n" not in str(failed.value)
    assert not server.objects


@pytest.mark.parametrize("name", ["LAMP_STORE_TRIES", "LAMP_STORE_TIMEOUT"])
@pytest.mark.parametrize("said", ["often", "0", "nan"])
def test_a_setting_that_is_no_number_is_a_sentence(server, monkeypatch, name, said):
    monkeypatch.setenv(name, said)
    with pytest.raises(StoreFailed, match=rf"{name} must be .*number above 0, found '{said}'"):
        locate("s3://bucket/x").put(b"new")


def test_a_bucket_that_does_not_exist_is_said_at_once(server):
    path = locate("s3://bukcet/folder/x")
    for asked in (lambda: path.put(b"new"), lambda: path.put_if_absent(b"new"), lambda: list(path.parent.iterdir())):
        server.faults, requests = ["no bucket"] * 2, server.requests.total()
        with pytest.raises(StoreFailed, match=r"^there is no bucket s3://bukcet: make it first"):
            asked()
        assert server.requests.total() == requests + 1, "it is not tried again"


def test_only_one_of_two_conditional_writes_succeeds(server):
    path = locate("s3://bucket/lock")
    assert path.put_if_absent(b"mine") and not path.put_if_absent(b"theirs")
    assert server.objects["bucket/lock"] == b"mine"


def test_a_conditional_write_whose_answer_was_lost_is_recognised_as_done(server):
    server.faults = ["lost"]
    assert locate("s3://bucket/lock").put_if_absent(b"mine")


def test_a_listing_answers_all_questions_about_names(server):
    for number in range(2500):  # more than one page of a listing
        server.objects[f"bucket/set/{number % 7}/{number}.txt"] = b"x" * number
        server.modified[f"bucket/set/{number % 7}/{number}.txt"] = 1e9
    root = locate("s3://bucket/set")
    list_once(root)
    asked = server.requests.total()
    assert asked == 3
    assert len(list(root.rglob("*.txt"))) == 2500
    assert sorted(path.name for path in root.iterdir()) == list("0123456")
    assert (root / "3/10.txt").stat().st_size == 10
    assert (root / "3").is_dir() and not (root / "3/11.txt").is_file() and not (root / "7").exists()
    assert server.requests.total() == asked


def test_what_is_unchanging_is_asked_once_and_the_rest_every_time(server):
    path = locate("s3://bucket/frozen/x")
    path.put(b"1")
    freeze(path.parent)
    for _ in range(3):
        assert path.stat().st_size == 1
    assert server.requests["HEAD bucket/frozen/x"] == 1
    other = locate("s3://bucket/other/x")
    other.put(b"1")
    assert other.stat().st_size == 1
    other.put(b"22")
    assert other.stat().st_size == 2


def test_equal_names_and_sizes_within_a_second_have_other_stamps(server, monkeypatch):
    path = locate("s3://bucket/x")
    stamps = []
    for data in (b"1", b"2"):
        path.put(data)
        server.modified["bucket/x"] = 1e9
        stamps.append(path.stat().st_mtime_ns)
    assert stamps[0] != stamps[1] and {stamp // 10**9 for stamp in stamps} == {10**9}


def test_missing_credentials_are_said_at_once(monkeypatch, tmp_path):
    """Where there are none, the library asks the cloud's own server for them."""
    from schemas import stores

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9/169.254.169.254")
    stores._opened.cache_clear()
    try:
        with pytest.raises(StoreFailed, match=r"no credentials for s3://bucket/x; LAMP_STORE_ANONYMOUS=1"):
            locate("s3://bucket/x").read_bytes()
    finally:
        stores._opened.cache_clear()
