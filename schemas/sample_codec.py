"""A triplet as named byte strings, and back: what a shard stores of each sample.

====================  =======================================================================================
``json``              everything that is words or a few numbers (see ``_metadata``)
``image.jpg``, ...    the encoded pictures, one for each role; ``.png`` where the bytes are PNG
``flow.blosc``        int16 [T, 3, K]: displacement from the reference position in quanta, differenced along T
``start.blosc``       float32 [K, 3]: u, v (unit square) and z of the keypoints at the reference frame
``mask.blosc``        uint8: bits of visible [K, S], bits of valid [K, S], then point_flags [K]
``actions.npy``       float32 [H, A]
====================  =======================================================================================

A quantum is 0.04 px in u and v and 0.1 mm in z, so the error is at most 0.02 px and 0.05 mm; a static point is exactly still.
Blosc members hold bit-shuffled zstd and decode with ``numcodecs.blosc.decompress`` alone.
"""

import io
import json
import math
from functools import lru_cache
from typing import Any

import numpy as np

from schemas.episode import ActionConvention
from schemas.files import canonical_json
from schemas.scene_flow import SceneFlow
from schemas.triplet import CameraOfWindow, Source, Triplet

VERSION = 1
QUANTUM_PX = 0.04
QUANTUM_Z = 1e-4

LARGEST_MEMBER = 1 << 28
"""Bytes that a member may have when decompressed; the published size needs 77 KB."""

DAMAGE = (ValueError, TypeError, RuntimeError, IndexError, EOFError, ArithmeticError, AttributeError, MemoryError)
"""What decoding raises where bytes or metadata are not what they should be."""

Members = dict[str, bytes]


class CorruptSample(ValueError):
    """The bytes of a sample are not what was written."""


class FlowTooLarge(ValueError):
    """A displacement does not fit the format: 1,310 px or 3.27 units of depth."""


def encode_triplet(triplet: Triplet) -> Members:
    """The sample's members, the same bytes for an equal triplet.

    Raises:
        ValueError: a shape, type or value that the format cannot hold, by name.
    """
    check_triplet(triplet)
    start, displacement = quantise(triplet.flow, triplet.camera.size)
    delta = np.diff(displacement, axis=1, prepend=np.int16(0)).astype(np.int16)
    flow = triplet.flow
    masks = np.concatenate(
        [np.packbits(flow.visible).ravel(), np.packbits(flow.valid).ravel(), triplet.point_flags.astype(np.uint8)]
    )
    members = {
        "json": encode_metadata(triplet),
        "flow.blosc": _squeeze(delta.transpose(1, 2, 0)),
        "start.blosc": _squeeze(start),
        "mask.blosc": _squeeze(masks),
        "actions.npy": _npy(triplet.actions.astype(np.float32)),
    }
    for role, data in triplet.images.items():
        members[f"{role}.{_picture_kind(data)}"] = bytes(data)
    return members


