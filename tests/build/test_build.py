"""The engine: the same bytes whoever runs it and however often it dies, nothing lost, nothing doubled, nothing
half-written.
"""

import json
import os
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
from fixtures.libero import Demo, fast_recipe, outputs_of, partials_in, random_places, samples_of, shipped, write_file

from jobs.executors.local import LocalExecutor
from pipeline.build.episode_store import EpisodeReport
from pipeline.build.packing import plan_shards
from pipeline.build.run import ShardConfig, build
from pipeline.build.selection import Selection
from pipeline.build.work_folder import EPISODE_STORE, WORK, locked
from pipeline.episodes.chunks import ChunkConfig
from pipeline.errors import BuildError
from pipeline.readers import libero
from schemas.manifest import EPISODES, NAME, STATISTICS
from schemas.shard_formats import CorruptShard
from schemas.shard_set import ShardSet

SMALL = ShardConfig(samples_per_shard=4)


class ShuffledExecutor:
    """Tasks in any order, on several workers, their results in another order still."""

    def __init__(self, seed: int, workers: int = 3):
        self.random, self.workers = random.Random(seed), workers

    def run(self, make_worker, tasks, **options):
        workers = [make_worker() for _ in range(self.workers)]
        order = self.random.sample(range(len(tasks)), len(tasks))
        results = [(tasks[i], self.random.choice(workers)(tasks[i])) for i in order]
        yield from self.random.sample(results, len(results))


