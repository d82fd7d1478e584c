"""The protocol of vla-eval (AllenAI's vla-evaluation-harness): WebSocket, msgpack, one action for each observation.

``LampModelServer`` is a policy inside vla-eval's own server, for ``vla_eval.evaluate(server, config)``. What
``lamp-policy serve`` starts speaks the same messages from this project's own WebSocket server, because vla-eval's has
no limit on size and no token, and drops a client whose message does not decode. Both answer from ``Episode``.
"""

import asyncio
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import msgpack
from vla_eval.model_servers.base import ModelServer, SessionContext
from vla_eval.protocol.messages import Message, MessageType, make_hello_payload, pack_message
from vla_eval.specs import (
    GRIPPER_CLOSE_POS,
    IMAGE_RGB,
    LANGUAGE,
    POSITION_DELTA,
    RAW,
    ROTATION_AA,
    STATE_EEF_POS_AA_GRIP,
    DimSpec,
)

from lamp_model.serving.access import Access
from lamp_model.serving.conventions import LIBERO_VLA_EVAL, WIDOWX_VLA_EVAL, Client
from lamp_model.serving.episode import Episode, Served
from lamp_model.serving.pictures import checked_array, decode_picture
from lamp_model.serving.refusals import said
from lamp_model.serving.websocket import Gone, Link, WebSocketServer
from schemas.errors import first_line

SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
"""In the order in which the authors number them in an episode's seed."""
BENCHMARKS = {"vla_eval.benchmarks.libero": LIBERO_VLA_EVAL, "vla_eval.benchmarks.simpler": WIDOWX_VLA_EVAL}
"""vla-eval's benchmarks by the beginning of their import path (LIBERO-Plus and LIBERO-Pro begin as LIBERO does)."""


@dataclass(frozen=True)
class Config:
    """There are no options."""


def build(config: Config) -> "VlaEval":
    """The protocol."""
    return VlaEval()


class VlaEval:
    """See ``lamp_model.serving.protocols.Protocol``."""

    clients: Mapping[str, Client] = MappingProxyType({one.name: one for one in (LIBERO_VLA_EVAL, WIDOWX_VLA_EVAL)})

    def start(self, served: Served, access: Access) -> WebSocketServer:
        """See ``lamp_model.serving.protocols.Protocol``."""
        return WebSocketServer(served.service, access, partial(_converse, served))


class LampModelServer(ModelServer):
    """A policy inside vla-eval's server.

    Each observation is answered with one action, ``{"actions": [A], "remaining": n}``. While ``remaining`` is above 0,
    the next answer comes from the chunk, and its observation is not looked at: a benchmark need not render for it.
    """

    def __init__(self, served: Served):
        """Serve what ``served`` says; its service stays open when vla-eval's server ends."""
        self._served = served
        self._episodes: dict[str, Episode] = {}
        self._clients: dict[str, ExitStack] = {}

    async def on_episode_start(self, config: dict[str, Any], ctx: SessionContext) -> None:
        """See ``ModelServer``."""
        await self.on_episode_end({}, ctx)
        self._episodes[ctx.session_id] = Episode(self._served, episode_seed(self._served.seed, config))
        self._clients[ctx.session_id] = ExitStack()
        self._clients[ctx.session_id].enter_context(self._served.service.client())

    async def on_observation(self, obs: dict[str, Any], ctx: SessionContext) -> None:
        """See ``ModelServer``."""
        episode = _begun(self._served, self._episodes.get(ctx.session_id))
        action = episode.waiting_action()
        if action is None:
            future = await asyncio.to_thread(_ask, self._served, episode, obs)
            action = episode.first_action((await asyncio.wrap_future(future))[0])
        await ctx.send_action(action)

    async def on_episode_end(self, result: dict[str, Any], ctx: SessionContext) -> None:
        """See ``ModelServer``."""
        self._episodes.pop(ctx.session_id, None)
        self._clients.pop(ctx.session_id, ExitStack()).close()

    def get_observation_params(self) -> dict[str, Any]:
        """See ``ModelServer``."""
        return observation_params(self._served)

    def get_action_spec(self) -> dict[str, DimSpec]:
        """See ``ModelServer``."""
        return action_spec(self._served)

    def get_observation_spec(self) -> dict[str, DimSpec]:
        """See ``ModelServer``."""
        return observation_spec(self._served)


def episode_seed(first: int, config: Mapping[str, Any]) -> int:
    """The seed of an episode: the task's own ``seed`` if the client gives one, else the authors' for LIBERO,
    ``first + 100000 suite + 1000 task + episode``. It does not depend on the order of episodes or on the client.
    """
    task = config.get("task")
    if not isinstance(task, Mapping):
        return first
    if isinstance(task.get("seed"), int):
        return task["seed"]
    suite = task.get("suite", "")
    number = SUITES.index(suite) if suite in SUITES else len(SUITES) + zlib.crc32(str(suite).encode()) % 1000
    return first + 100_000 * number + 1000 * _whole(task.get("task_id")) + _whole(task.get("episode_idx"))


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0


def observation_params(served: Served) -> dict[str, Any]:
    """What a benchmark of vla-eval must send for this policy."""
    params: dict[str, Any] = {"send_state": True}
    if served.match.client == LIBERO_VLA_EVAL:
        # The data's axis-angle keeps the quaternion's sign, so that angles reach 2 pi.
        params |= {"send_wrist_image": "wrist" in served.match.policy.cameras, "quat_no_antipodal": True}
    return params


