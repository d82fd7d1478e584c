"""Builds into a store, and from one: the same bytes as on this machine, two builds kept apart, nothing half-written."""

import hashlib
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from fixtures.libero import Demo, fast_recipe, outputs_of, write_file
from fixtures.object_server import store_folder
from fixtures.rlds import SAMPLE

from jobs.cli.exit_codes import UsageError
from jobs.commands.status import Status, status_command
from jobs.executors.local import LocalExecutor
from pipeline.build import store_lock
from pipeline.build.build_state import read_state
from pipeline.build.run import ShardConfig, build
from pipeline.build.store_lock import held_in_store
from pipeline.errors import BuildError, UnreadableSource
from pipeline.readers.bridge import BridgeReader
from pipeline.readers.libero import LiberoReader
from schemas.errors import StoreFailed
from schemas.file_cache import GIGABYTE, limit_cache
from schemas.locations import locate
from schemas.manifest import NAME
from schemas.shard_set import ShardSet

pytest.importorskip("obstore")
OUT = "bucket/out"


def run(source, output, **options):
    shards = ShardConfig(samples_per_shard=4)
    return build(fast_recipe(), source, output, shards, LocalExecutor(), lambda *a: a[2], **options)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "libero"
    write_file(folder / "a_demo.hdf5", [Demo(0), Demo(1, 0, 14)])
    write_file(folder / "sub/b_demo.hdf5", [Demo(0, 1, 14)])
    return folder


@pytest.fixture(scope="module")
def finished(source, tmp_path_factory):
    output = tmp_path_factory.mktemp("finished") / "shards"
    run(source, output)
    return outputs_of(output)


def stored(server):
    """SHA-256 of the output's files, without the work folder."""
    files = {name: data for name, data in server.below(OUT).items() if not name.startswith(".lamp/")}
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def test_a_build_into_a_store_has_the_bytes_of_one_on_this_machine(server, source, finished):
    summary = run(source, locate(f"s3://{OUT}"))
    assert stored(server) == finished
    assert summary.kept == len(ShardSet(locate(f"s3://{OUT}")))
    left = {name for name in server.below(OUT) if name.startswith(".lamp/")}
    assert left == {".lamp/begun.json", ".lamp/complete.json", ".lamp/state.json"}, "no lock and no episode stays"
    puts = [name.removeprefix(f"{OUT}/") for name in server.written if "/.lamp/" not in name]
    assert puts[-1] == NAME, "the manifest is the last"
    assert len(puts) == len(set(puts)) == len(finished), "each by one request"
    server.written.clear()
    assert run(source, locate(f"s3://{OUT}")).already_complete
    assert all("/.lamp/lock-" in name or "/.lamp/probe-" in name for name in server.written)


def test_a_build_from_a_store_records_the_same_names_and_fetches_each_file_once(server, source, finished, tmp_path):
    store_folder(server, "bucket/libero", source)
    most = max(len(data) for data in server.below("bucket/libero").values())
    limit_cache(most / GIGABYTE)
    run(locate("s3://bucket/libero"), tmp_path / "out")
    assert outputs_of(tmp_path / "out") == finished
    assert sum(path.stat().st_size for path in (tmp_path / "cache").iterdir()) <= most
    sizes = {name: len(data) for name, data in server.below("bucket/libero").items()}
    assert server.requests["LIST bucket/libero/"] == 1
    for name, size in sizes.items():
        listing = 4 * 65536  # the names of the demonstrations, read by ranges
        assert server.sent[f"bucket/libero/{name}"] <= size + listing


