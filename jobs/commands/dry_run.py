"""``lamp-train --dry-run``: print what a run will take."""

from dataclasses import replace
from typing import TYPE_CHECKING

from jobs.cli.exit_codes import Failed, UsageError
from jobs.cli.train_options import Train

if TYPE_CHECKING:
    from lamp_model.training.dry_run import Machines
    from lamp_model.training.request import Request
    from lamp_model.training.run import Prepared
    from schemas.errors import MissingWeights

SIZES = {"small": "random:2b", "paper": "random:4b"}
"""Random weights of the sizes of each preset's backbone."""


def dry_run(args: Train, prepared: "Prepared") -> int:
    """Print the plan of a run; nothing is written.

    Raises:
        UsageError: the planned GPUs are not known, or their number does not divide the batch.
        Failed: the run does not fit into the memory of such a GPU.
    """
    from lamp_model.training.dry_run import plan
    from lamp_model.training.run import try_steps

    config = prepared.config
    machines = _machines(args, prepared)
    planned = plan(config, prepared.folder, prepared.data, machines, prepared.micro_batch)
    print(
        f"dry run: stage {config.training.stage}, preset {config.preset}, on {prepared.data.path} "
        f"({len(prepared.data):,} samples); nothing is written"
    )
    for line in planned.lines():
        print(line)
    if why := planned.too_large():
        raise Failed(why)
    if prepared.device.type == "cuda" or args.device == "cpu":
        print(try_steps(prepared).line())
    return 0


def _machines(args: Train, prepared: "Prepared") -> "Machines":
    import torch

    from lamp_model.training.distributed.agreement import check_batch
    from lamp_model.training.distributed.ranks import Ranks
    from lamp_model.training.dry_run import Machines
    from lamp_model.training.flops import PEAKS, device_of

    kind = args.gpu
    if kind is None:
        here = device_of(torch.cuda.get_device_name(prepared.device)) if prepared.device.type == "cuda" else None
        kind = next((name for name, device in PEAKS.items() if device == here), "h100")
    try:
        machines = Machines(kind, args.gpus, args.mfu)
        check_batch(prepared.config.training.batch_size, Ranks(0, machines.count))
        return machines
    except ValueError as error:
        raise UsageError(str(error)) from error


def without_weights(request: "Request", error: "MissingWeights") -> "Request | None":
    """The request with random weights of the same sizes, where a preset's backbone is not here and cannot be
    downloaded: a plan needs its sizes only. None where the sizes are not known.
    """
    if request.preset not in SIZES or "backbone" in request.options or request.resume:
        return None
    print(
        f"{error}; the plan is made from its known sizes, with a tokenizer made here, whose prompts differ by some "
        "tokens"
    )
    return replace(request, options={**request.options, "backbone": f"qwen3-vl:weights={SIZES[request.preset]}"})
