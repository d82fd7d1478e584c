"""Several ranks train what one does; what any of them meets ends all of them in a sentence."""

import json
import os
import resource
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures.ranks import in_ranks
from fixtures.shard import write_shards
from training.test_model_training import smaller

from lamp_model.storage.checkpoints import read_tensors, steps_in
from lamp_model.training import run as running
from lamp_model.training.accumulation import draws_of, rows_of
from lamp_model.training.distributed import replicas
from lamp_model.training.distributed.agreement import check_batch
from lamp_model.training.distributed.joining import first_node, joined, launch_of
from lamp_model.training.distributed.ranks import Ranks
from lamp_model.training.metrics import read_metrics
from lamp_model.training.out_of_memory import CPU_DEFAULT, enough_memory, fitting, halved
from lamp_model.training.request import Request
from lamp_model.training.run import prepare, train
from lamp_model.training.stopping import Stopped, StopRequest
from lamp_model.training.trainer import Trainer

OPTIONS = {
    "batch_size": 8,
    "steps": 4,
    "checkpoint_every": 2,
    "validate_every": 4,
    "log_every": 1,
    "val_fraction": 0.3,
    "path_weight": 0.1,
}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Shards, and a run of one process of each stage; stage 2 has the joint objective."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("ranks")
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    write_shards(folder / "shards", episodes=5, frames=3)
    trained(None, folder, "stage1")
    trained(None, folder, "stage2", 2)
    return folder


def prepared(ranks, folder, name, stage=1, micro_batch=None, options=None, resume=False):
    """Without dropout: it alone depends on which samples pass through the model together."""
    options = {} if resume else OPTIONS | ({"objective": "joint"} if stage == 2 else {}) | (options or {})
    request = Request(
        stage,
        folder / "shards",
        folder / name,
        folder / "stage1" if stage == 2 else None,
        options=options,
        resume=resume,
        device="cpu",
        cache_features="off",
        micro_batch=micro_batch,
    )
    made = prepare(request, ranks)
    if resume:
        return made
    made = smaller(made)
    model = made.config.model
    motion, action = replace(model.motion, dropout=0.0), replace(model.action, dropout=0.0)
    fusion = {**model.fusion_options, "dropout": 0.0}
    model = replace(model, motion=motion, action=action, fusion_options=fusion)
    return replace(made, config=replace(made.config, model=model))


def trained(launch, *given, stop_at=None, on=0, damage=None, **options):
    """Train; rank ``on`` asks for a stop after a step, or does something else there."""
    step, draw = Trainer.step, running.draw_curves
    stop = StopRequest()

    def watched(self, batch):
        result = step(self, batch)
        if launch is not None and launch.rank == on and self.done == stop_at:
            self.writer.wait()  # the checkpoint before, which another thread writes
            damage() if damage else setattr(stop, "asked", True)
        return result

    Trainer.step = watched
    running.draw_curves = lambda *_: None  # a third of a short run's time, and tested elsewhere
    try:
        with joined(launch, CPU, start_s=60) as ranks:
            return train(prepared(ranks, *given, **options), stop)
    except Stopped as stopped:
        return stopped.saved
    finally:
        Trainer.step, running.draw_curves = step, draw


def figures(run: Path) -> list[dict]:
    """What a run's log says, but for time and memory."""
    other = ("second", "share_", "memory", "mfu")
    lines = read_metrics(run / "metrics.jsonl")
    return [{k: v for k, v in line.items() if not any(word in k for word in other)} for line in lines]


def assert_same_run(found: Path, expected: Path) -> None:
    """The same steps, each once, with the same figures to rounding, and the same weights."""
    for a, b in zip(figures(found), figures(expected), strict=True):
        assert a == pytest.approx(b, rel=1e-6, abs=1e-7)
    a, b = (read_tensors(run / "model.safetensors") for run in (found, expected))
    assert set(a) == set(b)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-5)


# The same run


@pytest.mark.parametrize(("world", "micro_batch", "stage"), [(2, 3, 1), (2, 1, 2)])
def test_ranks_and_micro_batches_do_not_change_a_run(folder, world, micro_batch, stage):
    name = f"same-{world}-{stage}"
    results = in_ranks(world, trained, folder, name, stage, micro_batch)
    assert all(isinstance(result, dict) for result in results), results
    assert all(result == results[0] for result in results)
    assert_same_run(folder / name, folder / f"stage{stage}")


