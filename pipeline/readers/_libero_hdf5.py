"""LIBERO's official HDF5 files, one ``<task>_demo.hdf5`` a task (LIBERO's ``create_dataset.py``), 20 Hz.

Layout: group ``data`` with the attribute ``problem_info`` (JSON with ``language_instruction``); ``data/demo_<i>`` with
``actions`` [T, 7], ``states``, and ``obs/`` with ``agentview_rgb`` and ``eye_in_hand_rgb`` (u8), ``ee_states`` [T, 6],
``gripper_states`` [T, 2] and, if recorded with ``--use-depth``, ``agentview_depth`` [T, H, W, 1].

Conventions of these files, which only this module converts:

* Images and depth are stored upside down (MuJoCo's OpenGL buffer). A vertical flip makes them upright; there is no
  mirroring.
* ``obs[t]`` was recorded *after* the step that ``actions[t]`` commanded, so the action taken after seeing ``obs[t]`` is
  ``actions[t + 1]`` and the last frame has none. Replayed files record it before the step (``_libero_pairing``).
* Demo keys are sorted by number, not alphabetically.
* Depth is a normalised z-buffer (``_simulator_depth``).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float, Int

from pipeline.errors import UnreadableSource
from pipeline.formats.hdf5 import Node, list_demos, read_demo, read_simulation, rows
from pipeline.readers._camera_views import find_cameras
from pipeline.readers._libero_model import SimulatorModel
from pipeline.readers._libero_pairing import Observed, Pairing, pairing_of
from pipeline.readers._simulator_depth import DepthUnit, HandInView, SimulatorDepth, hand_in_view
from schemas.cameras import intrinsics_from_fov
from schemas.episode import (
    BadEpisode,
    CameraView,
    Episode,
    EpisodeRef,
    RecordedDepth,
    RecordedSimulation,
    RobotJoints,
)
from schemas.robot_conventions import LIBERO_DELTA, LIBERO_STATE

DATASET = "libero"
CONVENTION = LIBERO_DELTA
STATE_NAMES = LIBERO_STATE
FOV_Y = {"agentview": 45.0, "robot0_eye_in_hand": 75.0}
PRIMARY, WRIST = "agentview", "eye_in_hand"
BASE = "robot0_base"
JOINTS = (*(f"joint{number}" for number in range(1, 8)), "finger_joint1", "finger_joint2")
"""Of a Panda with its own hand, as Franka names them."""
SIMULATOR_NAMES = {PRIMARY: "agentview", WRIST: "robot0_eye_in_hand"}


def list_hdf5(root: Path, folder: Path) -> Iterator[EpisodeRef | UnreadableSource]:
    """Every demo of every ``*.hdf5`` in a folder."""
    return list_demos(DATASET, root, folder)


@dataclass(frozen=True)
class Hdf5Options:
    """Facts that the files may not contain.

    Attributes:
        depth_unit: of recorded depth; None for the z-buffer of LIBERO's own tool, which is checked.
        observed: whether observations were recorded before or after the action of their row, if the states do not show
            it.
    """

    depth_unit: DepthUnit | None = None
    observed: Observed | None = None


def read_hdf5(ref: EpisodeRef, options: Hdf5Options = Hdf5Options()) -> Episode:
    """One demo; its pictures are read on demand.

    Raises:
        BadEpisode: it cannot be read or used.
    """
    return read_demo(ref, partial(_read_demo, ref, options))


def _read_demo(ref: EpisodeRef, options: Hdf5Options, demo: Node) -> Episode:
    length = _check_shapes(ref, demo)
    pairing = pairing_of(ref, demo, options.observed)
    obs = demo["obs"]
    actions = demo["actions"][:].astype(np.float32)
    state = np.concatenate([obs["ee_states"][:], obs["gripper_states"][:]], axis=1).astype(np.float32)
    for name, array in (("actions", actions), ("state", state)):
        if not np.isfinite(array).all():
            raise BadEpisode("not_finite", f"{ref.name}: {name} hold a value that is not finite")
    model = SimulatorModel(ref.name, demo.attrs.get("model_file"))
    mask = np.ones(length, bool)
    if pairing.observed == "after":
        actions, mask = np.concatenate([actions[1:], np.zeros_like(actions[:1])]), np.arange(length) < length - 1
    # The shapes of a demo's arrays are read here, while its file is open; pixels are read on demand.
    cameras = find_cameras(
        ref,
        {name: partial(_camera, ref, name, obs, length, model, state, pairing, options) for name in (PRIMARY, WRIST)},
    )
    rewards = demo["rewards"][:] if "rewards" in demo else []
    return Episode(
        ref=ref,
        views=cameras.views,
        primary=PRIMARY,
        wrist=WRIST if WRIST in cameras.views else None,
        instructions=_instructions(ref, demo),
        fps=20.0,
        state=state,
        state_names=STATE_NAMES,
        actions=actions,
        action_mask=mask,
        action_convention=CONVENTION,
        success=bool(rewards[-1] > 0) if len(rewards) else None,
        notes=cameras.notes | pairing.notes,
        unusable_cameras=cameras.unusable,
        joints=_joints(obs, length, model),
    )


def _joints(obs: Node, length: int, model: SimulatorModel) -> RobotJoints | None:
    """A Panda's joints, where they were recorded and the model says where the robot stands."""
    base, recorded = model.world_from_body(BASE), obs.get("joint_states")
    if base is None or not isinstance(recorded, h5py.Dataset) or recorded.shape != (length, 7):
        return None
    # The simulator's second finger counts the other way.
    positions = np.concatenate([recorded[:], np.abs(obs["gripper_states"][:])], axis=1)
    return RobotJoints(JOINTS, positions, base) if np.isfinite(positions).all() else None


