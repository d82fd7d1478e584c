"""Decides how many workers a Ray cluster runs and which share of its CPUs and GPUs each of them asks for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import BuildError
from schemas.devices import is_cuda

STEP = 1000
"""Shares are multiples of a thousandth, far above the ten thousandth to which Ray counts."""


@dataclass(frozen=True)
class Placement:
    """The workers of one stage of a build.

    Attributes:
        workers: number of processes.
        cpus, gpus: what each of them asks Ray for.
    """

    workers: int
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Capacity:
    """What a cluster offers.

    Attributes:
        where: the cluster, in words.
        nodes, cpus, gpus: how many it has.
        workers: how many would run.
    """

    where: str
    nodes: int
    cpus: float
    gpus: float
    workers: int


@dataclass(frozen=True)
class NodeResources:
    """The CPUs and GPUs that a node of the cluster offers."""

    cpus: float
    gpus: float


def running_nodes() -> list[NodeResources]:
    """The nodes of the cluster that this process is connected to."""
    import ray

    found = [node.get("Resources", {}) for node in ray.nodes() if node["Alive"]]
    return [NodeResources(float(node.get("CPU", 0)), float(node.get("GPU", 0))) for node in found]


def check_share(gpus: float) -> None:
    """Refuse a number of GPUs for each worker that Ray cannot give.

    Raises:
        ValueError: it is negative, or above 1 and not whole.
    """
    if not 0 <= gpus < math.inf or (gpus > 1 and gpus != int(gpus)):
        raise ValueError(f"gpus_per_worker is a share from 0 to 1, or a whole number, found {gpus:g}")


def place(
    nodes: Sequence[NodeResources], tasks: int, workers: int | None, gpus: float | None, device: str | None
) -> Placement:
    """The workers for a number of tasks.

    A stage that runs models gets as many workers as the GPUs of all nodes hold. Others get one for each CPU.

    Args:
        workers: the number that was asked for; None for all that the cluster has room for.
        gpus: of each worker, as asked for; None for one where the cluster has GPUs.
        device: see ``pipeline.build.executor.Executor.run``.

    Raises:
        BuildError: GPUs were asked for and no node has them, or the device is not for Ray to give.
    """
    gpus = _gpus(nodes, gpus, device)
    if gpus == 0:
        cpus = sum(node.cpus for node in nodes) or 1.0
        count = min(workers or max(int(cpus), 1), tasks)
        # More workers than CPUs share the CPUs. If each asked for a whole one, some would wait for ever.
        return Placement(count, _share(cpus, count), 0.0)
    room = [(node, math.floor(node.gpus / gpus + 1e-6)) for node in nodes if node.gpus >= gpus]
    if not room:
        most = max((node.gpus for node in nodes), default=0.0)
        raise BuildError(
            f"a worker is to have {gpus:g} GPUs (--gpus-per-worker) and no node of the Ray cluster has that many, the "
            f"most is {most:g}; --gpus-per-worker 0 runs models on CPUs"
        )
    # On every node its GPUs must be usable, so a worker asks for no more CPUs than the node with the fewest can give.
    cpus = min(_share(node.cpus, count) for node, count in room)
    return Placement(min(workers or sum(count for _, count in room), tasks), cpus, gpus)


def _gpus(nodes: Sequence[NodeResources], gpus: float | None, device: str | None) -> float:
    """The GPUs of each worker of a stage.

    Raises:
        BuildError: a GPU is needed and there is none, or it was asked for by its number.
    """
    if device is None or device == "cpu":
        return 0.0
    if is_cuda(device) and device not in ("cuda", "cuda:0"):
        raise BuildError(
            f"device={device} was asked for, but Ray assigns the GPUs: give device=cuda or leave it out, or use "
            "--executor local"
        )
    has = any(node.gpus > 0 for node in nodes)
    if is_cuda(device) and (not has or gpus == 0):
        why = "--gpus-per-worker 0 gives workers none" if has else "no node of the Ray cluster has a GPU"
        raise BuildError(f"device={device} was asked for, but {why}; device=auto runs models on CPUs")
    return gpus if gpus is not None else float(has)


def _share(cpus: float, count: int) -> float:
    return min(1.0, math.floor(cpus / max(count, 1) * STEP) / STEP)
