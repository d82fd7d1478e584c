"""Batches from shards. The order of samples is a pure function of (seed, epoch, position).

The state of the data in a run is one integer, the step. Threads decode ahead; their timing does not affect the order.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

from lamp_model.data.assembly import BatchArrays, Memory, Row
from lamp_model.data.augmentation import Augmenter
from lamp_model.data.batch import Batch
from lamp_model.data.sample import SampleConfig, texts_of, write_sample
from lamp_model.data.sampler import Order
from schemas.triplet import Triplet

TOGETHER = 8
"""Samples that a thread writes at once."""

Made = TypeVar("Made")


@runtime_checkable
class Samples(Protocol):
    """Numbered samples: a ``ShardSet`` or ``lamp_model.data.dataset.TrainingData``."""

    @property
    def index(self) -> np.ndarray:
        """One row per sample (``schemas.shard_formats.INDEX_DTYPE``)."""
        ...

    def read(self, number: int, flow: bool = True) -> Triplet:
        """Read a sample, with its flow or without, and verify its checksum."""
        ...


class Loader:
    """Batches of a fixed set of samples.

    Attributes:
        numbers: numbers of the samples in the shard set.
    """

    def __init__(
        self,
        shards: Samples,
        numbers: Sequence[int] | np.ndarray,
        config: SampleConfig | Callable[[int, Triplet], SampleConfig],
        batch_size: int,
        seed: int,
        threads: int = 2,
        rank: int = 0,
        world: int = 1,
        order: Order | None = None,
        augmenter: Augmenter | None = None,
        flow: bool = True,
    ):
        """Set up the loader; no sample is read yet.

        Args:
            shards: the samples.
            numbers: of the samples to load.
            config: what to take from a sample; or a function of its number and the sample that returns this.
            order: of a mixture; else all samples are shuffled together in each epoch.
            augmenter: of random changes of the samples of a step; those in order are never changed.
            flow: decode the samples' flow; a config with ``points=0`` needs none.

        Raises:
            ValueError: there are no samples, or fewer in a batch than ranks.
        """
        if not len(numbers):
            raise ValueError("there are no samples to train on")
        if batch_size < world:
            raise ValueError(f"a batch of {batch_size} samples is too small for {world} ranks")
        self.shards, self.numbers, self.config = shards, np.asarray(numbers), config
        self.batch_size, self.seed, self.threads = batch_size, seed, threads
        self.rank, self.world = rank, world
        self.flow = flow
        self.order = order or Order(seed, [len(numbers)])
        self.augmenter = augmenter

    @property
    def places(self) -> tuple[int, int]:
        """First and last + 1 of this rank's places in the global batch."""
        return (
            self.batch_size * self.rank // self.world,
            self.batch_size * (self.rank + 1) // self.world,
        )

    def samples_of(self, step: int) -> list[tuple[int, int, int]]:
        """(sample number, epoch, position in the epoch) of this rank's slice of a step's global batch."""
        begin, count = step * self.batch_size, len(self.numbers)
        first, last = self.places
        places = [divmod(position, count) for position in range(begin + first, begin + last)]
        return [(int(self.numbers[self.order.at(epoch, offset)]), epoch, offset) for epoch, offset in places]

    def batch(self, step: int) -> Batch:
        """The batch of a step.

        Raises:
            CorruptShard: a sample is damaged; the message names shard and key.
            BadSample: a sample does not fit the model; the message names its key.
        """
        samples = self.samples_of(step)
        arrays = BatchArrays(len(samples))
        return arrays.batch(self._write(arrays, 0, samples))

    def batch_in_order(self, step: int) -> Batch:
        """Samples in stored order with their first instruction, for validation; the last batch may be smaller.

        The dataset's own instruction is the first where there is one, even if generated ones are also learnt from.
        """
        first = step * self.batch_size
        return self._in_order(self.numbers[first : first + self.batch_size])

    def in_order(self, numbers: np.ndarray) -> Iterator[Batch]:
        """Batches of these samples in the given order with their first instruction, decoded ahead by threads."""
        return self._ahead(self._in_order, self._parts(numbers))

    def every_text(self, numbers: np.ndarray) -> Iterator[list[Batch]]:
        """Like ``in_order``, with every text that may be learnt from: each item holds a batch with the first texts of
        its samples, one with their second texts and so on."""
        return self._ahead(self._every_text, self._parts(numbers))

    def _parts(self, numbers: np.ndarray) -> list[np.ndarray]:
        return [numbers[first : first + self.batch_size] for first in range(0, len(numbers), self.batch_size)]

    def _ahead(self, made: Callable[[np.ndarray], Made], parts: list[np.ndarray], ahead: int = 2) -> Iterator[Made]:
        with ThreadPoolExecutor(self.threads) as pool:
            waiting: deque[Future[Made]] = deque()
            try:
                for place in range(len(parts) + ahead):
                    if place < len(parts):
                        waiting.append(pool.submit(made, parts[place]))
                    if place >= ahead and waiting:
                        yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _every_text(self, numbers: np.ndarray) -> list[Batch]:
        found: list[list[tuple[int, Triplet, str]]] = []
        for number in map(int, numbers):
            triplet = self.shards.read(number, self.flow)
            for place, text in enumerate(texts_of(triplet, self._config(number, triplet))):
                if place == len(found):
                    found.append([])
                found[place].append((number, triplet, text))
        return [self._batch(samples) for samples in found]

    def _in_order(self, numbers: np.ndarray) -> Batch:
        triplets = [(int(number), self.shards.read(int(number), self.flow)) for number in numbers]
        return self._batch([(n, t, texts_of(t, self._config(n, t))[0]) for n, t in triplets])

    def _batch(self, samples: list[tuple[int, Triplet, str]]) -> Batch:
        """A batch of samples with their numbers and texts."""
        arrays = BatchArrays(len(samples))
        rows = [
            write_sample(arrays, place, triplet, self._config(number, triplet), text, number)
            for place, (number, triplet, text) in enumerate(samples)
        ]
        return arrays.batch(rows)

    def batches(self, first: int, last: int, ahead: int = 2) -> Iterator[Batch]:
        """The batches of steps first..last - 1, decoded ahead by threads."""
        with ThreadPoolExecutor(self.threads) as pool:
            waiting: deque[tuple[BatchArrays, list[Future[list[Row]]]]] = deque()
            memory = Memory()
            try:
                for step in range(first, last + ahead):
                    if step < last:
                        waiting.append(self._begun(pool, step, memory))
                    if step >= first + ahead and waiting:
                        arrays, futures = waiting.popleft()
                        yield arrays.batch([row for future in futures for row in future.result()])
            finally:
                for future in (f for _, futures in waiting for f in futures):
                    future.cancel()

    def _begun(
        self, pool: ThreadPoolExecutor, step: int, memory: Memory
    ) -> tuple[BatchArrays, list[Future[list[Row]]]]:
        """Let threads write the batch of a step, some samples each: a task for every sample would keep them waiting for
        each other.
        """
        samples = self.samples_of(step)
        arrays = BatchArrays(len(samples), memory)
        each = max(1, min(TOGETHER, -(-len(samples) // self.threads)))
        firsts = range(0, len(samples), each)
        return arrays, [pool.submit(self._write, arrays, at, samples[at : at + each]) for at in firsts]

    def _config(self, number: int, triplet: Triplet) -> SampleConfig:
        return self.config if isinstance(self.config, SampleConfig) else self.config(number, triplet)

    def _write(self, arrays: BatchArrays, first: int, samples: list[tuple[int, int, int]]) -> list[Row]:
        """Write samples, each with its epoch and its position there, to a batch's places from the first on."""
        return [self._write_one(arrays, first + place, *sample) for place, sample in enumerate(samples)]

    def _write_one(self, arrays: BatchArrays, place: int, number: int, epoch: int, position: int) -> Row:
        triplet = self.shards.read(number, self.flow)
        config = self._config(number, triplet)
        texts = texts_of(triplet, config)
        choice = 0
        if len(texts) > 1:
            choice = int(np.random.default_rng([self.seed, epoch, position]).integers(len(texts)))
        change = None if self.augmenter is None else self.augmenter.draw(epoch, position)
        return write_sample(arrays, place, triplet, config, texts[choice], number, change)
