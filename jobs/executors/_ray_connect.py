"""Finds the Ray cluster that a build runs on, or starts one.

Ray itself waits a quarter of an hour for a cluster that does not exist. Here a cluster has to answer first.
"""

import atexit
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobs.executors._held_signals import HeldSignals, without_signals
from jobs.executors._ray_cluster import Cluster, connect_tcp, host_and_port
from pipeline.errors import BuildError
from schemas.progress import progress_is_shown

WITHOUT = "--executor local needs no Ray"
DEATH_INFO_MS = 30_000
"""Milliseconds that Ray may take to find out why a worker is gone: it takes 20 s to notice that a node has died. After
its own limit of 1 s a worker's death and a node's could not be told apart.
"""
OPTIONS: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}

_current: Cluster | None = None
_tamed = False


def connect(address: str, workers: int | None, wait_s: float, held: HeldSignals, ship_code: bool = False) -> Cluster:
    """The cluster that this process is connected to; else join the named one or one that runs here, or start one.

    Args:
        address: see ``jobs.executors.ray.Config``.
        workers: the number of workers, for the message that a cluster is being started.
        wait_s: how long a named cluster may take to answer, in seconds.
        held: holds signals, and takes them back after Ray has replaced the handlers.
        ship_code: send the code of this installation to the workers of a cluster that is joined.

    Raises:
        BuildError: no cluster answers, it refuses the token, or none can be started.
    """
    global _current
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_timeout_ms_task_wait_for_death_info", str(DEATH_INFO_MS))
    import ray

    _tame_ray()
    if _current is None or not _current.connected:
        if ray.is_initialized():
            _current = Cluster(ray.get_runtime_context().gcs_address, ours=False)
        else:
            try:
                _current = _connect(address, workers, wait_s, held, ship_code)
            finally:
                held.install()
                if held.noted == signal.SIGTERM:
                    signal.alarm(0)  # during its start, Ray's native code handles SIGTERM and aborts 3 s after it
    return _current


def cluster_at_hand(address: str) -> bool:
    """Whether ``connect`` would join a cluster, or has joined one, and not start one."""
    import ray

    return (
        ray.is_initialized() or _named(address)[0] is not None or (address != "local" and _running_here() is not None)
    )


def _connect(address: str, workers: int | None, wait_s: float, held: HeldSignals, ship_code: bool) -> Cluster:
    named, where = _named(address)
    if named is not None:
        say(f"joining the Ray cluster at {where}")
        _await_cluster(named, where, wait_s, held)
        return _join(named, where, ship_code)
    if address != "local" and (found := _running_here()) is not None:
        with contextlib.suppress(BuildError):  # the address that `ray start` left may be out of date
            return _join(None, f"{found} (ray start)", ship_code)
    return _start(workers)


def _named(address: str) -> tuple[str | None, str]:
    if address == "local":
        return None, ""
    if address != "auto":
        return address, address
    named = os.environ.get("RAY_ADDRESS", "")
    return (None, "") if named in ("", "local") else (named, f"{named} (RAY_ADDRESS)")


def _await_cluster(address: str, where: str, wait_s: float, held: HeldSignals) -> None:
    """Wait until a cluster answers and accepts our token.

    Raises:
        BuildError: none does within ``wait_s``.
    """
    if address == "auto" or ("://" in address and not address.startswith("ray://")):
        return  # Ray's own keywords, which Ray resolves itself
    try:
        host, port = host_and_port(address)
    except ValueError as error:
        raise BuildError(_no_answer(where, "that is no host:port")) from error
    until, told = time.monotonic() + wait_s, False
    while True:
        held.check()
        try:
            connect_tcp(host, port, min(5.0, max(wait_s, 0.1))).close()
            break
        except OSError as error:
            if time.monotonic() >= until:
                raise BuildError(_no_answer(where, error.strerror or str(error))) from error
        if not told:
            told = say(f"waiting up to {wait_s:g} s for it to answer")
        time.sleep(0.5)
    if "://" not in address:
        _ask_control(f"{host}:{port}", where)


