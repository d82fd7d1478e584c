"""Splits episodes into training and validation. The split depends only on each episode's identity.

An episode is held out when a hash of its identity is below the requested fraction. So an episode that is held out of a
set is also held out of every larger one. Its identity is its id, number of frames and instructions in the dataset (from
``episodes.jsonl``), not its path: the same folder under another root, or the same set twice in a mixture, holds the
same episodes. Episodes that agree in all three are held out together, which only makes the split less even. Shards
without ``episodes.jsonl`` use the episodes' digests.

There is one exception for small sets: where no episode of a build is below the fraction, the one with the smallest hash
is held out, and where all are, the one with the largest is trained on.
"""

import hashlib
import json

import numpy as np
from jaxtyping import Int

from lamp_model.data.dataset import TrainingData
from schemas.files import digest_of, sha256_of
from schemas.manifest import EPISODES, BadManifest
from schemas.shard_set import ShardSet

Split = tuple[Int[np.ndarray, " N"], Int[np.ndarray, " M"]]
"""Numbers of the samples to train on, and of those held out."""


def split_members(data: TrainingData, val_fraction: float) -> Split:
    """Numbers of the samples to train on and to validate with: ``split_episodes`` of each member, so that both sides
    hold every member. An episode in several members is held out of all of them if it is held out of one.

    Raises:
        BadManifest: a member's list of episodes was changed after it was written.
    """
    names = [_identities(member.shards) for member in data.members]
    held_out = set[str]().union(*(_held_out(mine.values(), val_fraction) for mine in names))
    is_validation = np.concatenate(
        [_rows_of(member.shards, mine, held_out) for member, mine in zip(data.members, names, strict=True)]
    )
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)


def split_episodes(shards: ShardSet, val_fraction: float) -> Split:
    """Numbers of the samples of one build to train on and to validate with; no episode is on both sides.

    Raises:
        BadManifest: its list of episodes was changed after it was written.
    """
    names = _identities(shards)
    is_validation = _rows_of(shards, names, _held_out(names.values(), val_fraction))
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)


def _rows_of(shards: ShardSet, names: dict[bytes, str], chosen: set[str]) -> np.ndarray:
    digests = [digest for digest, name in names.items() if name in chosen]
    episodes = shards.index["episode"]
    return np.isin(episodes, np.array(digests, episodes.dtype))


def _held_out(identities, fraction: float) -> set[str]:
    """The identities below the fraction; at least one, and not all, where there are two or more."""
    order = sorted(set(identities), key=_place)
    if fraction <= 0 or len(order) < 2:
        return set()
    below = sum(_place(name) < fraction for name in order)
    return set(order[: min(max(below, 1), len(order) - 1)])


def _place(identity: str) -> float:
    """Hash of an identity as a number in [0, 1)."""
    digest = hashlib.sha256(b"split:" + identity.encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _identities(shards: ShardSet) -> dict[bytes, str]:
    """The identity of each episode that has samples, by its digest in the index."""
    told = _told(shards)
    digests: set[bytes] = set(shards.index["episode"].tolist())
    return {digest: told.get(digest, digest.decode()) for digest in digests}


def _told(shards: ShardSet) -> dict[bytes, str]:
    path, digest = shards.folder / EPISODES, shards.manifest.files.get(EPISODES)
    if digest is None:
        return {}
    if not path.is_file() or sha256_of(path) != digest:
        raise BadManifest(f"{path} is not the file that the manifest names: it is missing or its SHA-256 differs")
    found = {}
    for line in path.read_bytes().splitlines():
        values = json.loads(line)
        if "digest" in values:
            own = [values.get(name) for name in ("episode", "frames", "instructions")]
            found[str(values["digest"]).encode()] = digest_of(own)
    return found
