"""An episode with some of its frames only, as if the others had never been recorded."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Int

from schemas.episode import CameraView, Episode

Some = Callable[[np.ndarray], np.ndarray]
"""Loads the frames with the given ascending numbers."""


def take_frames(episode: Episode, frames: Int[np.ndarray, " N"]) -> Episode:
    """The episode at the frames with these ascending numbers; ``source_frames`` still gives their numbers in the file.

    Pixels, depth and simulator states are not read until they are requested.
    """
    source = np.array([episode.source_frame(int(frame)) for frame in frames])
    made, texts, joints = episode.standard_actions, episode.frame_instructions, episode.joints
    if made is not None:
        made = replace(
            made,
            values=made.values[frames],
            mask=made.mask[frames],
            origin=None if made.origin is None else made.origin[frames],
            begins=None if made.begins is None else made.begins[frames],
        )
    return replace(
        episode,
        views={name: _view(view, frames) for name, view in episode.views.items()},
        state=episode.state[frames],
        actions=episode.actions[frames],
        action_mask=episode.action_mask[frames],
        other_actions={name: values[frames] for name, values in episode.other_actions.items()},
        standard_actions=made,
        source_frames=source,
        tools_xyz=None if episode.tools_xyz is None else episode.tools_xyz[:, frames],
        joints=None if joints is None else replace(joints, positions=joints.positions[frames]),
        frame_instructions=None if texts is None else tuple(texts[int(frame)] for frame in frames),
    )


def _view(view: CameraView, frames: Int[np.ndarray, " N"]) -> CameraView:
    depth, simulation, stereo, poses = view.depth, view.simulation, view.stereo, view.world_from_camera
    return replace(
        view,
        **_readers("read_frames", view.some_frames, frames),
        length=len(frames),
        short=int((frames >= view.length - view.short).sum()),
        world_from_camera=poses if poses is None or len(poses) == 1 else poses[frames],
        depth=None if depth is None else replace(depth, **_readers("read", depth.some, frames)),
        simulation=None if simulation is None else replace(simulation, read=partial(_states, simulation.read, frames)),
        stereo=None if stereo is None else replace(stereo, **_readers("read_right", stereo.some, frames)),
    )


def _readers(name: str, some: Some, frames: Int[np.ndarray, " N"]) -> dict[str, Callable[..., np.ndarray]]:
    """Functions that load all of the remaining frames, and some of them."""
    return {name: partial(some, frames), "read_some": partial(_some_of, some, frames)}


def _some_of(some: Some, frames: Int[np.ndarray, " N"], numbers: Int[np.ndarray, " M"]) -> np.ndarray:
    return some(frames[numbers])


def _states(read: Callable[[], tuple[Any, np.ndarray]], frames: np.ndarray) -> tuple[Any, np.ndarray]:
    model, states = read()
    return model, states[frames]