def _check_shapes(ref: EpisodeRef, demo: Node) -> int:
    """Check that all arrays have the same number of frames, and return it."""
    obs = demo.get("obs")
    if not isinstance(obs, h5py.Group):
        raise BadEpisode("missing_field", f"{ref.name} has no group obs")
    needed = {
        "actions": (demo, 7),
        "ee_states": (obs, 6),
        "gripper_states": (obs, 2),
    }
    length = None
    for name, (group, width) in needed.items():
        length = _check_shape(ref, group, name, ("T", width), length)
    if length is None or length < 2:
        raise BadEpisode("too_short", f"{ref.name} has {length} frame(s); an episode needs at least 2")
    return length


def _check_shape(ref: EpisodeRef, group: Node, name: str, expected: tuple[str | int, ...], length: int | None) -> int:
    """Check the shape of an array and return its number of rows."""
    if not isinstance(group.get(name), h5py.Dataset):
        code = "missing_camera" if name.endswith("_rgb") else "missing_field"
        raise BadEpisode(code, f"{ref.name} has no {name}")
    shape = group[name].shape
    fits = len(shape) == len(expected) and all(
        isinstance(e, str) or s == e for s, e in zip(shape, expected, strict=True)
    )
    if not fits or (length is not None and shape[0] != length):
        want = f"[{', '.join(map(str, expected))}]" + (f" with T = {length}" if length is not None else "")
        raise BadEpisode("wrong_shape", f"{ref.name}: {name} must be {want}, found {list(shape)}")
    return shape[0]


