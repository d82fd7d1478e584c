"""Writes an attempt as a demonstration in the layout of LIBERO's own tool (``create_dataset.py``), rendering it.

``obs`` hold what is seen *after* the action of their row, ``states`` what is there before it. Pictures are upside down.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lamp_model.closed_loop.simulation.cameras import Cameras
from lamp_model.closed_loop.simulation.perturbations.perturber import Perturber
from lamp_model.closed_loop.simulation.scripted.demonstration import Attempt
from lamp_model.closed_loop.simulation.scripted.environments import OpenTask

CAMERAS = {"agentview": "agentview", "eye_in_hand": "robot0_eye_in_hand"}
"""Names in the files, and in the model."""


@dataclass(frozen=True)
class Look:
    """How a demonstration is seen and told.

    Attributes:
        side: of the pictures, pixels.
        depth: keep the normalised depth buffer too, with the clip planes (``znear_m``, ``zfar_m``) as attributes.
        perturber: of the attempt.
    """

    side: int
    depth: bool
    perturber: Perturber


def write_demonstration(path: Path, task: OpenTask, made: Attempt, about: dict[str, Any], look: Look) -> None:
    """Write one demonstration as ``data/demo_0`` of an HDF5 file.

    Args:
        about: further attributes of the demonstration, such as its seed.
    """
    import h5py

    kept = made.trajectory
    length = len(kept.actions)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        for name, value in task.attributes.items():
            data.attrs[name] = value if isinstance(value, str) else json.dumps(value)
        demo = data.create_group("demo_0")
        said = look.perturber.instruction(task.instruction)
        if said != task.instruction:
            demo.attrs["language_instruction"] = said
        demo.attrs["perturbations"] = json.dumps(look.perturber.drawn)
        demo.attrs.update({"num_samples": length, "model_file": made.model, "init_state": kept.states[0], **about})
        demo["actions"], demo["states"] = np.stack(kept.actions), np.stack(kept.states)
        if not np.array_equal(kept.actions, kept.executed):
            demo["executed_actions"] = np.stack(kept.executed)
        seen = {name: np.stack([one[name] for one in kept.observed]) for name in kept.observed[0]}
        quaternion = seen.pop("ee_quat")
        seen["ee_ori"] = np.stack([_rotation_vector(one) for one in quaternion])
        seen["ee_states"] = np.concatenate([seen["ee_pos"], seen["ee_ori"]], axis=1)
        demo["robot_states"] = np.concatenate([seen["gripper_states"], seen["ee_pos"], quaternion], axis=1)
        ended = np.zeros(length, np.uint8)
        ended[-1] = 1
        demo["rewards"], demo["dones"] = ended, ended
        obs = demo.create_group("obs")
        for name, values in seen.items():
            obs[name] = values
        _render(obs, task, made, look)


def _render(obs: Any, task: OpenTask, made: Attempt, look: Look) -> None:
    """Render what each row shows: the state after its action."""
    sim = task.environment.sim
    model, data = sim.model._model, sim.data._data
    side, depth = look.side, look.depth
    assert made.trajectory.last is not None
    shown = [*made.trajectory.states[1:], made.trajectory.last]
    squeezed = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    for name in CAMERAS:
        shape = (len(shown), side, side, 3)
        obs.create_dataset(f"{name}_rgb", shape, np.uint8, chunks=(1, *shape[1:]), **squeezed)
        if depth:
            far = {"znear_m": model.vis.map.znear, "zfar_m": model.vis.map.zfar}
            shape = (len(shown), side, side, 1)
            stored = obs.create_dataset(f"{name}_depth", shape, np.float32, chunks=(1, *shape[1:]), **squeezed)
            stored.attrs.update({plane: float(value * model.stat.extent) for plane, value in far.items()})
    with Cameras(model, side) as cameras:
        for row, state in enumerate(shown):
            sim.set_state_from_flattened(state)
            sim.forward()
            for name, its in CAMERAS.items():
                colours, buffer = cameras.look(data, its)
                obs[f"{name}_rgb"][row] = look.perturber.picture(colours)
                if depth:
                    obs[f"{name}_depth"][row] = buffer[..., None]


def _rotation_vector(quaternion: np.ndarray) -> np.ndarray:
    """As LIBERO's files have it: of the quaternion (xyzw) as it is."""
    from robosuite.utils.transform_utils import quat2axisangle

    return quat2axisangle(quaternion.copy())
