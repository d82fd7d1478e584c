"""Latency of an action chunk, part by part, and what the motion path adds to the same policy without it.

    python benchmarks/inference.py [--preset paper] [--device auto] [--repeat 10] [--compile reduce-overhead]
    [--compare] [--threads N] [--json]

Weights are random, of the preset's true sizes: nothing is downloaded, and the time does not depend on them. One
observation at a time, as on a robot: two images of 224 x 224 and a sentence. On a GPU in bfloat16, on a CPU in float32
(at paper size that takes 20 GB and minutes; ``--backbone random:tiny`` leaves the backbone out of the question).
``--compare`` also times transformers' own pass of the backbone, which waits for the device, on the same weights.
"""

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from machine import at_least_one, describe
from transformers.utils import logging

from lamp_model.model import PolicyModel
from lamp_model.networks.precision import autocast
from lamp_model.presets import preset
from schemas.devices import choose_device

INSTRUCTION = "pick up the black bowl between the plate and the ramekin and place it on the plate"


def built(name: str, backbone: str | None, device: torch.device, compile: str | None) -> PolicyModel:
    """A policy of a preset's sizes with random weights, ready to act."""
    config = preset(name).model
    options = {"weights": backbone or ("random:4b" if name == "paper" else "random:tiny")}
    if options["weights"] == "random:tiny" and name == "paper":
        fusion = {**config.fusion_options, "heads": 6}
        config = replace(config, fusion_options=fusion)
    model = PolicyModel(replace(config, backbone_options={**config.backbone_options, **options})).eval()
    model.requires_grad_(False)
    model.place(device)
    if device.type == "cuda":
        model.round_weights()
    if compile is not None:
        model.compile_parts(compile)
    return model


def parts_of(model: PolicyModel, device: torch.device) -> dict[str, Callable[[], Any]]:
    """The parts of a prediction in their order; each works on what the one before made."""
    size, generator = 224, torch.Generator().manual_seed(0)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (1, size, size, 3), np.uint8) for _ in model.config.cameras]
    motion_noise = model.motion_noise(1, generator)
    action_noise = model.action_noise(1, generator)
    assert motion_noise is not None, "what is measured is guided"
    motion_noise = motion_noise.to(device)
    action_noise = None if action_noise is None else action_noise.to(device)
    state = torch.zeros(1, model.config.action.state_size, device=device)
    made: dict[str, Any] = {}

    def encode():
        made["features"] = model.encode([torch.from_numpy(p).to(device) for p in pictures], [INSTRUCTION])

    def imagine():
        made["hidden"] = model.guidance_state(made["features"], motion_noise)

    def guide():
        made["guided"] = model.guide(made["features"], made["hidden"])

    def act():
        made["chunk"] = model.act(made["guided"], state, action_noise)

    return {"backbone": encode, "motion (2 evaluations)": imagine, "guidance": guide, "action (10 steps)": act}


def library_pass(model: PolicyModel, device: torch.device) -> dict[str, Callable[[], Any]]:
    """transformers' own pass of the backbone, from the same images and words."""
    backbone = model.qwen_vl_interface
    pictures = [torch.zeros(1, 224, 224, 3, dtype=torch.uint8) for _ in model.config.cameras]

    def encode():
        tokens = backbone._tokens([INSTRUCTION], len(pictures))
        backbone.model.model(**backbone._inputs([p.to(device) for p in pictures], tokens), use_cache=False)

    return {"transformers' backbone": encode}


def measure(
    parts: dict[str, Callable[[], Any]], beside: dict[str, Callable[[], Any]], repeat: int, device: torch.device
) -> dict[str, float]:
    """Median milliseconds of each part, of what is timed beside them and, as ``whole``, of all parts in a row without
    waiting.
    """
    steps = {**parts, **beside, "whole": lambda: [part() for part in parts.values()]}
    times: dict[str, list[float]] = {name: [] for name in steps}
    with torch.inference_mode(), autocast(device):
        for part in [*parts.values(), *beside.values()] * (
            3 if device.type == "cuda" else 1
        ):  # warm-up, and compilation
            part()
        for _ in range(repeat):
            for name, step in steps.items():
                settle(device)
                began = time.perf_counter()
                step()
                settle(device)
                times[name].append((time.perf_counter() - began) * 1000)
    return {name: statistics.median(values) for name, values in times.items()}


def settle(device: torch.device) -> None:
    """Wait for the GPU, so that a clock means something."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="paper", choices=("tiny", "paper"))
    parser.add_argument("--backbone", help="weights in place of the preset's, e.g. random:tiny")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeat", type=at_least_one, default=10)
    parser.add_argument("--compile", help="a mode of torch.compile, e.g. default or reduce-overhead")
    parser.add_argument("--compare", action="store_true", help="also time transformers' own pass of the backbone")
    parser.add_argument("--threads", type=at_least_one)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    logging.disable_progress_bar()
    device = choose_device(args.device)
    model = built(args.preset, args.backbone, device, args.compile)
    beside = library_pass(model, device) if args.compare else {}
    found = measure(parts_of(model, device), beside, args.repeat, device)
    without = found["backbone"] + found["action (10 steps)"]
    added = (found["motion (2 evaluations)"] + found["guidance"]) / without
    gpu = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    where = torch.cuda.get_device_name(device) if gpu else f"{torch.get_num_threads()} CPU thread(s)"
    if args.json:
        print(json.dumps({"milliseconds": found, "motion_adds": added, "peak_bytes": peak, "device": where}, indent=1))
        return
    print(f"{describe()}; {where}, preset {args.preset}, compile {args.compile or 'no'}", file=sys.stderr)
    for name, value in found.items():
        print(f"{name:<24}{value:>10.1f} ms")
    print(f"motion and guidance add {added:.0%} to the policy without them; peak memory {peak / 2**30:.1f} GiB")


if __name__ == "__main__":
    main()