def _instructions(ref: EpisodeRef, demo: Node) -> tuple[str, ...]:
    """The demo's own instruction, where it was told in other words (``lamp-data collect --perturb language``), or the
    file's.
    """
    own = demo.attrs.get("language_instruction")
    if isinstance(own, str) and own.strip():
        return (own.strip(),)
    problem = demo.parent.attrs.get("problem_info")
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
    key = f"{name}_rgb"
    _check_shape(ref, obs, key, ("T", "H", "W", 3), length)
    if obs[key].dtype != np.uint8:
        raise BadEpisode("wrong_dtype", f"{ref.name}: {key} must be uint8, found {obs[key].dtype}")
    height, width = obs[key].shape[1:3]
    camera = SIMULATOR_NAMES[name]
    fov = model.fov_y(camera) or FOV_Y[camera]
    pose = model.world_from_camera(camera) if name == PRIMARY else None  # the wrist's is relative to the hand
    return CameraView(
        name=name,
        read_frames=partial(_read_upright, ref, key),
        read_some=partial(_read_upright, ref, key),
        length=length,
        size=(width, height),
        intrinsics=intrinsics_from_fov(fov, width, height),
        intrinsics_source=f"vertical field of view of {fov:g} degrees",
        world_from_camera=None if pose is None else pose[None],
        pose_source="unknown" if pose is None else "the simulator's model",
        fixed=name == PRIMARY,
    )


def _camera(
    ref: EpisodeRef,
    name: str,
    obs: Node,
    length: int,
    model: SimulatorModel,
    state: Float[np.ndarray, "T S"],
    pairing: Pairing,
    options: Hdf5Options,
) -> CameraView:
    """A camera with its recorded depth and the simulator's states, if the file has them."""
    view = _view(ref, name, obs, length, model)
    return replace(
        view,
        depth=_recorded_depth(ref, view, obs, model, hand_in_view(view, state[:, :3]), options.depth_unit),
        simulation=_simulation(ref, obs.parent, SIMULATOR_NAMES[name], pairing),
    )


def _simulation(ref: EpisodeRef, demo: Node, camera: str, pairing: Pairing) -> RecordedSimulation | None:
    if "states" not in demo or "model_file" not in demo.attrs:
        return None
    return RecordedSimulation(read=partial(_read_simulation, ref, len(demo["actions"]), pairing), camera=camera)


def _recorded_depth(
    ref: EpisodeRef, view: CameraView, obs: Node, model: SimulatorModel, hand: HandInView | None, unit: DepthUnit | None
) -> RecordedDepth | None:
    key = f"{view.name}_depth"
    if key not in obs:
        return None
    width, height = view.size
    expected = (view.length, height, width, 1)
    if obs[key].shape != expected:
        raise BadEpisode("wrong_shape", f"{ref.name}: {key} must be {list(expected)}, found {list(obs[key].shape)}")
    if obs[key].dtype.kind != "f":
        raise BadEpisode("wrong_dtype", f"{ref.name}: {key} must be floating point, found {obs[key].dtype}")
    planes, said = model.clip_planes(), "the simulator's model"
    if "znear_m" in obs[key].attrs and "zfar_m" in obs[key].attrs:
        planes = float(obs[key].attrs["znear_m"]), float(obs[key].attrs["zfar_m"])
        said = "attributes of the depth"
    if planes is not None and not 0 < planes[0] < planes[1] < np.inf:
        raise BadEpisode(
            "bad_clip_planes",
            f"{ref.name}: near and far plane of {key} must be 0 < near < far, found {planes[0]:g}, {planes[1]:g}",
        )
    stored = partial(_read_stored_depth, ref, key)
    name = f"{ref.name}: {key}"
    return SimulatorDepth(name, stored, view.length, unit or "z-buffer", unit is not None, planes, hand).recorded(said)


def _read_simulation(ref: EpisodeRef, length: int, pairing: Pairing) -> tuple[str, Float[np.ndarray, "T D"]]:
    xml, states = read_simulation(ref, length)
    return xml, pairing.states_shown(states)


def _read_stored_depth(
    ref: EpisodeRef, key: str, frames: Int[np.ndarray, " N"] | None = None
) -> Float[np.ndarray, "N H W"]:
    return _read_upright(ref, key, frames)[..., 0]


def _read_upright(ref: EpisodeRef, key: str, frames: Int[np.ndarray, " N"] | None = None) -> np.ndarray:
    """Upright pictures or depth of all frames, or of some."""
    stored = read_demo(ref, lambda demo: rows(demo[f"obs/{key}"], frames), key)
    return np.ascontiguousarray(stored[:, ::-1])
