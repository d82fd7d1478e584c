"""A sample's metadata, to JSON and back.

Fields added in later versions have defaults, so samples of earlier versions stay readable.
"""

import json
from typing import Any

import numpy as np

from schemas.episode import ActionConvention
from schemas.files import canonical_json
from schemas.flow_quanta import QUANTUM_PX, QUANTUM_Z
from schemas.perception import DepthAlignment, DepthNoise
from schemas.scene_flow import SceneFlow
from schemas.triplet import (
    NATIVE,
    ActionChunk,
    AdaptiveFlow,
    CameraOfWindow,
    GeneratedInstruction,
    Resampling,
    Source,
    Triplet,
)

VERSION = 2
"""The newest version of the format that this program reads."""
WITH_FLOW, WITHOUT_FLOW = 1, 2
"""The version of a sample: programs that know version 1 only would look for the flow's members."""


class CorruptSample(ValueError):
    """The bytes of a sample are not what was written."""


def encode_metadata(triplet: Triplet) -> bytes:
    """A triplet's text and its few numbers outside arrays, as canonical JSON."""
    return canonical_json(_metadata(triplet))


def load_metadata(key: str, data: bytes) -> dict[str, Any]:
    """Read the JSON of ``encode_metadata``.

    Raises:
        CorruptSample: it is not JSON, or of a later version.
    """
    try:
        meta = json.loads(data)
        version = meta["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptSample(f"the metadata of sample {key} is no JSON with a version") from error
    if version > VERSION:
        raise CorruptSample(f"sample {key} has format version {version}, this program reads up to {VERSION}")
    return meta


def _metadata(t: Triplet) -> dict[str, Any]:
    camera = t.camera
    return (
        {
            "version": WITH_FLOW if t.has_flow else WITHOUT_FLOW,
            "episode": t.episode,
            "source": vars(t.source),
            "instructions": list(t.instructions),
            "no_language": t.no_language,
            "flow": {
                "points": t.flow.uvz.shape[0],
                "steps": t.flow.horizon,
                "quantum": [QUANTUM_PX, QUANTUM_PX, QUANTUM_Z],
                "quantum_unit": ["px", "px", t.depth_unit],
                "source": t.flow_source,
                "step_seconds": t.step_seconds,
                "resampling": t.resampling,
            },
            "depth": {"unit": t.depth_unit, "source": t.depth_source, **_measured(t)},
            "camera": {
                "size": list(camera.size),
                "intrinsics": camera.intrinsics.tolist(),
                "intrinsics_source": camera.intrinsics_source,
                "world_from_camera": camera.world_from_camera.tolist(),
                "pose_source": camera.pose_source,
            },
            "state": t.state.astype(np.float32).tolist(),
            "state_names": list(t.state_names),
            "action_mask": t.action_mask.astype(int).tolist(),
            "action_convention": _convention(t.action_convention),
            "fps": t.fps,
            "success": t.success,
            "quality": dict(t.quality),
            "generated_instructions": [vars(generated) for generated in t.generated_instructions],
        }
        | _standard(t.standard_actions)
        | ({} if t.adaptive is None else {"adaptive": {"points": len(t.adaptive.flow.uvz)}})
    )


def _convention(convention: ActionConvention) -> dict[str, Any]:
    return {
        "name": convention.name,
        "dimensions": list(convention.dimensions),
        "description": convention.description,
    }


def _standard(chunk: ActionChunk | None) -> dict[str, Any]:
    if chunk is None:
        return {}
    return {"standard_actions": {"mask": chunk.mask.astype(int).tolist(), "convention": _convention(chunk.convention)}}


def _measured(t: Triplet) -> dict[str, Any]:
    found = {"alignment": t.depth_alignment, "noise": t.depth_noise}
    return {name: vars(value) for name, value in found.items() if value is not None}


def _read_alignment(depth: dict[str, Any]) -> DepthAlignment | None:
    return DepthAlignment(**depth["alignment"]) if "alignment" in depth else None


def _read_noise(depth: dict[str, Any]) -> DepthNoise | None:
    return DepthNoise(**depth["noise"]) if "noise" in depth else None


def _read_resampling(flow: dict[str, Any]) -> Resampling | None:
    if flow.get("resampling", NATIVE) == NATIVE:
        return None
    return Resampling(float(flow["step_seconds"]), str(flow["resampling"]))


def _read_convention(values: dict[str, Any]) -> ActionConvention:
    return ActionConvention(values["name"], tuple(values["dimensions"]), values["description"])


def _read_standard(meta: dict[str, Any], values: np.ndarray | None) -> ActionChunk | None:
    if values is None:
        return None
    said = meta["standard_actions"]
    return ActionChunk(values, np.array(said["mask"], bool), _read_convention(said["convention"]))


def build_triplet(
    key: str,
    meta: dict[str, Any],
    images: dict[str, bytes],
    flow: SceneFlow,
    point_flags: np.ndarray,
    actions: np.ndarray,
    standard_actions: np.ndarray | None = None,
    adaptive: AdaptiveFlow | None = None,
) -> Triplet:
    """A triplet from its metadata and arrays.

    Raises:
        KeyError: the metadata lacks something.
    """
    camera = meta["camera"]
    return Triplet(
        key=key,
        episode=meta["episode"],
        source=Source(**meta["source"]),
        images=images,
        instructions=tuple(meta["instructions"]),
        flow=flow,
        point_flags=point_flags,
        depth_unit=meta["depth"]["unit"],
        depth_source=meta["depth"]["source"],
        flow_source=meta["flow"]["source"],
        camera=CameraOfWindow(
            size=(camera["size"][0], camera["size"][1]),
            intrinsics=np.array(camera["intrinsics"], np.float64),
            world_from_camera=np.array(camera["world_from_camera"], np.float64),
            intrinsics_source=camera["intrinsics_source"],
            pose_source=camera["pose_source"],
        ),
        state=np.array(meta["state"], np.float32),
        state_names=tuple(meta["state_names"]),
        actions=actions,
        action_mask=np.array(meta["action_mask"], bool),
        action_convention=_read_convention(meta["action_convention"]),
        fps=float(meta["fps"]),
        success=meta["success"],
        standard_actions=_read_standard(meta, standard_actions),
        quality={str(name): float(value) for name, value in meta.get("quality", {}).items()},
        generated_instructions=tuple(
            GeneratedInstruction(str(g["text"]), str(g["style"]), str(g["model"]))
            for g in meta.get("generated_instructions", ())
        ),
        resampled=_read_resampling(meta["flow"]),
        depth_alignment=_read_alignment(meta["depth"]),
        adaptive=adaptive,
        depth_noise=_read_noise(meta["depth"]),
    )
