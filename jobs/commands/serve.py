"""``lamp-policy serve``: answer observations with actions, over the network."""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import tyro

from jobs.cli.exit_codes import Failed, UsageError
from jobs.cli.help_text import optional_in_words
from jobs.cli.torch_env import let_threads_sleep, quieten

if TYPE_CHECKING:
    from lamp_model.policy import LampPolicy
    from lamp_model.serving.access import Access
    from lamp_model.serving.episode import Served
    from lamp_model.serving.protocols import Protocol

T = TypeVar("T")
logger = logging.getLogger(__name__)

TOKEN = "LAMP_POLICY_TOKEN"
"""The environment variable that may hold the token; on a command line other users of the machine would read it."""


@dataclass(frozen=True)
@optional_in_words
class Serve:
    """Serve a policy to robots and simulators, to many at once. On Ctrl-C or SIGTERM the answers that are due still go
    out."""

    run: tyro.conf.Positional[str]
    """A stage 2 run, an exported folder, or a checkpoint of the authors (folder, .pt, or a name on the hub)."""
    protocol: Literal["vla-eval", "openpi", "http"] = "vla-eval"
    """What clients speak: vla-eval's or openpi's WebSocket, or the HTTP of the authors' release."""
    client: str | None = None
    """What clients send and take: libero, simpler-widowx (with vla-eval), or native: upright images, state and
    actions as trained. [default: that of the policy's robot, else native]"""
    port: int = 8000
    """To listen on; 0 takes a free one."""
    host: str = "127.0.0.1"
    """To listen on; one that other machines reach needs --allow-remote."""
    allow_remote: bool = False
    """Other machines may connect."""
    token_file: Path | None = None
    """Holds the token that clients must send. [default: the variable LAMP_POLICY_TOKEN, else none is needed]"""
    max_batch: int = 16
    """Observations in one forward pass."""
    wait_ms: float = 2.0
    """How long a request waits for others to share a pass, while several clients are connected."""
    max_waiting: int = 256
    """Requests that may wait; further ones are refused."""
    max_clients: int = 256
    """Clients at the same time."""
    max_megabytes: float = 32.0
    """Of one message."""
    seed: int = 7
    """Where a session's random stream begins; vla-eval's episodes add their numbers to it, as the authors' do."""
    execute: int | None = None
    """vla-eval: actions of a chunk that are carried out before the next prediction. [default: all]"""
    motion: bool = False
    """Add the imagined motion to every answer."""
    black_cameras: tuple[str, ...] = ()
    """Cameras of the policy that clients do not have and that it was trained to see black."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    compile: str | None = None
    """A mode of torch.compile, e.g. default; the first answer to each batch size takes minutes. [default: off]"""
    statistics_key: str | None = None
    """Of a policy of several datasets or robots: whose it is to be. [default: the only one; of the authors': libero]"""
    features: Literal["after-norm", "before-norm"] | None = None
    """Of the authors' checkpoints: which hidden states; see docs/training.md. [default: after-norm]"""
    image_orientation: Literal["upright", "mirrored", "rotated-180"] | None = None
    """Of the authors' checkpoints: how their networks see images. [default: mirrored with LIBERO's statistics]"""


def serve_command(args: Serve) -> int:
    """Serve until a signal ends it; returns the exit code."""
    let_threads_sleep()
    from lamp_model.serving.conventions import client_for, match
    from lamp_model.serving.episode import Served
    from lamp_model.serving.protocols import make_protocol
    from lamp_model.serving.service import PolicyService

    access, protocol = _asked(lambda: _access(args)), _asked(lambda: make_protocol(args.protocol))
    policy = load(args)
    client = _asked(lambda: client_for(policy, protocol.clients, args.client))
    matched = _asked(lambda: match(policy, client, args.black_cameras))
    service = _asked(lambda: PolicyService(policy, args.max_batch, args.wait_ms, args.max_waiting))
    with service:
        served = _asked(lambda: Served(service, matched, args.seed, args.execute, args.motion))
        _warm(policy)
        return _run(protocol, served, access, f"{args.run} by {args.protocol}")


def load(args: Any) -> "LampPolicy":
    """The policy that a command's options name: ``run``, ``device``, ``compile``, ``statistics_key``, ``features`` and
    ``image_orientation``.

    Raises:
        UsageError: there is no such run, or an option does not fit it.
        Failed: its weights are damaged, or something is missing.
    """
    from lamp_model.errors import BadCheckpoint
    from lamp_model.policy import load_policy
    from schemas.plugins import MissingDependency

    quieten()
    try:
        return load_policy(
            args.run, args.device, args.statistics_key, args.compile, args.features, args.image_orientation
        )
    except (BadCheckpoint, MissingDependency) as error:
        raise Failed(str(error)) from error
    except ValueError as error:
        raise UsageError(str(error)) from error


def _access(args: Serve) -> "Access":
    from lamp_model.serving.access import Access

    token = os.environ.get(TOKEN)
    if args.token_file is not None:
        try:
            token = args.token_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"--token-file {args.token_file} does not read: {error}") from error
    return Access(args.host, args.port, args.allow_remote, token, args.max_megabytes, args.max_clients)


def _asked(make: Callable[[], T]) -> T:
    """What was asked for on the command line.

    Raises:
        UsageError: it cannot be.
        Failed: a package that it needs is not installed.
    """
    from schemas.plugins import MissingDependency

    try:
        return make()
    except MissingDependency as error:
        raise Failed(str(error)) from error
    except ValueError as error:
        raise UsageError(str(error)) from error


def _warm(policy: "LampPolicy") -> None:
    """Predict once, so that the first client does not wait for what the first prediction sets up.

    Raises:
        Failed: the policy cannot predict.
    """
    import numpy as np

    from lamp_model.prediction import NotFinite

    black = np.zeros((64, 64, 3), np.uint8)
    try:
        policy.predict([black] * len(policy.cameras), "begin", np.zeros(policy.state_range.size))
    except NotFinite as error:
        raise Failed(str(error)) from error


def _run(protocol: "Protocol", served: "Served", access: "Access", title: str) -> int:
    """Serve until the process is interrupted; the answers that are due then still go out."""
    from lamp_model.serving.access import CannotListen, is_loopback

    try:
        running = protocol.start(served, access)
    except CannotListen as error:
        raise Failed(str(error)) from error
    try:
        told = served.metadata()
        cameras, chunk = ", ".join(told["cameras"].values()), f"chunks of {told['chunk']} actions ({told['actions']})"
        print(
            f"serving {title} on {access.host}:{running.port} for {told['client']}: cameras {cameras}; a state of "
            f"{told['state_size']} numbers; {chunk}",
            flush=True,
        )
        if access.token is None and not is_loopback(access.host):
            logger.warning("no token is asked for: anyone who reaches this port can use the policy")
        forever = threading.Event()
        while not forever.wait(1.0):  # a signal that came in a callback wakes no longer wait
            pass
    except KeyboardInterrupt:
        pass  # the way in which a server ends
    finally:
        running.close()
    values = served.service.values()
    print(f"ended: {values['answers']} answers, {sum(values['refused'].values())} refusals")
    return 0
