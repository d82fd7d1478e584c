"""Plug-in folders: listing imports nothing, and every plug-in found keeps the contract."""

import dataclasses
import subprocess
import sys

import pytest

from schemas.plugins import UnknownPlugin, configure, load_plugin, parse_options, plugin_names

FOLDERS = [
    "pipeline.readers",
    "pipeline.trackers",
    "pipeline.depth",
    "pipeline.cameras",
    "pipeline.flow_sources",
    "schemas.shard_formats",
    "jobs.executors",
    "lamp_model.backbones",
    "lamp_model.fusions",
]
EVERY = [(folder, name) for folder in FOLDERS for name in plugin_names(folder)]


@pytest.mark.parametrize(("folder", "name"), EVERY)
def test_every_plugin_has_a_frozen_config_and_a_builder(folder, name):
    module = load_plugin(folder, name)
    assert dataclasses.is_dataclass(module.Config) and module.Config.__dataclass_params__.frozen
    assert module.__doc__
    if folder == "schemas.shard_formats":
        assert callable(module.write_shard) and callable(module.open_shard) and module.SUFFIX.startswith(".")
    else:
        assert callable(module.build)
    if folder == "pipeline.readers":
        assert module.INFO.licence and module.INFO.credit


@pytest.mark.parametrize("folder", FOLDERS)
def test_an_unknown_name_is_answered_with_the_known_ones(folder):
    with pytest.raises(UnknownPlugin) as error:
        load_plugin(folder, "nonsense")
    for name in plugin_names(folder):
        assert name in str(error.value)


def test_listing_imports_no_plugin():
    code = (
        "import sys; from schemas.plugins import plugin_names; "
        f"found = [f'{{f}}.{{n}}'.replace('-', '_') for f in {FOLDERS!r} for n in plugin_names(f)]; "
        "assert found and not set(found) & set(sys.modules), set(found) & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_options_are_read_as_the_fields_types():
    config = configure("pipeline.trackers", "lk", parse_options(["window=9", "still-level=0.5"]))
    assert config.window == 9 and config.still_level == 0.5
    assert configure("pipeline.cameras", "static", {"fov_y": "none"}).fov_y is None
    assert configure("pipeline.cameras", "static", {"fov_y": "45"}).fov_y == 45.0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["window"], "NAME=VALUE"),
        (["wndow=9"], "its options are: window"),
        (["window=nine"], "lk.window must be int, found 'nine'"),
        (["window=8"], "must be odd"),
    ],
)
def test_a_wrong_option_is_answered_with_what_would_be_right(words, says):
    with pytest.raises(ValueError, match=says):
        configure("pipeline.trackers", "lk", parse_options(words))