def run(source, output, shards=SMALL, executor=None, recipe=None, **options):
    return build(
        recipe or fast_recipe(), source, output, shards, executor or LocalExecutor(), lambda *a: a[2], **options
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Six episodes in two files."""
    folder = tmp_path_factory.mktemp("libero")
    write_file(folder / "a_demo.hdf5", [Demo(0), Demo(1, 0, 14), Demo(2, 0, 28), Demo(10, 1)])
    write_file(folder / "b_demo.hdf5", [Demo(0, 1, 14), Demo(1, 1, 28)])
    return folder


@pytest.fixture(scope="module")
def finished(source, tmp_path_factory):
    """A build of them, not to be changed, and what came of it."""
    output = tmp_path_factory.mktemp("finished") / "shards"
    return output, run(source, output)


@pytest.fixture(scope="module")
def kept(source, tmp_path_factory):
    """The same build with its episodes kept."""
    output = tmp_path_factory.mktemp("kept") / "shards"
    run(source, output, keep_episodes=True)
    return output


# The same bytes


@pytest.mark.parametrize("seed", [1, 2])
def test_the_order_in_which_tasks_finish_changes_no_byte(source, finished, tmp_path, seed):
    run(source, tmp_path / "out", executor=ShuffledExecutor(seed))
    assert outputs_of(tmp_path / "out") == outputs_of(finished[0])


def test_a_zarr_build_is_the_same_bytes_in_any_order_too(source, tmp_path):
    shards = ShardConfig("zarr", samples_per_shard=10)
    run(source, tmp_path / "one", shards)
    run(source, tmp_path / "two", shards, ShuffledExecutor(3))
    assert outputs_of(tmp_path / "one") == outputs_of(tmp_path / "two")


def test_a_dataset_that_was_copied_elsewhere_at_another_time_gives_the_same_bytes(source, finished, tmp_path):
    copy = shutil.copytree(source, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    run(copy, tmp_path / "out")
    assert outputs_of(tmp_path / "out") == outputs_of(finished[0])


def test_every_sample_stands_in_the_shards_exactly_once_and_nothing_is_short(finished):
    output, summary = finished
    shards = ShardSet(output)
    keys = [row["key"].decode() for row in shards.index]
    assert len(keys) == len(set(keys)) == summary.kept == 18
    assert sorted(shards.read(n).key for n in range(len(shards))) == sorted(keys)
    lines = [json.loads(line) for line in (output / EPISODES).read_bytes().splitlines()]
    assert [(line["source"], line["episode"], line["frames"]) for line in lines] == [
        ("a_demo.hdf5", f"demo_{n}", 14) for n in (0, 1, 2, 10)
    ] + [("b_demo.hdf5", f"demo_{n}", 14) for n in (0, 1)]
    assert sum(line["kept"] for line in lines) == 18
    assert {p.name for p in (output / WORK).iterdir()} == {"lock", "begun.json", "complete.json", "state.json"}, (
        "stored episodes are cleared away"
    )


def test_shards_are_of_nearly_equal_size_and_their_order_is_the_seeds():
    def report(episode):
        rows = [(f"{episode}-{n}", n * 512, 512) for n in range(7)]
        return EpisodeReport(episode, {}, episode, 7, [], None, [], rows)

    reports = [report(e) for e in "abc"]
    plans = plan_shards(reports, "d", 4, 0)
    assert [len(p.samples) for p in plans] == [4, 4, 4, 3, 3, 3]
    assert [p.stem for p in plans] == [f"d-{n:06d}" for n in range(6)]
    assert plan_shards(reports[::-1], "d", 4, 0) == plans, "the order of reports is nothing"
    assert plan_shards(reports, "d", 4, 1) != plans
    everything = sorted(s for p in plans for s in p.samples)
    assert everything == sorted(s for p in plan_shards(reports, "d", 5, 1) for s in p.samples)
    assert everything == sorted((k, r.episode, r.key, o, s) for r in reports for k, o, s in r.rows)


def test_statistics_are_those_of_all_frames(source, finished):
    statistics = ShardSet(finished[0]).statistics()
    cuts = [(0, 0), (0, 14), (0, 28), (1, 0), (1, 14), (1, 28)]
    arrays = [shipped(taken)["arrays"] for taken, _ in cuts]
    spans = [slice(first, first + 14) for _, first in cuts]
    state = [
        np.concatenate([a["obs/ee_states"][s], a["obs/gripper_states"][s]], 1)
        for a, s in zip(arrays, spans, strict=True)
    ]
    action = [a["actions"][s][1:] for a, s in zip(arrays, spans, strict=True)]
    for name, values in (("state", np.concatenate(state)), ("action", np.concatenate(action))):
        values, found = values.astype(np.float32).astype(np.float64), statistics[name]
        assert found["count"] == len(values)
        assert np.array_equal(found["min"], values.min(0)) and np.array_equal(found["max"], values.max(0))
        assert np.allclose(found["mean"], values.mean(0)) and np.allclose(found["std"], values.std(0), atol=1e-7)
        assert np.allclose([found["q01"], found["q99"]], np.quantile(values, [0.01, 0.99], axis=0))


# Going on


def counting(executor_class=LocalExecutor):
    """An executor that notes how many tasks it was given at each run."""

    class Counting(executor_class):
        def __init__(self):
            super().__init__()
            self.given = []

        def run(self, make_worker, tasks, **options):
            self.given.append(len(tasks))
            return super().run(make_worker, tasks)

    return Counting()


def test_a_finished_build_has_nothing_to_do(source, finished, tmp_path):
    output = shutil.copytree(finished[0], tmp_path / "out")
    executor = counting()
    summary = run(source, output, executor=executor)
    assert summary.already_complete and executor.given == []
    assert (summary.kept, summary.episodes, summary.frames) == (18, 6, 84)
    assert outputs_of(output) == outputs_of(finished[0])


@pytest.mark.parametrize(
    "damage",
    [
        "libero-000001.tar",
        "libero-000001.index.npy",
        STATISTICS,
        EPISODES,
        NAME,
        "cut libero-000002.tar",
        "cut statistics.json",
    ],
)
@pytest.mark.parametrize("stored", [True, False])
def test_a_build_of_which_something_was_lost_is_not_called_complete_and_is_made_whole(
    source, finished, kept, tmp_path, damage, stored
):
    output = shutil.copytree(kept if stored else finished[0], tmp_path / "out")
    verb, _, name = damage.rpartition(" ")
    if verb == "cut":
        os.truncate(output / name, 100)
    else:
        (output / name).unlink()
    executor = counting()
    summary = run(source, output, executor=executor)
    assert not summary.already_complete and outputs_of(output) == outputs_of(finished[0])
    if stored:
        assert executor.given == ([1] if "libero" in damage else []), "only what was lost is written again"


def test_an_added_file_costs_only_its_own_episodes_when_finished_ones_are_kept(source, finished, tmp_path):
    own = shutil.copytree(source, tmp_path / "in")
    added = (own / "b_demo.hdf5").rename(tmp_path / "b_demo.hdf5")
    assert run(own, tmp_path / "out", keep_episodes=True).made == 4
    added.rename(own / "b_demo.hdf5")
    assert run(own, tmp_path / "out", keep_episodes=True).made == 2
    assert outputs_of(tmp_path / "out") == outputs_of(finished[0])
    assert run(own, tmp_path / "out", ShardConfig(samples_per_shard=7), keep_episodes=True, overwrite=True).made == 0
    assert samples_of(tmp_path / "out") == samples_of(finished[0])


def test_a_changed_file_is_built_again_and_a_changed_option_too(source, tmp_path):
    own = shutil.copytree(source, tmp_path / "in")
    run(own, tmp_path / "out", keep_episodes=True)
    before = samples_of(tmp_path / "out")
    write_file(own / "b_demo.hdf5", [Demo(0, 1, 14), Demo(1, 0, 34)])
    assert run(own, tmp_path / "out", keep_episodes=True).made == 2
    changed = {key for key, digest in samples_of(tmp_path / "out").items() if before.get(key) != digest}
    assert {key.split("-")[0] for key in changed} == {
        line["digest"]
        for line in map(json.loads, (tmp_path / "out" / EPISODES).read_bytes().splitlines())
        if (line["source"], line["episode"]) == ("b_demo.hdf5", "demo_1")
    }
    assert run(own, tmp_path / "out", recipe=fast_recipe(jpeg_quality=80), keep_episodes=True, overwrite=True).made == 6


def test_limit_takes_the_first_episodes_and_gives_their_samples_unchanged(source, finished, tmp_path):
    summary = run(source, tmp_path / "out", selection=Selection(limit=3))
    assert (summary.episodes, summary.kept) == (3, 9)
    few, all_samples = samples_of(tmp_path / "out"), samples_of(finished[0])
    assert few.items() < all_samples.items()
    run(source, tmp_path / "out")
    assert outputs_of(tmp_path / "out") == outputs_of(finished[0])


@pytest.mark.parametrize(
    "earlier", [ShardConfig(samples_per_shard=1), ShardConfig("zarr", 3), ShardConfig(samples_per_shard=4, seed=9)]
)
def test_nothing_of_an_earlier_build_is_left_in_the_folder(source, finished, tmp_path, earlier):
    run(source, tmp_path / "out", earlier)
    run(source, tmp_path / "out", overwrite=True)
    assert outputs_of(tmp_path / "out") == outputs_of(finished[0])


@pytest.mark.parametrize("name", ["lab.v1", "lab.tar", "a-000001.index", "x..y_-z"])
@pytest.mark.parametrize("earlier", [ShardConfig("zarr", 3), ShardConfig(samples_per_shard=1)])
def test_a_name_with_dots_keeps_its_own_shards_and_none_of_an_earlier_build(
    source, tmp_path, monkeypatch, name, earlier
):
    monkeypatch.setattr(libero, "INFO", replace(libero.INFO, name=name))
    output, one = tmp_path / "out", Selection(limit=1)
    output.mkdir()
    others = {"lab-000007.tar", "lab.v2-000007.index.npy", f"{name}-000007.tar.old", f"{name}-000007-mine.tar"}
    for other in others:
        (output / other).write_text("mine")
    run(source, output, earlier, selection=one)
    run(source, output, selection=one, keep_episodes=True, overwrite=True)
    shard, index = f"{name}-000000.tar", f"{name}-000000.index.npy"
    assert {p.name for p in output.iterdir()} == {*others, shard, index, WORK, NAME, EPISODES, STATISTICS}
    assert [path.name for path in (output / WORK / "records").iterdir()] == [f"{name}-000000.json"]
    assert len(ShardSet(output)) == 3


@pytest.mark.parametrize(
    "name", ["", ".lab", "-lab", "my lab", "lab/v1", "..", "lab[1]", "lab*", "lab\n", "labör", "l" * 101]
)
def test_names_that_files_cannot_be_called_after_are_refused(name):
    with pytest.raises(ValueError, match="a dataset's name may hold letters from A to Z, digits"):
        replace(libero.INFO, name=name)


def test_what_somebody_else_put_into_the_folder_is_left_alone(source, tmp_path):
    (tmp_path / "out").mkdir()
    for name in ("notes.txt", "libero-best.tar", "droid-000007.tar", "libero-000007-mine.tar"):
        (tmp_path / "out" / name).write_text("mine")
    run(source, tmp_path / "out", selection=Selection(limit=1))
    assert {"notes.txt", "libero-best.tar", "droid-000007.tar", "libero-000007-mine.tar"} <= {
        p.name for p in (tmp_path / "out").iterdir()
    }


def test_a_second_build_into_the_same_folder_is_refused_and_the_first_is_not_disturbed(source, finished, tmp_path):
    output = shutil.copytree(finished[0], tmp_path / "out")
    with locked(output), pytest.raises(BuildError, match=r"another build is writing into .*out; wait for it"):
        run(source, output, ShardConfig(samples_per_shard=1))
    assert outputs_of(output) == outputs_of(finished[0])


def test_stored_episodes_that_were_half_cleared_away_are_made_again(source, finished, kept, tmp_path):
    shutil.copytree(kept, tmp_path / "out")
    tars = sorted((tmp_path / "out" / WORK / EPISODE_STORE).rglob("*.tar"))
    indices = sorted((tmp_path / "out" / WORK / EPISODE_STORE).rglob("*.index.npy"))
    tars[0].unlink()
    os.truncate(tars[1], 512)
    other = next(i for i in indices if i.name.split(".")[0] not in (tars[0].stem, tars[1].stem))
    other.unlink()
    (tmp_path / "out" / "libero-000000.tar").unlink()
    assert run(source, tmp_path / "out").made == 3
    assert outputs_of(tmp_path / "out") == outputs_of(finished[0])


def test_a_flip_in_a_stored_episode_never_reaches_a_shard(source, kept, tmp_path):
    output = shutil.copytree(kept, tmp_path / "out")
    stored = sorted((output / WORK / EPISODE_STORE).rglob("*.tar"))[0]
    original = stored.read_bytes()
    for byte, bit in random_places(len(original) - 1024, 5):
        data = bytearray(original)
        data[byte] ^= 1 << bit
        stored.write_bytes(data)
        with pytest.raises(CorruptShard, match=f"{stored.name}: sample .* is damaged; delete this file"):
            run(source, output, ShardConfig(samples_per_shard=3, seed=byte), keep_episodes=True, overwrite=True)
        assert not (output / NAME).exists() and not partials_in(output)
    stored.unlink()
    assert run(source, output, overwrite=True).made == 1


def test_the_size_of_a_chunk_decides_no_build(source, finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "out")
    assert run(source, tmp_path / "out", chunks=ChunkConfig(0.001)).already_complete


def test_what_a_dead_worker_left_half_written_is_gone_when_the_build_has_finished(source, tmp_path):
    class Dying(LocalExecutor):
        def run(self, make_worker, tasks, **options):
            for result in super().run(make_worker, tasks, **options):
                (tmp_path / "out" / f".{getattr(tasks[0], 'stem', 'episode')}.tar.0badcafe.partial").write_bytes(
                    b"half"
                )
                yield result

    build(fast_recipe(), source, tmp_path / "out", ShardConfig(), Dying(), lambda *a: a[2])
    assert not partials_in(tmp_path / "out")
