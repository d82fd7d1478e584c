"""Training on a mixture: the order is a pure function, weights are kept exactly, robots of different widths keep their
own statistics.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.shard import ACTION, STATE, random_triplet, write_shards
from hypothesis import given, settings
from hypothesis import strategies as st

from lamp_model.data.dataset import TrainingData
from lamp_model.data.embodiments import embodiments_of, run_statistics
from lamp_model.data.normalisation import range_of
from lamp_model.data.sample import SampleConfig, to_sample
from lamp_model.data.sampler import Order, quotas
from lamp_model.data.split import split_members
from lamp_model.errors import BadRun, BadSample
from lamp_model.policy import load_policy
from lamp_model.training import run as running
from lamp_model.training.request import Request
from lamp_model.training.run import prepare, train
from pipeline.build.mixture import MixtureBuild, write_mixture
from schemas.episode import ActionConvention
from schemas.manifest import BadManifest, read_manifest
from schemas.scene_flow import GRID, HORIZON
from schemas.triplet import ActionChunk

WIDE = ActionConvention("two_arms", tuple(f"b{i}" for i in range(ACTION + 3)), "made up, wider")
STANDARD = ActionConvention("standard", tuple(f"s{i}" for i in range(ACTION)), "made up: gripper 1 open")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


# Order

counts = st.lists(st.integers(1, 12), min_size=1, max_size=4)


@settings(max_examples=15)
@given(counts, st.integers(0, 5))
def test_without_weights_every_sample_comes_once_in_each_epoch(sizes, seed):
    order = Order(seed, sizes)
    for epoch in range(3):
        assert sorted(order.at(epoch, place) for place in range(len(order))) == list(range(sum(sizes)))


def test_one_build_is_shuffled_as_it_always_was():
    """Runs that were begun before there were mixtures go on with the same batches."""
    order = Order(3, [17])
    for epoch in range(3):
        expected = np.random.default_rng([3, epoch]).permutation(17)
        assert [order.at(epoch, place) for place in range(17)] == expected.tolist()


@settings(max_examples=15)
@given(counts, st.lists(st.floats(0.05, 20), min_size=4, max_size=4), st.integers(0, 3))
def test_weights_are_kept_in_every_epoch_and_no_sample_comes_twice_before_all_came_once(sizes, weights, seed):
    weights = weights[: len(sizes)]
    order, bases = Order(seed, sizes, weights), np.cumsum([0, *sizes])
    seen: list[list[int]] = [[] for _ in sizes]
    for epoch in range(4):
        drawn = [order.at(epoch, place) for place in range(len(order))]
        for member in range(len(sizes)):
            own = [n - bases[member] for n in drawn if bases[member] <= n < bases[member + 1]]
            assert abs(len(own) - weights[member] / sum(weights) * sum(sizes)) < 1, "within one of its share"
            seen[member] += own
    for member, size in enumerate(sizes):
        times = np.bincount(seen[member], minlength=size)
        assert times.max() - times.min() <= 1 + (len(order) > size), (
            "all once before any twice, up to the order within an epoch"
        )


def test_the_order_is_a_pure_function_of_seed_epoch_and_position():
    places = [(epoch, place) for epoch in (5, 0, 3, 1, 5) for place in (3, 0, 9)]
    one, again = Order(1, [4, 8], [3, 1]), Order(1, [4, 8], [3, 1])
    straight = {key: again.at(*key) for key in sorted(set(places))}
    assert [one.at(*key) for key in places] == [straight[key] for key in places]
    other = Order(2, [4, 8], [3, 1])
    assert [other.at(0, p) for p in range(12)] != [one.at(0, p) for p in range(12)]


def test_quotas_are_whole_and_sum_up():
    assert quotas(10, [3, 1]) == [8, 2] and quotas(10, [1, 1, 1]) == [4, 3, 3] and quotas(3, [1000, 1]) == [3, 0]
    with pytest.raises(ValueError, match="member 1 of the mixture has a weight and no samples"):
        Order(0, [3, 0], [1, 1])


# Data


def wide(triplet):
    """Another robot: more joints, in pictures of another size, without a camera on the hand."""
    actions = np.pad(triplet.actions, ((0, 0), (0, 3)), constant_values=0.5)
    actions[~triplet.action_mask] = 0
    state = np.pad(triplet.state, (0, 2), constant_values=-3.0)
    return replace(
        triplet,
        key="wide-" + triplet.key,
        episode=triplet.episode[::-1],
        state=state,
        state_names=tuple(f"s{i}" for i in range(STATE + 2)),
        actions=actions,
        action_convention=WIDE,
    )


def with_standard(triplet):
    values = triplet.actions.copy()
    values[triplet.action_mask, -1] = 1 - values[triplet.action_mask, -1]
    return replace(triplet, standard_actions=ActionChunk(values, triplet.action_mask, STANDARD))


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    write_shards(folder / "narrow", episodes=3, frames=4)
    write_shards(folder / "wide", episodes=2, frames=2, wrist=False, size=48, change=wide)
    write_mixture(folder, "both", [MixtureBuild("narrow", "narrow", 1.0), MixtureBuild("wide", "wide", 3.0)])
    return folder


@pytest.fixture(scope="module")
def standard(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("standard"), episodes=2, frames=2, change=with_standard)


def test_a_mixture_is_its_members_one_after_the_other(mixture):
    data = TrainingData(mixture)
    assert len(data) == 16 and data.name == "both" and len(data.index) == 16
    assert data.member_of(np.array([0, 11, 12, 15])).tolist() == [0, 0, 1, 1]
    for number in (0, 11, 12, 15):
        triplet = data.read(number)
        assert triplet.key == data.index[number]["key"].decode()
        assert triplet.key.startswith("wide-") == (number >= 12)
        assert data.embodiment_of(number, triplet) == (number >= 12)
    with pytest.raises(IndexError, match="sample 16 of 16"):
        data.read(16)
    assert TrainingData(mixture / "mixture.json").digest == data.digest
    assert [one.name for one in data.embodied] == ["narrow", "wide"]
    data.close()


def test_a_member_that_was_built_again_is_refused(tmp_path):
    write_shards(tmp_path / "a", episodes=2, frames=2)
    write_mixture(tmp_path, "m", [MixtureBuild("a", "a", None)])
    TrainingData(tmp_path).close()
    write_shards(tmp_path / "a", episodes=3, frames=2)
    with pytest.raises(BadManifest, match="was built again after"):
        TrainingData(tmp_path)


def test_every_member_is_on_both_sides_of_the_split(mixture):
    data = TrainingData(mixture)
    train_on, held_out = split_members(data, 0.3)
    assert sorted([*train_on, *held_out]) == list(range(16))
    assert set(data.member_of(train_on)) == set(data.member_of(held_out)) == {0, 1}
    episodes = data.index["episode"]
    assert not set(episodes[train_on]) & set(episodes[held_out])


# Actions and normalisation


def test_the_form_of_the_actions_is_chosen_and_its_statistics_go_along(standard, mixture):
    data = TrainingData(standard)
    for asked, form in ((None, "standard"), ("standard", "standard"), ("raw", "raw")):
        kept = run_statistics(data, asked)
        assert kept["actions"] == form and "standard_action" not in kept
        found = embodiments_of(kept, "x", "min_max").members[0]
        assert found.standard == (form == "standard")
        assert found.convention is None if form == "raw" else found.convention == STANDARD
        triplet = data.read(0)
        sample = to_sample(triplet, SampleConfig(("image",), 5, GRID**2, HORIZON, standard=found.standard), "x")
        values = triplet.standard_actions.values if form == "standard" else triplet.actions
        assert np.array_equal(sample.actions[0].numpy(), values[:5])
        assert sample.actions[0][sample.action_mask[0]].max() <= max(found.action.high) + 1e-6
    older = TrainingData(mixture)
    assert run_statistics(older, None)["embodiments"]["narrow"]["actions"] == "raw", (
        "shards of an earlier layout are read raw"
    )
    with pytest.raises(BadRun, match=r"narrow has no standard actions: .*train with --actions raw, or build it again"):
        run_statistics(older, "standard")


def test_a_sample_without_the_form_that_is_learnt_is_named():
    triplet = random_triplet(0, 0)
    with pytest.raises(BadSample, match=f"{triplet.key} has no standard actions"):
        to_sample(triplet, SampleConfig(("image",), 5, GRID**2, HORIZON, standard=True), "x")


def test_quantiles_clip_and_a_number_that_hardly_changes_keeps_its_range():
    statistics = {"action": {"min": [-9, 0], "max": [9, 1], "q01": [-1, 1], "q99": [3, 1], "mean": [0, 1]}}
    found = range_of(statistics, "action", "quantile")
    assert (found.low, found.high) == ((-1, 0), (3, 1))
    values = torch.tensor([[-9.0, 0.0], [1.0, 1.0], [3.0, 0.5]])
    assert found.normalise(values).tolist() == [[-1, -1], [0, 1], [1, 0]]
    assert found.denormalise(found.normalise(values))[1:].tolist() == values[1:].tolist()
    assert range_of(statistics, "action").high == (9, 1)
    with pytest.raises(ValueError, match="have no quantiles of 'action'"):
        range_of({"action": {"min": [0], "max": [1]}}, "action", "quantile")


def embodiments(mixture):
    return embodiments_of(run_statistics(TrainingData(mixture), None), "both", "min_max")


def test_each_robot_is_normalised_by_its_own_statistics_within_its_own_width(mixture):
    found = embodiments(mixture)
    assert (found.state_size, found.action_size) == (STATE + 2, ACTION + 3)
    which = torch.tensor([1, 0, 1])
    actions = torch.randn(3, 4, ACTION + 3)
    made = found.actions(actions, which)
    narrow, broad = found.members
    torch.testing.assert_close(made[1, :, :ACTION], narrow.action.normalise(actions[1, :, :ACTION]))
    assert not made[1, :, ACTION:].any()
    torch.testing.assert_close(made[[0, 2]], broad.action.normalise(actions[[0, 2]]))
    back = found.denormalised_actions(made, which)
    torch.testing.assert_close(back[1, :, :ACTION], narrow.action.denormalise(made[1, :, :ACTION]))
    torch.testing.assert_close(back[[0, 2]], broad.action.denormalise(made[[0, 2]]))
    assert not back[1, :, ACTION:].any()
    states = torch.randn(3, STATE + 2)
    torch.testing.assert_close(found.states(states, which)[0], broad.state.normalise(states[0]))
    mask = found.mask(torch.tensor([[True, False]] * 3), which)
    assert mask[0].tolist() == [[True] * (ACTION + 3), [False] * (ACTION + 3)]
    assert mask[1, 0].tolist() == [True] * ACTION + [False] * 3
    torch.testing.assert_close(found.mean_actions(which)[0], broad.action.normalise(torch.tensor(broad.mean_action)))
    with pytest.raises(ValueError, match="there is no 'x' among what this was trained on; there are: narrow, wide"):
        found["x"]


# Training

OPTIONS = {
    "batch_size": 4,
    "steps": 2,
    "val_fraction": 0.0,
    "checkpoint_every": 2,
    "validate_every": 3,
    "log_every": 1,
    "learning_rate": 1e-3,
}


def smaller(prepared):
    model = prepared.config.model
    action = replace(model.action, layers=1, width=32, heads=2)
    if not prepared.config.motion_run:
        motion = replace(model.motion, layers=1, heads=2, head_dim=16, patch_size=10)
        model = replace(model, motion=motion, backbone_options={**model.backbone_options, "image_size": 64})
    return replace(prepared, config=replace(prepared.config, model=replace(model, action=action)))


def request(stage, data, output, motion=None, prior=None, resume=False, **options):
    return Request(stage, data, output, motion, prior, options={**OPTIONS, **options}, resume=resume, device="cpu")


@pytest.fixture(scope="module")
def runs(mixture, tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs")
    train(smaller(prepare(request(1, mixture, folder / "stage1"))))
    train(smaller(prepare(request(2, mixture, folder / "stage2", folder / "stage1"))))
    return folder


@pytest.mark.parametrize("said", [{"cameras": ["all"]}, {"dataset": {"name": "video", "options": {}}}], ids=str)
def test_pictures_of_several_sizes_share_a_batch(said, tmp_path):
    """As ``lamp-data build --cameras all`` writes them, or plain videos: half of the windows have smaller pictures."""

    def change(triplet):
        small = triplet.source.frame % 2
        return replace(triplet, images=random_triplet(0, triplet.source.frame, size=48).images) if small else triplet

    write_shards(tmp_path / "shards", episodes=2, frames=4, change=change)
    manifest = read_manifest(tmp_path / "shards")
    replace(manifest, recipe={**manifest.recipe, **said}).write(tmp_path / "shards")
    loader, _ = running._loaders(smaller(prepare(request(1, tmp_path / "shards", tmp_path / "run"))))
    numbers = [number for number, _, _ in loader.samples_of(0)]
    sizes = {loader.shards.read(number).source.frame % 2 for number in numbers}
    assert [tuple(image.shape) for image in loader.batch(0).images] == [(4, 64, 64, 3)] * 2 and sizes == {0, 1}


def test_samples_of_all_members_share_a_batch(mixture, runs):
    prepared = prepare(request(1, mixture, runs / "unused"))
    assert prepared.config.model.cameras == ("image", "wrist")
    loader, _ = running._loaders(smaller(prepared))
    batch = loader.batch(0)
    assert [tuple(image.shape) for image in batch.images] == [(4, 64, 64, 3)] * 2
    assert batch.state.shape == (4, STATE + 2) and batch.actions.shape[2] == ACTION + 3
    assert set(batch.embodiment.tolist()) == {0, 1}
    for row, which in enumerate(batch.embodiment.tolist()):
        assert bool(batch.images[1][row].any()) == (which == 0), "a camera that a member lacks is black"
        assert bool(batch.state[row, STATE:].any()) == (which == 1)
    drawn = [loader.shards.member_of(number) for step in range(3) for number, *_ in loader.samples_of(step)]
    assert np.mean(drawn) == pytest.approx(0.75, abs=0.1), "three of four are drawn from the wide one"


def test_a_policy_of_several_robots_asks_whose_actions_are_wanted(runs):
    with pytest.raises(ValueError, match="statistics_key=, one of narrow, wide"):
        load_policy(runs / "stage2", device="cpu")
    images = [np.full((50, 60, 3), 128, np.uint8)] * 2
    for name, extra in (("narrow", 0), ("wide", 1)):
        policy = load_policy(runs / "stage2", device="cpu", statistics_key=name)
        actions = policy.predict(images, "go", np.zeros(STATE + 2 * extra))
        assert actions.shape == (10, ACTION + 3 * extra)
        low, high = (np.array(bound) for bound in (policy.action_range.low, policy.action_range.high))
        assert (actions >= low - 1e-5).all() and (actions <= high + 1e-5).all()
    with pytest.raises(ValueError, match=f"the state must be {STATE + 2} numbers"):
        policy.predict(images, "go", np.zeros(STATE))


def test_a_policy_says_what_its_actions_mean(standard, tmp_path):
    prepared = smaller(prepare(request(2, standard, tmp_path / "run", normalisation="quantile", prior="none")))
    train(prepared)
    policy = load_policy(tmp_path / "run", device="cpu")
    assert policy.action_convention == STANDARD
    assert prepared.config.data.normalisation == "quantile" and type(policy.action_range).__name__ == "Quantiles"
    with pytest.raises(BadRun, match="was begun with normalisation quantile and not min_max"):
        prepare(request(2, standard, tmp_path / "run", resume=True, normalisation="min_max", prior="none"))
    with pytest.raises(BadRun, match="was begun with actions None and not raw"):
        prepare(request(2, standard, tmp_path / "run", resume=True, actions="raw", prior="none"))
    from lamp_model.published.export import export_policy

    with pytest.raises(BadRun, match=r"--normalisation quantile; the published layout|without motion"):
        export_policy(tmp_path / "run", tmp_path / "exported")


def test_depth_in_metres_and_without_a_unit_are_not_mixed(tmp_path):
    write_shards(tmp_path / "a", episodes=2, frames=1)
    write_shards(tmp_path / "b", episodes=2, frames=1, change=lambda t: replace(t, depth_unit="relative"))
    write_mixture(tmp_path, "m", [MixtureBuild("a", "a", None), MixtureBuild("b", "b", None)])
    with pytest.raises(BadRun, match=r"2 of the 4 samples in .* have relative depth"):
        prepare(request(1, tmp_path, tmp_path / "run"))
    prepare(request(1, tmp_path, tmp_path / "run", prior="2d"))


def test_a_mixture_by_its_file_and_by_its_folder_are_the_same_run(mixture, tmp_path):
    one, two = (
        prepare(request(1, path, tmp_path / "run")).config.data for path in (mixture, Path(mixture / "mixture.json"))
    )
    assert (one.digest, one.samples, one.dataset) == (two.digest, two.samples, "both")
