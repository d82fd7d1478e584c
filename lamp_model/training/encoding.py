"""Features of a batch from a cache on disk, where the backbone is frozen.

The cache is filled before the first step, in the order of the samples. Its content does not depend on which run fills
it or on interruptions, so a resumed run gets the same features.
"""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from lamp_model.config import TrainingConfig
from lamp_model.data.batch import Batch
from lamp_model.data.dataset import TrainingData
from lamp_model.data.loader import Loader
from lamp_model.features import Features
from lamp_model.model import MotionModel
from lamp_model.model_config import ModelConfig
from lamp_model.networks.precision import autocast
from lamp_model.storage.feature_cache import FeatureCache, cache_folder, digest_of_features
from schemas.locks import locked
from schemas.progress import open_progress

LONGER = 16
"""Extra tokens of a row, beyond the longest prompt of the first samples."""
TOGETHER = 16
"""Samples that are encoded at once to fill a cache."""


class CachedEncoder:
    """Returns cached features; a batch with any sample that is not cached is encoded by the backbone."""

    def __init__(self, model: MotionModel, cache: FeatureCache):
        self.model, self.cache = model, cache

    def __call__(self, batch: Batch) -> Features:
        """See ``MotionModel.encode``."""
        found = self.cache.features(batch.number.tolist(), batch.instructions, self.model.device)
        return found or self.model.encode(batch.images, batch.instructions)

    def fill(self, loader: Loader, samples: int) -> None:
        """Encode all samples that are not cached yet, with each of their texts, until the cache is full."""
        first = max(self.cache.last, 0) // TOGETHER * TOGETHER
        numbers = np.arange(first, samples)
        if self.cache.last == samples - 1 or self.cache.full:
            return
        mine = Loader(loader.shards, numbers, loader.config, TOGETHER, loader.seed, loader.threads, flow=loader.flow)
        bar = open_progress("features", samples, "sample", first)
        with contextlib.closing(bar), torch.no_grad(), autocast(self.model.device):
            for batches in mine.every_text(numbers):
                for batch in batches:
                    self._keep(batch.to(self.model.device))
                bar.update(batches[0].size)
                if self.cache.full:
                    return

    def _keep(self, batch: Batch) -> None:
        features = self.model.encode(batch.images, batch.instructions)
        assert features.mask is not None, "padding that is not masked is never cached"
        numbers = batch.number.tolist()
        for number, text, tokens, own in zip(numbers, batch.instructions, features.tokens, features.mask, strict=True):
            self.cache.put(number, text, tokens[own])


def uncacheable(config: ModelConfig, training: TrainingConfig) -> str | None:
    """Why a model's features cannot be cached; None where they can."""
    if config.lora_rank or training.train_backbone == "full":
        return "the backbone learns, which changes the features"
    if training.augments:
        return "--augment-crop and --augment-colour change the images at every visit"
    if config.padding != "masked":
        return "padding that is not masked makes a sample's features depend on its batch"
    return None


@contextlib.contextmanager
def cached(
    model: MotionModel, data: TrainingData, loader: Loader, gigabytes: float, fill: bool = True
) -> Iterator[CachedEncoder]:
    """Open an encoder with a filled cache. Runs may share it: while one fills it, others wait, as reading features is
    several times faster than computing them at every visit.

    Args:
        loader: of the samples to cache.
        fill: lock the cache and fill it; else it is only read, beside the process of this run that filled it.

    Raises:
        OSError: the cache cannot be written.
    """
    config = model.config
    texts = [text for triplet in data.first_samples() for text in triplet.instructions] or [""]
    length = max(model.qwen_vl_interface.length(text, len(config.cameras)) for text in texts) + LONGER
    options = {name: value for name, value in config.backbone_options.items() if name != "weights"}
    shown = [list(config.cameras), config.image_orientation]
    said = (config.backbone, options, *shown, list(data.manifests.items()), len(data), length)
    folder = cache_folder() / digest_of_features(model.get_submodule("qwen_vl_interface"), *said)[:24]
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        filling = stack.enter_context(contextlib.ExitStack())
        if fill:
            filling.enter_context(_alone(folder))
        most = int(gigabytes * 2**30)
        cache = FeatureCache(folder, length, model.qwen_vl_interface.width, most, _rows(data))
        stack.callback(cache.close)
        encoder = CachedEncoder(model, cache)
        if fill:
            encoder.fill(loader, len(data))
        filling.close()
        print(f"features: {len(cache)} pairs of sample and text are cached in {folder} ({len(data)} samples)")
        yield encoder


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a cache's lock, after a message if another run has it now."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / ".lock", fcntl.LOCK_EX | fcntl.LOCK_NB))
        except BlockingIOError:
            said = "waiting for it (--cache-features off: go on without)"
            print(f"features: another run is filling {folder}; {said}", flush=True)
            stack.enter_context(locked(folder / ".lock", fcntl.LOCK_EX))
        yield


def _rows(data: TrainingData) -> int:
    """Estimate of the number of (sample, text) pairs, from the number of texts of the first samples."""
    texts = [len(t.instructions) + len(t.generated_instructions) for t in data.first_samples()]
    return len(data) * max([1, *texts])
