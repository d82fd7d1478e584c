"""Batches out of shards: which sample comes when is a pure function of (seed, epoch, position).

The state of the data in a run is one integer, the step. Threads decode ahead; they decide when a sample is ready, never which.
"""

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from lamp_model.batch import Batch, Scene
from schemas.scene_flow import PointFlag
from schemas.shard_formats import CorruptShard
from schemas.shard_set import ShardSet
from schemas.triplet import Triplet


class BadSample(ValueError):
    """A sample does not fit the model; the message names it and says what to do."""


@dataclass(frozen=True)
class SampleConfig:
    """What is taken from a triplet.

    Attributes:
        cameras: roles of the images.
        chunk: the first so many actions.
        points, horizon: what the flow must have.
    """

    cameras: tuple[str, ...]
    chunk: int
    points: int
    horizon: int


def split_episodes(shards: ShardSet, val_fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Sample numbers for training and for validation, split by episode so that no episode is on both sides.

    Episodes are ordered by a hash of their digest; the first ``val_fraction`` of them are held out, at least one of each
    kind when there are two or more, none when there is one or the fraction is 0.
    """
    episodes = shards.index["episode"]
    order = sorted(set(episodes.tolist()), key=lambda digest: hashlib.sha256(b"split:" + digest).digest())
    held_out = 0
    if val_fraction > 0 and len(order) > 1:
        held_out = min(max(round(val_fraction * len(order)), 1), len(order) - 1)
    is_validation = np.isin(episodes, np.array(order[:held_out], episodes.dtype))
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)


class Loader:
    """Batches of a fixed set of samples.

    Attributes:
        numbers: the samples' numbers in the shard set.
    """

    def __init__(
        self,
        shards: ShardSet,
        numbers: Sequence[int] | np.ndarray,
        config: SampleConfig,
        batch_size: int,
        seed: int,
        threads: int = 2,
        rank: int = 0,
        world: int = 1,
    ):
        """Prepare; nothing is read yet.

        Raises:
            ValueError: there are no samples, or the batch does not divide among the ranks.
        """
        if not len(numbers):
            raise ValueError(f"{shards.folder} has no samples to train on")
        if batch_size % world:
            raise ValueError(f"the batch size must be a multiple of the {world} ranks, found {batch_size}")
        self.shards, self.numbers, self.config = shards, np.asarray(numbers), config
        self.batch_size, self.seed, self.threads = batch_size, seed, threads
        self.rank, self.world = rank, world
        self._orders: dict[int, np.ndarray] = {}

    def samples_of(self, step: int) -> list[tuple[int, int, int]]:
        """(sample number, epoch, position in the epoch) of this rank's slice of a step's global batch."""
        local = self.batch_size // self.world
        first = step * self.batch_size + self.rank * local
        count = len(self.numbers)
        places = [divmod(position, count) for position in range(first, first + local)]
        return [(int(self.numbers[self._order(epoch)[offset]]), epoch, offset) for epoch, offset in places]

    def batch(self, step: int) -> Batch:
        """The batch of a step.

        Raises:
            CorruptShard: a sample is damaged, by shard and key.
            BadSample: a sample does not fit the model, by key.
        """
        return collate([self._sample(*sample) for sample in self.samples_of(step)])

    def batch_in_order(self, step: int) -> Batch:
        """Samples as they are stored and their first instruction, for validation; the last batch may be smaller."""
        first = step * self.batch_size
        numbers = self.numbers[first : first + self.batch_size]
        triplets = [self.shards.read(int(number)) for number in numbers]
        return collate([to_sample(t, self.config, (t.instructions or ("",))[0]) for t in triplets])

    def batches(self, first: int, last: int, ahead: int = 2) -> Iterator[Batch]:
        """The batches of steps first..last - 1, decoded ahead by threads."""
        with ThreadPoolExecutor(self.threads) as pool:
            waiting: deque[list[Future]] = deque()
            try:
                for step in range(first, last + ahead):
                    if step < last:
                        waiting.append([pool.submit(self._sample, *sample) for sample in self.samples_of(step)])
                    if step >= first + ahead and waiting:
                        yield collate([future.result() for future in waiting.popleft()])
            finally:
                for future in (f for batch in waiting for f in batch):
                    future.cancel()

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.numbers))
            # A batch can span two epochs, and threads still work on the one before.
            self._orders = {key: kept for key, kept in self._orders.items() if key >= epoch - 1} | {epoch: order}
        return self._orders[epoch]

    def _sample(self, number: int, epoch: int, position: int) -> Batch:
        triplet = self.shards.read(number)
        texts = triplet.instructions or ("",)
        choice = 0
        if len(texts) > 1:
            choice = int(np.random.default_rng([self.seed, epoch, position]).integers(len(texts)))
        return to_sample(triplet, self.config, texts[choice])


def to_sample(triplet: Triplet, config: SampleConfig, instruction: str) -> Batch:
    """A batch of one.

    Raises:
        BadSample: the triplet does not fit the model, by key.
    """
    check_fits(triplet, config)
    flow = triplet.flow
    motion, mask = flow.increments(seen_only=True)
    scene = Scene(
        uvz=flow.uvz,
        valid=flow.valid,
        static=(triplet.point_flags & PointFlag.STATIC) > 0,
        intrinsics=triplet.camera.intrinsics,
        size=triplet.camera.size,
        depth_unit=triplet.depth_unit,
    )
    return Batch(
        images=tuple(torch.from_numpy(decode_image(triplet, role))[None] for role in config.cameras),
        instructions=(instruction,),
        motion=torch.from_numpy(motion.astype(np.float32))[None],
        motion_mask=torch.from_numpy(mask)[None],
        state=torch.from_numpy(triplet.state.astype(np.float32))[None],
        actions=torch.from_numpy(triplet.actions[: config.chunk].astype(np.float32))[None],
        action_mask=torch.from_numpy(triplet.action_mask[: config.chunk].copy())[None],
        scenes=(scene,),
    )


def check_fits(triplet: Triplet, config: SampleConfig) -> None:
    """Refuse a triplet that the model cannot take.

    Raises:
        BadSample: what was expected and found, by key.
    """
    points, steps = triplet.flow.uvz.shape[0], triplet.flow.horizon
    if (points, steps) != (config.points, config.horizon):
        raise BadSample(
            f"sample {triplet.key} has flow of {points} points over {steps} steps, the model needs {config.points} over "
            f"{config.horizon}: build the shards with that grid and horizon"
        )
    if len(triplet.actions) < config.chunk:
        raise BadSample(
            f"sample {triplet.key} has {len(triplet.actions)} actions, the model predicts {config.chunk}: "
            "build the shards with more actions, or train with a smaller chunk"
        )


def decode_image(triplet: Triplet, role: str) -> np.ndarray:
    """An image of a triplet as upright RGB, uint8 [H, W, 3].

    Raises:
        BadSample: the triplet has no such image.
        CorruptShard: the image does not decode.
    """
    if role not in triplet.images:
        raise BadSample(
            f"sample {triplet.key} has no image {role!r}, others of its set have: they cannot be trained together"
        )
    image = cv2.imdecode(np.frombuffer(triplet.images[role], np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise CorruptShard(f"sample {triplet.key}: the image {role!r} does not decode")
    return image


def collate(samples: list[Batch]) -> Batch:
    """Samples side by side.

    Raises:
        BadSample: their images or their states and actions differ in size.
    """

    def joined(name: str) -> torch.Tensor:
        return torch.cat([getattr(sample, name) for sample in samples])

    try:
        return Batch(
            images=tuple(torch.cat(camera) for camera in zip(*(s.images for s in samples), strict=True)),
            instructions=tuple(text for s in samples for text in s.instructions),
            scenes=tuple(scene for s in samples for scene in s.scenes),
            **{name: joined(name) for name in ("motion", "motion_mask", "state", "actions", "action_mask")},
        )
    except RuntimeError as error:
        raise BadSample(f"samples of different sizes cannot be trained together: {error}") from error
