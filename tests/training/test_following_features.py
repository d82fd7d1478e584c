"""Statistics of features stay true while the backbone learns, whatever ranks and interruptions there are."""

import shutil
from typing import Any

import pytest
import torch
from fixtures.ranks import in_ranks
from fixtures.shard import write_shards
from training.test_ranks import OPTIONS, figures, trained

from lamp_model.storage.checkpoints import read_tensors
from lamp_model.training import following
from lamp_model.training.survey import aligned, stacked
from lamp_model.training.trainer import Trainer

LEARNS = {**OPTIONS, "val_fraction": 0.0, "train_backbone": "full", "backbone_rate": 1e-4, "steps": 6}
NORM = "motion_head.feature_norm"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """15 windows, and a run of six steps whose backbone learns; statistics are taken anew after the fourth."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("following")
    write_shards(folder / "shards", episodes=5, frames=3)
    run(None, folder, "alone")
    return folder


def run(launch, folder, name, every=4, watched=8, **options) -> Any:
    """A run of one or more ranks, and its trainer as it is at the end."""
    seen, step = {}, Trainer.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(following, "EVERY", every)
        patch.setattr(following, "WATCHED", watched)
        patch.setattr(Trainer, "step", lambda self, batch: (seen.update(trainer=self), step(self, batch))[1])
        result = trained(launch, folder, name, options={k: v for k, v in (LEARNS | options).items() if v is not None})
    return result if launch is not None else seen["trainer"]


def features(trainer):
    """Mean and standard deviation of the features of all windows, as the model computes them now."""
    with torch.no_grad():
        found = [aligned(trainer.stage.encode(batch)) for batch in trainer.train.in_order(trainer.train.numbers)]
    tokens, mask = stacked(found)
    length = int(mask.all(0).sum())  # the shortest prompt's
    return tokens[:, :length].mean(0), tokens[:, :length].std(0, unbiased=False)


def off(mean, trainer):
    """How many deviations a mean is off that of the features, averaged over places and channels."""
    true, deviation = features(trainer)
    return float(((mean[: len(true)] - true).abs() / deviation.clamp(min=1e-3)).mean())


def test_statistics_are_those_of_the_features_at_the_end(folder):
    """To rounding where they are taken anew of all windows after the last step, nearly so where the mean of all was
    watched, and better with half of them than without."""
    trainers = {
        "anew": run(None, folder, "anew", every=6),
        "all": run(None, folder, "all", every=100, watched=15),
        "half": run(None, folder, "half", every=100),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lamp_model.training.trainer.followed", lambda *_: [])
        trainers["stale"] = run(None, folder, "stale")
    found = {name: off(t.stage.model.motion_head.feature_norm.mean, t) for name, t in trainers.items()}
    assert found["anew"] < 1e-4 and found["all"] < 0.02 and found["half"] < found["stale"] / 3


def test_averages_have_statistics_of_their_own(folder):
    trainer = run(None, folder, "averages", ema=0.8)
    norm = trainer.stage.model.motion_head.feature_norm
    own = norm.mean.clone()
    with trainer.averaged() as any_averages:
        assert any_averages and off(norm.mean, trainer) < 1e-4 < off(own, trainer)
    assert torch.equal(norm.mean, own)
    averages = read_tensors(folder / "averages/averaged.safetensors")
    with trainer.averaged():
        assert off(averages[f"{NORM}.mean"], trainer) < 1e-4


def test_an_interrupted_run_goes_on_the_same(folder):
    shutil.copytree(folder / "alone", folder / "interrupted")
    (folder / "interrupted/model.safetensors").unlink()
    for step in (4, 6):
        shutil.rmtree(folder / f"interrupted/checkpoints/step-{step:06}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(following, "EVERY", 4)
        trained(None, folder, "interrupted", resume=True)
    found, expected = (read_tensors(folder / name / "model.safetensors") for name in ("interrupted", "alone"))
    assert not [name for name in expected if not torch.equal(found[name], expected[name])]


def test_ranks_do_not_change_a_run(folder):
    """To rounding, which a backbone that learns fast enlarges."""
    results = in_ranks(2, run, folder, "ranks")
    assert all(isinstance(result, dict) for result in results), results
    for a, b in zip(figures(folder / "ranks"), figures(folder / "alone"), strict=True):
        assert a == pytest.approx(b, rel=1e-3)
    found, expected = (read_tensors(folder / name / "model.safetensors") for name in ("ranks", "alone"))
    for name in ("mean", "std"):
        torch.testing.assert_close(found[f"{NORM}.{name}"], expected[f"{NORM}.{name}"], rtol=1e-2, atol=1e-3)


def test_nothing_is_followed_while_the_backbone_is_frozen(folder):
    trainer = run(None, folder, "frozen", train_backbone="none", backbone_rate=None)
    assert not trainer.follower.norms
