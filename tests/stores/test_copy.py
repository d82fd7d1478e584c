"""``lamp-data copy``: builds between folders and stores, resumed, every checksum verified, nothing replaced."""

import json

import pytest
from fixtures.libero import outputs_of
from fixtures.object_server import store_folder
from fixtures.shard import write_shards
from fixtures.typed import typed

from schemas.files import sha256_of
from schemas.locations import locate
from schemas.manifest import NAME
from schemas.mixture import Member, Mixture

pytest.importorskip("obstore")
THERE = "s3://bucket/there"


def copied(*words):
    code, out, err = typed("copy", *words, "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.fixture
def folder(tmp_path):
    return write_shards(tmp_path / "here")


def stored(server, name="there"):
    return {n: data for n, data in server.below(f"bucket/{name}").items() if not n.startswith(".lamp/")}


def test_a_build_goes_to_a_store_and_back_unchanged(server, folder, tmp_path):
    first = copied(folder, THERE)
    assert server.written[-1] == f"bucket/there/{NAME}" or server.written[-1].startswith("bucket/there/.lamp")
    assert [name for name in server.written if "/.lamp/" not in name][-1] == f"bucket/there/{NAME}"
    assert stored(server) == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert first["copied"] == len(stored(server)) - 1 and first["there"] == 0
    copied(THERE, tmp_path / "back")
    assert outputs_of(tmp_path / "back") == outputs_of(folder)


def test_a_copy_goes_on_with_what_is_missing(server, folder):
    copied(folder, THERE)
    for name in (f"bucket/there/{NAME}", "bucket/there/shard-000001.tar"):
        del server.objects[name]
    data = bytearray(server.objects["bucket/there/shard-000000.tar"])
    data[900] ^= 4
    server.objects["bucket/there/shard-000000.tar"] = bytes(data)
    server.written.clear()
    again = copied(folder, THERE)
    assert again["copied"] == 2, "the missing one and the damaged one"
    assert stored(server) == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert copied(folder, THERE)["copied"] == 0


def test_a_damaged_source_is_named_and_no_manifest_is_written(server, folder):
    path = folder / "shard-000000.tar"
    data = bytearray(path.read_bytes())
    data[900] ^= 4
    path.write_bytes(data)
    code, _, err = typed("copy", folder, THERE)
    assert code == 1 and f"{path} is not the file that was written" in err and "Traceback" not in err
    assert NAME not in stored(server) and "shard-000000.tar" not in stored(server)
    assert "shard-000001.tar" in stored(server)


def test_another_build_is_not_replaced(server, folder, tmp_path):
    copied(folder, THERE)
    other = write_shards(tmp_path / "other", episodes=2)
    before = dict(server.objects)
    code, _, err = typed("copy", other, THERE)
    assert code == 2 and "holds another build" in err
    assert server.objects == before


def test_a_store_that_fails_is_a_sentence_and_the_copy_goes_on_later(server, folder, monkeypatch):
    monkeypatch.setenv("LAMP_STORE_TRIES", "2")
    server.only, server.faults = "shard-000001.tar", ["503"] * 8
    code, _, err = typed("copy", folder, THERE)
    assert code == 1 and "shard-000001.tar failed 2 times" in err and "Traceback" not in err
    assert NAME not in stored(server)
    server.faults = []
    copied(folder, THERE)
    assert stored(server) == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_mixture_is_copied_with_its_builds(server, tmp_path):
    members = []
    for name, episodes in (("one", 2), ("two", 3)):
        build = write_shards(tmp_path / "mix" / name, episodes=episodes)
        members.append(Member(name, name, None, sha256_of(build / NAME), episodes * 4, episodes, {"name": name}))
    Mixture("mix", tuple(members)).write(tmp_path / "mix")
    copied(tmp_path / "mix", THERE)
    from lamp_model.shards import open_shards

    assert len(open_shards(THERE)) == len(open_shards(tmp_path / "mix")) == 20


def test_a_zarr_build_is_copied(server, tmp_path):
    folder = write_shards(tmp_path / "here", 1, 1, format="zarr")
    copied(folder, THERE)
    copied(THERE, tmp_path / "back")
    assert outputs_of(tmp_path / "back") == outputs_of(folder)


def test_a_datasets_own_folder_is_copied_file_by_file(server, tmp_path):
    for name in ("a/x.bin", "y.txt"):
        server.objects[f"bucket/set/{name}"], server.modified[f"bucket/set/{name}"] = name.encode(), 1e9
    assert copied("s3://bucket/set", tmp_path / "set")["copied"] == 2
    assert (tmp_path / "set/a/x.bin").read_bytes() == b"a/x.bin"
    assert copied("s3://bucket/set", tmp_path / "set")["there"] == 2


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("s3://bucket/no", "{tmp}/x"), "does not exist"),
        (("{here}", "{here}/sub"), "lie within each other"),
        (("{here}", "hf://datasets/a/b"), "lamp-data push"),
        (("{here}", "ftp://host/x"), "known are"),
    ],
)
def test_what_cannot_be_copied_is_refused_in_a_sentence(server, folder, tmp_path, words, why):
    code, _, err = typed("copy", *(word.format(tmp=tmp_path, here=folder) for word in words))
    assert code == 2 and why in err and "Traceback" not in err


def test_inspect_verifies_a_build_in_a_store(server, folder):
    store_folder(server, "bucket/there", folder)
    code, out, err = typed("inspect", THERE)
    assert code == 0 and "integrity: no failure in 12 samples" in out, err
    data = bytearray(server.objects["bucket/there/shard-000000.tar"])
    data[700] ^= 1
    server.objects["bucket/there/shard-000000.tar"] = bytes(data)
    code, out, _ = typed("inspect", THERE)
    assert code == 1 and "s3://bucket/there/shard-000000.tar" in out
    assert locate(THERE).is_dir()
