"""openpi's WebSocket protocol, as its ``openpi-client`` package speaks it.

The server sends its metadata first. Each message of the client is an observation, each answer a whole chunk; both are
msgpack with arrays as maps of bytes keys. An error is a text message, for which the client raises ``RuntimeError``.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import msgpack
import numpy as np

from lamp_model.serving.access import Access
from lamp_model.serving.conventions import LIBERO_OPENPI, Client
from lamp_model.serving.episode import Served
from lamp_model.serving.pictures import checked_array
from lamp_model.serving.refusals import said
from lamp_model.serving.websocket import Gone, Link, WebSocketServer
from schemas.errors import first_line

STATE, PROMPT = "observation/state", "prompt"
SEED, MOTION = "seed", "return_motion"
"""Keys beyond openpi's: where the session's random stream begins again, and whether motion is wanted."""


@dataclass(frozen=True)
class Config:
    """There are no options."""


def build(config: Config) -> "OpenPi":
    """The protocol."""
    return OpenPi()


class OpenPi:
    """See ``lamp_model.serving.protocols.Protocol``."""

    clients: Mapping[str, Client] = MappingProxyType({LIBERO_OPENPI.name: LIBERO_OPENPI})

    def start(self, served: Served, access: Access) -> WebSocketServer:
        """See ``lamp_model.serving.protocols.Protocol``."""
        return WebSocketServer(served.service, access, partial(_converse, served))


async def _converse(served: Served, link: Link) -> None:
    await link.send(pack(served.metadata()))
    session = served.service.session(served.seed)
    while True:
        message, begun = await link.receive(), time.monotonic()
        try:
            with served.service.metrics.reading():
                values = await asyncio.to_thread(unpack, message)
                if values.get(SEED) is not None:
                    session = served.service.session(values[SEED])
                observed = served.match.observation(_images(served, values), values.get(PROMPT), values.get(STATE))
            wanted = "whole" if served.motion or values.get(MOTION) else "none"
            future = await asyncio.to_thread(session.submit, observed, wanted)
            (answer,) = await link.answer(future)
        except Gone:
            raise
        except Exception as error:
            await link.send(said(error))
            continue
        reply: dict[str, Any] = {"actions": served.match.actions(answer.actions)}
        if answer.motion is not None:
            reply["motion"] = served.match.motion(answer.motion)
        reply["server_timing"] = {"infer_ms": (time.monotonic() - begun) * 1000}
        await link.send(pack(reply))


def _images(served: Served, values: Mapping[str, Any]) -> dict[str, Any]:
    """The images by the client's names of the cameras; a client of any robot names them as LIBERO's example does."""
    known = LIBERO_OPENPI.cameras or {}
    images = {name: value for name, value in values.items() if isinstance(value, np.ndarray) and value.ndim > 1}
    if served.match.client.cameras is not None:
        return images
    named = {role: images[name] for role, name in known.items() if name in images}
    return {**{name.removeprefix("observation/"): image for name, image in images.items()}, **named}


def pack(values: Any) -> bytes:
    """Values as openpi's msgpack."""
    packed = msgpack.packb(values, default=_packed)
    assert packed is not None
    return packed


def _packed(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {
            b"__ndarray__": True,
            b"data": value.tobytes(),
            b"dtype": value.dtype.str,
            b"shape": value.shape,
        }
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    return value


def unpack(message: bytes | str) -> dict[str, Any]:
    """An observation from a message.

    Raises:
        ValueError: it is no map in openpi's msgpack.
    """
    if not isinstance(message, bytes):
        raise ValueError("a message must be msgpack in bytes, found text")
    try:
        values = msgpack.unpackb(message, object_hook=_unpacked)
    except Exception as error:
        raise ValueError(f"a message of {len(message)} bytes does not read as msgpack: {first_line(error)}") from error
    if not isinstance(values, dict):
        raise ValueError(f"a message must hold a map of observations, found {type(values).__name__}")
    return values


def _unpacked(values: dict[Any, Any]) -> Any:
    if b"__ndarray__" in values:
        return checked_array(values.get(b"data"), values.get(b"dtype"), values.get(b"shape"))
    if b"__npgeneric__" in values:
        return values.get(b"data")
    return values