def test_ranks_that_hold_parts_of_one_model_train_the_same_run_and_leave_a_whole_checkpoint(folder):
    results = in_ranks(2, in_parts, folder, "parts")
    assert all(isinstance(result, dict) for result in results), results
    assert_same_run(folder / "parts", folder / "stage1")
    (folder / "parts/model.safetensors").unlink()
    shutil.rmtree(folder / "parts/checkpoints/step-000004")
    trained(None, folder, "parts", resume=True)
    assert_same_run(folder / "parts", folder / "stage1")


def in_parts(launch, *given, **options):
    """As where the backbone learns: every weight is divided over the ranks."""
    replicas.is_sharded = lambda modules, ranks: ranks.world > 1
    return trained(launch, *given, **options)


@pytest.mark.parametrize("micro_batch", [1, 5])
def test_one_process_accumulates_to_the_same_run(folder, micro_batch):
    trained(None, folder, f"micro-{micro_batch}", 2, micro_batch)
    assert_same_run(folder / f"micro-{micro_batch}", folder / "stage2")


def test_each_place_of_the_global_batch_has_its_own_numbers(folder):
    """Whatever the number of ranks and the micro-batch, a sample meets the same noise, bit for bit."""
    stage = running._build(made := prepared(Ranks(), folder, "unused"), None)
    config = made.config.training
    whole = draws_of(stage, config, 3)["motion"]
    for world in (2, 4):
        pieces = []
        for rank in range(world):
            loader = running._loaders(replace(made, ranks=Ranks(rank, world)))[0]
            pieces.append(rows_of({"motion": whole}, *loader.places)["motion"])
        for name in whole:
            assert torch.equal(torch.cat([piece[name] for piece in pieces]), whole[name])
    assert len({tuple(row.flatten()[:3].tolist()) for row in whole["noise"]}) == config.batch_size


@pytest.mark.parametrize("stage", [1, 2])
def test_the_counts_of_a_batch_are_those_of_its_losses(folder, stage):
    made = prepared(Ranks(), folder, "unused", stage)
    built = running._build(made, running._statistics(made))
    batch = running._loaders(made)[0].batch(0)
    losses = built.losses(batch, draws_of(built, made.config.training, 0))
    assert {name: int(term.count) for name, term in losses.items()} == built.counts(batch)
    assert all(count > 0 for count in built.counts(batch).values())


def test_two_ranks_that_one_told_to_stop_go_on_at_one_and_at_four(folder):
    results = in_ranks(2, asked_to_stop, folder, "stopped")
    assert results == [3, 3] and steps_in(folder / "stopped/checkpoints") == [2, 3]
    for world in (1, 4):
        name = f"from-2-to-{world}"
        shutil.copytree(folder / "stopped", folder / name)
        if world == 1:
            trained(None, folder, name, resume=True)
        else:
            assert all(isinstance(result, dict) for result in in_ranks(world, gone_on, folder, name))
        assert_same_run(folder / name, folder / "stage1")


def asked_to_stop(launch, *given):
    return trained(launch, *given, stop_at=3, on=1)


def gone_on(launch, *given):
    return trained(launch, *given, resume=True)


# What any of them meets


def test_a_killed_rank_ends_the_others_and_the_newest_checkpoint_stands(folder):
    results = in_ranks(2, killed, folder, "killed")
    assert results[1] == -signal.SIGKILL
    kind, message, _ = results[0]
    assert kind == "RankLost" and "the newest complete checkpoint stands" in message
    assert steps_in(folder / "killed/checkpoints") == [2]
    trained(None, folder, "killed", resume=True)
    assert_same_run(folder / "killed", folder / "stage1")


