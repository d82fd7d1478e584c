"""The sections of ``benchmarks/gpu.sh``: ``python benchmarks/gpu_sections.py NAME FIGURES [--dry]``.

Figures are appended to the file FIGURES as JSON lines as soon as each is measured.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
import torch
from fixtures.shard import ACTION, ACTIONS, STATE, write_shards
from inference import measure, parts_of, settle
from machine import at_least_one
from torch import nn
from transformers.utils import logging

from lamp_model.data.embodiments import Embodiment, Embodiments
from lamp_model.data.loader import Loader
from lamp_model.data.normalisation import Range
from lamp_model.data.sample import SampleConfig
from lamp_model.model import MotionModel, PolicyModel, outline
from lamp_model.model_config import ModelConfig
from lamp_model.networks.action_transformer import ActionTransformer
from lamp_model.networks.motion_expert import MotionTransformer
from lamp_model.presets import preset
from lamp_model.training.stages import MotionStage, PolicyStage, Stage
from lamp_model.training.trainer import Trainer
from schemas.shard_set import ShardSet

STEPS = 3
"""Timed steps of each micro-batch, after one to warm up."""
MICRO_BATCHES = (8, 16, 32, 64, 128, 256)
BOUNDS = {"features": 0.1, "motion state": 0.1, "action chunk": 0.05}
"""Bounds of bfloat16: the root mean square of the difference from float32, as a share of that of the float32 values."""
WINDOWS, STRIDE, HORIZON, GRID = 24, 5, 32, 20
Model = TypeVar("Model", bound=MotionModel)


@dataclass(frozen=True)
class Run:
    """What every section needs.

    Attributes:
        dry: on the CPU at a small size.
        seconds: of the section's budget.
        cotracker: clone of CoTracker3's code, if any.
    """

    figures: Path
    dry: bool
    seconds: int
    cotracker: Path | None
    began: float

    @property
    def device(self) -> torch.device:
        """Of everything that is measured."""
        return torch.device("cpu" if self.dry else "cuda")

    @property
    def left(self) -> float:
        """Seconds left of the budget."""
        return self.began + self.seconds - time.perf_counter()

    def say(self, **figure: Any) -> None:
        """Keep a figure."""
        with open(self.figures, "a") as file:
            file.write(json.dumps(figure) + "\n")


def config_of(run: Run) -> ModelConfig:
    """The paper's model with random weights, or the same code's tiny one."""
    config = preset("tiny" if run.dry else "paper").model
    options = {**config.backbone_options, "weights": "random:tiny" if run.dry else "random:4b"}
    action = replace(config.action, action_size=ACTION, state_size=STATE, chunk=min(config.action.chunk, ACTIONS))
    return replace(config, backbone_options=options, action=action, cameras=("image", "wrist"))


def random_model(kind: type[Model], config: ModelConfig, device: torch.device) -> Model:
    """A model whose weights are drawn on the device: on a CPU that takes minutes at the published size. Nothing starts
    at zero, so that every value depends on every weight.
    """
    model, made = outline(kind, config), {}
    generator = torch.Generator(device).manual_seed(0)
    half = device.type == "cuda"
    for path, module in model.named_modules():
        precision = torch.bfloat16 if half and path.startswith("qwen_vl_interface") else torch.float32
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if id(parameter) not in made:
                value = torch.empty(parameter.shape, device=device, dtype=precision)
                value.normal_(0, 0.02, generator=generator)
                if parameter.ndim < 2 and name == "weight":  # of a norm
                    value += 1
                made[id(parameter)] = nn.Parameter(value, parameter.requires_grad)
            module._parameters[name] = made[id(parameter)]
    model.place(device)
    return model


def stage_of(number: int, config: ModelConfig, device: torch.device) -> Stage:
    """A stage on a model with random weights."""
    if number == 1:
        return MotionStage(random_model(MotionModel, config, device))
    whole = [Range((-1.0,) * size, (1.0,) * size) for size in (STATE, ACTION)]
    robot = Embodiment("robot", False, whole[0], whole[1], (0.0,) * ACTION, None)
    return PolicyStage(random_model(PolicyModel, config, device), Embodiments([robot]))


def sample_flops_of(model: MotionModel, training: Any, tokens: int) -> float | None:
    """Model FLOPs of a training sample; None where this version does not count them."""
    try:
        from lamp_model.training.flops import sample_flops  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    return float(sum(sample_flops(model, training, tokens).values()))


def peak_of(device: torch.device) -> float | None:
    """FLOP/s that the device could do at most; None where it is not known."""
    try:
        from lamp_model.training.flops import device_of  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    found = device_of(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    return None if found is None else found.peak


def train_stage(run: Run, number: int) -> None:
    """Steps of rising micro-batch until the memory or the time runs out; then the best one compiled."""
    config = config_of(run)
    stage = stage_of(number, config, run.device)
    with tempfile.TemporaryDirectory() as folder:
        shards = ShardSet(write_shards(Path(folder) / "shards", episodes=2, frames=8, size=128 if run.dry else 224))
        best, sizes = 0, (2, 4) if run.dry else MICRO_BATCHES
        for size in sizes:
            if run.left < run.seconds / 2:  # the rest is for the compiled step
                break
            if not step_of(run, stage, shards, Path(folder), size, None):
                break
            best = size
        if best and run.left > 10:
            for module in stage.model.modules():  # the experts; compiling the backbone takes longer than this may
                if isinstance(module, MotionTransformer | ActionTransformer):
                    module.compile()
            step_of(run, stage, shards, Path(folder), best, "experts")


def step_of(run: Run, stage: Stage, shards: ShardSet, folder: Path, size: int, mode: str | None) -> bool:
    """Time optimiser steps of one micro-batch; False where it does not fit into the memory."""
    config, device = stage.model.config, run.device
    training = preset("tiny" if run.dry else "paper").training(stage.number)
    training = replace(training, batch_size=size)
    flow = stage.number == 1
    sample = SampleConfig(
        config.cameras,
        config.action.chunk,
        config.motion.grid**2 if flow else 0,
        config.motion.horizon if flow else 0,
    )
    loader = Loader(shards, np.arange(len(shards)), sample, size, 0, flow=flow)
    batch = loader.batch(0)
    if not run.dry:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        trainer = Trainer(stage, training, folder / f"{size}-{mode}", loader, None)
        trainer.step(batch)
        settle(device)
        began = time.perf_counter()
        for _ in range(STEPS):
            trainer.step(batch)
        settle(device)
    except torch.OutOfMemoryError:
        run.say(stage=stage.number, micro_batch=size, compile=mode, out_of_memory=True)
        stage.model.zero_grad(set_to_none=True)
        return False
    rate = size * STEPS / (time.perf_counter() - began)
    backbone = stage.model.qwen_vl_interface
    tokens = max(backbone.length(text, len(config.cameras)) for text in batch.instructions)
    flops, peak = sample_flops_of(stage.model, training, tokens), peak_of(device)
    figure = {"stage": stage.number, "micro_batch": size, "compile": mode, "samples_per_second": rate}
    if not run.dry:
        figure["memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
    if flops is not None:
        figure["tflops"] = flops * rate / 1e12
        if peak is not None:
            figure["mfu"] = flops * rate / peak
    run.say(**figure)
    return True


def acting(run: Run) -> None:
    """Milliseconds of an action chunk by module, and what the motion adds, eager and compiled."""
    model = random_model(PolicyModel, config_of(run), run.device).eval()
    model.requires_grad_(False)
    if not run.dry:
        model.round_weights()
    for mode in (None, "default" if run.dry else "reduce-overhead"):
        if mode is not None:
            if run.left < 20:
                break
            model.compile_parts(mode)
        found = measure(parts_of(model, run.device), {}, 2 if run.dry else 20, run.device)
        without = found["backbone"] + found["action (10 steps)"]
        added = (found["motion (2 evaluations)"] + found["guidance"]) / without
        run.say(compile=mode, **{f"{name} ms": value for name, value in found.items()}, motion_adds=added)


def precision(run: Run) -> None:
    """What bfloat16 changes: features, motion state and action chunk against float32, on the same weights and noise."""
    config = config_of(run)
    config = replace(config, backbone_options={**config.backbone_options, "attention": "sdpa"})  # flash has no float32
    model = random_model(PolicyModel, config, run.device).eval()
    model.requires_grad_(False)
    half = _chunk(run, model, enabled=True)
    whole = _chunk(run, model.float(), enabled=False)
    beyond = []
    for name, value in half.items():
        off = float((value - whole[name]).square().mean().sqrt() / whole[name].square().mean().sqrt())
        run.say(what=name, relative_rms_difference=off, bound=BOUNDS[name], within=off <= BOUNDS[name])
        beyond += [name] if off > BOUNDS[name] else []
    if beyond:
        sys.exit(f"bfloat16 is beyond its bound for {', '.join(beyond)}")


def _chunk(run: Run, model: PolicyModel, enabled: bool) -> dict[str, torch.Tensor]:
    made: dict[str, torch.Tensor] = {}
    generator = torch.Generator().manual_seed(0)
    noise, action_noise = model.motion_noise(1, generator), model.action_noise(1, generator)
    assert noise is not None and action_noise is not None
    pictures = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    images = [torch.from_numpy(pictures).to(run.device) for _ in model.config.cameras]
    state = torch.zeros(1, model.config.action.state_size, device=run.device)
    with torch.inference_mode(), torch.autocast(run.device.type, torch.bfloat16, enabled):
        features = model.encode(images, ["pick up the black bowl"])
        made["features"] = features.tokens
        hidden = model.guidance_state(features, noise.to(run.device))
        made["motion state"] = hidden
        made["action chunk"] = model.act(model.guide(features, hidden), state, action_noise.to(run.device))
    return {name: value.float() for name, value in made.items()}


def depth(run: Run) -> None:
    """Windows a second of Depth Anything V2 small: of its frames, at the stride of a build."""
    from fixtures.depth import depth_anything, save
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    from pipeline.depth import depth_anything_v2

    model, processor = depth_anything()
    if not run.dry:
        backbone = Dinov2Config(
            hidden_size=384,
            num_hidden_layers=12,
            num_attention_heads=6,
            image_size=518,
            patch_size=14,
            out_features=["stage3", "stage6", "stage9", "stage12"],
            reshape_hidden_states=False,
        )
        model = DepthAnythingForDepthEstimation(
            DepthAnythingConfig(
                backbone_config=backbone,
                patch_size=14,
                reassemble_hidden_size=384,
                neck_hidden_sizes=[48, 96, 192, 384],
                fusion_hidden_size=64,
                head_hidden_size=32,
            )
        )
        processor.size = {"height": 518, "width": 518}
    with tempfile.TemporaryDirectory() as folder:
        weights = str(save(Path(folder) / "weights", model, processor))
        for batch in (8,) if run.dry else (8, 32):
            options = depth_anything_v2.Config(weights=weights, device=run.device.type, batch_size=batch)
            estimator = depth_anything_v2.build(options)
            frames = _frames(16 if run.dry else 128)
            rate = len(frames) / _seconds(run, lambda e=estimator, f=frames: e.model.inverse_depth(f))
            run.say(batch=batch, frames_per_second=rate, windows_per_second=rate / STRIDE)


def cotracker(run: Run) -> None:
    """Windows a second of CoTracker3, 400 points over 32 steps, windows every 5 frames."""
    from pipeline.trackers._cotracker_model import Origin
    from pipeline.trackers.cotracker3 import Config, CoTracker
    from schemas.scene_flow import keypoint_grid

    with tempfile.TemporaryDirectory() as folder:
        repo = _standin(Path(folder)) if run.dry else run.cotracker
        origin = Origin("offline", None if repo is None else str(repo), None)
        predictor = origin._predictor().requires_grad_(False).eval().to(run.device)
        tracker = CoTracker(Config(), predictor, run.device)
        count = 4 if run.dry else WINDOWS
        references = [STRIDE * number for number in range(count)]
        frames, points = _frames(references[-1] + HORIZON + 1), keypoint_grid(256, 256, GRID)
        seconds = _seconds(run, lambda: tracker.track(frames, references, points, HORIZON))
        run.say(windows_per_second=count / seconds, stand_in=run.dry)


def _standin(folder: Path) -> Path:
    """Code with CoTracker3's interface and none of its network, for a dry run: the true code is fetched or cloned."""
    (folder / "hubconf.py").write_text(
        "import torch\n\n\nclass Predictor(torch.nn.Module):\n    interp_shape = (384, 512)\n\n"
        "    def __init__(self):\n        super().__init__()\n        self.model = torch.nn.Linear(1, 1)\n\n"
        "    def forward(self, video, queries):\n        steps = video.shape[1]\n"
        "        where = queries[:, None, :, 1:].expand(-1, steps, -1, -1)\n"
        "        return where, torch.ones(where.shape[:3], dtype=torch.bool)\n\n\n"
        "def cotracker3_offline(*, pretrained=True):\n    return Predictor()\n"
    )
    return folder


