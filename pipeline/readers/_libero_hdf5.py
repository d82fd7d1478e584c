"""LIBERO's official HDF5 files, one ``<task>_demo.hdf5`` a task (LIBERO's ``create_dataset.py``), 20 Hz.

Layout: group ``data`` with the attribute ``problem_info`` (JSON with ``language_instruction``); ``data/demo_<i>`` with
``actions`` [T, 7], ``states``, and ``obs/`` with ``agentview_rgb`` and ``eye_in_hand_rgb`` (u8), ``ee_states`` [T, 6],
``gripper_states`` [T, 2] and, if recorded with ``--use-depth``, ``agentview_depth`` [T, H, W, 1].

Conventions of these files, each undone here and nowhere else:

* Images and depth are stored upside down (MuJoCo's OpenGL buffer). A vertical flip makes them upright; there is no
  mirroring.
* ``obs[t]`` was recorded *after* the step that ``actions[t]`` commanded, so the action taken after seeing ``obs[t]`` is
  ``actions[t + 1]`` and the last frame has none.
* Demo keys sort by number, not by letter.
* Depth is the normalised z-buffer d in [0, 1): metres = near / (1 - d (1 - near / far)).
"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float, Int

from pipeline.formats.hdf5 import Node, list_demos, read_demo, read_simulation, rows
from pipeline.readers import UnreadableSource
from pipeline.readers._libero_model import SimulatorModel
from schemas.cameras import intrinsics_from_fov
from schemas.episode import (
    ActionConvention,
    BadEpisode,
    CameraView,
    Episode,
    EpisodeRef,
    RecordedDepth,
    RecordedSimulation,
)

DATASET = "libero"
CONVENTION = ActionConvention(
    name="libero_osc_delta",
    dimensions=("dx", "dy", "dz", "rx", "ry", "rz", "gripper"),
    description=(
        "operational-space delta of the hand in the robot's base, scaled to [-1, 1]: translation, axis-angle; "
        "gripper -1 open, +1 close"
    ),
)
STATE_NAMES = ("x", "y", "z", "rx", "ry", "rz", "gripper_left", "gripper_right")
FOV_Y = {"agentview": 45.0, "robot0_eye_in_hand": 75.0}
PRIMARY, WRIST = "agentview", "eye_in_hand"
SIMULATOR_NAMES = {PRIMARY: "agentview", WRIST: "robot0_eye_in_hand"}


def list_hdf5(root: Path, folder: Path) -> Iterator[EpisodeRef | UnreadableSource]:
    """Every demo of every ``*.hdf5`` in a folder."""
    return list_demos(DATASET, root, folder)


def read_hdf5(ref: EpisodeRef) -> Episode:
    """One demo; its pictures are read when they are asked for.

    Raises:
        BadEpisode: it cannot be read or used.
    """
    return read_demo(ref, partial(_read_demo, ref))


def _read_demo(ref: EpisodeRef, demo: Node) -> Episode:
    length = _check_shapes(ref, demo)
    obs = demo["obs"]
    actions = demo["actions"][:].astype(np.float32)
    state = np.concatenate([obs["ee_states"][:], obs["gripper_states"][:]], axis=1).astype(np.float32)
    for name, array in (("actions", actions), ("state", state)):
        if not np.isfinite(array).all():
            raise BadEpisode("not_finite", f"{ref.name}: {name} hold a value that is not finite")
    model = SimulatorModel(ref.name, demo.attrs.get("model_file"))
    rewards = demo["rewards"][:] if "rewards" in demo else []
    return Episode(
        ref=ref,
        views={name: _view(ref, name, obs, length, model) for name in (PRIMARY, WRIST)},
        primary=PRIMARY,
        wrist=WRIST,
        instructions=_instructions(ref, demo.parent.attrs),
        fps=20.0,
        state=state,
        state_names=STATE_NAMES,
        actions=np.concatenate([actions[1:], np.zeros_like(actions[:1])]),
        action_mask=np.arange(length) < length - 1,
        action_convention=CONVENTION,
        success=bool(rewards[-1] > 0) if len(rewards) else None,
    )


def _check_shapes(ref: EpisodeRef, demo: Node) -> int:
    """The number of frames, once every array agrees on it."""
    obs = demo.get("obs")
    if not isinstance(obs, h5py.Group):
        raise BadEpisode("missing_field", f"{ref.name} has no group obs")
    needed = {
        "actions": (demo, 7),
        "agentview_rgb": (obs, "H", "W", 3),
        "eye_in_hand_rgb": (obs, "H", "W", 3),
        "ee_states": (obs, 6),
        "gripper_states": (obs, 2),
    }
    length = None
    for name, (group, *rest) in needed.items():
        if not isinstance(group.get(name), h5py.Dataset):
            code = "missing_camera" if name.endswith("_rgb") else "missing_field"
            raise BadEpisode(code, f"{ref.name} has no {name}")
        shape = group[name].shape
        expected = ("T", *rest)
        fits = len(shape) == len(expected) and all(
            isinstance(e, str) or s == e for s, e in zip(shape, expected, strict=True)
        )
        if not fits or (length is not None and shape[0] != length):
            want = f"[{', '.join(map(str, expected))}]" + (f" with T = {length}" if length is not None else "")
            raise BadEpisode("wrong_shape", f"{ref.name}: {name} must be {want}, found {list(shape)}")
        if name.endswith("_rgb") and group[name].dtype != np.uint8:
            raise BadEpisode("wrong_dtype", f"{ref.name}: {name} must be uint8, found {group[name].dtype}")
        length = shape[0]
    if length is None or length < 2:
        raise BadEpisode("too_short", f"{ref.name} has {length} frame(s); an episode needs at least 2")
    return length


def _instructions(ref: EpisodeRef, attributes: Node) -> tuple[str, ...]:
    problem = attributes.get("problem_info")
    try:
        text = json.loads(problem)["language_instruction"] if problem is not None else ""
        text = "".join(text) if isinstance(text, list) else text
        if not isinstance(text, str):
            raise TypeError(f"language_instruction is {text!r}")
    except (ValueError, KeyError, TypeError) as error:
        raise BadEpisode(
            "bad_language", f"{ref.name}: the attribute problem_info is no JSON with a text language_instruction"
        ) from error
    text = text.strip().strip('"').strip()
    return (text,) if text else ()


def _view(ref: EpisodeRef, name: str, obs: Node, length: int, model: SimulatorModel) -> CameraView:
    height, width = obs[f"{name}_rgb"].shape[1:3]
    camera = SIMULATOR_NAMES[name]
    fov = model.fov_y(camera) or FOV_Y[camera]
    pose = model.world_from_camera(camera) if name == PRIMARY else None  # the wrist's is relative to the hand
    return CameraView(
        name=name,
        read_frames=partial(_read_upright, ref, f"{name}_rgb"),
        read_some=partial(_read_upright, ref, f"{name}_rgb"),
        length=length,
        size=(width, height),
        intrinsics=intrinsics_from_fov(fov, width, height),
        intrinsics_source=f"vertical field of view of {fov:g} degrees",
        world_from_camera=None if pose is None else pose[None],
        pose_source="unknown" if pose is None else "the simulator's model",
        fixed=name == PRIMARY,
        depth=_recorded_depth(ref, name, obs, model),
        simulation=_simulation(ref, obs.parent, camera),
    )


def _simulation(ref: EpisodeRef, demo: Node, camera: str) -> RecordedSimulation | None:
    if "states" not in demo or "model_file" not in demo.attrs:
        return None
    return RecordedSimulation(read=partial(_read_simulation, ref, len(demo["actions"])), camera=camera)


def _recorded_depth(ref: EpisodeRef, name: str, obs: Node, model: SimulatorModel) -> RecordedDepth | None:
    key = f"{name}_depth"
    if key not in obs:
        return None
    expected = (*obs[f"{name}_rgb"].shape[:3], 1)
    if obs[key].shape != expected:
        raise BadEpisode("wrong_shape", f"{ref.name}: {key} must be {list(expected)}, found {list(obs[key].shape)}")
    if obs[key].dtype.kind != "f":
        raise BadEpisode("wrong_dtype", f"{ref.name}: {key} must be floating point, found {obs[key].dtype}")
    planes, said = model.clip_planes(), "the simulator's model"
    if "znear_m" in obs[key].attrs and "zfar_m" in obs[key].attrs:
        planes = float(obs[key].attrs["znear_m"]), float(obs[key].attrs["zfar_m"])
        said = "attributes of the depth"
    if planes is None:
        return None
    near, far = planes
    if not 0 < near < far < np.inf:
        raise BadEpisode(
            "bad_clip_planes",
            f"{ref.name}: near and far plane of {key} must be 0 < near < far, found {near:g}, {far:g}",
        )
    read = partial(_read_depth, ref, name, near, far)
    return RecordedDepth(
        read=read,
        read_some=read,
        unit="m",
        description=f"normalised z-buffer, near {near:.5g} m, far {far:.5g} m ({said})",
    )


def _read_simulation(ref: EpisodeRef, length: int) -> tuple[str, Float[np.ndarray, "T D"]]:
    """Frame t shows ``states[t + 1]``; what the last frame shows was not recorded."""
    xml, states = read_simulation(ref, length)
    return xml, np.concatenate([states[1:], np.full_like(states[:1], np.nan)])


def _read_depth(
    ref: EpisodeRef, name: str, near: float, far: float, frames: Int[np.ndarray, " N"] | None = None
) -> Float[np.ndarray, "N H W"]:
    buffer = _read_upright(ref, f"{name}_depth", frames)[..., 0]
    metres = np.empty(buffer.shape, np.float32)
    for frame, stored in zip(metres, buffer, strict=True):  # one at a time stays in the processor's cache
        inside = np.isfinite(stored) & (stored > 0) & (stored < 1)
        frame[:] = near / (1 - np.where(inside, stored, 0).astype(np.float32) * (1 - near / far))
        frame[~inside] = np.nan
    return metres


def _read_upright(ref: EpisodeRef, key: str, frames: Int[np.ndarray, " N"] | None = None) -> np.ndarray:
    """Pictures or depth of every frame, or of some."""
    stored = read_demo(ref, lambda demo: rows(demo[f"obs/{key}"], frames), key)
    return np.ascontiguousarray(stored[:, ::-1])
