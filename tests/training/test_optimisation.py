"""Learning rates by step, groups of parameters, and the average of the weights."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from lamp_model.presets import tiny
from lamp_model.training.averaging import AVERAGE
from lamp_model.training.optimisation import Optimisation
from lamp_model.training.schedule import Schedule

BASE = replace(tiny().stage1, steps=101, learning_rate=1.0, minimum_rate=0.1)


def schedule(**options):
    return Schedule(replace(BASE, **options))


def test_a_cosine_goes_over_the_whole_run():
    rate = schedule()
    assert rate(0) == 1.0 and rate(100) == pytest.approx(0.1) and rate(50) == pytest.approx(0.55)


@pytest.mark.parametrize("name", ["cosine", "constant", "wsd"])
def test_the_warm_up_is_a_line_to_the_highest_rate_and_no_step_has_none(name):
    rate = schedule(schedule=name, warmup=9)
    assert [rate(step) for step in range(10)] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rate(100) == pytest.approx(1.0 if name == "constant" else 0.1)
    rates = [rate(step) for step in range(9, 101)]
    assert all(later <= earlier for earlier, later in pairwise(rates))


def test_wsd_comes_down_in_the_last_share_of_the_steps_and_more_steps_change_no_earlier_rate():
    rate = schedule(schedule="wsd", decay=0.2)
    assert all(rate(step) == 1.0 for step in range(81)) and rate(90) == pytest.approx(0.55)
    longer = schedule(schedule="wsd", decay=0.2, steps=202)
    assert all(longer(step) == rate(step) for step in range(81)) and longer(100) == 1.0


def test_rates_of_the_whole_range_stay_between_the_bounds():
    for name in ("cosine", "constant", "wsd"):
        for steps, warmup in ((1, 0), (2, 1), (5, 4)):
            rate = schedule(schedule=name, steps=steps, warmup=warmup)
            assert all(0 < rate(step) <= 1 for step in range(steps))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"warmup": 101}, "warmup must be at least 0 and below the 101 steps, found 101"),
        ({"decay": 0.0}, "decay must be above 0 and at most 1"),
        ({"weight_decay": -1.0}, "weight-decay must be at least 0"),
        ({"betas": (0.9, 1.0)}, "betas must be at least 0 and below 1, found 0.9 1.0"),
        ({"ema": 1.0}, "ema must be at least 0 and below 1"),
        ({"ema": math.nan}, "ema must be"),
        ({"keep": 0}, "keep must be positive"),
        ({"backbone_rate": 2.0}, "backbone-rate must be above 0 and at most learning-rate 1.0"),
        ({"augment_crop": 0.5}, "augment-crop must be at least 0 and below 0.5"),
        ({"augment_colour": 1.5}, "augment-colour must be at least 0 and below 1"),
    ],
)
def test_values_that_cannot_be_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        replace(BASE, **options)


def optimisation(**options):
    torch.manual_seed(0)
    parameters = {
        "motion_head.w": nn.Parameter(torch.randn(3, 4)),
        "motion_head.b": nn.Parameter(torch.randn(4)),
        "qwen_vl_interface.q_proj.lora_A.default.weight": nn.Parameter(torch.randn(2, 4)),
    }
    return Optimisation(parameters, replace(BASE, **options))


def stepped(made, step):
    made.set_rate(step)
    for number, parameter in enumerate(made.learning.values()):
        parameter.grad = torch.full_like(parameter, float(number + 1))
    norm = made.norm()
    made.step(norm)
    return norm


def test_matrices_alone_decay_and_the_backbone_has_its_own_rate():
    made = optimisation(weight_decay=0.05, backbone_rate=0.25)
    groups = {
        name: group
        for group in made.optimizer.param_groups
        for name, parameter in made.learning.items()
        if any(parameter is one for one in group["params"])
    }
    weights, bias, adapter = groups.values()
    assert (weights["weight_decay"], bias["weight_decay"], adapter["weight_decay"]) == (0.05, 0.0, 0.05)
    made.set_rate(50)
    assert (weights["lr"], adapter["lr"]) == (pytest.approx(0.55), pytest.approx(0.55 / 4))
    assert made.optimizer.param_groups[0]["betas"] == BASE.betas


def test_the_norm_of_each_module_adds_up_to_the_whole():
    made = optimisation()
    for parameter in made.learning.values():
        parameter.grad = torch.randn_like(parameter)
    norms = made.norms()
    assert set(norms) == {"motion_head", "adapters"}
    assert sum(float(n) ** 2 for n in norms.values()) == pytest.approx(float(made.norm()) ** 2, rel=1e-5)


def test_the_average_follows_its_formula_and_leaves_the_weights_alone():
    made, plain = optimisation(ema=0.5), optimisation()
    expected = None
    for step in range(8):
        stepped(made, step)
        stepped(plain, step)
        now = made.learning["motion_head.w"].detach().clone()
        decay = min(0.5, (2 + step) / (11 + step))
        expected = now if expected is None else decay * expected + (1 - decay) * now
    weight = made.learning["motion_head.w"]
    assert torch.equal(weight, plain.learning["motion_head.w"])
    with made.averaged() as any_averages:
        assert any_averages
        torch.testing.assert_close(weight.detach(), expected)
    assert torch.equal(weight, plain.learning["motion_head.w"])
    with plain.averaged() as any_averages:
        assert not any_averages


def test_averages_are_part_of_the_state_that_checkpoints_keep():
    made, other = optimisation(ema=0.9), optimisation(ema=0.9)
    for step in range(3):
        stepped(made, step)
    state = {name: value.clone() for name, value in made.state().items()}
    assert f"motion_head.w::{AVERAGE}" in state
    for name, parameter in other.learning.items():
        parameter.data.copy_(made.learning[name].data)
    other.load(state, "there")
    for one in (made, other):
        stepped(one, 3)
    assert all(torch.equal(value, other.state()[name]) for name, value in made.state().items())
