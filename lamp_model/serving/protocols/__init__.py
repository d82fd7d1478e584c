"""Protocols that clients speak. One module is one protocol (see ``schemas.plugins``).

A module defines a frozen ``Config`` and ``build(config)``, which returns a ``Protocol``.
"""

from collections.abc import Mapping
from typing import Protocol as Interface
from typing import runtime_checkable

from lamp_model.serving.access import Access
from lamp_model.serving.conventions import Client
from lamp_model.serving.episode import Served
from schemas.plugins import configure, load_plugin


@runtime_checkable
class Running(Interface):
    """A server that listens.

    Attributes:
        port: on which it listens.
    """

    port: int

    def close(self) -> None:
        """Take no more connections, give the answers that are due, and end."""
        ...


@runtime_checkable
class Protocol(Interface):
    """Serves a policy.

    Attributes:
        clients: the kinds of client that speak the protocol, by their names.
    """

    clients: Mapping[str, Client]

    def start(self, served: Served, access: Access) -> Running:
        """Listen, on threads of its own.

        Raises:
            CannotListen: the address cannot be listened on, for example because another program does.
        """
        ...


def make_protocol(name: str) -> Protocol:
    """A protocol of a name.

    Raises:
        ValueError: there is no such protocol.
        MissingDependency: a package that it needs is not installed.
    """
    return load_plugin(__name__, name).build(configure(__name__, name, {}))
