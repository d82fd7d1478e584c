"""Action standards: actions in the form that is usual for training on a dataset, one module for each dataset (see
``schemas.plugins``).

A module defines ``Config`` and ``build(config)``, which returns an ``ActionStandard``. A module with the name of a
dataset is that dataset's standard; ``raw`` is for datasets that have none. A module may list in ``TAKES`` the
conventions of raw actions that it accepts: a dataset read through a mapping file gets the standard of the convention
that the file names. The raw action is always kept in the sample beside the standard form.
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
    """Converts one dataset's actions to the form that is usual for training on it."""

    def kept_frames(self, episode: Episode) -> Bool[np.ndarray, " T"]:
        """Which frames are kept; the others are treated as if they had not been recorded."""
        ...

    def standardise(self, episode: Episode) -> StandardActions | None:
        """The standard form of the actions at the kept frames; None if it is the raw form.

        Raises:
            BadEpisode: the actions have a convention that this standard does not support.
        """
        ...


def make_action_standard(choice: PluginChoice) -> ActionStandard:
    """The standard form of actions that was chosen.

    Raises:
        UnknownPlugin: no standard form of actions has this name.
        MissingDependency: a package that it needs is not installed.
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
    """The episode from which windows are made: without the frames that are left out, with standard actions added, and
    with a note on what was left out.

    Raises:
        BadEpisode: no frames are kept, or the actions have another convention.
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
    """Refuse actions whose convention the standard does not support.

    Raises:
        BadEpisode: the convention is not one of ``known``.
    """
    found = episode.action_convention.name
    if found not in known:
        raise BadEpisode(
            "other_actions",
            f"{episode.ref.name}: this standard form is made from actions of the convention {' or '.join(known)}, "
            f"found {found}; "
            "--actions raw leaves them as they are",
        )