def action_spec(served: Served) -> dict[str, DimSpec]:
    """The meaning of the actions in vla-eval's words."""
    if served.match.client == LIBERO_VLA_EVAL:
        return {"position": POSITION_DELTA, "rotation": ROTATION_AA, "gripper": GRIPPER_CLOSE_POS}
    return {"actions": RAW}


def observation_spec(served: Served) -> dict[str, DimSpec]:
    """What the policy looks at in vla-eval's words."""
    match = served.match
    images = {match.key(role): IMAGE_RGB for role in match.policy.cameras if role not in match.black}
    state = STATE_EEF_POS_AA_GRIP if match.client == LIBERO_VLA_EVAL else RAW
    return {**images, "language": LANGUAGE, "state": state}


def _begun(served: Served, episode: Episode | None) -> Episode:
    with served.service.metrics.reading():
        if episode is None:
            raise ValueError("an observation came before the start of an episode")
    return episode


def _ask(served: Served, episode: Episode, payload: Mapping[str, Any]) -> Any:
    with served.service.metrics.reading():
        if not isinstance(payload, Mapping):
            raise ValueError(f"an observation must be a map, found {type(payload).__name__}")
        images = payload.get("images")
        if not isinstance(images, Mapping):
            raise ValueError(f"an observation needs a map of images by their cameras, found {type(images).__name__}")
    state = payload.get("states", payload.get("state"))
    return episode.ask(images, payload.get("task_description"), state)


async def _converse(served: Served, link: Link) -> None:
    conversation = _Conversation(served, link)
    while True:
        raw, number = await link.receive(), 0
        try:
            with served.service.metrics.reading():
                message = await asyncio.to_thread(decode, raw)
            number = message.seq
            reply = await conversation.reply(message)
        except Gone:
            raise
        except Exception as error:
            reply = Message(MessageType.ERROR, {"error": said(error)}, number)
        if reply is not None:
            await link.send(pack_message(reply))


class _Conversation:
    """What one client said, and the episode that it is in."""

    def __init__(self, served: Served, link: Link):
        self._served, self._link = served, link
        self._episode: Episode | None = None

    async def reply(self, message: Message) -> Message | None:
        """The answer to a message; None where it needs none."""
        if message.type == MessageType.HELLO:
            return Message(MessageType.HELLO, self._hello(message.payload), message.seq)
        if message.type == MessageType.EPISODE_START:
            self._episode = None  # an episode that cannot begin must not leave the last one's actions to this one
            with self._served.service.metrics.reading():
                self._episode = Episode(self._served, episode_seed(self._served.seed, message.payload))
        elif message.type == MessageType.EPISODE_END:
            self._episode = None
        elif message.type == MessageType.OBSERVATION:
            return Message(MessageType.ACTION, await self._action(message.payload), message.seq)
        return None

    async def _action(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        episode = _begun(self._served, self._episode)
        action = episode.waiting_action()
        if action is None:
            future = await asyncio.to_thread(_ask, self._served, episode, payload)
            action = episode.first_action((await self._link.answer(future))[0])
        return action

    def _hello(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        check_benchmark(self._served, payload.get("benchmark"))
        actions, seen = action_spec(self._served), observation_spec(self._served)
        return make_hello_payload(
            model_server=LampModelServer.__name__,
            capabilities={},
            observation_params=observation_params(self._served),
            action_spec={name: spec.to_dict() for name, spec in actions.items()},
            observation_spec={name: spec.to_dict() for name, spec in seen.items()},
            lamp=self._served.metadata(),
        )


def check_benchmark(served: Served, path: Any) -> None:
    """Refuse a benchmark of another robot.

    Args:
        path: the benchmark's import path, as a client says it; others than vla-eval's own are not known.

    Raises:
        ValueError: it does not fit the served client; the message names both.
    """
    known = next((client for head, client in BENCHMARKS.items() if str(path).startswith(head)), None)
    if known is not None and known != served.match.client:
        raise ValueError(
            f"this policy is served for {served.match.client.title}, and the benchmark {path} is {known.title}: serve "
            f"it with --client {known.name}, if it is of that robot"
        )


def decode(raw: bytes | str) -> Message:
    """A message from its bytes; pictures in it are decoded.

    Raises:
        ValueError: it is no message of the protocol.
    """
    if not isinstance(raw, bytes):
        raise ValueError("a message must be msgpack in bytes, found text")
    try:
        values = msgpack.unpackb(raw, object_hook=_decoded, raw=False)
    except Exception as error:
        raise ValueError(f"a message of {len(raw)} bytes does not read as msgpack: {first_line(error)}") from error
    if not isinstance(values, dict) or not {"type", "payload"} <= values.keys():
        raise ValueError("a message must be a map with type, payload, seq and timestamp")
    if not isinstance(values["payload"], dict):
        raise ValueError(f"a message's payload must be a map, found {type(values['payload']).__name__}")
    known = [kind.value for kind in MessageType]
    if values["type"] not in known:
        raise ValueError(f"a message's type must be one of {', '.join(known)}, found {values['type']!r}")
    number = values.get("seq")
    return Message(MessageType(values["type"]), values["payload"], number if isinstance(number, int) else 0)


def _decoded(values: dict[str, Any]) -> Any:
    """An array or picture from vla-eval's map of it; other maps as they are."""
    raw_picture = "__image__" in values and values.get("format") == "raw"
    if "__ndarray__" in values or raw_picture:
        return checked_array(values.get("data"), values.get("dtype"), values.get("shape"))
    return decode_picture(values.get("data")) if "__image__" in values else values
