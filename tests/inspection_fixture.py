"""Shards whose flow is known exactly, for the tests of looking at shards."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from triplet_fixture import make_triplet

from pipeline.inspection import inspect
from schemas.files import digest_of, sha256_of
from schemas.manifest import Manifest
from schemas.sample_codec import encode_triplet
from schemas.scene_flow import PointFlag, SceneFlow, keypoint_grid
from schemas.shard_formats import write_shard
from schemas.triplet import Triplet

SIZE = (128, 96)
STEP = np.array([0.4, -0.8, 0.001])
"""(px, px, m): whole quanta, so that nothing is rounded."""


def known_triplet(moving: int = 100, inside: int = 33, **changes) -> Triplet:
    """``moving`` points slide by STEP at every step, the others stand; the episode ends after ``inside`` positions."""
    base = make_triplet(seed=1, size=SIZE)
    uvz = np.empty((400, 33, 3))
    uvz[..., :2] = (keypoint_grid(*SIZE) / SIZE)[:, None]
    uvz[..., 2] = 1.0
    uvz[:moving] += np.arange(33)[:, None] * (STEP / [*SIZE, 1])
    there = np.broadcast_to(np.arange(33) < inside, (400, 33)).copy()
    flags = np.zeros(400, np.uint8)
    flags[moving:] = int(PointFlag.STATIC)
    values = {"flow": SceneFlow(uvz, there.copy(), there), "point_flags": flags, **changes}
    return dataclasses.replace(base, **values)


def write_set(
    folder: Path, triplets: list[Triplet], format_name: str = "webdataset", per_shard: int = 2, **dataset
) -> Path:
    """A finished build of these triplets."""
    shards = []
    for number in range(0, len(triplets), per_shard):
        part = triplets[number : number + per_shard]
        rows = [(t.key, t.episode, encode_triplet(t)) for t in part]
        shards.append(write_shard(format_name, folder, f"set-{number:05d}", rows))
    (folder / "episodes.jsonl").write_text("{}\n")
    recipe = {"tracker": "lk", "note": dataset.get("name", "")}
    files = {"episodes.jsonl": sha256_of(folder / "episodes.jsonl")}
    about = {"name": "test", "version": "1", "licence": "CC0", "credit": "nobody", **dataset}
    counts = {"kept": len(triplets), "rejected": {"no_motion": 3, "too_short": 1}, "quarantined": {"no_depth": 2}}
    Manifest(about, recipe, digest_of(recipe), format_name, shards, len(triplets), counts, files).write(folder)
    return folder


def several(count: int = 6, **changes) -> list[Triplet]:
    return [known_triplet(key=f"0123456789abcdef-front-{5 * i:06d}", moving=10 * i, **changes) for i in range(count)]


def seen(path: Path, **options) -> tuple[int, dict]:
    """Exit code and JSON of inspecting a path."""
    said: list[str] = []
    code = inspect(path, as_json=True, say=said.append, **options)
    return code, json.loads("\n".join(said))