def decode_triplet(key: str, members: Members) -> Triplet:
    """The triplet of a sample's members.

    Raises:
        CorruptSample: a member is missing or does not decode to the shape that the metadata names.
    """
    try:
        meta = json.loads(members["json"])
        if meta["version"] > VERSION:
            raise CorruptSample(
                f"sample {key} has format version {meta['version']}, this program reads up to {VERSION}"
            )
        points, steps = meta["flow"]["points"], meta["flow"]["steps"]
        delta = np.frombuffer(_expand(members["flow.blosc"], 6 * steps * points), np.int16).reshape(steps, 3, points)
        displacement = _running_sum(delta).transpose(2, 0, 1)
        start = np.frombuffer(_expand(members["start.blosc"], 12 * points), np.float32).reshape(points, 3)
        packed = -(-points * (steps + 1) // 8)
        masks = np.frombuffer(_expand(members["mask.blosc"], 2 * packed + points), np.uint8)
        visible, valid = (
            np.unpackbits(bits, count=points * (steps + 1)).astype(bool).reshape(points, steps + 1)
            for bits in (masks[:packed], masks[packed : 2 * packed])
        )
        actions = _load_actions(key, members["actions.npy"], len(meta["action_mask"]))
        images = {name.rsplit(".", 1)[0]: data for name, data in members.items() if name.endswith((".jpg", ".png"))}
        flow = SceneFlow(dequantise(start, displacement, tuple(meta["camera"]["size"])), visible, valid)
        return build_triplet(key, meta, images, flow, masks[2 * packed :].copy(), actions)
    except CorruptSample:
        raise
    except KeyError as error:
        raise CorruptSample(f"sample {key} lacks {error.args[0]!r}") from error
    except DAMAGE as error:
        raise CorruptSample(f"sample {key} does not decode: {error}") from error


def encode_metadata(triplet: Triplet) -> bytes:
    """Everything of a triplet that is words or a few numbers, as canonical JSON."""
    return canonical_json(_metadata(triplet))


def load_metadata(key: str, data: bytes) -> dict[str, Any]:
    """What ``encode_metadata`` gave.

    Raises:
        CorruptSample: it is no JSON, or of a later version.
    """
    try:
        meta = json.loads(data)
        version = meta["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptSample(f"the metadata of sample {key} is no JSON with a version") from error
    if version > VERSION:
        raise CorruptSample(f"sample {key} has format version {version}, this program reads up to {VERSION}")
    return meta


def check_triplet(t: Triplet) -> None:
    """Refuse what the format does not hold: the door to the outside does not rely on annotations.

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
    for name, array in (("flow.uvz", t.flow.uvz[t.flow.valid]), ("state", t.state), ("actions", t.actions)):
        if not np.isfinite(array).all():
            raise ValueError(f"triplet {t.key}: {name} holds a value that is not finite")
    if "image" not in t.images:
        raise ValueError(f"triplet {t.key} has no picture with the role 'image'")


def quantise(flow: SceneFlow, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Start positions, float32 [K, 3], and displacements from them in quanta, int16 [K, T, 3].

    Steps that are not valid hold the last valid displacement (zero before the first), which costs nothing to store.

    Raises:
        FlowTooLarge: a valid displacement is too large for 16 bits (1,310 px or 3.27 m).
    """
    start = np.where(flow.valid[:, :1], flow.uvz[:, 0], np.nan_to_num(flow.uvz[:, 0]))
    moved = np.where(flow.valid[..., None], flow.uvz - start[:, None], 0)
    quanta = np.rint(moved / _quantum(size))
    last = np.maximum.accumulate(np.where(flow.valid, np.arange(flow.valid.shape[1]), 0), axis=1)
    quanta = np.take_along_axis(quanta, last[..., None], axis=1)
    if np.abs(quanta).max(initial=0) > np.iinfo(np.int16).max:
        raise FlowTooLarge(
            "a displacement is too large for the format: the limits are 1,310 px and 3.27 units of depth"
        )
    return start.astype(np.float32), quanta[:, 1:].astype(np.int16)


def dequantise(start: np.ndarray, displacement: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(u, v, z) float32 [K, T + 1, 3] from what ``quantise`` gave."""
    points, steps = displacement.shape[:2]
    # Points innermost, as they are stored: several times faster than in the order returned.
    uvz = np.empty((steps + 1, 3, points), np.float32)
    uvz[0] = start.T
    np.multiply(displacement.transpose(1, 2, 0), _quantum(size).astype(np.float32)[:, None], out=uvz[1:])
    uvz[1:] += uvz[0]
    return uvz.transpose(2, 0, 1)


def _quantum(size: tuple[int, int]) -> np.ndarray:
    return np.array([QUANTUM_PX / size[0], QUANTUM_PX / size[1], QUANTUM_Z])


def _metadata(t: Triplet) -> dict[str, Any]:
    camera = t.camera
    return {
        "version": VERSION,
        "episode": t.episode,
        "source": vars(t.source),
        "instructions": list(t.instructions),
        "flow": {
            "points": t.flow.uvz.shape[0],
            "steps": t.flow.horizon,
            "quantum": [QUANTUM_PX, QUANTUM_PX, QUANTUM_Z],
            "quantum_unit": ["px", "px", t.depth_unit],
            "source": t.flow_source,
        },
        "depth": {"unit": t.depth_unit, "source": t.depth_source},
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
        "action_convention": {
            "name": t.action_convention.name,
            "dimensions": list(t.action_convention.dimensions),
            "description": t.action_convention.description,
        },
        "fps": t.fps,
        "success": t.success,
    }


def build_triplet(
    key: str,
    meta: dict[str, Any],
    images: dict[str, bytes],
    flow: SceneFlow,
    point_flags: np.ndarray,
    actions: np.ndarray,
) -> Triplet:
    """A triplet from its metadata and arrays.

    Raises:
        KeyError: the metadata lacks something.
    """
    camera, convention = meta["camera"], meta["action_convention"]
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
        action_convention=ActionConvention(
            convention["name"], tuple(convention["dimensions"]), convention["description"]
        ),
        fps=float(meta["fps"]),
        success=meta["success"],
    )


def _picture_kind(data: bytes) -> str:
    if data[:2] == b"\xff\xd8":
        return "jpg"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    raise ValueError("a picture must be JPEG or PNG bytes")


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _running_sum(delta: np.ndarray) -> np.ndarray:
    """``np.cumsum`` along the first axis, which numpy does one number at a time and this a row at a time."""
    total = delta.copy()
    for step in range(1, len(total)):
        np.add(total[step], total[step - 1], out=total[step])
    return total


@lru_cache(maxsize=256)
def _npy_header(header: bytes) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type from a ``.npy`` header; parsing one costs as much as half a sample, so they are remembered.

    Raises:
        ValueError: another version or order, or a type that is no plain number.
    """
    stream = io.BytesIO(header)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("a .npy member of another version than 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if fortran or dtype.hasobject:
        raise ValueError(f"a .npy member must hold plain numbers in C order, found {dtype}")
    return shape, dtype


def _load_actions(key: str, data: bytes, count: int) -> np.ndarray:
    try:
        begin = 10 + int.from_bytes(data[8:10], "little")
        shape, dtype = _npy_header(data[:begin])
        actions = np.frombuffer(data, dtype, math.prod(shape), begin).reshape(shape)
    except Exception as error:  # a damaged header makes numpy raise what Python's tokenizer does, and more
        raise CorruptSample(f"sample {key}: actions.npy is no array: {error}") from error
    if actions.dtype != np.float32 or actions.ndim != 2 or len(actions) != count:
        raise CorruptSample(
            f"sample {key}: actions must be float32 [{count}, A], found {actions.dtype} {list(actions.shape)}"
        )
    return actions


def _squeeze(array: np.ndarray) -> bytes:
    from numcodecs.blosc import Blosc

    codec = Blosc(cname="zstd", clevel=7, shuffle=Blosc.BITSHUFFLE)
    return bytes(codec.encode(np.ascontiguousarray(array)))


def _expand(data: bytes, size: int) -> bytes:
    """Decompress, refusing a declared size other than the expected one before anything is allocated."""
    from numcodecs.blosc import decompress

    if (
        len(data) < 16
        or size > LARGEST_MEMBER
        or int.from_bytes(data[4:8], "little") != size
        or int.from_bytes(data[12:16], "little") != len(data)
    ):
        raise ValueError(f"a compressed member does not hold the {size} bytes that it should")
    return decompress(data)
