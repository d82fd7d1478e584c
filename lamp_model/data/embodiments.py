"""The embodiments of a run: ranges and conventions of their states and actions, and batches of several robots.

States and actions are padded with zeros to the largest width; the padded dimensions are masked out of the loss.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch.nn import functional

from lamp_model.data.dataset import TrainingData
from lamp_model.data.normalisation import Normaliser, range_of
from lamp_model.errors import BadRun
from schemas.episode import ActionConvention

RAW, STANDARD = "raw", "standard"


@dataclass(frozen=True)
class Embodiment:
    """One robot's normalisation.

    Attributes:
        name: selects the embodiment when a policy is loaded.
        standard: use the standard actions of the samples, not the raw ones.
        mean_action: in the convention of the data.
        convention: of the actions that are learnt; None for shards whose statistics do not hold it.
        state_names: one word for each dimension of the state; None where the statistics do not hold them.
    """

    name: str
    standard: bool
    state: Normaliser
    action: Normaliser
    mean_action: tuple[float, ...]
    convention: ActionConvention | None
    state_names: tuple[str, ...] | None = None


def run_statistics(data: TrainingData, actions: str | None) -> dict[str, Any]:
    """The statistics that a run stores: of the states, and of the actions that are learnt, under ``action``.

    Args:
        actions: ``raw``; ``standard``; None takes the standard form where there is one.

    Raises:
        BadRun: the standard form was requested but the data do not have it.
    """
    chosen = {one.name: _chosen(one.name, one.statistics, actions) for one in data.embodied}
    return next(iter(chosen.values())) if len(chosen) == 1 else {"embodiments": chosen}


def _chosen(name: str, statistics: Mapping[str, Any], actions: str | None) -> dict[str, Any]:
    there = statistics.get("standard_action", {}).get("count", 0) > 0
    if actions == STANDARD and not there:
        raise BadRun(
            f"{name} has no standard actions: its form has none, or it was built with --actions raw or by an earlier "
            "version; "
            "train with --actions raw, or build it again"
        )
    standard = there and actions != RAW
    kept = {key: value for key, value in statistics.items() if key != "standard_action"}
    return {
        **kept,
        "action": statistics["standard_action" if standard else "action"],
        "actions": STANDARD if standard else RAW,
    }


def embodiments_of(statistics: Mapping[str, Any], name: str, normalisation: str) -> "Embodiments":
    """The embodiments of a run from its stored statistics.

    Args:
        name: of the embodiment, where the statistics hold only one.
        normalisation: ``min_max`` or ``quantile``.

    Raises:
        ValueError: the statistics are incomplete.
    """
    several = statistics.get("embodiments", {name: statistics})
    return Embodiments([_embodiment(one, values, normalisation) for one, values in several.items()])


def _embodiment(name: str, statistics: Mapping[str, Any], normalisation: str) -> Embodiment:
    action = statistics.get("action", {})
    return Embodiment(
        name=name,
        standard=statistics.get("actions", RAW) == STANDARD,
        state=range_of(statistics, "state", normalisation),
        action=range_of(statistics, "action", normalisation),
        mean_action=tuple(map(float, action["mean"])),
        convention=convention_of(action),
        state_names=state_names_of(statistics.get("state", {})),
    )


def state_names_of(state: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names of the state's dimensions in the statistics; None where they do not hold them."""
    return tuple(map(str, state["dimensions"])) if "dimensions" in state else None


def convention_of(action: Mapping[str, Any]) -> ActionConvention | None:
    """The action convention in the statistics; None where they do not hold one.

    Raises:
        ValueError: the convention is incomplete.
    """
    if "convention" not in action:
        return None
    name, dimensions, description = (action.get(key) for key in ("convention", "dimensions", "description"))
    if isinstance(name, str) and isinstance(description, str) and isinstance(dimensions, list):
        return ActionConvention(name, tuple(map(str, dimensions)), description)
    raise ValueError(
        "the statistics must say the convention of the actions, a name for each dimension and a description"
    )


class Embodiments:
    """All embodiments of a run, and the normalisation of batches that mix them.

    Attributes:
        state_size, action_size: the largest widths of all embodiments.
    """

    def __init__(self, members: Sequence[Embodiment]):
        self.members = tuple(members)
        self.state_size = max(one.state.size for one in self.members)
        self.action_size = max(one.action.size for one in self.members)

    def __getitem__(self, name: str) -> Embodiment:
        """The embodiment of a name.

        Raises:
            ValueError: there is no such embodiment; the message lists the known names.
        """
        for one in self.members:
            if one.name == name:
                return one
        raise ValueError(
            f"there is no {name!r} among what this was trained on; there are: {', '.join(m.name for m in self.members)}"
        )

    def states(self, states: Float[torch.Tensor, "B S"], which: Int[torch.Tensor, " B"]) -> Float[torch.Tensor, "B S"]:
        """Normalised; zero beyond a robot's width."""
        return self._each(states, which, lambda one, rows: one.state.normalise(rows[..., : one.state.size]))

    def actions(
        self, actions: Float[torch.Tensor, "B H A"], which: Int[torch.Tensor, " B"]
    ) -> Float[torch.Tensor, "B H A"]:
        """Normalised; zero beyond a robot's width."""
        return self._each(actions, which, lambda one, rows: one.action.normalise(rows[..., : one.action.size]))

    def denormalised_actions(
        self, actions: Float[torch.Tensor, "B H A"], which: Int[torch.Tensor, " B"]
    ) -> Float[torch.Tensor, "B H A"]:
        """The inverse of ``actions``, which clips; zero beyond a robot's width."""
        return self._each(actions, which, lambda one, rows: one.action.denormalise(rows[..., : one.action.size]))

    def mean_actions(self, which: Int[torch.Tensor, " B"]) -> Float[torch.Tensor, "B A"]:
        """The normalised mean action of each sample's embodiment."""
        means = torch.zeros(len(which), self.action_size, device=which.device)
        return self._each(
            means, which, lambda one, rows: one.action.normalise(rows.new_tensor(one.mean_action).expand(len(rows), -1))
        )

    def mask(self, mask: Bool[torch.Tensor, "B H"], which: Int[torch.Tensor, " B"]) -> Bool[torch.Tensor, "B H A"]:
        """True for action values of steps within the episode and dimensions within the robot's width."""
        sizes = torch.tensor([one.action.size for one in self.members], device=which.device)
        within = torch.arange(self.action_size, device=which.device) < sizes[which][:, None]
        return mask[..., None] & within[:, None]

    def _each(self, values: torch.Tensor, which: torch.Tensor, normalise) -> torch.Tensor:
        if len(self.members) == 1:
            return normalise(self.members[0], values)
        result = torch.zeros_like(values)
        for number, one in enumerate(self.members):
            rows = which == number
            if rows.any():
                made = normalise(one, values[rows])
                result[rows] = functional.pad(made, (0, values.shape[-1] - made.shape[-1]))
        return result
