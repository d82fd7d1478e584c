"""Held-out episodes: never on both sides, whatever the set is called, wherever it lies and whatever lies beside it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.shard import INSTRUCTIONS, write_shards

from lamp_model.data.dataset import TrainingData
from lamp_model.data.split import split_episodes, split_members
from pipeline.build.mixture import MixtureBuild, write_mixture
from schemas.files import sha256_of
from schemas.manifest import EPISODES, BadManifest, read_manifest
from schemas.shard_set import ShardSet


def build(folder: Path, episodes: int, root: str = "") -> Path:
    """Shards whose digests depend on the root, as those of a build on ``--input`` do, and their list of episodes."""

    def through(triplet):
        digest = f"{root}{triplet.episode}"[:16]
        return replace(triplet, episode=digest, key=digest + triplet.key[16:])

    write_shards(folder, episodes=episodes, frames=2, change=through)
    shards = ShardSet(folder)
    found = {str(t.episode): t.source.episode for t in (shards.read(n) for n in range(len(shards)))}
    lines = [
        {"digest": digest, "episode": name, "frames": 40, "instructions": INSTRUCTIONS[0], "source": f"{root}/a.hdf5"}
        for digest, name in found.items()
    ]
    (folder / EPISODES).write_text("".join(json.dumps(line) + "\n" for line in lines))
    manifest = read_manifest(folder)
    replace(manifest, files={**manifest.files, EPISODES: sha256_of(folder / EPISODES)}).write(folder)
    return folder


def names_of(data, numbers) -> set[str]:
    return {data.read(int(number)).source.episode for number in numbers}


def test_no_episode_is_on_both_sides_and_none_is_lost(tmp_path):
    shards = ShardSet(build(tmp_path, 5))
    train, held_out = split_episodes(shards, 0.4)
    assert sorted([*train, *held_out]) == list(range(len(shards)))
    assert not names_of(shards, train) & names_of(shards, held_out)
    assert all(np.array_equal(a, b) for a, b in zip(split_episodes(shards, 0.4), (train, held_out), strict=True))


@pytest.mark.parametrize(("episodes", "fraction", "held"), [(1, 0.5, 0), (2, 0.001, 1), (2, 0.999, 1), (3, 0.0, 0)])
def test_both_sides_have_an_episode_where_there_are_two(tmp_path, episodes, fraction, held):
    train, held_out = split_episodes(ShardSet(write_shards(tmp_path, episodes=episodes, frames=2)), fraction)
    assert len(held_out) == 2 * held and len(train) == 2 * (episodes - held)


def test_the_same_folder_through_another_root_is_split_alike(tmp_path):
    here, there = (ShardSet(build(tmp_path / root, 8, root)) for root in ("one", "other"))
    assert set(here.index["episode"].tolist()).isdisjoint(there.index["episode"].tolist())
    for fraction in (0.2, 0.5):
        sides = [tuple(names_of(shards, side) for side in split_episodes(shards, fraction)) for shards in (here, there)]
        assert sides[0] == sides[1]


def test_a_set_that_is_in_a_mixture_twice_is_held_out_of_both(tmp_path):
    build(tmp_path / "one", 6, "one")
    build(tmp_path / "other", 6, "other")
    write_mixture(tmp_path, "both", [MixtureBuild("one", "one", None), MixtureBuild("other", "other", None)])
    data = TrainingData(tmp_path)
    train, held_out = split_members(data, 0.3)
    assert len(train) + len(held_out) == len(data) == 24
    assert not names_of(data, train) & names_of(data, held_out) and len(names_of(data, held_out)) * 4 == len(held_out)
    data.close()


def test_what_is_held_out_of_a_set_is_held_out_of_every_larger_one(tmp_path):
    """But for the one that is held out so that there is any, which a fraction that holds some out does not need."""
    held = [
        names_of(shards, split_episodes(shards, 0.5)[1])
        for shards in (ShardSet(build(tmp_path / f"{count}", count)) for count in (4, 7, 12))
    ]
    assert held[0] < held[1] < held[2]
    assert all(not (larger - smaller) & {f"demo_{n}" for n in range(4)} for smaller, larger in [(held[0], held[2])])


def test_a_changed_list_of_episodes_is_refused(tmp_path):
    build(tmp_path, 3)
    (tmp_path / EPISODES).write_text("")
    with pytest.raises(BadManifest, match=r"episodes\.jsonl is not the file that the manifest names"):
        split_episodes(ShardSet(tmp_path), 0.5)
