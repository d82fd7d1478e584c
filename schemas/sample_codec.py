"""A triplet as named byte strings, and back: what a shard stores of each sample.

====================  =======================================================================================
``json``              text and the few numbers outside arrays (``schemas.sample_metadata``)
``image.jpg``, ...    the encoded pictures, one for each role; ``.png`` where the bytes are PNG
``flow.blosc``        int16 [T, 3, K]: displacement from the reference position in quanta, differenced along T
``start.blosc``       float32 [K, 3]: u, v (unit square) and z of the keypoints at the reference frame
``mask.blosc``        uint8: bits of visible [K, S], bits of valid [K, S], then point_flags [K]
``actions.npy``       float32 [H, A]
``standard_actions.npy``  float32 [H, A], where the sample has standard actions
``adaptive_flow.blosc``, ``adaptive_start.blosc``, ``adaptive_mask.blosc``  the same of adaptive keypoints, if there are
====================  =======================================================================================

A sample without flow has none of the three ``.blosc`` members.

A quantum is 0.04 px in u and v and 0.1 mm in z, so the error is at most 0.02 px and 0.05 mm; a static point has
exactly zero displacement. Blosc members declare their compression and decode with ``numcodecs.blosc.decompress`` alone.
"""

import json
from typing import Any

import numpy as np

from schemas.flow_quanta import dequantise, quantise
from schemas.sample_arrays import array_bytes, compress, decompress, load_array
from schemas.sample_metadata import VERSION, CorruptSample, build_triplet, encode_metadata
from schemas.scene_flow import SceneFlow, no_flow
from schemas.triplet import AdaptiveFlow, Triplet

DAMAGE = (ValueError, TypeError, RuntimeError, IndexError, EOFError, ArithmeticError, AttributeError, MemoryError)
"""Errors that decoding raises for invalid bytes or metadata."""

Members = dict[str, bytes]
ADAPTIVE = "adaptive_"
"""Before the names of the members of adaptive keypoints."""


def encode_triplet(triplet: Triplet) -> Members:
    """The sample's members; equal triplets give the same bytes.

    Raises:
        ValueError: a shape, type or value that the format cannot store; the message names the field.
    """
    check_triplet(triplet)
    members = {
        "json": encode_metadata(triplet),
        "actions.npy": array_bytes(triplet.actions.astype(np.float32)),
        **(_encode_flow(triplet.flow, triplet.point_flags, triplet.camera.size) if triplet.has_flow else {}),
    }
    if triplet.adaptive is not None:
        more = _encode_flow(triplet.adaptive.flow, triplet.adaptive.point_flags, triplet.camera.size)
        members |= {ADAPTIVE + name: data for name, data in more.items()}
    if triplet.standard_actions is not None:
        members["standard_actions.npy"] = array_bytes(triplet.standard_actions.values.astype(np.float32))
    for role, data in triplet.images.items():
        members[f"{role}.{_picture_kind(data)}"] = bytes(data)
    return members


def _encode_flow(flow: SceneFlow, point_flags: np.ndarray, size: tuple[int, int]) -> Members:
    start, displacement = quantise(flow, size)
    delta = np.diff(displacement, axis=1, prepend=np.int16(0)).astype(np.int16)
    masks = np.concatenate(
        [np.packbits(flow.visible).ravel(), np.packbits(flow.valid).ravel(), point_flags.astype(np.uint8)]
    )
    return {
        "flow.blosc": compress(delta.transpose(1, 2, 0)),
        "start.blosc": compress(start),
        "mask.blosc": compress(masks, quick=True),
    }


def decode_triplet(key: str, members: Members, flow: bool = True) -> Triplet:
    """The triplet of a sample's members.

    Args:
        flow: decode the flow too; without, the triplet is like one of a build without flow. For a policy, which learns
            none, this saves a third of the time.

    Raises:
        CorruptSample: a member is missing or does not decode to the shape that the metadata names.
    """
    try:
        meta = json.loads(members["json"])
        if meta["version"] > VERSION:
            raise CorruptSample(
                f"sample {key} has format version {meta['version']}, this program reads up to {VERSION}"
            )
        stored = bool(meta["flow"]["points"]) and flow
        points = meta["flow"]["points"]
        scene, flags = _decode_flow(meta, points, members) if stored else (no_flow(), np.zeros(0, np.uint8))
        adaptive = None
        if "adaptive" in meta and flow:
            more = {name.removeprefix(ADAPTIVE): data for name, data in members.items() if name.startswith(ADAPTIVE)}
            adaptive = AdaptiveFlow(*_decode_flow(meta, meta["adaptive"]["points"], more))
        actions = _load_actions(key, "actions", members, len(meta["action_mask"]))
        standard = None
        if "standard_actions" in meta:
            standard = _load_actions(key, "standard_actions", members, len(meta["standard_actions"]["mask"]))
        images = {name.rsplit(".", 1)[0]: data for name, data in members.items() if name.endswith((".jpg", ".png"))}
        return build_triplet(key, meta, images, scene, flags, actions, standard, adaptive)
    except CorruptSample:
        raise
    except KeyError as error:
        raise CorruptSample(f"sample {key} lacks {error.args[0]!r}") from error
    except DAMAGE as error:
        raise CorruptSample(f"sample {key} does not decode: {error}") from error


