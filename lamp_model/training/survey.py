"""Statistics of the training set, saved with the weights, and in stage 1, before the first step, errors of
the linear probe.

At most ``MOST`` windows, spread evenly, are encoded for it, and no more than fit into ``ROOM``.
"""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from lamp_model.data.batch import Scene
from lamp_model.data.loader import Loader
from lamp_model.features import Features
from lamp_model.networks import motion_layout
from lamp_model.networks.conditioning import SPREAD, FeatureNorm
from lamp_model.networks.motion_expert import MotionExpert
from lamp_model.networks.precision import autocast
from lamp_model.storage.checkpoints import steps_in
from lamp_model.storage.run_folder import CHECKPOINTS, METRICS
from lamp_model.training.linear_probe import LOOKED_AT, Ridge, chosen_strength, inner_products, predict
from lamp_model.training.metrics import read_metrics
from lamp_model.training.rollout_error import RolloutErrors, groups_of
from lamp_model.training.stages import Encode, MotionStage, PolicyStage, Stage
from schemas.progress import open_progress

MOST, ROOM = 2048, 2**30
"""Windows, and bytes for their features."""
RARE = 0.05
"""Share of the windows below which a place in the prompt is rarely reached."""
BLOCK = 8
"""Places in the prompt that are multiplied at once."""
PROBE = "probe_px_all"


@dataclass(frozen=True)
class Survey:
    """Encoded windows, stacked, on the CPU.

    Attributes:
        tokens: features at their places in the prompt, 0 beyond its end.
        motion, motion_mask: see ``lamp_model.data.batch.Batch``.
        episodes: number of each window's episode.
    """

    tokens: Float[torch.Tensor, "N L D"]
    mask: Bool[torch.Tensor, "N L"]
    motion: Float[torch.Tensor, "N K T 3"]
    motion_mask: Bool[torch.Tensor, "N K T"]
    scenes: tuple[Scene, ...]
    episodes: np.ndarray


def look_at_data(stage: Stage, training: Loader, validation: Loader | None, folder: Path) -> None:
    """Before the first step compute the statistics that the networks need, and in stage 1 the linear probe's errors as
    the stage's baseline. A resumed run has the first in its checkpoint and the second in its curves."""
    if isinstance(stage, PolicyStage):
        _standardise_features(stage, training, folder)
    if not isinstance(stage, MotionStage):
        return
    known = [line for line in read_metrics(folder / METRICS) if PROBE in line]
    if known:
        stage.baselines = {name: known[-1][name] for name in known[-1] if name.startswith("probe_")}
    begun = bool(steps_in(folder / CHECKPOINTS))
    expert, device = stage.model.motion_head, stage.model.device
    wants_probe = validation is not None and not known
    if (begun and not wants_probe) or not (wants_probe or expert.config.needs_statistics):
        return
    with autocast(device):
        survey = take(training, stage.encode, device)
        if not begun:
            keep_statistics(expert, survey)
        if wants_probe and validation is not None:
            held_out = take(validation, stage.encode, device)
            stage.baselines = probe_errors(survey, held_out)


def _standardise_features(stage: PolicyStage, training: Loader, folder: Path) -> None:
    """Before the first step of stage 2, compute the statistics of features that its policy needs, if any."""
    if stage.model.config.feature_norm == "none" or steps_in(folder / CHECKPOINTS):
        return
    with autocast(stage.model.device):
        survey = take(training, stage.encode, stage.model.device)
        keep_features(stage.model.feature_norm, survey.tokens, survey.mask)


