"""All facts of one sample, as plain values."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.inspection.decode import decode_stored_picture
from pipeline.inspection.flow_statistics import FlowStatistics, measure
from pipeline.inspection.integrity import check_sample
from pipeline.inspection.score import score_of
from pipeline.inspection.shard_paths import CannotInspect, Collection
from pipeline.inspection.summary import fault_of_sample
from schemas.sample_codec import encode_triplet
from schemas.scene_flow import flag_names
from schemas.shard_formats import CorruptShard
from schemas.triplet import CameraOfWindow, Triplet


@dataclass(frozen=True)
class Found:
    """A sample and its place.

    Attributes:
        number: its place in the whole set, from 0.
        shard: the file that holds it.
    """

    number: int
    shard: Path
    triplet: Triplet


def find_sample(collection: Collection, name: str) -> Found:
    """Find a sample by its key, or by its number (from 0, through the shards in order).

    Raises:
        CannotInspect: there is no such sample, or it is damaged.
    """
    wanted, start = int(name) if name.isdecimal() else None, 0
    for _, shard in collection.opened():
        if wanted is None:
            rows = np.flatnonzero(shard.index["key"] == name.encode())
            row = int(rows[0]) if rows.size else None
        else:
            row = wanted - start if wanted < start + len(shard) else None
        if row is None:
            start += len(shard)
            continue
        try:
            triplet = shard.read(row)
        except (CorruptShard, ValueError, OSError) as error:
            fault = fault_of_sample(shard, row, error)
            raise CannotInspect(f"{fault.file}: sample {fault.sample}: {fault.problem}", 1) from None
        for fault in check_sample(shard.path, shard.index[row], triplet):
            raise CannotInspect(f"{fault.file}: sample {fault.sample}: {fault.problem}", 1)
        return Found(start + row, shard.path, triplet)
    damaged = "".join(f"; {f.file} could not be read" for f in collection.findings)
    if wanted is not None:
        here = f"there are {start} samples, numbered from 0" if start else "there are no samples"
        raise CannotInspect(f"{collection.path} has no sample number {wanted}: {here}{damaged}")
    raise CannotInspect(f"{collection.path} has no sample {name!r}{damaged}: give one of its keys, or a number from 0")


def describe(found: Found) -> dict[str, Any]:
    """The content of a sample. Positions are in pixels, depth is in the unit that is named. ``flow`` and ``score`` are
    None without flow.
    """
    t = found.triplet
    sizes = {name: len(data) for name, data in encode_triplet(t).items()}
    return {
        "key": t.key,
        "number": found.number,
        "shard": str(found.shard),
        "episode": t.episode,
        "source": vars(t.source),
        "instructions": list(t.instructions),
        "generated_instructions": [vars(generated) for generated in t.generated_instructions],
        "fps": t.fps,
        "step_seconds": t.step_seconds,
        "resampling": t.resampling,
        "success": t.success,
        "pictures": {role: _picture(data) for role, data in t.images.items()},
        "members": sizes,
        "camera": _camera(t.camera),
        "depth": {
            "unit": t.depth_unit,
            "source": t.depth_source,
            "alignment": vars(t.depth_alignment) if t.depth_alignment else None,
        },
        "state": dict(zip(_names(t.state_names, len(t.state)), map(float, t.state), strict=True)),
        "actions": _actions(t),
        "quality": dict(t.quality),
        **(_flow(t) if t.has_flow else {"flow": None, "score": None}),
    }


def _flow(t: Triplet) -> dict[str, Any]:
    measured = measure(t)
    statistics = FlowStatistics(t.depth_unit)
    statistics.add(t, measured)
    return {
        "flow": {"source": t.flow_source, **statistics.result()},
        "steps": t.flow.horizon,
        "steps_in_episode": int(measured.inside.sum()) - 1,
        "moving_points": int(measured.moving.sum()),
        "points": len(measured.moving),
        "point_flags": flag_names(t.point_flags),
        "score": score_of(t, measured).value,
    }


def _camera(camera: CameraOfWindow) -> dict[str, Any]:
    poses = camera.world_from_camera
    return {
        "size": list(camera.size),
        "intrinsics": camera.intrinsics.tolist(),
        "intrinsics_source": camera.intrinsics_source,
        "world_from_camera": poses.tolist(),
        "pose_source": camera.pose_source,
        "moved": float(np.linalg.norm(poses[:, :3, 3] - poses[0, :3, 3], axis=-1).max()),
    }


def _actions(t: Triplet) -> dict[str, Any]:
    return {
        "convention": t.action_convention.name,
        "dimensions": list(_names(t.action_convention.dimensions, t.actions.shape[1])),
        "description": t.action_convention.description,
        "values": t.actions.astype(float).round(6).tolist(),
        "mask": t.action_mask.tolist(),
    }


def _picture(data: bytes) -> dict[str, Any]:
    picture = decode_stored_picture(data)
    size = None if picture is None else [picture.shape[1], picture.shape[0]]
    return {"kind": "PNG" if data[:1] == b"\x89" else "JPEG", "size": size, "bytes": len(data)}


def _names(names: tuple[str, ...], count: int) -> tuple[str, ...]:
    """As many distinct names as there are values; numbers if the given names do not fit."""
    fits = len(names) == count == len(set(names))
    return names if fits else tuple(f"{i}" for i in range(count))
