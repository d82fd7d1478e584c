"""A worker with a GPU works on several episodes at once: the same bytes, and what befalls one befalls no other."""

import os
import threading
import time
from dataclasses import replace as changed

import numpy as np
import pytest
from fixtures.libero import ROOT, Demo, fast_recipe, outputs_of, replace, write_file
from fixtures.ray_session import ray_place, running_ray

from jobs.executors import ray as ray_executor
from jobs.executors._ray_pool import Death
from jobs.executors.local import Config, LocalExecutor
from pipeline.build.executor import WorkerDied, unnoticed
from pipeline.build.run import ShardConfig, build
from pipeline.vision.auto_batch import ShrinkingBatches
from schemas.plugins import PluginChoice

__all__ = ["ray_place", "running_ray"]


@pytest.fixture
def recipe(monkeypatch):
    """Depth by a plug-in that counts as a model and says that it is thread-safe."""
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return changed(fast_recipe(), depth=PluginChoice("waiting_depth", {"ms": 1.0}))


def test_several_episodes_at_once_give_the_bytes_of_one_after_the_other_and_a_bad_one_hurts_no_other(recipe, tmp_path):
    def spoil(file):
        replace(file, "actions", np.full((14, 7), np.nan), "demo_1")

    write_file(tmp_path / "in" / "a_demo.hdf5", [Demo(n, n % 2, 5 * n) for n in range(5)], spoil)
    shards = ShardConfig(samples_per_shard=4)
    for at_once in (1, 3):
        executor = LocalExecutor(Config(at_once))
        made = build(recipe, tmp_path / "in", tmp_path / f"{at_once}", shards, executor, lambda *a: a[2])
        assert (made.episodes, [q.code for q in made.quarantined]) == (4, ["not_finite"])
    assert outputs_of(tmp_path / "1") == outputs_of(tmp_path / "3")


@pytest.mark.parametrize(("device", "thread_safe", "most"), [("cpu", True, 2), ("cpu", False, 1), (None, True, 1)])
def test_only_workers_that_run_models_and_are_thread_safe_get_tasks_at_once(device, thread_safe, most):
    seen, meet = [], threading.Barrier(2)

    def work(task):
        if most == 2:
            meet.wait(60)
        seen.append(threading.current_thread() is threading.main_thread())
        return -task

    found = LocalExecutor(Config(2)).run(lambda: work, range(4), device=device, thread_safe=thread_safe)
    assert sorted(found) == [(n, -n) for n in range(4)]
    assert seen == [most == 1] * 4


def test_an_error_in_one_of_several_tasks_at_once_is_raised_when_the_others_have_ended():
    ended = []

    def work(task):
        if task == 0:
            raise OSError("full")
        time.sleep(0.05)
        ended.append(task)

    with pytest.raises(OSError, match="full"):
        list(LocalExecutor(Config(3)).run(lambda: work, range(9), device="cpu", thread_safe=True))
    assert sorted(ended) == [1, 2]


def test_plug_ins_of_others_are_thread_safe_only_if_they_say_so(recipe, monkeypatch):
    assert recipe.thread_safe and fast_recipe().thread_safe
    assert not changed(recipe, dataset=PluginChoice("robosuite")).thread_safe
    import waiting_depth

    monkeypatch.delattr(waiting_depth, "THREAD_SAFE")
    assert not recipe.thread_safe


def test_threads_that_share_a_model_run_one_batch_at_a_time_and_each_gets_its_own_results():
    pytest.importorskip("torch")
    batches, inside = ShrinkingBatches(3, "none"), threading.Semaphore(1)

    def model(items):
        assert inside.acquire(blocking=False)
        time.sleep(0.001)
        inside.release()
        return [10 * item for item in items]

    def work(task):
        return [value for _, found in batches.run(model, range(task, task + 8)) for value in found]

    found = dict(LocalExecutor(Config(4)).run(lambda: work, range(8), device="cpu", thread_safe=True))
    assert found == {task: [10 * n for n in range(task, task + 8)] for task in range(8)}


def test_on_ray_a_task_that_kills_its_worker_is_tried_three_times_and_those_beside_it_lose_nothing(
    running_ray, tmp_path
):
    def make():
        def work(task):
            (tmp_path / f"{task}-{time.monotonic_ns()}").touch()
            if task == 1:
                until = time.monotonic() + 60  # until others are under way in this worker
                while len(list(tmp_path.iterdir())) < 3 and time.monotonic() < until:
                    time.sleep(0.02)
                os._exit(1)
            time.sleep(0.1)
            return task

        return work

    config = ray_executor.Config(address="local", workers=1, at_once=3)
    found = dict(ray_executor.build(config).run(make, range(6), device="auto", thread_safe=True))
    assert isinstance(found.pop(1), WorkerDied) and found == {n: n for n in (0, 2, 3, 4, 5)}
    tries = [path.name.split("-")[0] for path in tmp_path.iterdir()]
    assert tries.count("1") == 3 and max(tries.count(str(n)) for n in found) == 2


def test_a_death_beside_others_gives_no_task_up_and_its_tasks_are_tried_alone():
    queue = ray_executor._Queue("abcd", 1, unnoticed)
    first, second = queue.take(set()), queue.take({0})
    assert (first, second) == (0, 1)
    dead = Death("gone", node_lost=False)
    assert queue.died(0, dead, beside=True) is None and queue.died(1, dead, beside=True) is None
    third = queue.take(set())
    assert third == 1 and queue.take({1}) is None
    assert isinstance(queue.died(1, dead), WorkerDied)
    assert queue.take({9}) == 2, "a suspect is not tried beside another task"
