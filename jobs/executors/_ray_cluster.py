"""Watches the Ray cluster that this process is connected to.

Ray waits for ever when the node daemon (raylet) that this process is connected to has died. This module detects it at
once.
"""

import socket
import time
from collections.abc import Callable
from urllib.parse import urlsplit

CLIENT_PORT = 10001
CONTROL_GRACE_S = 30.0
"""Seconds for which the control server (GCS) of a cluster not started here may be away; one that is set up for fault
tolerance comes back after a failure."""


class ClusterLost(Exception):
    """A server of the cluster has ended; the message says which."""


class Cluster:
    """A cluster that this process is connected to.

    Attributes:
        where: its address and where that was set, for messages.
        ours: whether it was started here, for this process alone.
    """

    def __init__(self, where: str, ours: bool):
        from ray._private import worker

        self.where, self.ours, self.node = where, ours, worker._global_node
        self.lines: list[_Line] = []
        if self.node is None:
            return  # Ray's client, which connects through a proxy and reports losses itself
        addresses = self.node.address_info
        daemon, control = addresses["raylet_socket_name"], addresses["gcs_address"]
        grace_s = 0.0 if ours else CONTROL_GRACE_S
        self.lines.append(_Line("its node daemon on this machine (raylet)", lambda: _connect_unix(daemon), 0.0))
        self.lines.append(_Line("its control server (GCS)", lambda: connect_tcp(*host_and_port(control), 1.0), grace_s))

    @property
    def connected(self) -> bool:
        """Whether this process is still connected to this cluster, and not to a later one."""
        import ray
        from ray._private import worker

        return ray.is_initialized() and worker._global_node is self.node

    def check(self) -> None:
        """Check that the cluster is still running.

        Raises:
            ClusterLost: it is not running.
        """
        for line in self.lines:
            if line.lost():
                raise ClusterLost(f"{line.name} has ended")

    def leave(self) -> None:
        """Disconnect. A cluster that was started here is stopped with all its processes."""
        import ray

        for line in self.lines:
            line.close()
        ray.shutdown(wait_for_processes=True)


class _Line:
    """An open connection to a server, which the kernel closes when the server ends. Nothing is sent on it."""

    def __init__(self, name: str, connect: Callable[[], socket.socket], grace_s: float):
        self.name, self.connect, self.grace_s = name, connect, grace_s
        self.lost_at: float | None = None
        self.socket = self._connected()

    def lost(self) -> bool:
        """Whether the server is gone, and has not come back within the grace period."""
        if self.socket is not None and not _closed(self.socket):
            return False
        self.close()
        self.socket = self._connected()  # a server may also close an idle connection
        if self.socket is not None:
            self.lost_at = None
            return False
        now = time.monotonic()
        self.lost_at = now if self.lost_at is None else self.lost_at
        return now - self.lost_at >= self.grace_s

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()

    def _connected(self) -> socket.socket | None:
        try:
            connection = self.connect()
        except OSError:
            return None
        connection.setblocking(False)
        return connection


def _closed(connection: socket.socket) -> bool:
    try:
        while connection.recv(4096):
            pass  # a greeting
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _connect_unix(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def connect_tcp(host: str, port: int, timeout_s: float) -> socket.socket:
    return socket.create_connection((host, port), timeout_s)


def host_and_port(address: str) -> tuple[str, int]:
    """Raises ValueError if the text is no ``host:port``."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    port = parts.port or (CLIENT_PORT if parts.scheme == "ray" else None)
    if not parts.hostname or port is None:
        raise ValueError(f"{address} is no host:port")
    return parts.hostname, port
