"""A finished folder of shards with random but valid triplets, for tests of whatever reads shards."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from schemas import manifest as manifests
from schemas.cameras import intrinsics_from_fov
from schemas.episode import ActionConvention
from schemas.files import digest_of, sha256_of
from schemas.manifest import Manifest
from schemas.sample_codec import encode_triplet
from schemas.scene_flow import GRID, HORIZON, PointFlag, SceneFlow, keypoint_grid
from schemas.shard_formats import write_shard
from schemas.triplet import CameraOfWindow, Source, Triplet, triplet_key

STATE, ACTION, ACTIONS = 8, 7, 16
SIZE = 64
INSTRUCTIONS = (("pick up the black bowl", "take the dark bowl"), ("open the middle drawer of the cabinet",))


def random_triplet(episode: int, frame: int, wrist: bool = True, size: int = SIZE) -> Triplet:
    """A block of keypoints slides over a still scene; state and actions follow the same direction."""
    rng = np.random.default_rng([episode, frame])
    direction = rng.normal(size=3) * (0.004, 0.004, 0.002)
    digest = hashlib.sha256(f"episode {episode}".encode()).hexdigest()[:16]
    start = np.concatenate([keypoint_grid(size, size) / size, rng.uniform(0.5, 1.5, (GRID * GRID, 1))], axis=1)
    moving = rng.random(GRID * GRID) < 0.25
    steps = np.arange(HORIZON + 1)[None, :, None] * moving[:, None, None]
    visible = np.ones((GRID * GRID, HORIZON + 1), bool)
    visible[rng.random(visible.shape) < 0.02] = False
    visible[:, 0] = True
    valid = visible & (np.arange(HORIZON + 1) <= HORIZON - frame)
    uvz = (start[:, None] + steps * direction).astype(np.float32)
    actions = np.zeros((ACTIONS, ACTION), np.float32)
    action_mask = np.arange(ACTIONS) < ACTIONS - frame
    actions[action_mask] = np.concatenate([direction * 100, [0.0, 0.0, 0.5, np.sign(direction[0])]])
    view = "agentview"
    return Triplet(
        key=triplet_key(digest, view, frame),
        episode=digest,
        source=Source("fixture", "file.hdf5", f"demo_{episode}", view, frame),
        images={"image": _jpeg(rng, size)} | ({"wrist": _jpeg(rng, size)} if wrist else {}),
        instructions=INSTRUCTIONS[episode % 2],
        flow=SceneFlow(uvz, visible, valid),
        point_flags=np.where(moving, 0, int(PointFlag.STATIC)).astype(np.uint8),
        depth_unit="m",
        depth_source="made up",
        flow_source="made up",
        camera=CameraOfWindow((size, size), intrinsics_from_fov(45, size, size), np.eye(4)[None], "made up", "made up"),
        state=np.concatenate([direction * 100, rng.normal(size=STATE - 4), [0.0]]).astype(np.float32),
        state_names=tuple(f"s{i}" for i in range(STATE)),
        actions=actions,
        action_mask=action_mask,
        action_convention=ActionConvention("fixture", tuple(f"a{i}" for i in range(ACTION)), "made up"),
        fps=20.0,
        success=True,
    )


def write_shards(
    folder: Path,
    episodes: int = 3,
    frames: int = 4,
    wrist: bool = True,
    size: int = SIZE,
    change: Callable[[Triplet], Triplet] = lambda triplet: triplet,
) -> Path:
    """A finished build of two shards (one when there is one episode), its manifest and statistics."""
    triplets = [change(random_triplet(e, f, wrist, size)) for e in range(episodes) for f in range(frames)]
    folder.mkdir(parents=True, exist_ok=True)
    middle = (episodes // 2) * frames
    shards = []
    for stem, part in (("shard-000000", triplets[:middle]), ("shard-000001", triplets[middle:])):
        if part:
            shards.append(
                write_shard("webdataset", folder, stem, [(t.key, t.episode, encode_triplet(t)) for t in part])
            )
    used = np.concatenate([t.actions[t.action_mask] for t in triplets])
    statistics: dict[str, Any] = {
        "state": _statistics(np.stack([t.state for t in triplets])),
        "action": _statistics(used),
    }
    if triplets[0].standard_actions is not None:
        chunks = [t.standard_actions for t in triplets if t.standard_actions is not None]
        convention = chunks[0].convention
        values = _statistics(np.concatenate([chunk.values[chunk.mask] for chunk in chunks]))
        said = {
            "convention": convention.name,
            "dimensions": convention.dimensions,
            "description": convention.description,
        }
        statistics["standard_action"] = {"count": len(used), **said, **values}
    manifests.write_statistics(folder, statistics)
    recipe = {"fixture": [episodes, frames, wrist, size, triplets[0].key]}
    Manifest(
        dataset={"name": "fixture", "version": "1", "licence": "CC0-1.0", "credit": "nobody"},
        recipe=recipe,
        recipe_digest=digest_of(recipe),
        format="webdataset",
        shards=shards,
        samples=len(triplets),
        counts={"episodes": episodes, "kept": len(triplets), "rejected": {}, "quarantined": {}},
        files={manifests.STATISTICS: sha256_of(folder / manifests.STATISTICS)},
    ).write(folder)
    return folder


def _statistics(values: np.ndarray) -> dict[str, list[float]]:
    named = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
    named |= {"q01": np.quantile(values, 0.01, axis=0), "q99": np.quantile(values, 0.99, axis=0)}
    return {name: [float(v) for v in array] for name, array in named.items()}


def _jpeg(rng: np.random.Generator, size: int) -> bytes:
    small = rng.integers(0, 256, (8, 8, 3), np.uint8)
    picture = cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
