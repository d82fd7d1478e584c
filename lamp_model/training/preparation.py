"""From a request to a checked run, before anything is loaded."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from lamp_model.config import RunConfig
from lamp_model.data.dataset import TrainingData
from lamp_model.data.split import split_members
from lamp_model.errors import BadRun
from lamp_model.storage import run_folder
from lamp_model.training.checks import check_actions
from lamp_model.training.distributed.agreement import check_batch
from lamp_model.training.distributed.ranks import ALONE, Ranks
from lamp_model.training.encoding import uncacheable
from lamp_model.training.request import Request, check
from lamp_model.training.run_config import new_config, resumed_config
from lamp_model.training.tracking import check_trackers
from lamp_model.training.watch import UNWATCHED, Watch
from schemas.devices import choose_device
from schemas.locations import locate

SHARDS = Path("shards/libero")
"""Default folder of shards."""


@dataclass(frozen=True)
class Prepared:
    """A checked request, before training.

    Attributes:
        cache_gb: GiB that features may take on disk; None: they are not cached.
        micro_batch: see ``Request``.
        ranks: this process among those that train the run.
        stored: the config that stood in the folder; None in a new run.
        watch: how the run is shown while it trains.
    """

    config: RunConfig
    folder: Path
    data: TrainingData
    device: torch.device
    threads: int
    finished: bool
    cache_gb: float | None = None
    micro_batch: int | Literal["auto"] | None = None
    ranks: Ranks = ALONE
    stored: RunConfig | None = None
    watch: Watch = UNWATCHED

    @cached_property
    def split(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the samples to train on, and of those held out."""
        return split_members(self.data, self.config.training.val_fraction)


def prepare(request: Request, ranks: Ranks = ALONE, uneven: bool = False) -> Prepared:
    """Run all checks that are possible before training, without a word to other ranks.

    Args:
        ranks: that will train the run.
        uneven: ranks may get different numbers of samples.

    Raises:
        BadRun: the output exists and resuming was not requested, it contradicts the request, or the Motion Expert is
            missing.
        BadManifest, CorruptShard: the shards are not finished or damaged.
        MissingDependency: the library of a tracker is not installed.
        ValueError: an option is invalid.
    """
    check_trackers(request.track)
    folder = request.output
    stored = run_folder.read_config(folder) if (folder / run_folder.CONFIG).is_file() else None
    check(request, stored.training.objective if stored else "action")
    device = device_of(request.device, ranks)
    _check_output(request, stored)
    data = TrainingData(_data_of(request, stored))
    check_actions(data, request.stage)
    config = resumed_config(request, stored, data) if stored else new_config(request, data)
    if not uneven:
        check_batch(config.training.batch_size, ranks)
    return Prepared(
        config,
        folder,
        data,
        device,
        request.threads,
        finished=stored is not None and _has_finished(folder, stored, config),
        cache_gb=_room_for_features(request, config, device),
        micro_batch=request.micro_batch,
        ranks=ranks,
        stored=stored,
        watch=Watch(request.track, request.profile),
    )


def _has_finished(folder: Path, stored: RunConfig, wanted: RunConfig) -> bool:
    """Whether nothing is left to train; a finished run may go on to more steps."""
    return (folder / run_folder.MODEL).is_file() and wanted.training.steps <= stored.training.steps


def device_of(name: str, ranks: Ranks) -> torch.device:
    """A torch device by name; of several ranks on a machine, each takes a GPU of its own.

    Raises:
        ValueError: this machine has no such device, or fewer GPUs than ranks.
    """
    device = choose_device(name)
    if ranks.world == 1 or device.type != "cuda":
        return device
    if device.index is not None:
        raise ValueError(f"--device {name} names one GPU, and each rank takes its own: give --device cuda, or auto")
    count = torch.cuda.device_count()
    if ranks.local >= count:
        raise ValueError(
            f"rank {ranks.rank} is number {ranks.local + 1} on its machine, which has {count} GPUs: start one rank for "
            "each GPU, or give --device cpu"
        )
    return torch.device("cuda", ranks.local)


def _room_for_features(request: Request, config: RunConfig, device: torch.device) -> float | None:
    """GiB for features on disk; None where they are not cached: on a GPU the backbone is fast, and a sample that is
    used only once needs no cache."""
    reason = uncacheable(config.model, config.training)
    if request.cache_features == "on" and reason:
        raise ValueError(f"--cache-features on is not possible here: {reason}; leave it out")
    visits = config.training.steps * config.training.batch_size / max(config.data.samples, 1)
    pays = device.type == "cpu" and visits >= 2
    wanted = request.cache_features == "on" or (request.cache_features == "auto" and pays)
    return request.cache_gb if wanted and not reason else None


def _check_output(request: Request, stored: RunConfig | None) -> None:
    folder = request.output
    if stored is None:
        if folder.exists() and any(path.name not in (run_folder.LOCK, ".ray") for path in folder.iterdir()):
            raise BadRun(f"{folder} is not empty and is no run of lamp-train: give another --output")
        return
    if not request.resume:
        raise BadRun(
            f"{folder} already holds a run of stage {stored.training.stage}: add --resume to go on with it, "
            "give another --output, or remove the folder"
        )
    if stored.training.stage != request.stage:
        raise BadRun(f"{folder} holds a run of stage {stored.training.stage}, stage {request.stage} was asked for")


def _data_of(request: Request, stored: RunConfig | None) -> Path:
    if request.data is not None or stored is None:
        return request.data or SHARDS
    path = locate(stored.data.path)
    if not path.exists():
        raise BadRun(
            f"{request.output} was begun on the shards in {path}, which are not there any more: where they were moved, "
            "say with --data where they are now"
        )
    return path
