"""How a policy is evaluated: everything that decides an episode's outcome, besides the policy and the task."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Protocol:
    """The published protocol by default (LIBERO evaluation of the authors' release).

    Attributes:
        environment_seed: of the simulator's own random placement, set once for each task; episodes of a task then
            follow in order, as the published initial states do not fix LIBERO's stove, cabinet and rack.
        reseed: set that seed before every reset instead, so that fixtures stand at the same place in all episodes.
        settle_steps: steps without motion after a reset, which do not count towards the limit.
        execute: actions of a predicted chunk that are carried out before the next prediction; None: all of them.
        max_steps: an episode's limit; None takes the benchmark's own.
        perturb: perturbations of each episode, such as ``camera:1`` (``simulation.perturbations.spec``).
        perturb_seed: with the numbers of task and episode it decides what they draw.
        picture_size: side of the simulator's pictures in pixels, before the policy resizes them.
        seed: of the policy's noise. Episode e of task t of the suite at place s has seed + 100,000 s + 1,000 t + e.
    """

    environment_seed: int = 7
    reseed: bool = False
    settle_steps: int = 10
    execute: int | None = None
    max_steps: int | None = None
    seed: int = 7
    perturb: tuple[str, ...] = ()
    perturb_seed: int = 0
    picture_size: int = 256

    def __post_init__(self) -> None:
        for name, least in (("settle_steps", 0), ("execute", 1), ("max_steps", 1), ("picture_size", 16)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be {least} or more, found {value}")

    def episode_seed(self, place: int, task: int, episode: int) -> int:
        """The seed of an episode's noise, for the suite at this place in the published order."""
        return self.seed + 100_000 * place + 1_000 * task + episode

    @property
    def departures(self) -> str:
        """What is not as published, as ``max_steps 60``; empty for the published protocol."""
        values = ((one.name, getattr(self, one.name), one.default) for one in fields(self))
        return ", ".join(f"{name} {in_words(value)}" for name, value, published in values if value != published)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits; equal for equal protocols."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def differences(self, other: "Protocol") -> str:
        """Where two protocols differ, as ``seed 7 against 8``; empty where they do not."""
        pairs = ((one.name, getattr(self, one.name), getattr(other, one.name)) for one in fields(self))
        differ = ((name, in_words(mine), in_words(its)) for name, mine, its in pairs if mine != its)
        return ", ".join(f"{name} {mine} against {its}" for name, mine, its in differ)


def in_words(value: Any) -> str:
    """An option's value for a message: ``camera:1 light:2``; ``none`` for no words at all."""
    return " ".join(value) or "none" if isinstance(value, list | tuple) else str(value)
