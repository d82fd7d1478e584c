"""One episode of a client that carries out one action after another: the chunk waits here."""

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from lamp_model.serving.conventions import Match
from lamp_model.serving.service import Answer, PolicyService


@dataclass(frozen=True)
class Served:
    """What a server offers, whatever its protocol.

    Attributes:
        match: the way between clients and the policy.
        seed: where the random stream of a session or episode begins, unless the client says so.
        execute: actions of a chunk that are carried out before the next prediction; None: all.
        motion: add the imagined motion to answers even where a client does not ask for it.
    """

    service: PolicyService
    match: Match
    seed: int = 7
    execute: int | None = None
    motion: bool = False

    def __post_init__(self) -> None:
        chunk = self.match.policy.model.config.action.chunk
        if self.execute is not None and not 1 <= self.execute <= chunk:
            raise ValueError(f"execute must lie between 1 and the policy's {chunk} actions, found {self.execute}")
        self.match.policy.check_motion(self.motion)

    def metadata(self) -> dict[str, Any]:
        """What a client may want to know about the policy."""
        policy, client = self.match.policy, self.match.client
        config, convention = policy.model.config, policy.action_convention
        return {
            "policy": "lamp",
            "client": client.title,
            "cameras": {role: self.match.key(role) for role in policy.cameras if role not in self.match.black},
            "image_orientation": client.orientation,
            "state": list(client.state or policy.state_names or ()),
            "state_size": len(client.state or ()) or policy.state_range.size,
            "actions": client.actions or (convention.name if convention else "unknown"),
            "action_size": policy.action_range.size,
            "chunk": config.action.chunk,
            "motion": [config.motion.grid**2, config.motion.horizon, 3] if config.guided else None,
        }


class Episode:
    """An episode, with a random stream of its own."""

    def __init__(self, served: Served, seed: int):
        """Begin.

        Raises:
            ValueError: the seed is no 64-bit integer.
        """
        self._served, self._session = served, served.service.session(seed)
        self._left: deque[np.ndarray] = deque()

    def waiting_action(self) -> dict[str, Any] | None:
        """The next action of the chunk, for which no observation is needed; None where a prediction is due."""
        if not self._left:
            return None
        action = self._left.popleft()
        return {"actions": action, "remaining": len(self._left)}

    def ask(self, images: Mapping[str, object], instruction: object, state: object) -> "Future[list[Answer]]":
        """Ask for a prediction.

        Raises:
            ValueError, Busy, Ending: see ``PolicyService.submit``.
        """
        with self._served.service.metrics.reading():
            observed = self._served.match.observation(images, instruction, state)
        return self._session.submit(observed, "whole" if self._served.motion else "none")

    def first_action(self, answer: Answer) -> dict[str, Any]:
        """The first action of a new chunk; the others wait."""
        chunk = self._served.match.actions(answer.actions)[: self._served.execute].astype(np.float32)
        self._left.extend(chunk[1:])
        said: dict[str, Any] = {"actions": chunk[0], "remaining": len(self._left)}
        if answer.motion is not None:
            said["motion"] = self._served.match.motion(answer.motion)
        return said
