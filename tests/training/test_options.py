"""Options of a run are declared once; the command line, files and refusals follow from that."""

import dataclasses
import typing

import pytest
import tyro

from jobs.cli.train_options import WHERE_AND_HOW, Train, request_of
from lamp_model.config import DataSource, RunConfig
from lamp_model.options import contradictions, value_at, with_options
from lamp_model.presets import tiny
from lamp_model.training.request import OPTIONS, Request, check

TUPLES = {"betas": (0.8, 0.99), "lora_modules": ("q_proj", "o_proj")}
VALUES = {"fusion": "add", "action_head": "binned", "backbone": "openvla-7b"}


def config(stage=2):
    preset = tiny()
    source = DataSource("shards", "x", "0", {"x": "0"}, 1)
    return RunConfig("tiny", preset.model, preset.training(stage), source)


def other_value(place, tree):
    """Another value than the tree has."""
    if place.name in TUPLES:
        return TUPLES[place.name]
    has = value_at(tree, place.path)
    if has is None and place.kind == float | None:
        return 1e-5
    kinds = [k for k in typing.get_args(place.kind) if k not in (type(None), has)]
    if place.option.plugin is not None:
        return VALUES[place.name]
    if typing.get_origin(place.kind) is not None:
        inner = [value for kind in kinds for value in (typing.get_args(kind) or (kind,)) if value != has]
        return inner[0]
    return (not has) if place.kind is bool else has + (4 if place.name == "grid" else 2 if place.kind is int else 0.5)


def test_the_command_has_every_option_of_a_run_once():
    fields = [field.name for field in dataclasses.fields(Train)]
    assert len(set(fields)) == len(fields) and [name for name in fields if name in OPTIONS] == list(OPTIONS)
    assert set(WHERE_AND_HOW) <= set(fields) - set(OPTIONS)
    assert len({place.path for place in OPTIONS.values()}) == len(OPTIONS)


@pytest.mark.parametrize("name", [n for n, p in OPTIONS.items() if p.kind is not bool])
def test_what_is_typed_comes_to_its_field_and_to_no_other(name, tmp_path):
    tree, place = config(), OPTIONS[name]
    value = other_value(place, tree)
    if name in ("motion_rate", "minimum_rate"):
        value = 1e-6
    typed = [str(one) for one in value] if isinstance(value, tuple) else [str(value)]
    words = ["--stage", str(place.option.stage or 1), place.flag, *typed]
    request = request_of(tyro.cli(Train, args=words, config=(tyro.conf.FlagCreatePairsOff,)), tmp_path)
    assert request.options == {name: value}
    if name in ("val_fraction", "grid", "guidance_steps", "motion_target", "augment_crop"):
        return  # other values of these are held to the rest of the config
    changed = with_options(tree, request.options)
    assert value_at(changed, place.path) == value
    assert [(p.name, asked) for p, _, asked in contradictions(tree, request.options)] == [(name, value)]
    assert not contradictions(changed, request.options)


def test_switches_need_no_value(tmp_path):
    args = tyro.cli(Train, args=["--stage", "1", "--retarget"], config=(tyro.conf.FlagCreatePairsOff,))
    assert request_of(args, tmp_path).options == {"retarget": True}


@pytest.mark.parametrize("name", [n for n, p in OPTIONS.items() if p.option.stage == 2])
def test_an_option_of_stage_2_is_refused_in_stage_1(name, tmp_path):
    request = Request(1, None, tmp_path, options={name: other_value(OPTIONS[name], config())})
    with pytest.raises(ValueError, match=f"{OPTIONS[name].flag} belongs to stage 2"):
        check(request, "action")


@pytest.mark.parametrize("name", [n for n, p in OPTIONS.items() if p.option.needs])
def test_what_needs_a_motion_is_refused_without_one(name, tmp_path):
    request = Request(2, None, tmp_path, prior="none", options={name: other_value(OPTIONS[name], config())})
    with pytest.raises(ValueError, match=f"{OPTIONS[name].flag} needs a motion, and --motion none leaves it out"):
        check(request, "action")


def test_fields_of_one_config_change_together():
    """Each alone would be refused by the other's old value."""
    changed = with_options(config(), {"chunk": 600, "positions": 700})
    assert (changed.model.action.chunk, changed.model.action.positions) == (600, 700)
    with pytest.raises(ValueError, match="training has no option 'fuison'"):
        with_options(config(), {"fuison": "add"})
