"""Statistics of features stay true while the backbone learns, whatever ranks and interruptions there are."""

import shutil
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from fixtures.ranks import in_ranks
from fixtures.shard import write_shards
from training.test_model_training import smaller
from training.test_ranks import OPTIONS, figures, prepared, trained

from lamp_model.storage.checkpoints import read_tensors
from lamp_model.training import following, held_out
from lamp_model.training.distributed.ranks import ALONE
from lamp_model.training.request import Request
from lamp_model.training.run import prepare, train
from lamp_model.training.stopping import Stopped, StopRequest
from lamp_model.training.survey import aligned, stacked, standard
from lamp_model.training.trainer import Trainer

LEARNS = {**OPTIONS, "train_backbone": "full", "backbone_rate": 1e-4, "steps": 6, "validate_every": 3, "ema": 0.8}
NORM = "motion_head.feature_norm"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """15 windows with prompts of two lengths, and a run of six steps whose backbone learns; statistics are taken anew
    after the fourth, and of averages for the validation after the third, where no checkpoint is written."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("following")
    write_shards(folder / "shards", episodes=5, frames=3, change=longer)
    run(None, folder, "alone")
    return folder


def longer(triplet):
    """About half of the episodes have a longer instruction."""
    if sum(map(ord, triplet.episode)) % 2:
        return triplet
    return replace(
        triplet, instructions=tuple(f"{text}, and then go back to where it began" for text in triplet.instructions)
    )


@contextmanager
def seen_trainer(every=4, watched=8):
    """Within this statistics are taken anew after so many steps and so many windows are watched; it yields a dictionary
    that gets the run's trainer."""
    seen, step = {}, Trainer.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(following, "EVERY", every)
        patch.setattr(following, "WATCHED", watched)
        patch.setattr(Trainer, "step", lambda self, batch: (seen.update(trainer=self), step(self, batch))[1])
        yield seen


def run(launch, folder, name, every=4, watched=8, micro_batch=None, **options) -> Any:
    """A run of one or more ranks, and its trainer as it is at the end."""
    with seen_trainer(every, watched) as seen:
        given = {key: value for key, value in (LEARNS | options).items() if value is not None}
        result = trained(launch, folder, name, micro_batch=micro_batch, options=given)
    return result if launch is not None else seen["trainer"]


def off(norm, trainer):
    """How many deviations the means are off those of the features of all windows, as the model computes them now, and
    how far the deviations are off, by factor, on average over places and channels that differ between windows."""
    with torch.no_grad():
        found = [aligned(trainer.stage.encode(batch)) for batch in trainer.train.in_order(trainer.train.numbers)]
    mean, deviation = standard(*stacked(found))
    assert len(mean) < len(norm.mean)
    differ = deviation > 0.01
    means = (norm.mean[: len(mean)] - mean).abs() / deviation
    factors = (norm.std[: len(mean)] / deviation).log().abs()
    return float(means[differ].mean()), float(factors[differ].mean())