def _frames(count: int) -> np.ndarray:
    """A noisy picture that slides."""
    picture = np.random.default_rng(0).integers(0, 256, (256, 256 + count, 3), np.uint8)
    return np.stack([picture[:, at : at + 256] for at in range(count)])


def _seconds(run: Run, call: Callable[[], Any]) -> float:
    """Of the fastest of some calls, after one to warm up."""
    call()
    settle(run.device)
    found = []
    for _ in range(2):
        began = time.perf_counter()
        call()
        settle(run.device)
        found.append(time.perf_counter() - began)
        if run.left < 2 * found[-1]:
            break
    return min(found)


SECTIONS: dict[str, Callable[[Run], None]] = {
    "stage1": lambda run: train_stage(run, 1),
    "stage2": lambda run: train_stage(run, 2),
    "acting": acting,
    "precision": precision,
    "depth": depth,
    "cotracker": cotracker,
}


def main() -> None:
    """Run one section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=tuple(SECTIONS))
    parser.add_argument("figures", type=Path)
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--cotracker", type=Path)
    parser.add_argument("--seconds", type=at_least_one, default=60)
    args = parser.parse_args()
    logging.disable_progress_bar()
    if args.dry:
        torch.set_num_threads(1)
    elif not torch.cuda.is_available():
        sys.exit("gpu_sections.py: torch sees no GPU: --dry runs the same code on the CPU")
    torch.manual_seed(0)
    SECTIONS[args.section](Run(args.figures, args.dry, args.seconds, args.cotracker, time.perf_counter()))


if __name__ == "__main__":
    main()
