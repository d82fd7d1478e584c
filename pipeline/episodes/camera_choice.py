"""Chooses the cameras of an episode for windows: the primary one, all that can be used, or some by name."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.episodes.slicing import take_frames
from schemas.episode import BadEpisode, Episode
from schemas.triplet import camera_in_key

PRIMARY, ALL = "primary", "all"


def checked_cameras(cameras: Sequence[str]) -> tuple[str, ...]:
    """The choice in a fixed order, each name once.

    Raises:
        ValueError: nothing is chosen, or ``all`` together with others.
    """
    names = tuple(sorted(set(cameras)))
    if not names or "" in names:
        raise ValueError(f"--cameras must name {PRIMARY}, {ALL}, or cameras of the dataset, found nothing")
    if ALL in names and len(names) > 1:
        raise ValueError(
            f"--cameras {ALL} takes every camera, so no other can be named beside it, found {', '.join(names)}"
        )
    return names


def chosen_cameras(episode: Episode, cameras: Sequence[str]) -> list[str]:
    """The names of an episode's cameras that the choice means, the primary one first.

    Raises:
        BadEpisode: a named camera is missing, is black or cannot be read, or two have names that sample keys
            cannot tell apart.
    """
    there = sorted(episode.views, key=lambda name: (name != episode.primary, name))
    wanted = there if ALL in cameras else [episode.primary if name == PRIMARY else name for name in cameras]
    missing = [name for name in wanted if name not in episode.views]
    for error in (episode.unusable_cameras[name] for name in missing if name in episode.unusable_cameras):
        raise BadEpisode(error.code, error.message)
    if black := [name for name in missing if name in episode.black_cameras]:
        raise BadEpisode(
            "black_camera",
            f"{episode.ref.name}: every frame of {', '.join(black)} is black; this camera was not recorded. There "
            "are pictures of "
            f"{', '.join(there)}; choose with --cameras",
        )
    if missing:
        raise BadEpisode(
            "no_such_camera",
            f"{episode.ref.name} has no camera {', '.join(missing)} with pictures; it has {', '.join(there)}, choose "
            "with --cameras",
        )
    chosen = [name for name in there if name in wanted]
    if len({camera_in_key(name) for name in chosen}) < len(chosen):
        raise BadEpisode(
            "camera_names",
            f"{episode.ref.name}: the cameras {', '.join(chosen)} differ only in signs that sample keys cannot hold; "
            "choose one with --cameras",
        )
    return chosen


def seen_by(episode: Episode, camera: str) -> Episode:
    """The episode with another camera as the primary one, up to the last frame for which both that camera and the wrist
    camera have a picture.

    That camera's view is a copy, so that its frames are released with it; the wrist camera's view is shared, as
    every window uses it.
    """
    view = episode.views[camera]
    own = view if camera == episode.wrist else replace(view)
    seen = replace(episode, primary=camera, views={**episode.views, camera: own})
    short = max(view.short, episode.views[episode.wrist].short if episode.wrist else 0)
    return take_frames(seen, np.arange(seen.length - short)) if short else seen