def test_a_store_that_fails_ends_the_build_with_a_sentence_and_it_resumes(server, source, finished, monkeypatch):
    """The store answers 503 from some request on; the episode is not to blame, so none is left out."""
    monkeypatch.setenv("LAMP_STORE_TRIES", "2")
    monkeypatch.setattr("schemas.stores.trying.FIRST_PAUSE_S", 0.01)
    puts = []

    def fails_from_then_on(name):
        puts.append(name)
        return "503" if len(puts) > 40 else None

    monkeypatch.setattr(server, "next_fault", fails_from_then_on)
    with pytest.raises(StoreFailed, match="s3://bucket/out"):
        run(source, locate(f"s3://{OUT}"))
    monkeypatch.undo()
    for name, data in stored(server).items():
        assert finished.get(name) == data, f"{name} is half-written"
    assert NAME not in stored(server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    run(source, locate(f"s3://{OUT}"))
    assert stored(server) == finished


def test_a_store_that_fails_while_reading_quarantines_nothing(server, source, tmp_path, monkeypatch):
    store_folder(server, "bucket/libero", source)
    monkeypatch.setenv("LAMP_STORE_TRIES", "2")
    reader = LiberoReader()
    refs = list(reader.list_episodes(locate("s3://bucket/libero")))
    assert not any(isinstance(ref, UnreadableSource) for ref in refs)
    server.faults = ["503"] * 50
    with pytest.raises(StoreFailed, match=r"reading s3://bucket/libero/a_demo\.hdf5 failed 2 times"):
        reader.read(refs[0])


def test_a_damaged_file_in_a_store_is_refused_by_name_and_the_rest_is_built(server, source, tmp_path):
    store_folder(server, "bucket/libero", source)
    server.objects["bucket/libero/sub/b_demo.hdf5"] = b"nothing of the kind"
    summary = run(locate("s3://bucket/libero"), tmp_path / "out")
    assert [(q.source, q.code) for q in summary.quarantined] == [("sub/b_demo.hdf5", "unreadable_file")]
    assert summary.episodes == 2


# Two builds


def test_a_second_build_into_the_same_place_is_refused(server, source):
    work = locate(f"s3://{OUT}/.lamp")
    with held_in_store(work), pytest.raises(BuildError, match=r"another build, process .*s3://bucket/out"):
        run(source, locate(f"s3://{OUT}"))
    assert not server.objects


def test_a_store_that_ignores_conditions_is_refused(server, source):
    server.heeds_conditions = False
    with pytest.raises(BuildError, match=r"s3://bucket/out ignores conditional writes"):
        run(source, locate(f"s3://{OUT}"))
    assert not server.objects


def test_a_store_that_fails_at_the_first_write_is_said_with_that_write(server, source):
    server.faults = ["503"] * 20
    server.only = "/probe-"
    with pytest.raises(StoreFailed, match=r"^writing s3://bucket/out/\.lamp/probe-"):
        run(source, locate(f"s3://{OUT}"))


def test_of_many_builds_at_once_one_gets_the_place(server):
    work, outcomes = locate(f"s3://{OUT}/.lamp"), []
    begun = threading.Barrier(6)

    def take():
        lock = store_lock._StoreLock(work)
        begun.wait()
        try:
            lock.take()
        except BuildError:
            outcomes.append(None)
        else:
            outcomes.append(lock)

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    holders = [lock for lock in outcomes if lock is not None]
    assert len(outcomes) == 6 and len(holders) == 1
    holders[0].check()
    holders[0].release()
    assert not server.objects


def test_a_build_that_was_killed_is_followed_at_once_on_the_same_machine(server, monkeypatch):
    dead = store_lock._StoreLock(locate(f"s3://{OUT}/.lamp"))
    monkeypatch.setattr(store_lock, "_started", lambda process: "at some other time")
    dead.take()
    monkeypatch.undo()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    dead._ended.set()
    with held_in_store(locate(f"s3://{OUT}/.lamp")):
        assert [name for name in server.below(OUT) if "/lock-" in name] == [".lamp/lock-000002"]
        with pytest.raises(BuildError, match="taken over"):
            dead.check()


def test_a_build_of_another_machine_is_dead_when_it_is_silent_for_long(server, monkeypatch):
    other = store_lock._StoreLock(locate(f"s3://{OUT}/.lamp"))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(store_lock, "_host", lambda: "elsewhere")
        other.take()
    other._ended.set()
    with pytest.raises(BuildError, match=r"on elsewhere.*sign of life"), held_in_store(other.work):
        pass
    server.modified[f"{OUT}/.lamp/lock-000001"] -= store_lock.DEAD_S + 2
    with held_in_store(other.work):
        pass


def test_a_manifest_that_another_build_wrote_meanwhile_is_not_replaced(server, source, monkeypatch):
    from pipeline.build import run as module

    publish = module._publish

    def late(*arguments):
        server.objects[f"{OUT}/{NAME}"], server.modified[f"{OUT}/{NAME}"] = b"theirs", 1e9
        publish(*arguments)

    monkeypatch.setattr(module, "_publish", late)
    with pytest.raises(BuildError, match="another build has finished"):
        run(source, locate(f"s3://{OUT}"))
    assert server.objects[f"{OUT}/{NAME}"] == b"theirs"


# Forms


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the shared samples are not here")
def test_rlds_is_read_record_by_record(server, tmp_path):
    folder = tmp_path / "bridge_dataset/1.0.0"
    shutil.copytree(SAMPLE, folder)
    store_folder(server, "bucket/bridge_dataset/1.0.0", folder)
    reader, file = BridgeReader(), next(n for n in server.objects if ".tfrecord-" in n)
    here = [ref for ref in reader.list_episodes(tmp_path) if not isinstance(ref, UnreadableSource)]
    there = [ref for ref in reader.list_episodes(locate("s3://bucket")) if not isinstance(ref, UnreadableSource)]
    assert [(ref.source, ref.episode, ref.split) for ref in there] == [(r.source, r.episode, r.split) for r in here]
    assert server.sent[file] == 0, "a listing costs a listing"
    episode = reader.read(there[-1])
    assert server.sent[file] < len(server.objects[file]) / len(here) * 2, "no more than its record"
    assert episode.instructions == reader.read(here[-1]).instructions
    assert np.array_equal(episode.actions, reader.read(here[-1]).actions)


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_lerobot_files_are_fetched_by_need_and_once(server, tmp_path, version):
    from readers.test_lerobot_readers import write_bridge

    write_bridge(tmp_path / "set", version)
    store_folder(server, "bucket/set", tmp_path / "set")
    reader = BridgeReader()
    here = [r for r in reader.list_episodes(tmp_path / "set") if not isinstance(r, UnreadableSource)]
    there = [r for r in reader.list_episodes(locate("s3://bucket/set")) if not isinstance(r, UnreadableSource)]
    assert [(ref.source, ref.episode) for ref in there] == [(ref.source, ref.episode) for ref in here] and here
    assert not any(".mp4" in name or "/data/" in name for name in server.sent)
    for one, other in zip(here, there, strict=True):
        expected, found = reader.read(one), reader.read(other)
        assert found.instructions == expected.instructions and list(found.views) == list(expected.views)
        assert np.array_equal(found.actions, expected.actions)
        for name, view in expected.views.items():
            assert np.array_equal(found.views[name].read_frames(), view.read_frames())
        assert found.notes == expected.notes
    for name, count in server.sent.items():
        assert count <= len(server.objects[name]), f"{name} was fetched twice"


def test_the_status_of_a_build_is_read_from_its_store(server, source, capsys):
    summary = run(source, locate(f"s3://{OUT}"))
    assert status_command(Status(Path(f"s3://{OUT}"))) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"s3://{OUT}: finished") and f"{summary.kept} kept" in said
    state = read_state(locate(f"s3://{OUT}") / ".lamp")
    assert state is not None and state.ended == "finished"
    with pytest.raises(UsageError, match=r"^s3://bucket/none holds no build"):
        status_command(Status(Path("s3://bucket/none")))