def test_statistics_are_those_of_the_features_at_the_end(folder):
    """To rounding where they are taken anew of all windows after the last step; the means nearly so where the mean of
    all was watched, and better with some of them than without."""
    options = {"ema": None, "val_fraction": 0.0}
    trainers = {
        "anew": run(None, folder, "anew", every=6, **options),
        "all": run(None, folder, "all", every=100, watched=15, **options),
        "some": run(None, folder, "some", every=100, **options),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lamp_model.training.trainer.followed", lambda *_: [])
        trainers["stale"] = run(None, folder, "stale", **options)
    found = {name: off(trainer.stage.model.motion_head.feature_norm, trainer) for name, trainer in trainers.items()}
    means = {name: one[0] for name, one in found.items()}
    assert found["anew"] == pytest.approx((0, 0), abs=1e-4)
    assert found["stale"][1] > 0.01
    assert means["all"] < 0.02 and means["some"] < means["stale"] / 3, means


def test_averages_have_statistics_of_their_own(folder):
    trainer = run(None, folder, "averages")
    norm = trainer.stage.model.motion_head.feature_norm
    own = norm.mean.clone()
    with trainer.averaged() as any_averages:
        assert any_averages and off(norm, trainer) == pytest.approx((0, 0), abs=1e-4)
        kept = read_tensors(folder / "averages/averaged.safetensors")
        assert torch.equal(kept[f"{NORM}.mean"], norm.mean) and not torch.equal(norm.mean, own)
    assert torch.equal(norm.mean, own)


def test_a_stop_while_averages_are_validated_leaves_the_weights_themselves(folder):
    """The stop is asked for at the validation after step 3; going on from its checkpoint gives the same run."""
    stop, evaluated, asked = StopRequest(), held_out.evaluated, []

    def ask(*given):
        if asked:
            stop.asked = True
        asked.append(True)
        return evaluated(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(following, "EVERY", 4)
        patch.setattr("lamp_model.training.trainer.evaluated", ask)
        with pytest.raises(Stopped):
            train(prepared(ALONE, folder, "stopped", options=LEARNS), stop)
        patch.setattr("lamp_model.training.trainer.evaluated", evaluated)
        trained(None, folder, "stopped", resume=True)
    assert_same_weights(folder / "stopped", folder / "alone")


def test_an_interrupted_run_goes_on_the_same(folder):
    shutil.copytree(folder / "alone", folder / "interrupted")
    (folder / "interrupted/model.safetensors").unlink()
    for step in (4, 6):
        shutil.rmtree(folder / f"interrupted/checkpoints/step-{step:06}")
    with seen_trainer():
        trained(None, folder, "interrupted", resume=True)
    assert_same_weights(folder / "interrupted", folder / "alone")


def assert_same_weights(found, expected):
    a, b = (read_tensors(run / "model.safetensors") for run in (found, expected))
    assert not [name for name in b if not torch.equal(a[name], b[name])]


@pytest.mark.parametrize("name", ["ranks", "micro-batches"])
def test_ranks_and_micro_batches_do_not_change_a_run(folder, name):
    """To rounding, which a backbone that learns enlarges. Ranks hold parts of every weight."""
    if name == "ranks":
        results = in_ranks(2, run, folder, name)
        assert all(isinstance(result, dict) for result in results), results
    else:
        run(None, folder, name, micro_batch=3)
    for a, b in zip(figures(folder / name), figures(folder / "alone"), strict=True):
        assert a == pytest.approx(b, rel=3e-3)
    for file in ("model.safetensors", "averaged.safetensors"):
        found, expected = read_tensors(folder / name / file), read_tensors(folder / "alone" / file)
        for part in ("mean", "std"):
            torch.testing.assert_close(found[f"{NORM}.{part}"], expected[f"{NORM}.{part}"], rtol=1e-2, atol=1e-3)


def test_what_a_policy_standardises_is_followed_too(folder):
    """Of the policy, and of the Motion Expert where it learns too; one that is frozen keeps its own."""
    for objective, expected in (("action", 1), ("joint", 2)):
        trainer = run_policy(folder, objective)
        assert len(trainer.follower.norms) == expected
        for norm in trainer.follower.norms:
            assert off(norm, trainer) == pytest.approx((0, 0), abs=1e-4)


def run_policy(folder, objective):
    """A run of stage 2 whose backbone learns through adapters."""
    options = {
        **{name: value for name, value in OPTIONS.items() if name != "path_weight"},
        "objective": objective,
        "policy_feature_norm": "index",
        "train_backbone": "lora",
        "val_fraction": 0.0,
    }
    with seen_trainer() as seen:
        request = Request(2, folder / "shards", folder / objective, folder / "alone", options=options, device="cpu",
                          cache_features="off")  # fmt: skip
        train(smaller(prepare(request)))
    return seen["trainer"]


def test_nothing_is_followed_while_the_backbone_is_frozen(folder):
    trainer = run(None, folder, "frozen", train_backbone="none", backbone_rate=None)
    assert not trainer.follower.norms