def _ask_control(address: str, where: str) -> None:
    """Ask the control server for its name. Ray's own join would retry twenty times, with a warning for each.

    Raises:
        BuildError: it refuses our token, or it is no control server.
    """
    import ray.exceptions
    from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue]  # its stub lacks it

    try:
        with _without_native_output():
            GcsClient(address=address)
    except ray.exceptions.AuthenticationError as error:
        sent = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
        raise BuildError(
            f"the Ray cluster at {where} wants a token: "
            + ("the one that was sent is another cluster's; " if sent else "set RAY_AUTH_MODE=token, which sends ")
            + ("Ray takes " if sent else "")
            + "the one in RAY_AUTH_TOKEN, in the file that RAY_AUTH_TOKEN_PATH names or in ~/.ray/auth_token"
        ) from error
    except ray.exceptions.RayError as error:
        raise BuildError(_no_answer(where, "something listens there that is no Ray cluster")) from error


def _no_answer(where: str, why: str) -> str:
    return (
        f"no Ray cluster answers at {where}: {why}; start it, or --executor-options address=local starts one here, and "
        f"{WITHOUT}"
    )


def _running_here() -> str | None:
    """The address of the cluster that `ray start` last started on this machine, if it still runs."""
    from ray._private.utils import read_ray_address

    found = read_ray_address()
    try:
        connect_tcp(*host_and_port(found or ""), 5.0).close()
    except (OSError, ValueError):
        return None
    return found


def own_code() -> list[str]:
    """The folders of this installation's packages that a worker imports."""
    import jobs
    import pipeline
    import schemas

    return [str(Path(str(package.__file__)).parent) for package in (jobs, pipeline, schemas)]


def _join(address: str | None, where: str, ship_code: bool) -> Cluster:
    """Join a cluster; None for the one of `ray start`. Ray's own "auto" would also join a cluster that another program
    on this machine has started for itself, and fail when that program ends.
    """
    import ray

    environment: dict[str, Any] | None = {"py_modules": own_code()} if ship_code else None
    try:
        ray.init(address=address, runtime_env=environment, **OPTIONS)
    except Exception as error:
        ray.shutdown()
        why = " ".join(str(error.__cause__ or error).split())
        raise BuildError(f"the Ray cluster at {where} cannot be joined: {why}; {WITHOUT}") from error
    return Cluster(where, ours=False)


def _start(workers: int | None) -> Cluster:
    import ray

    many = "one worker to each CPU" if workers is None else f"{workers} worker{'s' * (workers != 1)}"
    say(f"starting a local Ray cluster with {many}")
    try:
        ray.init(address="local", **OPTIONS)
    except Exception as error:
        ray.shutdown(wait_for_processes=True)
        if "AF_UNIX" in str(error):
            place = next((f"{name}={os.environ[name]}" for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), "")
            raise BuildError(
                f"Ray cannot start below {place}: the paths of its sockets there would be longer than the system "
                f"allows (107 bytes); set RAY_TMPDIR to a shorter folder, such as /tmp; {WITHOUT}"
            ) from error
        why = " ".join(str(error).split())
        raise BuildError(f"a local Ray cluster could not be started: {why}; {WITHOUT}") from error
    return Cluster("this machine", ours=True)


def _tame_ray() -> None:
    """Set up Ray once for this process: its shutdown is not interrupted, it sets no signal handler and it does not
    write to standard output.
    """
    global _tamed
    if _tamed:
        return
    _tamed = True
    import ray
    from ray._private import utils, worker

    # Registered after Ray's own function, so that it runs first: atexit calls the last one first.
    atexit.register(without_signals(lambda: ray.shutdown(wait_for_processes=True)))
    utils.set_sigterm_handler = lambda handler: None  # its handler raises during the start, which then crashes
    worker.print_to_stdstream = _tell  # Ray would print twenty log lines there when a raylet dies


def _tell(data: dict[str, Any], **_: Any) -> None:
    first = next((line for text in data["lines"] for line in str(text).splitlines() if line.strip()), "")
    logging.getLogger(__name__).debug("Ray: %s", first)  # shown with --verbose


def say(line: str) -> bool:
    """Print a line on standard error without breaking progress bars; prints nothing with ``--quiet``."""
    from tqdm import tqdm

    if not progress_is_shown():
        return True
    tqdm.write(f"{os.path.basename(sys.argv[0])}: {line}", file=sys.stderr)
    return True


@contextlib.contextmanager
def _without_native_output() -> Iterator[None]:
    """Discard standard error: Ray's native code writes its warnings there at any log level."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
