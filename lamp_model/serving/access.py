"""Who may connect, and how much they may send."""

import errno
import hmac
import ipaddress
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

MEGABYTE = 2**20
SCHEMES = ("bearer", "api-key")
"""Of the ``Authorization`` header; the second is openpi's."""


@dataclass(frozen=True)
class Access:
    """Where a server listens and what it lets in.

    Attributes:
        port: 0 takes a free one.
        allow_remote: a host that other machines reach is meant.
        token: what clients must send; None: nothing.
        max_megabytes: of one message.
        max_clients: connections at the same time.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    allow_remote: bool = False
    token: str | None = None
    max_megabytes: float = 32.0
    max_clients: int = 256

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"port must lie between 0 and 65535, found {self.port}")
        if not 0 < self.max_megabytes <= 4096:
            raise ValueError(f"max-megabytes must be above 0 and at most 4096, found {self.max_megabytes}")
        if self.max_clients < 1:
            raise ValueError(f"max-clients must be at least 1, found {self.max_clients}")
        if self.token is not None and not (self.token.strip() == self.token != "" and self.token.isascii()):
            raise ValueError("the token must be ASCII text without spaces around it, and not empty")
        if not is_loopback(self.host) and not self.allow_remote:
            raise ValueError(
                f"host {self.host} lets other machines connect, which needs --allow-remote as well; anyone who reaches "
                "the port can then use the policy, so give a token too"
            )

    @property
    def max_bytes(self) -> int:
        """Of one message."""
        return int(self.max_megabytes * MEGABYTE)

    @property
    def place(self) -> str:
        """The address in messages."""
        return f"{self.host}:{self.port}"

    def allows(self, authorization: str | None, path: str = "") -> bool:
        """Whether a request's ``Authorization`` header, or ``?token=`` in its path, holds the token."""
        if self.token is None:
            return True
        scheme, _, given = (authorization or "").partition(" ")
        told = [given.strip()] if scheme.lower() in SCHEMES else parse_qs(urlsplit(path).query).get("token", [])
        return any(hmac.compare_digest(one.encode(), self.token.encode()) for one in told)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class CannotListen(OSError):
    """The address cannot be listened on; the message says why and what to do."""

    def __init__(self, access: Access, error: OSError):
        why = error.strerror or str(error)
        what = {
            errno.EADDRINUSE: "another program, perhaps another lamp-policy serve, uses the port; choose another with "
            "--port",
            errno.EACCES: "ports below 1024 are the system's; choose another with --port",
        }.get(error.errno or 0, "give an address of this machine as --host")
        super().__init__(f"cannot listen on {access.place} ({why}): {what}")
