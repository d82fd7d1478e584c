"""``lamp-train --workers N``: the same training under Ray Train, on the cluster that the builder uses.

Ray Train starts a worker for each rank, watches them, and starts all of them again when one dies: from the newest
complete checkpoint, and with fewer where there are fewer. What a rank does is ``jobs.commands.train.train_as``.
"""

import contextlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from jobs.cli.exit_codes import Failed, UsageError
from jobs.cli.train_options import Train
from jobs.executors._held_signals import HeldSignals, held_signals
from jobs.executors._ray_cluster import Cluster, ClusterLost
from jobs.executors._ray_connect import WITHOUT, connect
from pipeline.errors import BuildError
from schemas.files import write_whole
from schemas.locks import held

ASIDE = ".ray"
"""Folder in the run's folder for what Ray Train writes; removed when the run has ended well."""
SAID, OUTCOME = "said.txt", "outcome.json"
"""Files in it: what rank 0 prints, and how it ended."""
RESTARTS = 10
"""How often workers may die in one call."""
GROW_S = 600.0
"""Seconds after which the run may move to more workers, when there are more again; it repeats the steps since the last
checkpoint."""
TICK_S = 0.5


def train_on_ray(args: Train, output: Path, workers: int) -> int:
    """Train on a Ray cluster with up to so many workers; returns the exit code.

    Raises:
        UsageError, Failed: the training could not be done.
    """
    if workers < 1:
        raise UsageError(f"--workers must be at least 1, found {workers}")
    if args.dry_run:
        raise UsageError("--dry-run plans on this machine: leave --workers out, and say with --gpus for how many GPUs")
    if (output / "config.json").is_file() and not args.resume:
        raise UsageError(f"{output} already holds a run: add --resume to go on with it, or give another --output")
    _check_installed()
    with held_signals() as signals:
        try:
            cluster = connect("auto", workers, 20.0, signals)
        except BuildError as error:  # the builder's words
            raise Failed(str(error).replace(WITHOUT, "without --workers training needs no Ray")) from error
        signals.check()
        (output / ASIDE / OUTCOME).unlink(missing_ok=True)
        _watched(cluster, signals, output, lambda: _fit(args, output.resolve(), workers))
    outcome = json.loads((output / ASIDE / OUTCOME).read_bytes())
    shutil.rmtree(output / ASIDE, ignore_errors=True)
    if outcome["usage"]:
        raise UsageError(outcome["message"])
    if outcome["message"]:
        raise Failed(outcome["message"])
    return outcome["code"]


def _check_installed() -> None:
    try:
        import ray.train  # noqa: F401
    except ImportError as error:
        raise Failed(f"Ray Train does not load ({error}): pip install 'lamp-robotics[cluster]'") from error


def _watched(cluster: Cluster, signals: HeldSignals, output: Path, fit: Callable[[], Any]) -> None:
    """Run to the end in a thread, while signals and the cluster are watched and rank 0's words are printed."""
    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(_caught(fit)), daemon=True)
    said = _Tail(output / ASIDE / SAID)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(TICK_S)
            said.print_new()
            signals.check()
            cluster.check()
    except ClusterLost as error:
        raise Failed(f"the Ray cluster at {cluster.where} is lost: {error}; {_way_on(output)}") from error
    except (KeyboardInterrupt, SystemExit):
        cluster.leave()
        raise
    said.print_new()
    (result,) = done
    if isinstance(result, BaseException):
        why = " ".join(str(result).split())[:300]
        raise Failed(f"Ray Train gave up: {why}; {_way_on(output)}") from result


def _way_on(output: Path) -> str:
    return f"the newest complete checkpoint in {output} stands: give the same command again with --resume"


def _caught(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except BaseException as error:
        return error


class _Tail:
    """Prints what is added to a file."""

    def __init__(self, path: Path):
        self.path, self.at = path, path.stat().st_size if path.is_file() else 0

    def print_new(self) -> None:
        if self.path.is_file():
            with open(self.path, encoding="utf-8", errors="replace") as file:
                file.seek(self.at)
                text = file.read()
                self.at = file.tell()
            sys.stdout.write(text)
            sys.stdout.flush()


def _fit(args: Train, output: Path, workers: int) -> Any:
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    on_gpu = args.device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
    trainer = TorchTrainer(
        _rank,
        train_loop_config={
            "options": _portable(args),
            "output": str(output),
            "workers": workers,
            "stands": str(Path.cwd()),
        },
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if on_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=(1, workers), use_gpu=on_gpu, elastic_resize_monitor_interval_s=GROW_S
        ),
        run_config=RunConfig(
            name=ASIDE,
            storage_path=str(output),
            failure_config=FailureConfig(max_failures=RESTARTS),
            # Without the second, Ray would print each line once more.
            worker_runtime_env={"env_vars": {"RAY_CHDIR_TO_TRIAL_DIR": "0", "RAY_TRAIN_ENABLE_PRINT_PATCH": "0"}},
        ),
    )
    return trainer.fit()


def _portable(args: Train) -> dict[str, Any]:
    """The options with absolute paths, for processes that stand elsewhere."""
    words = ("none", "2d", "3d")
    values = {one.name: getattr(args, one.name) for one in fields(args)}
    return {
        name: value.absolute() if isinstance(value, Path) and str(value) not in words else value
        for name, value in values.items()
    }


def _rank(given: dict[str, Any]) -> None:
    """One rank. Errors that another try would repeat are reported; those of lost ranks are raised, and Ray starts all
    again."""
    import ray.train

    from jobs.cli.torch_env import quieten
    from jobs.commands.train import train_as
    from lamp_model.storage.run_folder import LOCK
    from lamp_model.training.distributed.joining import Launch, joined
    from lamp_model.training.preparation import device_of

    with contextlib.suppress(OSError):  # a node may lack this folder; then only absolute paths name anything there
        os.chdir(given["stands"])
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    launch = Launch(rank, world, context.get_local_rank(), "", 0)
    args, output = replace(Train(**given["options"]), resume=True, workers=None), Path(given["output"])
    outcome = {"code": 0, "message": "", "usage": False}
    with _saying(output / ASIDE / SAID, rank == 0), joined(launch, device_of(args.device, launch.ranks)) as ranks:
        quieten()
        if ranks.first:
            _await_release(output / LOCK)
        try:
            outcome["code"] = train_as(args, output, ranks, uneven=world < given["workers"])
        except UsageError as error:
            outcome |= {"code": 2, "message": str(error), "usage": True}
        except Failed as error:
            from lamp_model.training.distributed.ranks import RankLost

            if isinstance(error.__cause__, RankLost):
                raise
            outcome |= {"code": 1, "message": str(error)}
    if rank == 0:
        write_whole(output / ASIDE / OUTCOME, json.dumps(outcome).encode())


def _await_release(lock: Path) -> None:
    """Wait a moment for the rank 0 that was here before: Ray ends it, but it may still be ending."""
    until = time.monotonic() + 30.0
    while lock.is_file() and time.monotonic() < until:
        with contextlib.suppress(BlockingIOError), held(lock):
            return
        time.sleep(TICK_S)


@contextlib.contextmanager
def _saying(path: Path, aloud: bool) -> Iterator[None]:
    """What rank 0 prints goes to a file, which the command prints; the others' words go nowhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        open(path if aloud else "/dev/null", "a", buffering=1, encoding="utf-8") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        yield