def killed(launch, *given):
    return trained(launch, *given, stop_at=3, on=1, damage=lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_a_full_disk_ends_all_ranks_and_the_newest_checkpoint_stands(folder):
    """The limit on the size of files lets rank 0 write the first checkpoint's small files, and no later one."""
    (kind, message, _), (other, told, _) = in_ranks(2, without_room, folder, "full")
    assert kind == "OSError" and "File too large" in message
    assert other == "RankFailed" and told.startswith("rank 0: ")
    checkpoints = folder / "full/checkpoints"
    assert steps_in(checkpoints) == [2] and not list(checkpoints.glob(".*.partial"))
    trained(None, folder, "full", resume=True)
    assert_same_run(folder / "full", folder / "stage1")


def without_room(launch, *given):
    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    return trained(launch, *given, stop_at=3, on=0, damage=fill)


def test_a_damaged_sample_on_one_rank_is_named_on_all(folder, tmp_path):
    shutil.copytree(folder / "shards", tmp_path / "shards")
    for shard in sorted((tmp_path / "shards").glob("*.tar")):
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
    results = in_ranks(2, trained, tmp_path, "run")
    kinds = sorted(result[0] for result in results)
    assert kinds in (["CorruptShard", "RankFailed"], ["CorruptShard", "CorruptShard"])
    assert all("sha256" in result[1].lower() or "damaged" in result[1] or ".tar" in result[1] for result in results)


# Refused before the first step


def test_ranks_with_other_options_are_named(folder):
    results = in_ranks(2, with_own_seed, folder, "other")
    for kind, message, _ in results:
        assert kind == "BadRun" and "the ranks differ in seed: it is 0 on rank 0 (" in message
        assert "and 1 on rank 1 (" in message
    assert not (folder / "other").exists()


def with_own_seed(launch, *given):
    return trained(launch, *given, options={"seed": launch.rank})


def test_ranks_that_do_not_come_are_named(folder):
    ((kind, message, _),) = in_ranks(3, alone, present=range(1))
    assert kind == "RankLost" and "1 of 3 ranks came within 0.3 s; missing: 1, 2" in message


def alone(launch):
    with joined(launch, CPU, start_s=0.3):
        raise AssertionError("the others never came")


def test_a_number_of_ranks_that_does_not_divide_the_batch_is_refused():
    with pytest.raises(ValueError, match="16 samples does not divide among 3 ranks: give --batch-size 15 or 18"):
        check_batch(16, Ranks(0, 3))
    with pytest.raises(ValueError, match="2 samples does not divide among 3 ranks: give --batch-size 3, or"):
        check_batch(2, Ranks(0, 3))
    check_batch(16, Ranks(0, 4))


# Launchers


def test_torchrun_and_srun_are_understood():
    torchrun = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "29500"}
    found = launch_of(torchrun)
    assert found is not None and (found.rank, found.world, found.local, found.address) == (3, 4, 1, "a")
    job = {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_LOCALID": "0", "SLURM_JOB_ID": "123456"}
    assert launch_of(job) is None, "a batch script without srun is one process"
    step = job | {"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NODELIST": "gpu[03-05,9],login1"}
    found = launch_of(step)
    assert found is not None and (found.rank, found.world, found.address, found.port) == (5, 8, "gpu03", 23456)
    assert launch_of({}) is None and launch_of({"WORLD_SIZE": "1"}) is None
    with pytest.raises(ValueError, match="WORLD_SIZE is 2, as torchrun sets it, but RANK is not set"):
        launch_of({"WORLD_SIZE": "2"})


@pytest.mark.parametrize(
    ("nodes", "first"), [("n1", "n1"), ("n1,n2", "n1"), ("gpu[7,9]", "gpu7"), ("a[01-02]-ib,b", "a01-ib")]
)
def test_the_first_node_of_a_list(nodes, first):
    assert first_node(nodes) == first


# Memory


def test_too_little_memory_is_a_sentence():
    says = r"memory of this machine \(cpu\) does not suffice for a pass: do less"
    with pytest.raises(RuntimeError, match=says), enough_memory(CPU, "a pass", "do less"):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="shape"), enough_memory(CPU, "a pass", "do less"):
        raise RuntimeError("a bug in a shape")


def test_auto_halves_until_the_memory_suffices():
    tried = []

    def attempt(samples):
        tried.append(samples)
        if samples > 7:
            raise torch.OutOfMemoryError("CUDA out of memory")

    assert halved(attempt, 13, lambda: None) == 7 and tried == [13, 7]

    def never(samples):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        halved(never, 1, lambda: None)


def test_auto_takes_the_documented_number_on_a_cpu():
    assert fitting(pytest.fail, 512, CPU, 0) == CPU_DEFAULT and fitting(pytest.fail, 5, CPU, 0) == 5


def test_a_log_is_json_of_one_line_a_step(folder):
    steps = [line["step"] for line in map(json.loads, (folder / "stage1/metrics.jsonl").read_text().splitlines())]
    assert steps == [0, 1, 2, 3, 4, 4]
