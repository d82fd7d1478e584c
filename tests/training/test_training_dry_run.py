"""The dry run: memory, disk and hours of a run, before anything is loaded."""

from dataclasses import replace

import pytest
import torch
from fixtures.shard import write_shards

from jobs.cli.exit_codes import Failed, UsageError
from jobs.cli.train_options import Train
from jobs.commands.train import train_command
from lamp_model.config import DataSource, RunConfig
from lamp_model.data.dataset import TrainingData
from lamp_model.features import Features
from lamp_model.model import MotionModel, PolicyModel, outline
from lamp_model.presets import small, tiny
from lamp_model.training.dry_run import GIB, Machines, plan
from lamp_model.training.flops import PEAKS
from lamp_model.training.memory import Memory, ModuleMemory, saved_bytes, training_memory
from lamp_model.training.parameters import set_learning

SMALL = replace(small().model, backbone_options={"weights": "random:2b"})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    torch.set_num_threads(1)
    return write_shards(tmp_path_factory.mktemp("dry") / "shards", episodes=2, frames=2)


def memory_of(kind, model, training, tokens=60, **options):
    return training_memory(outline(kind, model), replace(training, **options), tokens)


@pytest.mark.parametrize("kind", [MotionModel, PolicyModel])
def test_activations_are_those_that_autograd_keeps(kind):
    """The same forward pass on a CPU with values keeps as many bytes as the estimate, its margin apart."""
    torch.set_num_threads(1)
    model, tokens = kind(tiny().model).eval(), 60
    training = tiny().training(1 if kind is MotionModel else 2)
    estimate = {m.name: m for m in training_memory(outline(kind, tiny().model), training, tokens).modules}
    trained = "motion_head" if kind is MotionModel else "action_model"
    set_learning(model, (trained,))
    model.eval()

    def kept(batch):
        features = Features(torch.randn(batch, tokens, 192), torch.ones(batch, tokens, dtype=torch.bool))
        head, chance = model.get_submodule(trained), torch.Generator()
        if kind is MotionModel:
            shape = batch, 400, 32
            motion, mask = torch.randn(*shape, 3), torch.ones(shape, dtype=torch.bool)
            return saved_bytes(lambda: head.loss(features, motion, mask, head.draw(batch, chance)))
        features.tokens.requires_grad_()
        actions, state = torch.randn(batch, 10, 7), torch.randn(batch, 8)
        mask = torch.ones(actions.shape, dtype=torch.bool)
        draws = head.draw(batch, chance)
        return saved_bytes(lambda: head.loss(features, state, actions, mask, draws, mask[..., 0]))

    measured = (kept(4) - kept(2)) / 2
    assert estimate[trained].sample == pytest.approx(1.15 * measured, rel=0.05)


def test_parameters_and_state_follow_from_what_learns():
    model = PolicyModel(tiny().model)
    found = {m.name: m for m in memory_of(PolicyModel, tiny().model, tiny().stage2).modules}
    for name, module in found.items():
        weights = [p.numel() for n, p in model.named_parameters() if n.startswith(name) and "lm_head" not in n]
        assert module.parameters == sum(weights)
    for name in ("motion_guidance", "action_model"):
        module = found[name]
        assert module.trained == module.parameters and module.gradients == 4 * module.trained
        assert module.optimiser == 12 * module.trained and module.weights >= 4 * module.parameters
    backbone = found["qwen_vl_interface"]
    assert (backbone.trained, backbone.gradients, backbone.optimiser, backbone.sample) == (0, 0, 0, 0)
    assert backbone.weights == 2 * backbone.parameters and backbone.working > 0


def test_more_is_kept_where_more_learns_and_less_with_checkpointing():
    plain = memory_of(MotionModel, tiny().model, tiny().stage1)
    averaged = memory_of(MotionModel, tiny().model, tiny().stage1, ema=0.99)
    few = memory_of(MotionModel, tiny().model, tiny().stage1, checkpoint_activations=True)
    lora = memory_of(MotionModel, replace(tiny().model, lora_rank=4), tiny().stage1, train_backbone="lora")
    full = memory_of(MotionModel, tiny().model, tiny().stage1, train_backbone="full")
    trained = sum(module.trained for module in plain.modules)
    assert averaged.total(1) - plain.total(1) == 4 * trained
    assert few.total(8) < plain.total(8) < lora.total(8) < full.total(8)
    assert {m.name for m in lora.modules} == {"qwen_vl_interface", "adapters", "motion_head"}


