"""Three nodes of Ray on this machine, drivers of builds on them, and ways to kill both."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
KINDS = ("driver", "worker", "packer", "raylet", "node", "head")
OBJECTS_BYTES = 80_000_000
ATTEMPTS = 20


class TestCluster:
    """A cluster of nodes with a CPU each, in a folder of its own; without a node, drivers do all work themselves.

    Attributes:
        environment: of drivers.
    """

    __test__ = False  # for pytest: this is no test

    def __init__(self, folder: Path, nodes: int = 3):
        self.folder, self.count = folder / "r", nodes
        self.folder.mkdir()
        os.environ["RAY_TMPDIR"] = str(self.folder)
        os.environ["PYTHONPATH"] = str(ROOT)
        os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
        os.environ["RAY_health_check_period_ms"] = "500"  # noqa: SIM112 - Ray's name; a lost node is noticed after 3 s, not 20
        for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
            os.environ.pop(name, None)
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.cluster: Any = None

    def __enter__(self) -> "TestCluster":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all nodes. A busy machine may be too slow for Ray's own limit of 30 s; then it is tried again."""
        if not self.count:
            return
        from ray.cluster_utils import Cluster

        head = self._node(include_dashboard=False, include_log_monitor=False, no_monitor=True)
        for attempt in range(ATTEMPTS):
            try:
                self.cluster = Cluster(initialize_head=True, head_node_args=head)
                break
            except Exception:
                self.stop()
                if attempt + 1 == ATTEMPTS:
                    raise
        self._fill()

    def _fill(self) -> None:
        """Add the nodes that are missing; one that does not start in time is left to the next call."""
        while len(self.cluster.worker_nodes) < self.count - 1:
            before = set(self._processes())
            try:
                self.cluster.add_node(**self._node())
            except Exception as error:
                print(f"a node did not start: {error}", flush=True)
                self._end([process for process in self._processes() if process not in before])
                return

    def _node(self, **more: Any) -> dict[str, Any]:
        return {"num_cpus": 1, "object_store_memory": OBJECTS_BYTES, **more}

    def stop(self) -> None:
        """End every process of the cluster."""
        with contextlib.suppress(Exception):  # what was killed cannot be shut down in an orderly way
            self.cluster.shutdown()
        self._end(list(self._processes()))
        self.cluster = None

    def _end(self, processes: list[int]) -> None:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def mend(self) -> None:
        """Bring back what was killed: the whole cluster after the head's end, else the other nodes."""
        if not self.count:
            return
        if self.cluster is None or not self._raylet(self.cluster.head_node):
            self.stop()
            self.start()
            return
        for node in list(self.cluster.worker_nodes):
            if not self._raylet(node):
                with contextlib.suppress(Exception):
                    self.cluster.remove_node(node, allow_graceful=False)
                self.cluster.worker_nodes.discard(node)
        self._fill()

    def start_driver(self, words: list[str]) -> subprocess.Popen[str]:
        """Start ``lamp-data`` on the cluster."""
        on_ray = ["--executor", "local"]
        if self.count:
            on_ray = ["--executor-options", f"address={self.cluster.address}", "wait=60"]
        return subprocess.Popen(
            [sys.executable, "-m", "jobs.lamp_data", *words, *on_ray],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def undisturbed(self, words: list[str]) -> None:
        """Run ``lamp-data`` to its end without the cluster."""
        command = [sys.executable, "-m", "jobs.lamp_data", *words, "--executor", "local"]
        subprocess.run(command, env=self.environment, check=True, stdout=subprocess.DEVNULL)

    def kill(self, kind: str, driver: subprocess.Popen[str], rng: random.Random) -> bool:
        """Kill something of a kind; whether there was one. Nodes other than the head are replaced."""
        if kind == "driver":
            driver.kill()
            driver.wait()
        elif kind in ("worker", "packer"):
            actors = [process for process, name in self._processes().items() if name.startswith("ray::Actor.work")]
            if not actors:
                return False
            os.kill(rng.choice(actors), signal.SIGKILL)
        else:
            node = self.cluster.head_node if kind == "head" else rng.choice(list(self.cluster.worker_nodes) or [None])
            raylet = self._raylet(node) if node else 0
            if not raylet:
                self.mend()
                return False
            if kind != "raylet":  # the workers of the node first, then its daemon
                self._end(list(self._children(raylet)))
            self._end([raylet])
            if kind == "head":
                driver.wait(300)
            else:
                time.sleep(1)
                self.mend()
        return True

    def _raylet(self, node: Any) -> int:
        """The process of a node's daemon, 0 if it has ended."""
        own = f"--raylet_socket_name={node.raylet_socket_name}"
        found = (p for p, line in self._processes().items() if own in line and "/raylet\0" in line)
        return next(found, 0)

    def _children(self, parent: int) -> Iterator[int]:
        for process in self._processes():
            with contextlib.suppress(OSError, IndexError):
                if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1] == str(parent):
                    yield process

    def _processes(self) -> dict[int, str]:
        """Command lines of this cluster's processes; one that has ended and was not waited for has none."""
        found, own = {}, f"RAY_TMPDIR={self.folder}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if int(process.name) != os.getpid() and own in (process / "environ").read_bytes().split(b"\0"):
                    line = (process / "cmdline").read_bytes().decode(errors="replace")
                    if "jobs.lamp_data" not in line:
                        found[int(process.name)] = line
            except OSError:
                continue  # it has ended, or is another person's
        return found