def take(loader: Loader, encode: Encode, device: torch.device) -> Survey:
    """Encode windows of a loader, each once, with its first instruction."""
    room, found = None, []
    numbers = loader.numbers[spread(len(loader.numbers), MOST)]
    with closing(open_progress("looking at the data", len(numbers), "sample")) as bar:
        for batch in loader.in_order(numbers):
            with torch.no_grad():
                tokens, mask = aligned(encode(batch.to(device)))
            found.append((tokens.half().cpu(), mask.cpu(), batch))
            bar.update(batch.size)
            room = room or max(ROOM // (tokens[0].numel() * 2), 1)
            if sum(one[2].size for one in found) >= room:
                break
    tokens, mask = stacked([(tokens, mask) for tokens, mask, _ in found])
    batches = [batch for _, _, batch in found]
    count = sum(batch.size for batch in batches)
    _, episodes = np.unique(loader.shards.index["episode"][numbers[:count]], return_inverse=True)
    return Survey(
        tokens,
        mask,
        torch.cat([batch.motion for batch in batches]),
        torch.cat([batch.motion_mask for batch in batches]),
        tuple(scene for batch in batches for scene in batch.scenes),
        episodes,
    )


def aligned(features: Features) -> tuple[Float[torch.Tensor, "B L D"], Bool[torch.Tensor, "B L"]]:
    """Tokens moved to their places in the prompt, padding behind them."""
    tokens, mask = features.tokens, features.mask
    if mask is None:
        return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    order = (~mask).long().argsort(dim=1, stable=True)
    return tokens.gather(1, order[..., None].expand_as(tokens)), mask.gather(1, order)


def stacked(
    found: list[tuple[Float[torch.Tensor, "_ _ D"], Bool[torch.Tensor, "_ _"]]],
) -> tuple[Float[torch.Tensor, "N L D"], Bool[torch.Tensor, "N L"]]:
    """Aligned tokens of several batches and their masks, as one batch as long as the longest."""
    longest, pad = max(tokens.shape[1] for tokens, _ in found), torch.nn.functional.pad
    return (
        torch.cat([pad(tokens, (0, 0, 0, longest - tokens.shape[1])) for tokens, _ in found]),
        torch.cat([pad(mask, (0, longest - mask.shape[1])) for _, mask in found]),
    )


def standard(
    tokens: Float[torch.Tensor, "N L D"], mask: Bool[torch.Tensor, "N L"]
) -> tuple[Float[torch.Tensor, "L D"], Float[torch.Tensor, "L D"]]:
    """Mean and standard deviation of features by place and channel.

    A place that few windows reach, such as the end of a long instruction, gets the average deviation of the other
    places: its own would come from one task only, and be too small for all others.
    """
    means, deviations = [], []
    for place in range(tokens.shape[1]):
        rows = tokens[:, place][mask[:, place]].float()
        means.append(rows.mean(0))
        deviations.append(rows.std(0, unbiased=False))
    mean, deviation = torch.stack(means), torch.stack(deviations)
    rare = mask.sum(0) < RARE * len(mask)
    if not rare.all():
        deviation[rare] = deviation[~rare].mean(0)
    return mean, deviation + SPREAD


def keep_statistics(expert: MotionExpert, survey: Survey) -> None:
    """Write the statistics of a training set into a Motion Expert that needs them; places beyond the longest prompt get
    those of its last place."""
    if isinstance(expert.feature_norm, FeatureNorm):
        keep_features(expert.feature_norm, survey.tokens, survey.mask)
    if expert.config.scaled:
        motion = motion_layout.normalise(survey.motion)[survey.motion_mask]
        components = 3 if expert.config.depth else 2
        expert.sigma.copy_(motion.double().std(0, unbiased=False)[:components].mean().clamp(min=1e-4))


def keep_features(norm: FeatureNorm, tokens: Float[torch.Tensor, "N L D"], mask: Bool[torch.Tensor, "N L"]) -> None:
    """Write the statistics of these features, which are ``aligned``, into a network that standardises by them."""
    for name, values in zip(("mean", "std"), standard(tokens, mask), strict=True):
        buffer = getattr(norm, name)
        at = torch.arange(len(buffer)).clamp(max=len(values) - 1)
        buffer.copy_(values[at])


def probe_errors(survey: Survey, held_out: Survey) -> dict[str, float]:
    """Errors of the linear probe on held-out windows: ``probe_px_moving`` and ``probe_px_all``."""
    began = time.perf_counter()
    mean, deviation = standard(survey.tokens, survey.mask)
    places = len(mean)

    def blocks(mine: Survey) -> Iterator[torch.Tensor]:
        for first in range(0, places, BLOCK):
            at = slice(first, first + BLOCK)
            tokens, own = mine.tokens[:, :places][:, at], mine.mask[:, :places][:, at]
            short = len(mean[at]) - tokens.shape[1]
            rows = torch.where(own[..., None], tokens.float() - mean[at][: tokens.shape[1]], 0)
            rows = rows / deviation[at][: tokens.shape[1]]
            yield torch.nn.functional.pad(rows, (0, 0, 0, short)).flatten(1)

    ridge = Ridge(inner_products(blocks(survey), blocks(survey)))
    steps = np.linspace(0, survey.motion.shape[2], LOOKED_AT + 1).round().astype(int)[1:] - 1
    looked_at = _displacements(survey, steps)
    valid = torch.from_numpy(np.stack([groups_of(scene)["moving"][:, steps] for scene in survey.scenes]))

    def score(rows: torch.Tensor, numbers: np.ndarray) -> float:
        off = (rows - looked_at[torch.from_numpy(numbers)]).view(len(rows), *valid.shape[1:], 2).norm(dim=-1)
        return float(off[valid[torch.from_numpy(numbers)]].mean())

    strength = chosen_strength(ridge, survey.episodes.tolist(), looked_at, score)
    weights = ridge.weights(np.arange(len(survey.tokens)), inner_products(blocks(held_out), blocks(survey)), strength)
    steps = np.arange(survey.motion.shape[2])
    guesses = predict(weights, _displacements(survey, steps)).view(len(weights), -1, len(steps), 2).numpy()
    errors = RolloutErrors()
    for guess, scene in zip(guesses, held_out.scenes, strict=True):
        errors.add_positions(guess, scene, "probe")
    spent = time.perf_counter() - began
    print(f"linear probe: fitted on {len(survey.tokens)} windows in {spent:.0f} s, ridge {strength:g}")
    return errors.means()


def _displacements(survey: Survey, steps: np.ndarray) -> Float[torch.Tensor, "N R"]:
    """Displacements of all points at some steps, in the unit square; 0 where unknown."""
    rows = []
    for scene in survey.scenes:
        moved = scene.uvz[:, steps + 1, :2] - scene.uvz[:, :1, :2]
        known = scene.valid[:, steps + 1] & scene.valid[:, :1]
        rows.append(torch.from_numpy(np.where(known[..., None], moved, 0).astype(np.float32)).flatten())
    return torch.stack(rows)


def spread(count: int, most: int) -> np.ndarray:
    """At most so many numbers of 0 .. count - 1, evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
