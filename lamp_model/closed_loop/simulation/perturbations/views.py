"""Camera, light and background: changes of the simulator's model that only change pictures."""

from pathlib import Path
from typing import Any

import numpy as np

from lamp_model.closed_loop.simulation.perturbations.spec import direction

CAMERA = "agentview"
SIDEWARDS, UPWARDS, NEARER = np.deg2rad(12.0), np.deg2rad(8.0), 0.08
LOWEST, HIGHEST = np.deg2rad(10.0), np.deg2rad(80.0)
"""Elevations between which the camera stays."""
TILT = np.deg2rad(20.0)
BRIGHTER, TINT = np.log(1.5), np.log(1.2)
NOT_SHOWN = 4
"""A group that renderers leave out."""
MIXED = 0.5
"""How much of another texture there is at strength 1."""
ARENA = ("world", "floor", "table", "wall")
"""Words in the names of bodies that are background."""


def move_camera(model: Any, strength: float, drawn: np.random.Generator) -> dict[str, Any]:
    """Move the agent view around the point of its optical axis that is at the height of what things stand on.

    Args:
        model: ``mujoco.MjModel``; its camera is fixed to the world.

    Returns:
        The angles (degrees) and the ratio of distances that were drawn.
    """
    camera = model.camera(CAMERA).id
    sidewards, upwards, farther = strength * direction(drawn, 3) * (SIDEWARDS, UPWARDS, NEARER)
    position, axes = model.cam_pos[camera].copy(), _matrix(model.cam_quat[camera])
    centre = _looked_at(position, -axes[:, 2])
    away = position - centre
    distance = float(np.linalg.norm(away))
    azimuth = np.arctan2(away[1], away[0]) + sidewards
    elevation = np.clip(np.arcsin(away[2] / distance) + upwards, LOWEST, HIGHEST)
    distance *= max(1 + farther, 0.2)
    flat = np.cos(elevation)
    away = distance * np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])
    model.cam_pos[camera] = centre + away
    model.cam_quat[camera] = _quaternion(_looking(-away))
    return {
        "sidewards_deg": float(np.rad2deg(sidewards)),
        "upwards_deg": float(np.rad2deg(upwards)),
        "nearer": -farther,
    }


def _looked_at(position: np.ndarray, forwards: np.ndarray) -> np.ndarray:
    """Where the optical axis has the distance at which LIBERO's agent view shows the middle of a table, about 1.1 m."""
    return position + 1.1 * forwards


def _looking(forwards: np.ndarray) -> np.ndarray:
    """Axes (columns: right, up, backwards) of a camera that looks in a direction, upright."""
    backwards = -forwards / np.linalg.norm(forwards)
    right = np.cross([0.0, 0.0, 1.0], backwards)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(backwards, right), backwards], axis=1)


def _matrix(quaternion: np.ndarray) -> np.ndarray:
    import mujoco

    flat = np.zeros(9)
    mujoco.mju_quat2Mat(flat, quaternion)
    return flat.reshape(3, 3)


def _quaternion(matrix: np.ndarray) -> np.ndarray:
    import mujoco

    found = np.zeros(4)
    mujoco.mju_mat2Quat(found, matrix.ravel())
    return found


def change_light(model: Any, strength: float, drawn: np.random.Generator) -> dict[str, Any]:
    """Turn the lights, make them brighter or darker and coloured, and draw which of them cast shadows."""
    brightness, *tint = strength * direction(drawn, 4) * (BRIGHTER, TINT, TINT, TINT)
    colour = np.exp(brightness + np.array(tint))
    axis, shadows = direction(drawn, 3), drawn.random(model.nlight) < 0.5
    _hide_marks(model)
    for light in range(model.nlight):
        model.light_dir[light] = _turned(model.light_dir[light], axis, strength * TILT)
        model.light_pos[light] = _turned(model.light_pos[light], axis, strength * TILT)
        model.light_castshadow[light] = shadows[light]
        for part in (model.light_diffuse, model.light_ambient, model.light_specular):
            part[light] = np.clip(part[light] * colour, 0, 1)
    for part in (model.vis.headlight.diffuse, model.vis.headlight.ambient):
        part[:] = np.clip(np.asarray(part) * colour, 0, 1)
    return {"colour": colour.tolist(), "turned_deg": strength * 20.0, "shadows": shadows.tolist()}


def _hide_marks(model: Any) -> None:
    """Marks of the gripper are transparent, but would cast shadows: 20 m long lines."""
    for site in range(model.nsite):
        if model.site(site).name.startswith(("gripper0", "robot0")):
            model.site_group[site] = NOT_SHOWN


def _turned(vector: np.ndarray, axis: np.ndarray, angle: float) -> np.ndarray:
    """A vector turned around an axis of length 1 (Rodrigues)."""
    along = axis * (axis @ vector)
    return along + np.cos(angle) * (vector - along) + np.sin(angle) * np.cross(axis, vector)


def change_background(model: Any, strength: float, drawn: np.random.Generator) -> dict[str, Any]:
    """Mix other textures into those of floor, walls and table. Renderers that exist have to be told (``changed``).

    Returns:
        The file for each texture, and ``changed``: the textures' numbers.
    """
    stock = stock_textures()
    share = min(strength * MIXED, 1.0)
    chosen, changed = {}, []
    for texture in background_textures(model):
        name = stock[int(drawn.integers(len(stock)))]
        chosen[model.texture(texture).name] = name.name
        _mix(model, texture, name, share)
        changed.append(texture)
    return {"textures": chosen, "share": share, "changed": changed}


def background_textures(model: Any) -> list[int]:
    """Textures of floor, walls and table: of what is fixed to the world and no object."""
    import mujoco

    role = int(mujoco.mjtTextureRole.mjTEXROLE_RGB)
    found = []
    for geom in range(model.ngeom):
        body = model.body(int(model.geom_bodyid[geom])).name
        material = int(model.geom_matid[geom])
        if material < 0 or not any(body == word or word in body.split("_") for word in ARENA):
            continue
        texture = int(np.atleast_1d(model.mat_texid[material])[role if np.ndim(model.mat_texid) > 1 else 0])
        if texture >= 0 and texture not in found:
            found.append(texture)
    return found


def stock_textures() -> list[Path]:
    """robosuite's own textures of surfaces."""
    import robosuite

    folder = Path(str(robosuite.__file__)).parent / "models" / "assets" / "textures"
    words = ("wood", "plaster", "tile", "bricks", "felt", "ceramic", "dirt", "clay")
    return sorted(path for path in folder.glob("*.png") if any(word in path.name for word in words))


def _mix(model: Any, texture: int, file: Path, share: float) -> None:
    from PIL import Image

    width, height = int(model.tex_width[texture]), int(model.tex_height[texture])
    channels, first = int(model.tex_nchannel[texture]), int(model.tex_adr[texture])
    sides = max(height // width, 1) if height % width == 0 else 1  # a cube's six sides lie one under the other
    with Image.open(file) as opened:
        one = np.asarray(opened.convert("RGB").resize((width, height // sides)), float)
    wanted = np.tile(one, (sides, 1, 1))
    stored = model.tex_data[first : first + width * height * channels].reshape(height, width, channels)
    stored[..., :3] = ((1 - share) * stored[..., :3] + share * wanted[..., : min(channels, 3)]).astype(np.uint8)
