"""Statistics beside the shards: exact, the same in any order, over just what they say they are over."""

import json
from dataclasses import asdict

import h5py
import numpy as np
import pytest
from fixtures.libero import Demo, fast_recipe, replace, write_file
from hypothesis import given, settings
from hypothesis import strategies as st
from readers.test_actions import episode

from jobs.executors.local import LocalExecutor
from pipeline.build.episode_store import EpisodeReport, values_path
from pipeline.build.episode_values import KINDS, embodiment_of, episode_values, values_bytes
from pipeline.build.quantiles import ExactQuantiles
from pipeline.build.run import ShardConfig, build
from pipeline.build.statistics import dataset_statistics
from pipeline.errors import BuildError
from pipeline.windows.sample import standard_chunk
from schemas.episode import ActionConvention, StandardActions
from schemas.plugins import PluginChoice
from schemas.shard_set import ShardSet

numbers = st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, -0.0, 1e-38, -1e-38, 1.0, -1.0])


def exact_quantiles(batches, shares):
    counted = ExactQuantiles(shares)
    for values in batches:
        counted.count(values)
    for values in batches:
        counted.count_again(values)
    return counted.quantiles()


@settings(max_examples=20)
@given(st.lists(st.lists(st.tuples(numbers, numbers), min_size=0, max_size=9), min_size=1, max_size=4))
def test_quantiles_by_counting_are_numpys(parts):
    batches = [np.array(part, np.float32).reshape(-1, 2) for part in parts]
    values = np.concatenate(batches)
    shares = (0.0, 0.01, 0.5, 0.77, 0.99, 1.0)
    if not len(values):
        with pytest.raises(ValueError, match="no values"):
            exact_quantiles(batches, shares)
        return
    found = exact_quantiles(batches, shares)
    expected = np.quantile(values.astype(np.float64), shares, axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-300)
    assert np.array_equal(found, exact_quantiles(batches[::-1], shares)), "order is nothing"


def write_parts(folder, episodes, chunks=()):
    """Reports and value files as a worker leaves them."""
    reports = []
    for number, one in enumerate(episodes):
        key = f"{number:02d}abc"
        values_path(folder, key).parent.mkdir(parents=True, exist_ok=True)
        values_path(folder, key).write_bytes(values_bytes(episode_values(one, chunks)))
        rows = [("k", 0, 512)] * (number + 1)
        report = EpisodeReport(key, {}, key, one.length, [], None, [], rows, embodiment_of(one))
        reports.append(EpisodeReport(**{**json.loads(json.dumps(asdict(report))), "rows": rows}))
    return reports


def random_episode(seed, convention="c", width=7, **changes):
    rng = np.random.default_rng(seed)
    said = ActionConvention(convention, tuple(f"a{i}" for i in range(width)), "")
    length = int(rng.integers(3, 90))
    return episode(rng.normal(5, 3, (length, width)), said, rng.normal(size=(length, 4)), **changes)


def test_statistics_are_numpys_over_every_frame(tmp_path):
    episodes = [random_episode(seed) for seed in range(5)]
    found = dataset_statistics(write_parts(tmp_path, episodes), tmp_path)
    assert (found["num_trajectories"], found["num_samples"]) == (5, 1 + 2 + 3 + 4 + 5)
    assert found["num_frames"] == sum(e.length for e in episodes)
    for name, field in (("state", "state"), ("action", "actions")):
        values, of = np.concatenate([getattr(e, field) for e in episodes]).astype(np.float64), found[name]
        assert of["count"] == len(values)
        assert np.array_equal(of["min"], values.min(0)) and np.array_equal(of["max"], values.max(0))
        np.testing.assert_allclose(of["mean"], values.mean(0))
        np.testing.assert_allclose(of["std"], values.std(0), rtol=1e-10)
        np.testing.assert_allclose([of["q01"], of["q99"]], np.quantile(values, [0.01, 0.99], axis=0), rtol=1e-12)
    assert "standard_action" not in found and found["action"]["convention"] == "c"


def test_masked_actions_are_counted_nowhere(tmp_path):
    one = random_episode(0)
    mask = np.arange(one.length) % 2 == 0
    one = episode(one.actions, one.action_convention, one.state, mask=mask)
    found = dataset_statistics(write_parts(tmp_path, [one]), tmp_path)
    assert found["action"]["count"] == mask.sum() and found["state"]["count"] == one.length
    assert found["action"]["max"] == one.actions[mask].max(0).tolist()


def test_actions_relative_to_a_chunks_begin_are_counted_over_the_samples(tmp_path):
    raw = random_episode(1, width=4)
    standard = StandardActions(raw.actions, raw.action_mask, raw.action_convention, origin=raw.state)
    one = episode(raw.actions, raw.action_convention, raw.state, standard_actions=standard)
    chunks = [standard_chunk(one, frame, 5) for frame in (0, one.length - 2)]
    assert chunks[0].mask.all() and chunks[1].mask.tolist() == [True, True, False, False, False]
    np.testing.assert_allclose(chunks[0].values, raw.actions[:5] - raw.state[0])
    assert not chunks[1].values[2:].any()
    found = dataset_statistics(write_parts(tmp_path, [one], chunks), tmp_path)["standard_action"]
    assert (found["over"], found["count"]) == ("samples", 7)
    used = np.concatenate([raw.actions[:5] - raw.state[0], raw.actions[-2:] - raw.state[-2]])
    np.testing.assert_allclose(found["max"], used.max(0))


