"""Samples per second of a training step, both stages, on random shards.

    python benchmarks/training_step.py [--preset tiny] [--steps 10] [--batch-size 8] [--threads 1] [--device cpu]
    [--lora-rank 64] [--checkpoint-activations]

Prints, for each stage, without features on disk and with them, samples per second of whole steps (reading and decoding
included), the share of the frozen backbone, peak memory (of the GPU where there is one, else of the process so far),
and the machine. With ``--preset paper`` the backbone has random weights of the published size, so that nothing is
downloaded.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import torch
from fixtures.shard import write_shards
from machine import at_least_one, describe
from transformers.utils import logging

from lamp_model.data.dataset import TrainingData
from lamp_model.storage import run_folder
from lamp_model.training import run as running
from lamp_model.training.encoding import cached, uncacheable
from lamp_model.training.request import Request
from lamp_model.training.stages import MotionStage
from lamp_model.training.survey import look_at_data
from lamp_model.training.trainer import Trainer


def measure(trainer: Trainer, loader, steps: int) -> tuple[float, float]:
    """(seconds a step, seconds of it in the frozen backbone), after one step to warm up."""
    spent = [0.0]
    backbone = trainer.stage.model.qwen_vl_interface
    encode = backbone.encode

    def timed(*inputs):
        settle(trainer.device)
        began = time.perf_counter()
        features = encode(*inputs)
        settle(trainer.device)
        spent[0] += time.perf_counter() - began
        return features

    backbone.encode = timed
    batches = loader.batches(0, steps + 1)
    trainer.step(next(batches))
    settle(trainer.device)
    spent[0], began = 0.0, time.perf_counter()
    for batch in batches:
        trainer.step(batch)
    settle(trainer.device)
    return (time.perf_counter() - began) / steps, spent[0] / steps


def settle(device: torch.device) -> None:
    """Wait for the GPU, so that a clock means something."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def prepared_stage(stage: int, data: Path, folder: Path, options: dict, args: argparse.Namespace):
    """A stage's trainer and loader on random shards; stage 2 guides with a Motion Expert that has learnt nothing."""
    motion = folder.parent / "stage1" if stage == 2 else None
    if stage == 1 and args.preset == "paper":
        options = {**options, "backbone": "qwen3-vl:weights=random:4b"}
    if stage == 2 and args.lora_rank:
        options = {**options, "lora_rank": args.lora_rank}
    request = Request(stage, data, folder, motion, preset=args.preset, options=options, device=args.device)
    prepared = running.prepare(request)
    folder.mkdir(exist_ok=True)
    run_folder.write_config(folder, prepared.config)
    built = running._build(prepared, running._statistics(prepared))
    if stage == 1:
        run_folder.finish(folder, run_folder.module_weights(built.model, "motion_head"))
    loader, _ = running._loaders(prepared)
    if isinstance(built, MotionStage):
        look_at_data(built, loader, None, folder)
    return Trainer(built, prepared.config.training, folder, loader, None), loader


def main() -> None:
    """Measure both stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny", choices=("tiny", "laptop", "small", "paper"))
    parser.add_argument("--steps", type=at_least_one, default=10)
    parser.add_argument("--batch-size", type=at_least_one, default=8)
    parser.add_argument("--threads", type=at_least_one, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--lora-rank", type=at_least_one, help="of adapters in the backbone, in stage 2; without, it has none"
    )
    parser.add_argument("--checkpoint-activations", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.disable_progress_bar()
    print(f"{describe()}; torch {torch.__version__}, {args.threads} thread(s)")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        data = write_shards(folder / "shards", episodes=4, frames=8, size=128)
        for stage in (1, 2):
            options = {"batch_size": args.batch_size, "val_fraction": 0.0}
            options["checkpoint_activations"] = args.checkpoint_activations
            trainer, loader = prepared_stage(stage, data, folder / f"stage{stage}", options, args)
            say(stage, trainer, measure(trainer, loader, args.steps), args)
            model = trainer.stage.model
            if uncacheable(model.config, trainer.config) is None:
                encode = trainer.stage.encode
                assert isinstance(loader.shards, TrainingData)
                with cached(model, loader.shards, loader, 1.0) as encoder:
                    assert encoder is not None, "nobody else uses the folder"
                    trainer.stage.encode = encoder
                    say(stage, trainer, measure(trainer, loader, args.steps), args, "features on disk, ")
                trainer.stage.encode = encode


def say(stage: int, trainer: Trainer, measured: tuple[float, float], args: argparse.Namespace, how: str = "") -> None:
    """One line of figures."""
    seconds, backbone = measured
    line = f"stage {stage}: {how}{args.batch_size / seconds:.1f} samples/s, backbone {backbone / seconds:.0%} of it"
    gpu = trainer.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() if gpu else getrusage(RUSAGE_SELF).ru_maxrss * 1024
    print(f"{line}, peak {peak / 2**30:.1f} GiB (preset {args.preset}, batch {args.batch_size}, {trainer.device})")


if __name__ == "__main__":
    main()
