"""Joins this process to the others that a launcher started: torchrun, srun, or Ray Train."""

import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]  # documented, and not listed
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from lamp_model.training.distributed.ranks import ALONE, RankLost, Ranks

START_S = 300.0
"""Seconds within which all ranks must have come."""
STEP_LIMIT = timedelta(minutes=30)
"""Time after which a rank that does not answer in a step counts as lost; a killed one is noticed at once."""
SET_UP_LIMIT = timedelta(days=1)
"""The same while one rank sets up the run: it may fill a cache of features for hours."""


@dataclass(frozen=True)
class Launch:
    """What a launcher said to this process.

    Attributes:
        rank, world: number of this process, and of all.
        local: number of this process on its machine.
        address, port: where rank 0 listens.
    """

    rank: int
    world: int
    local: int
    address: str
    port: int

    @property
    def ranks(self) -> Ranks:
        """These ranks, before they have come together."""
        return Ranks(self.rank, self.world, self.local)


def launch_of(environment: Mapping[str, str]) -> Launch | None:
    """What a launcher said in the environment; None where this process was started alone.

    Raises:
        ValueError: the launcher's variables are incomplete.
    """
    if environment.get("WORLD_SIZE", "1") not in ("", "1"):
        return _of_torchrun(environment)
    # Only srun sets variables of a step; a batch script without srun has those of the job.
    if environment.get("SLURM_STEP_NUM_TASKS", "1") not in ("", "1"):
        return _of_srun(environment)
    return None


def _of_torchrun(environment: Mapping[str, str]) -> Launch:
    started = f"WORLD_SIZE is {environment['WORLD_SIZE']}, as torchrun sets it"
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT", "MASTER_ADDR")
    *numbers, address = _required(environment, names, started)
    rank, world, local, port = map(int, numbers)
    return Launch(rank, world, local, address, port)


def _of_srun(environment: Mapping[str, str]) -> Launch:
    started = f"srun started {environment['SLURM_STEP_NUM_TASKS']} tasks"
    names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_JOB_ID", "SLURM_STEP_NODELIST")
    *numbers, nodes = _required(environment, names, started)
    rank, world, local, job = map(int, numbers)
    address = environment.get("MASTER_ADDR") or first_node(nodes)
    return Launch(rank, world, local, address, int(environment.get("MASTER_PORT") or 20_000 + job % 20_000))


def _required(environment: Mapping[str, str], names: Sequence[str], started: str) -> list[str]:
    missing = [name for name in names if not environment.get(name)]
    if missing:
        raise ValueError(
            f"{started}, but {missing[0]} is not set: start all ranks with torchrun or srun, or start one process "
            "without their variables"
        )
    return [environment[name] for name in names]


def first_node(nodes: str) -> str:
    """The first name of a list of nodes as Slurm writes it, such as ``gpu[03-05,9],login1``."""
    found = re.match(r"([^\[,]+)(?:\[([^\],-]+)[^\]]*\])?([^,\[]*)", nodes)
    if found is None:
        raise ValueError(f"SLURM_STEP_NODELIST names no node: {nodes!r}")
    return "".join(piece or "" for piece in found.groups())


@contextlib.contextmanager
def joined(launch: Launch | None, device: torch.device, start_s: float = START_S) -> Iterator[Ranks]:
    """This process among its ranks, for as long as the block runs.

    Args:
        device: of this process; gradients on a GPU go through NCCL, all else through gloo.
        start_s: seconds to wait for the other ranks.

    Raises:
        RankLost: not all ranks came; the message names those that are missing.
    """
    if launch is None or launch.world == 1:
        yield ALONE
        return
    ours = not dist.is_initialized()
    if ours:
        store = _store(launch, start_s)
        _await_all(store, launch, start_s)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group(
            backend,
            store=PrefixStore("ranks", store),
            rank=launch.rank,
            world_size=launch.world,
            timeout=STEP_LIMIT,
        )
    patient = dist.new_group(backend="gloo", timeout=SET_UP_LIMIT)
    yield Ranks(launch.rank, launch.world, launch.local, patient)
    if ours:  # after an error others may be gone, and leaving in order would wait for them
        dist.destroy_process_group()


def _store(launch: Launch, start_s: float) -> Store:
    limit = timedelta(seconds=start_s)
    try:
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # torchrun's own, which outlives the ranks
            store, _, _ = next(iter(rendezvous("env://", launch.rank, launch.world, timeout=limit)))
        else:
            store = TCPStore(launch.address, launch.port, launch.world, launch.rank == 0, limit, wait_for_workers=False)
    except dist.DistError as error:
        raise RankLost(
            f"rank {launch.rank} did not reach rank 0 at {launch.address}:{launch.port} within {start_s:g} s: see that "
            "rank 0 was started and that the port is open between the nodes"
        ) from error
    return store


def _await_all(store: Store, launch: Launch, start_s: float) -> None:
    """Wait until every rank has come, so that one that died at its start is named."""
    here = [f"here/{rank}" for rank in range(launch.world)]
    store.set(here[launch.rank], socket.gethostname())
    until = time.monotonic() + start_s
    missing = list(range(launch.world))
    while missing := [rank for rank in missing if not store.check([here[rank]])]:
        if time.monotonic() >= until:
            listed = ", ".join(map(str, missing))
            raise RankLost(
                f"{launch.world - len(missing)} of {launch.world} ranks came within {start_s:g} s; missing: {listed}. "
                "Look at their output, and start all of them again"
            )
        time.sleep(0.05)