def test_robots_with_other_actions_are_kept_apart(tmp_path):
    episodes = [random_episode(0, "two_arms", 14), random_episode(1, "one_arm"), random_episode(2, "two_arms", 14)]
    found = dataset_statistics(write_parts(tmp_path, episodes), tmp_path)
    assert found["num_trajectories"] == 3 and list(found["embodiments"]) == ["two_arms", "one_arm"]
    two = found["embodiments"]["two_arms"]
    assert two["num_trajectories"] == 2 and len(two["action"]["mean"]) == 14
    alone = dataset_statistics(write_parts(tmp_path / "alone", [episodes[0], episodes[2]]), tmp_path / "alone")
    assert all(two[kind] == alone[kind] for kind in KINDS if kind in two)


def test_one_convention_with_two_states_is_refused_in_a_sentence(tmp_path):
    other = random_episode(1)
    other = episode(other.actions, other.action_convention, np.zeros((other.length, 5)))
    with pytest.raises(BuildError, match=r"the actions c differ in state: \(s0, s1, s2, s3\) and .*separate folders"):
        dataset_statistics(write_parts(tmp_path, [random_episode(0), other]), tmp_path)


# In a build


def built(tmp_path, change=None, **options):
    write_file(tmp_path / "in" / "a_demo.hdf5", [Demo(0), Demo(1, 1, 14)], change=change)
    recipe = fast_recipe(actions=PluginChoice("standard", options))
    summary = build(recipe, tmp_path / "in", tmp_path / "out", ShardConfig(), LocalExecutor(), lambda *a: a[2])
    return summary, ShardSet(tmp_path / "out")


def test_every_sample_holds_both_forms_and_both_have_statistics(tmp_path):
    _, shards = built(tmp_path)
    for number in range(len(shards)):
        triplet = shards.read(number)
        standard = triplet.standard_actions
        assert np.array_equal(standard.mask, triplet.action_mask)
        used = standard.mask
        assert np.array_equal(standard.values[used, :6], triplet.actions[used, :6])
        assert np.array_equal(standard.values[used, 6], 1 - triplet.actions[used, 6].clip(0, 1))
        assert standard.convention.name == "libero_osc_delta_gripper_open"
    found = shards.statistics()
    assert found["standard_action"]["convention"] == "libero_osc_delta_gripper_open"
    assert found["standard_action"]["min"][6] == 1 - max(0, found["action"]["max"][6])
    assert found["standard_action"]["mean"][:6] == found["action"]["mean"][:6]
    assert shards.manifest.recipe["actions"] == {"name": "libero", "options": {"noop_filter": False}}


def idle(file: h5py.File) -> None:
    """The robot does nothing at the steps after frames 2, 3 and 7 (the action after frame t is stored as t + 1)."""
    actions = file["data/demo_0/actions"][:]
    actions[:, 6] = -1
    actions[[3, 4, 8], :6] = 0
    actions[[i for i in range(14) if i not in (3, 4, 8)], 0] = 0.5
    replace(file, "actions", actions)


def test_frames_left_out_by_a_filter_are_gone_and_the_way_back_names_those_of_the_file(tmp_path):
    summary, shards = built(tmp_path, idle, noop_filter=True)
    triplets = [shards.read(number) for number in range(len(shards))]
    frames = sorted(t.source.frame for t in triplets if t.source.episode == "demo_0")
    assert frames and set(frames) <= {0, 6, 11}, "every fourth of 0, 1, 4, 5, 6, 8, 9, 10, 11, 12, 13"
    assert any("frames_left_out: N of N" in note for note in summary.notes)
    lines = [json.loads(line) for line in (tmp_path / "out" / "episodes.jsonl").read_bytes().splitlines()]
    (line,) = [line for line in lines if line["episode"] == "demo_0"]
    assert line["frames"] == 11 and line["notes"]["frames_left_out"].startswith("3 of 14")
    with h5py.File(tmp_path / "in" / "a_demo.hdf5") as file:
        states = file["data/demo_0/obs/ee_states"][:]
    for triplet in (t for t in triplets if t.source.episode == "demo_0"):
        np.testing.assert_allclose(triplet.state[:6], states[triplet.source.frame], rtol=1e-6)


def test_raw_alone_is_a_choice(tmp_path):
    write_file(tmp_path / "in" / "a_demo.hdf5", [Demo(0)])
    recipe = fast_recipe(actions=PluginChoice("raw"))
    build(recipe, tmp_path / "in", tmp_path / "out", ShardConfig(), LocalExecutor(), lambda *a: a[2])
    shards = ShardSet(tmp_path / "out")
    assert shards.read(0).standard_actions is None and "standard_action" not in shards.statistics()


def test_a_window_begins_only_where_the_standard_lets_it(tmp_path, monkeypatch):
    """DROID's filter, on LIBERO's frames: no window at frame 4, counted by its reason; the flow of the others runs
    through it.
    """
    from pipeline.actions import libero

    def standardise(self, given):
        begins = np.arange(given.length) != 4
        return StandardActions(given.actions, given.action_mask, given.action_convention, begins=begins)

    whole = built(tmp_path / "whole")[1]
    monkeypatch.setattr(libero.LiberoActions, "standardise", standardise)
    summary, shards = built(tmp_path / "filtered")
    assert summary.rejected["no_action"] == 2
    flows = {whole.read(n).key: whole.read(n).flow.uvz for n in range(len(whole))}
    kept = {shards.read(n).key: shards.read(n).flow.uvz for n in range(len(shards))}
    assert len(kept) == len(whole) - 2
    assert all(np.array_equal(flows[key], uvz) for key, uvz in kept.items())
