"""Actions in the form in which the field trains on a dataset: one module for each dataset (see ``schemas.plugins``).

A module defines ``Config`` and ``build(config)``, which gives an ``ActionStandard``. A module with the name of a
dataset is that dataset's standard; ``raw`` is for those that have none. A module may say in ``TAKES`` which conventions
of raw actions it takes: a dataset that is read by a mapping file gets the standard of the convention that the file
names. The raw action always stays in the sample beside the standard form.
"""

from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool

from pipeline.episodes.slicing import take_frames
from schemas.episode import BadEpisode, Episode, StandardActions
from schemas.plugins import PluginChoice, build_plugin, load_plugin, plugin_names

STANDARD, RAW = "standard", "raw"


@runtime_checkable
class ActionStandard(Protocol):
    """How one dataset's actions are brought into the field's form."""

    def kept_frames(self, episode: Episode) -> Bool[np.ndarray, " T"]:
        """Which frames stay; the others are as if they had never been recorded."""
        ...

    def standardise(self, episode: Episode) -> StandardActions | None:
        """The standard form of the actions at the frames that stayed; None where it is the raw form.

        Raises:
            BadEpisode: the actions are not of a convention that this standard knows.
        """
        ...


def make_action_standard(choice: PluginChoice) -> ActionStandard:
    """The standard form of actions that was chosen.

    Raises:
        UnknownPlugin: no standard form of actions has this name.
        MissingDependency: what it needs is not there.
        ValueError: an unknown option or value.
    """
    return build_plugin(__name__, choice)


def standard_of(dataset: str, convention: str | None = None) -> str:
    """The module for ``--actions standard``: the dataset's own, else the one that takes the convention,
    else ``raw``.
    """
    known = plugin_names(__name__)
    if dataset in known or convention is None:
        return dataset if dataset in known else RAW
    return next((name for name in known if convention in getattr(load_plugin(__name__, name), "TAKES", ())), RAW)


def with_standard_actions(episode: Episode, standard: ActionStandard) -> Episode:
    """The episode as windows are made from it: frames left out, standard actions at its side, and a note of what was
    left out.

    Raises:
        BadEpisode: no frames stay, or the actions are of another convention.
    """
    kept = standard.kept_frames(episode)
    if not kept.all():
        if kept.sum() < 2:
            raise BadEpisode(
                "too_short", f"{episode.ref.name}: the filter of idle frames leaves {int(kept.sum())} frames"
            )
        note = f"{int((~kept).sum())} of {len(kept)}, as --actions says"
        episode = take_frames(episode, np.flatnonzero(kept))
        episode = replace(episode, notes={**episode.notes, "frames_left_out": note})
    made = standard.standardise(episode)
    if made is not None and made.begins is not None and not made.begins.all():
        note = f"at {int((~made.begins).sum())} of {len(made.begins)} frames, as --actions says"
        episode = replace(episode, notes={**episode.notes, "no_window_begins": note})
    return replace(episode, standard_actions=made)


def check_convention(episode: Episode, known: tuple[str, ...]) -> None:
    """Refuse actions of another convention than a standard was written for.

    Raises:
        BadEpisode: they are.
    """
    found = episode.action_convention.name
    if found not in known:
        raise BadEpisode(
            "other_actions",
            f"{episode.ref.name}: this standard form is made from actions of the convention {' or '.join(known)}, "
            f"found {found}; "
            "--actions raw leaves them as they are",
        )
