"""What a training step costs, what accumulation adds, and what a second rank brings, on random shards.

    python benchmarks/training.py [--only step accumulation ranks loader] [--steps 1] [--rounds 5] [--batch-size 64]
    [--micro-batch 16] [--device cpu]

* ``step``: samples a second of one process, and the shares of waiting for data, forward, backward and the optimiser.
* ``accumulation``: a step in micro-batches over a step in one pass.
* ``ranks``: two gloo ranks on two cores against two processes that train independently, each on half the batch.
* ``loader``: the loader alone (``training_loader.py``), where that file is there.

What is compared is measured in turns, in one run; ratios are medians of the rounds, with the lowest and the highest. On
a CPU, accumulation is compared in CPU time, which other work on the machine distorts less; ranks are compared in both.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(1, str(Path(__file__).parent))

import torch
import torch.distributed as dist
from fixtures.ranks import in_ranks
from fixtures.shard import write_shards
from machine import at_least_one, describe

from lamp_model.training import run as running
from lamp_model.training.distributed.joining import joined
from lamp_model.training.distributed.ranks import ALONE, Ranks
from lamp_model.training.request import Request
from lamp_model.training.stages import MotionStage
from lamp_model.training.survey import look_at_data
from lamp_model.training.trainer import Trainer

SECTIONS = ("step", "accumulation", "ranks", "loader")


def made(folder: Path, args: argparse.Namespace, batch: int, ranks: Ranks = ALONE, micro: int | None = None) -> Trainer:
    """A trainer of stage 1 at the preset tiny, whose features come from the backbone at every visit."""
    options = {"batch_size": batch, "val_fraction": 0.0}
    output = Path(tempfile.mkdtemp(dir=folder)) / "run"
    request = Request(1, folder / "shards", output, options=options, device=args.device, cache_features="off")
    prepared = running.prepare(request, ranks)
    output.mkdir(exist_ok=True)
    stage = running._build(prepared, None)
    loader, _ = running._loaders(prepared)
    assert isinstance(stage, MotionStage)
    look_at_data(stage, loader, None, output)
    return Trainer(stage, prepared.config.training, output, loader, None, ranks, micro)


def settled(device: torch.device) -> float:
    """The time, when the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds(trainer: Trainer, steps: int) -> tuple[float, float]:
    """Seconds of some steps, reading included: by the clock, and of this process's CPU time."""
    began, used = settled(trainer.device), time.process_time()
    for batch in trainer.train.batches(trainer.done, trainer.done + steps):
        trainer.step(batch)
    return settled(trainer.device) - began, time.process_time() - used


def shares(trainer: Trainer, steps: int) -> dict[str, float]:
    """Seconds of some steps by what they were spent on."""
    spent = dict.fromkeys(("data", "forward", "backward", "optimiser", "whole"), 0.0)

    def timed(owner: object, name: str, what: str) -> None:
        function: Callable = getattr(owner, name)

        def measured(*inputs):
            began = settled(trainer.device)
            result = function(*inputs)
            spent[what] += settled(trainer.device) - began
            return result

        setattr(owner, name, measured)

    timed(trainer.replicas, "shares", "forward")
    timed(trainer.replicas, "backward", "backward")
    timed(trainer.optimisation, "step", "optimiser")
    batches = trainer.train.batches(trainer.done, trainer.done + steps)
    began = settled(trainer.device)
    for _ in range(steps):
        asked = settled(trainer.device)
        batch = next(batches)
        spent["data"] += settled(trainer.device) - asked
        trainer.step(batch)
    spent["whole"] = settled(trainer.device) - began
    return spent


def step(folder: Path, args: argparse.Namespace) -> None:
    """One process."""
    trainer = made(folder, args, args.batch_size)
    seconds(trainer, 1)
    spent = shares(trainer, args.steps * args.rounds)
    whole = spent.pop("whole")
    listed = ", ".join(f"{name} {value / whole:.0%}" for name, value in spent.items())
    rest = 1 - sum(spent.values()) / whole
    print(
        f"step: {args.steps * args.rounds * args.batch_size / whole:.1f} samples/s in batches of {args.batch_size}; "
        f"{listed}, the rest {rest:.0%}"
    )


def accumulation(folder: Path, args: argparse.Namespace) -> None:
    """Micro-batches against one pass."""
    whole, parts = made(folder, args, args.batch_size), made(folder, args, args.batch_size, micro=args.micro_batch)
    for trainer in (whole, parts):
        seconds(trainer, 1)
    ratios, kind = [], int(whole.device.type == "cpu")
    for number in range(args.rounds):
        turns = (whole, parts) if number % 2 else (parts, whole)
        took = {id(trainer): seconds(trainer, args.steps)[kind] for trainer in turns}
        ratios.append(took[id(parts)] / took[id(whole)])
    print(
        f"accumulation: a batch of {args.batch_size} in micro-batches of {args.micro_batch} takes "
        f"{told(ratios)} of the time of one pass"
    )


def ranks(folder: Path, args: argparse.Namespace) -> None:
    """Two ranks against two independent processes."""
    both = in_ranks(2, paired, folder, args)
    assert all(isinstance(ratios, list) for ratios in both), both
    by_clock, in_cpu = ([ratio[kind] for ratio in both[0]] for kind in (0, 1))
    print(
        f"ranks: two ranks on a batch of {args.batch_size} reach {told(by_clock)} of the samples/s of two independent "
        f"processes on {args.batch_size // 2} each; in CPU time {told(in_cpu)}"
    )


def paired(launch, folder: Path, args: argparse.Namespace) -> list[tuple[float, float]]:
    """On each of two processes: rates together over rates apart, by round, by the clock and in CPU time."""
    with joined(launch, torch.device("cpu")) as both:
        together, apart = made(folder, args, args.batch_size, both), made(folder, args, args.batch_size // 2)
        ratios = []
        for number in range(args.rounds + 1):
            took = {}
            for trainer in (together, apart) if number % 2 else (apart, together):
                dist.barrier()
                began = time.perf_counter()
                _, used = seconds(trainer, args.steps)
                dist.barrier()
                took[id(trainer)] = time.perf_counter() - began, used
            ratios.append(tuple(a / b for a, b in zip(took[id(apart)], took[id(together)], strict=True)))
        return ratios[1:]


def loader(folder: Path, args: argparse.Namespace) -> None:
    """The loader alone, by a script of its own."""
    script = Path(__file__).with_name("training_loader.py")
    if script.is_file():
        subprocess.run([sys.executable, str(script)], check=True)
    else:
        print(f"loader: {script} is not there")


def told(ratios: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(ratios):.1%} ({min(ratios):.1%} to {max(ratios):.1%})"


def main() -> None:
    """Run the sections that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--steps", type=at_least_one, default=1)
    parser.add_argument("--rounds", type=at_least_one, default=5)
    parser.add_argument("--batch-size", type=at_least_one, default=64)
    parser.add_argument("--micro-batch", type=at_least_one, default=16)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{describe()}; torch {torch.__version__}, one thread each")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_shards(folder / "shards", episodes=4, frames=16, size=128)
        for section in args.only:
            {"step": step, "accumulation": accumulation, "ranks": ranks, "loader": loader}[section](folder, args)


if __name__ == "__main__":
    main()