def test_the_largest_micro_batch_is_the_last_that_fits():
    memory = memory_of(MotionModel, SMALL, small().stage1, tokens=187)
    limit = int(24 * 0.97 * GIB)
    most = memory.largest_micro_batch(limit)
    assert memory.total(most) <= limit < memory.total(most + 1) and most >= 32  # what the preset is made for
    assert memory.largest_micro_batch(GIB) == 0


def planned(data, micro_batch=None, model=None, machines=None, **options):
    preset = tiny()
    training = replace(preset.stage1, **options)
    source = DataSource("x", "x", "0", {"x": "0"}, 4)
    config = RunConfig("tiny", model or preset.model, training, source)
    opened = TrainingData(data)
    try:
        return plan(config, data / "none", opened, machines or Machines(), micro_batch)
    finally:
        opened.close()


def test_hours_disk_and_machines(data):
    found = planned(data, "auto", ema=0.9, keep=3)
    peak, flops = PEAKS["h100"].peak, sum(found.flops.values())
    assert found.samples_per_second == pytest.approx(0.3 * peak / flops)
    assert found.hours == pytest.approx(600 * 16 / found.samples_per_second / 3600)
    more = replace(found, machines=Machines("h100", 8, 0.15))
    assert more.hours == pytest.approx(found.hours / 4)
    trained = sum(module.trained for module in found.memory.modules)
    assert found.checkpoint_bytes == 16 * trained and found.disk_bytes == 5 * found.checkpoint_bytes
    plain = planned(data, machines=Machines(count=8))
    assert plain.checkpoint_bytes == 12 * trained and (found.micro_batch, plain.micro_batch) == (16, 2)


def with_memory(found, sample, fixed):
    module = ModuleMemory("motion_head", 10, 10, fixed, 0, 0, sample, 0)
    return replace(found, memory=Memory((module,)), machines=Machines("l4"), micro_batch=64)


def test_too_little_memory_names_the_module_and_what_to_lower(data):
    found = planned(data)
    assert found.too_large() is None
    why = with_memory(found, GIB, 5 * GIB).too_large()
    assert why == (
        "a micro-batch of 64 needs 70.5 GiB, and a GPU of kind l4 has 23.3: most of what grows with it is in "
        "motion_head (64.0 GiB of activations); lower --micro-batch to 16, or add --checkpoint-activations"
    )
    hopeless = with_memory(found, GIB, 40 * GIB)
    assert "not even one sample fits" in hopeless.too_large() and "take GPUs with more memory" in hopeless.too_large()
    full = replace(hopeless.config, training=replace(hopeless.config.training, train_backbone="full"))
    assert "train adapters only (--train-backbone lora)" in replace(hopeless, config=full).too_large()


def test_the_command_says_all_and_writes_nothing(data, tmp_path, capsys):
    options = {"stage": 1, "data": data, "output": tmp_path / "run", "dry_run": True, "steps": 50, "batch_size": 2}
    assert train_command(Train(**options, device="cpu")) == 0
    said = capsys.readouterr().out
    for word in ("nothing is written", "motion_head", "memory  ", "compute ", "disk  ", "time  ", "here  ", "this CPU"):
        assert word in said
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match=r"gpu must be one of b200, h200, .* found 'k80'"):
        train_command(Train(**options, gpu="k80"))
    with pytest.raises(UsageError, match="mfu must be above 0 and at most 1, found 3"):
        train_command(Train(**options, mfu=3.0))
    with pytest.raises(UsageError, match="2 samples does not divide among 3 ranks"):
        train_command(Train(**options, gpus=3))


def test_a_run_that_does_not_fit_ends_with_exit_code_1(data, tmp_path):
    backbone = {"preset": "small", "backbone": "qwen3-vl:weights=random:2b", "train_backbone": "full"}
    with pytest.raises(Failed, match=r"not even one sample fits: it takes \d+.\d GiB, and a GPU of kind l4 has 23.3"):
        train_command(Train(stage=1, data=data, output=tmp_path / "run", dry_run=True, gpu="l4", **backbone))


@pytest.mark.parametrize(("preset", "parameters"), [("small", "2,127.5 M"), ("paper", "4,437.8 M")])
def test_a_plan_needs_no_download(data, tmp_path, capsys, monkeypatch, preset, parameters):
    """Where neither the hub nor an earlier download is there, the preset's known sizes are taken."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    options = {"stage": 1, "data": data, "output": tmp_path / "run", "preset": preset, "micro_batch": "auto"}
    assert train_command(Train(**options, dry_run=True)) == 0
    said = capsys.readouterr().out
    assert "could not be loaded" in said and "the plan is made from its known sizes" in said
    assert parameters in said and not (tmp_path / "run").exists()
    with pytest.raises(Failed, match="could not be loaded"):
        train_command(Train(**options))
