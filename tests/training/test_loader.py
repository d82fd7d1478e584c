"""The loader: which sample comes when depends on nothing but (seed, epoch, position)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.shard import ACTION, INSTRUCTIONS, STATE, random_triplet, write_shards

from lamp_model.data.assembly import Memory
from lamp_model.data.loader import Loader
from lamp_model.data.sample import SampleConfig, to_sample, write_increments
from lamp_model.errors import BadSample
from schemas.scene_flow import GRID, HORIZON, SceneFlow
from schemas.shard_formats import INDEX_DTYPE, CorruptShard
from schemas.shard_set import ShardSet
from schemas.triplet import GeneratedInstruction

CONFIG = SampleConfig(cameras=("image", "wrist"), chunk=10, points=GRID**2, horizon=HORIZON)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    opened = ShardSet(write_shards(tmp_path_factory.mktemp("shards"), episodes=5, frames=3))
    yield opened
    opened.close()


def loader(shards, batch_size=4, seed=3, **options):
    return Loader(shards, np.arange(len(shards)), CONFIG, batch_size, seed, **options)


def same(a, b):
    return (
        a.instructions == b.instructions
        and all(torch.equal(x, y) for x, y in zip(a.images, b.images, strict=True))
        and all(
            torch.equal(getattr(a, n), getattr(b, n))
            for n in ("motion", "motion_mask", "state", "actions", "action_mask")
        )
    )


def test_every_epoch_holds_every_sample_once_in_another_order(shards):
    load, count = loader(shards, batch_size=5), len(shards)
    epochs = [[s[0] for step in range(3 * e, 3 * e + 3) for s in load.samples_of(step)] for e in range(3)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert loader(shards, batch_size=5, seed=4).samples_of(0) != load.samples_of(0)


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_ranks_share_the_same_global_batches(shards, world):
    alone = loader(shards)
    ranks = [loader(shards, rank=rank, world=world) for rank in range(world)]
    for step in (0, 3, 4, 17):
        assert [s for rank in ranks for s in rank.samples_of(step)] == alone.samples_of(step)


@pytest.mark.parametrize("threads", [1, 3])
def test_going_on_anywhere_gives_the_same_batches(shards, threads):
    whole = [loader(shards).batch(step) for step in range(6)]
    for first in (0, 2, 5):
        gone_on = list(loader(shards, threads=threads).batches(first, 6))
        assert len(gone_on) == 6 - first
        assert all(same(a, b) for a, b in zip(gone_on, whole[first:], strict=True))


def test_what_a_batch_holds(shards):
    batch = loader(shards).batch(0)
    assert [tuple(i.shape) for i in batch.images] == [(4, 64, 64, 3)] * 2 and batch.images[0].dtype == torch.uint8
    assert batch.motion.shape == (4, GRID**2, HORIZON, 3) and batch.motion_mask.dtype == torch.bool
    assert batch.state.shape == (4, STATE) and batch.actions.shape == (4, 10, ACTION)
    assert not batch.motion[~batch.motion_mask].any() and not batch.actions[~batch.action_mask].any()
    number = loader(shards).samples_of(0)[0][0]
    truth = shards.read(number)
    np.testing.assert_allclose(batch.motion[0].numpy(), truth.flow.increments()[0], atol=1e-7)


def test_pictures_are_rgb(shards):
    import cv2

    triplet = random_triplet(0, 0)
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 2] = 255  # OpenCV writes BGR
    jpeg = cv2.imencode(".jpg", red)[1].tobytes()
    image = to_sample(replace(triplet, images={"image": jpeg, "wrist": jpeg}), CONFIG, "x").images[0]
    assert image[0, 32, 32, 0] > 250 and image[0, 32, 32, 2] < 5


def test_one_of_several_instructions_is_chosen_and_all_come_up(shards):
    load = loader(shards, batch_size=15)
    texts = {text for step in range(8) for text in load.batch(step).instructions}
    assert texts == {text for several in INSTRUCTIONS for text in several}
    assert load.batch(0).instructions == loader(shards, batch_size=15).batch(0).instructions


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cameras": ("image", "left")}, "no image 'left'"),
        ({"chunk": 17}, "has 16 actions, the model predicts 17"),
        ({"horizon": 40}, "over 32 steps, the model needs 400 over 40"),
    ],
)
def test_a_sample_that_does_not_fit_is_named(change, says):
    triplet = random_triplet(0, 0)
    with pytest.raises(BadSample, match=says) as error:
        to_sample(triplet, replace(CONFIG, **change), "x")
    assert triplet.key in str(error.value)


def test_a_picture_that_does_not_decode_is_named():
    triplet = random_triplet(0, 0)
    with pytest.raises(CorruptShard, match=f"{triplet.key}.*'image' is a JPEG picture that is damaged"):
        to_sample(replace(triplet, images=triplet.images | {"image": b"\xff\xd8nonsense"}), CONFIG, "x")


def test_a_flipped_bit_ends_training_with_the_samples_name(tmp_path):
    folder = write_shards(tmp_path, episodes=2, frames=2)
    shard = sorted(folder.glob("*.tar"))[0]
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CorruptShard, match=shard.name):
        list(loader(ShardSet(folder)).batches(0, 2))


def test_a_batch_with_fewer_samples_than_ranks_is_refused(shards):
    with pytest.raises(ValueError, match="batch of 4 samples is too small for 5 ranks"):
        loader(shards, world=5)


def test_generated_instructions_are_learnt_from_only_when_asked_for(tmp_path):
    people, model = ("open it", "please open it"), ("pull the handle", "first grasp, then pull")
    generated = tuple(GeneratedInstruction(text, "imperative", "some model") for text in model)

    def seen(instructions, wanted) -> tuple[set[str], str]:
        triplet = replace(random_triplet(0, 0), instructions=instructions, generated_instructions=generated)
        config = replace(CONFIG, generated=wanted)
        loader = Loader(_Alone(triplet), [0], config, 4, 0)
        texts = {text for step in range(12) for text in loader.batch(step).instructions}
        return texts, loader.batch_in_order(0).instructions[0]

    assert seen(people, False) == (set(people), people[0])
    assert seen(people, True) == ({*people, *model}, people[0])
    assert seen((), False) == ({""}, "")
    assert seen((), True) == (set(model), model[0])


class _Alone:
    """A set of one sample."""

    index = np.zeros(1, INDEX_DTYPE)

    def __init__(self, triplet):
        self.triplet = triplet

    def read(self, number, flow=True):
        return self.triplet


def changed(flow):
    """The loader's increments of a flow, and those that the format defines."""
    motion, mask = np.full((*flow.valid[:, 1:].shape, 3), 7, np.float32), np.ones(flow.valid[:, 1:].shape, bool)
    write_increments(flow, motion, mask)
    wanted, wanted_mask = flow.increments(seen_only=True)
    return motion, mask, wanted.astype(np.float32), wanted_mask


