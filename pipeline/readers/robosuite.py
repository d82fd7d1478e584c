"""Demonstrations of any robosuite task, as robosuite's and robomimic's tools write them: ``data/demo_<i>`` with
``states``, ``actions`` and the simulator's model. ``--flow simulator`` gives exact flow from the states.

* Published files often have no pictures. Those are rendered from the states, at any size (extra ``sim``,
  ``docs/simulator.md``). If ``obs/<camera>_image`` exists (robomimic, upright), it is used.
* Frame t shows ``states[t]``, and ``actions[t]`` is taken after it. LIBERO, which shares the layout, records its
  pictures one step later.
* ``obs/<camera>_depth`` (robomimic, upright) is in metres as robomimic writes it, or a z-buffer if ``depth_unit``
  says so; both are checked (``_simulator_depth``).
* The files contain no instruction; the option ``instruction`` gives it.
* Proprioception is the joints of arm and gripper, read from the states in the order of the model's joints.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int, UInt8

from pipeline.errors import UnreadableSource
from pipeline.formats.discovery import list_forms
from pipeline.formats.hdf5 import Node, list_demos, read_demo, read_simulation, rows
from pipeline.readers._camera_views import find_cameras
from pipeline.readers._libero_model import SimulatorModel
from pipeline.readers._simulator_depth import DepthUnit, SimulatorDepth, hand_in_view
from pipeline.simulator.assets import AssetOptions
from schemas.cameras import intrinsics_from_fov
from schemas.episode import (
    ActionConvention,
    BadEpisode,
    CameraView,
    DatasetInfo,
    Episode,
    EpisodeRef,
    RecordedSimulation,
    RobotJoints,
)

THREAD_SAFE = False  # a renderer belongs to one thread
INFO = DatasetInfo(
    name="robosuite",
    version="unknown",
    licence="MIT (simulator and models); the recording's own",
    credit="Zhu et al., robosuite: A Modular Simulation Framework and Benchmark for Robot Learning, 2020",
)
POSE_DELTA = ("dx", "dy", "dz", "rx", "ry", "rz", "gripper")
DEFAULT_FOV_Y, DEFAULT_FPS = 45.0, 20.0
"""MuJoCo's default field of view and robosuite's default control frequency, for files without them."""


@dataclass(frozen=True)
class Config(AssetOptions):
    """What the files do not say.

    Attributes:
        camera: the primary camera, by the model's name.
        wrist: a camera on the hand; None for none.
        size: sides of rendered pictures, in px.
        instruction: what the robot does, in words.
        depth_unit: of recorded depth: ``metres`` or ``z-buffer``; None for metres, if the numbers show it.
    """

    section: ClassVar[str] = "robosuite"

    camera: str = "agentview"
    wrist: str | None = "robot0_eye_in_hand"
    size: int = 256
    instruction: str = ""
    depth_unit: DepthUnit | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < 16:
            raise ValueError(f"robosuite.size must be 16 or more, found {self.size}")
        if self.wrist == self.camera:
            raise ValueError(f"robosuite.wrist must be another camera than robosuite.camera {self.camera}")


def build(config: Config) -> "RobosuiteReader":
    """The reader."""
    return RobosuiteReader(config)


class RobosuiteReader:
    """See ``pipeline.readers.Reader``."""

    def __init__(self, config: Config):
        self.config = config
        self._replays: dict[str, tuple[EpisodeRef, Any, Any]] = {}

    def list_episodes(self, root: Path, form: str | None = None) -> Iterator[EpisodeRef | UnreadableSource]:
        """Every demo of every ``*.hdf5`` below the folder."""
        listers = {"hdf5": partial(list_demos, INFO.name)}
        return list_forms(root, listers, "*.hdf5 file", "robosuite's files of demonstrations (*.hdf5)", form)

    def read(self, ref: EpisodeRef) -> Episode:
        """One demo; its pictures are read or rendered on demand."""
        return read_demo(ref, partial(self._episode, ref))

    def _episode(self, ref: EpisodeRef, demo: Node) -> Episode:
        length = _length(ref, demo)
        actions, states = demo["actions"][:].astype(np.float32), demo["states"][:]
        if not (np.isfinite(actions).all() and np.isfinite(states).all()):
            raise BadEpisode("not_finite", f"{ref.name}: actions or states hold a value that is not finite")
        model = SimulatorModel(ref.name, demo.attrs.get("model_file"))
        names, columns = _robot_joints(model, states.shape[1])
        cameras = [self.config.camera] + ([self.config.wrist] if self.config.wrist else [])
        usable = find_cameras(ref, {name: partial(self._view, ref, demo, model, name, length) for name in cameras})
        fps, controller = _control(demo.parent.attrs)
        return Episode(
            ref=ref,
            views=usable.views,
            primary=self.config.camera,
            wrist=self.config.wrist if self.config.wrist in usable.views else None,
            instructions=(self.config.instruction.strip(),) if self.config.instruction.strip() else (),
            fps=fps,
            state=states[:, columns].astype(np.float32),
            state_names=names,
            actions=actions,
            action_mask=np.ones(length, bool),
            action_convention=_convention(controller, actions.shape[1]),
            notes=usable.notes,
            unusable_cameras=usable.unusable,
            joints=_recorded_joints(model, names, states[:, columns]),
        )

    def _view(self, ref: EpisodeRef, demo: Node, model: SimulatorModel, camera: str, length: int) -> CameraView:
        if not model.has_camera(camera):
            known = ", ".join(model.cameras())
            raise BadEpisode("missing_camera", f"{ref.name}: its model has no camera {camera}; it has: {known}")
        stored = f"obs/{camera}_image"
        size = (self.config.size, self.config.size)
        if stored in demo:
            shape = demo[stored].shape
            if len(shape) != 4 or shape[0] != length or shape[3] != 3 or demo[stored].dtype != np.uint8:
                raise BadEpisode(
                    "wrong_shape",
                    f"{ref.name}: {stored} must be uint8 [{length}, H, W, 3], found {demo[stored].dtype} {list(shape)}",
                )
            size, read = (shape[2], shape[1]), partial(_stored_frames, ref, stored)
        else:
            read = partial(self._rendered, ref, camera, length)
        fov, pose = model.fov_y(camera) or DEFAULT_FOV_Y, model.world_from_camera(camera)
        if not model.stands(camera):
            pose = None
        view = CameraView(
            name=camera,
            read_frames=partial(read, None),
            read_some=read,
            length=length,
            size=size,
            intrinsics=intrinsics_from_fov(fov, *size),
            intrinsics_source=f"vertical field of view of {fov:g} degrees",
            world_from_camera=None if pose is None else pose[None],
            pose_source="unknown" if pose is None else "the simulator's model",
            fixed=model.stands(camera),
            simulation=RecordedSimulation(partial(read_simulation, ref, length), camera),
        )
        return self._with_depth(ref, demo, model, view)

    def _with_depth(self, ref: EpisodeRef, demo: Node, model: SimulatorModel, view: CameraView) -> CameraView:
        """The view with its recorded depth, if there is depth of the same size as the pictures."""
        key = f"obs/{view.name}_depth"
        if key not in demo:
            return view
        width, height = view.size
        expected = (view.length, height, width, 1)
        if demo[key].shape not in (expected, expected[:3]) or demo[key].dtype.kind != "f":
            found = f"{demo[key].dtype} {list(demo[key].shape)}"
            raise BadEpisode("wrong_shape", f"{ref.name}: {key} must be numbers {list(expected)}, found {found}")
        hand = "obs/robot0_eef_pos"
        told = hand in demo and demo[hand].shape == (view.length, 3)
        depth = SimulatorDepth(
            name=f"{ref.name}: {key}",
            stored=partial(_stored_depth, ref, key),
            length=view.length,
            unit=self.config.depth_unit or "metres",
            said=self.config.depth_unit is not None,
            planes=model.clip_planes(),
            hand=hand_in_view(view, demo[hand][:]) if told else None,
        )
        return replace(view, depth=depth.recorded("the simulator's model"))

    def _rendered(
        self, ref: EpisodeRef, camera: str, length: int, frames: Int[np.ndarray, " N"] | None
    ) -> UInt8[np.ndarray, "N H W 3"]:
        replay, eye = self._opened(ref, camera, length)
        return replay.pictures(eye, frames)

    def _opened(self, ref: EpisodeRef, camera: str, length: int) -> tuple[Any, Any]:
        """Replay and renderer of one camera, kept until another episode is read: loading a model takes seconds."""
        from pipeline.simulator.model import load_model
        from pipeline.simulator.rendering import SceneCamera
        from pipeline.simulator.replay import Replay

        kept = self._replays.get(camera)
        if kept is not None and kept[0] == ref:
            return kept[1:]
        xml, states = read_simulation(ref, length)
        model = load_model(ref.name, xml, self.config.asset_folders("the dataset robosuite"))
        size = (self.config.size, self.config.size)
        replay = Replay(ref.name, model, states, camera, size)
        if kept is not None:
            kept[2].close()
        self._replays[camera] = ref, replay, SceneCamera(model, camera, size, smooth=True)
        return self._replays[camera][1:]


def _length(ref: EpisodeRef, demo: Node) -> int:
    for name in ("actions", "states"):
        if name not in demo:
            raise BadEpisode("missing_field", f"{ref.name} has no {name}")
        if demo[name].ndim != 2 or demo[name].dtype.kind != "f":
            raise BadEpisode(
                "wrong_shape",
                f"{ref.name}: {name} must be rows of numbers, found {demo[name].dtype} {list(demo[name].shape)}",
            )
    if "model_file" not in demo.attrs:
        raise BadEpisode("missing_field", f"{ref.name} has no attribute model_file")
    length = len(demo["states"])
    if len(demo["actions"]) != length:
        raise BadEpisode(
            "wrong_shape", f"{ref.name}: {length} states and {len(demo['actions'])} actions do not belong together"
        )
    if length < 2:
        raise BadEpisode("too_short", f"{ref.name} has {length} frame(s); an episode needs at least 2")
    return length


def _stored_frames(ref: EpisodeRef, key: str, frames: Int[np.ndarray, " N"] | None) -> UInt8[np.ndarray, "N H W 3"]:
    return read_demo(ref, lambda demo: rows(demo[key], frames), key)


def _stored_depth(ref: EpisodeRef, key: str, frames: Int[np.ndarray, " N"] | None) -> Float[np.ndarray, "N H W"]:
    stored = read_demo(ref, lambda demo: rows(demo[key], frames), key)
    return stored.reshape(stored.shape[:3])


def _robot_joints(model: SimulatorModel, width: int) -> tuple[tuple[str, ...], Int[np.ndarray, " S"]]:
    """Names of arm and gripper joints and their columns of a state (time, positions, velocities)."""
    places = {name: 1 + place for name, place in model.joint_places() if name.startswith(("robot", "gripper"))}
    found = {name: place for name, place in places.items() if place < width}
    return tuple(found), np.array([*found.values()], int)


def _recorded_joints(
    model: SimulatorModel, names: tuple[str, ...], positions: Float[np.ndarray, "T S"]
) -> RobotJoints | None:
    """The joints of one robot that stands still, without the simulator's prefixes in their names."""
    base = model.world_from_body("robot0_base")
    if base is None or any(name.startswith("robot1_") for name in names):
        return None
    short = tuple(re.sub(r"^(robot|gripper)0_", "", name) for name in names)
    fingers = np.array([name.startswith("finger_") for name in short], bool)
    return RobotJoints(short, np.where(fingers, np.abs(positions), positions), base)


def _control(attributes: Node) -> tuple[float, str]:
    """Control frequency in Hz, and the controller's name; robosuite's ``env_info``, robomimic's ``env_args``."""
    for name in ("env_info", "env_args"):
        try:
            told = json.loads(attributes[name])
            told = {**told, **told.get("env_kwargs", {})}
            controller = told.get("controller_configs", {}).get("type", "unknown")
            return float(told.get("control_freq", DEFAULT_FPS)), str(controller)
        except (KeyError, ValueError, TypeError, AttributeError):
            continue
    return DEFAULT_FPS, "unknown"


def _convention(controller: str, width: int) -> ActionConvention:
    known = controller == "OSC_POSE" and width == len(POSE_DELTA)
    said = (
        "operational-space delta of the hand, scaled to [-1, 1]: translation, axis-angle; gripper -1 open, +1 close"
        if known
        else f"what robosuite's controller {controller} takes, scaled to [-1, 1]; the gripper last: -1 open, +1 close"
    )
    name = f"robosuite_{controller.lower()}"
    return ActionConvention(name, POSE_DELTA if known else tuple(f"a{i}" for i in range(width)), said)