def _decode_flow(meta: dict[str, Any], points: int, members: Members) -> tuple[SceneFlow, np.ndarray]:
    """The flow of a number of keypoints, and their flags."""
    steps = meta["flow"]["steps"]
    delta = np.frombuffer(decompress(members["flow.blosc"], 6 * steps * points), np.int16).reshape(steps, 3, points)
    displacement = _running_sum(delta).transpose(2, 0, 1)
    start = np.frombuffer(decompress(members["start.blosc"], 12 * points), np.float32).reshape(points, 3)
    packed = -(-points * (steps + 1) // 8)
    masks = np.frombuffer(decompress(members["mask.blosc"], 2 * packed + points), np.uint8)
    visible, valid = (
        np.unpackbits(bits, count=points * (steps + 1)).view(bool).reshape(points, steps + 1)
        for bits in (masks[:packed], masks[packed : 2 * packed])
    )
    uvz = dequantise(start, displacement, tuple(meta["camera"]["size"]))
    return SceneFlow(uvz, visible, valid), masks[2 * packed :].copy()


def check_triplet(t: Triplet) -> None:
    """Refuse what the format cannot store. Checked at run time, as callers may not respect the annotations.

    Raises:
        ValueError: naming the field, what was expected and what was found.
    """
    points, steps = t.flow.uvz.shape[:2]
    shapes = {
        "flow.uvz": (t.flow.uvz, (points, steps, 3)),
        "flow.visible": (t.flow.visible, (points, steps)),
        "flow.valid": (t.flow.valid, (points, steps)),
        "point_flags": (t.point_flags, (points,)),
        "action_mask": (t.action_mask, t.actions.shape[:1]),
        "camera.intrinsics": (t.camera.intrinsics, (3, 3)),
    }
    numbers = [("flow.uvz", t.flow.uvz[t.flow.valid]), ("state", t.state), ("actions", t.actions)]
    if t.adaptive is not None:
        more = len(t.adaptive.flow.uvz)
        shapes["adaptive.flow.uvz"] = (t.adaptive.flow.uvz, (more, steps, 3))
        shapes["adaptive.flow.visible"] = (t.adaptive.flow.visible, (more, steps))
        shapes["adaptive.flow.valid"] = (t.adaptive.flow.valid, (more, steps))
        shapes["adaptive.point_flags"] = (t.adaptive.point_flags, (more,))
        numbers.append(("adaptive.flow.uvz", t.adaptive.flow.uvz[t.adaptive.flow.valid]))
    if t.standard_actions is not None:
        chunk = t.standard_actions
        shapes["standard_actions"] = (chunk.values, (*t.actions.shape[:1], len(chunk.convention.dimensions)))
        shapes["standard_actions.mask"] = (chunk.mask, t.actions.shape[:1])
        numbers.append(("standard_actions", chunk.values))
    for name, (array, shape) in shapes.items():
        if array.shape != shape:
            raise ValueError(f"triplet {t.key}: {name} must have shape {shape}, found {array.shape}")
    for name in ("visible", "valid"):
        if getattr(t.flow, name).dtype != bool:
            raise ValueError(f"triplet {t.key}: flow.{name} must be bool, found {getattr(t.flow, name).dtype}")
    if t.camera.world_from_camera.shape not in ((1, 4, 4), (steps, 4, 4)):
        raise ValueError(
            f"triplet {t.key}: camera.world_from_camera must be [1, 4, 4] or [{steps}, 4, 4], "
            f"found {list(t.camera.world_from_camera.shape)}"
        )
    for name, array in numbers:
        if not np.isfinite(array).all():
            raise ValueError(f"triplet {t.key}: {name} holds a value that is not finite")
    if "image" not in t.images:
        raise ValueError(f"triplet {t.key} has no picture with the role 'image'")


def _load_actions(key: str, name: str, members: Members, count: int) -> np.ndarray:
    try:
        actions = load_array(members[f"{name}.npy"])
    except ValueError as error:
        raise CorruptSample(f"sample {key}: {name}.npy is damaged: {error}") from error
    if actions.dtype != np.float32 or actions.ndim != 2 or len(actions) != count:
        raise CorruptSample(
            f"sample {key}: {name} must be float32 [{count}, A], found {actions.dtype} {list(actions.shape)}"
        )
    return actions


def _picture_kind(data: bytes) -> str:
    if data[:2] == b"\xff\xd8":
        return "jpg"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    raise ValueError("a picture must be JPEG or PNG bytes")


def _running_sum(delta: np.ndarray) -> np.ndarray:
    """``np.cumsum`` along the first axis, faster: numpy adds single numbers, this adds rows."""
    total = delta.copy()
    for step in range(1, len(total)):
        np.add(total[step], total[step - 1], out=total[step])
    return total