@pytest.mark.parametrize("where", ["decoded", "turned", "cut"])
def test_increments_are_written_bit_for_bit(shards, where):
    flow = shards.read(3).flow
    if where == "turned":
        flow = flow.flipped(True, True)
    if where == "cut":
        flow = SceneFlow(flow.uvz[::7, :9], flow.visible[::7, :9], flow.valid[::7, :9])
    rng = np.random.default_rng(0)
    valid = flow.valid & (rng.random(flow.valid.shape) < 0.7)
    uvz = np.where(valid[..., None], flow.uvz, np.float32("nan"))  # what is not valid must not be seen
    motion, mask, wanted, wanted_mask = changed(SceneFlow(uvz, flow.visible, valid))
    assert np.array_equal(mask, wanted_mask) and not mask.all() and mask.any()
    assert motion.tobytes() == np.ascontiguousarray(wanted).tobytes()


def test_memory_is_used_again_only_when_nothing_refers_to_it():
    memory = Memory()
    first = memory.empty((4, 3), np.float32)
    place, part = first.__array_interface__["data"][0], torch.from_numpy(first)[1:2]
    del first
    second = memory.empty((4, 3), np.float32)
    assert second.__array_interface__["data"][0] != place  # a tensor on a part of it is still there
    del part
    assert memory.empty((2, 24), np.uint8).__array_interface__["data"][0] == place


def test_batches_that_are_kept_stay_as_they_were(shards):
    load = loader(shards)
    kept = list(load.batches(0, 9))
    assert all(same(batch, load.batch(step)) for step, batch in enumerate(kept))
    assert len({image.data_ptr() for batch in kept for image in batch.images}) == 18


def test_samples_of_other_sizes_are_refused_by_name(tmp_path):
    write_shards(tmp_path, episodes=2, frames=1, change=lambda t: replace(t, images={**t.images, "wrist": wide(t)}))
    with pytest.raises(BadSample, match=r"different sizes cannot be trained together: image/wrist of sample \w+-agent"):
        loader(ShardSet(tmp_path), batch_size=2).batch(0)


def wide(triplet):
    """A picture of a width of its own in one of the two episodes."""
    import cv2

    width = 80 if triplet.source.episode == "demo_1" else 64
    return cv2.imencode(".jpg", np.zeros((64, width, 3), np.uint8))[1].tobytes()
