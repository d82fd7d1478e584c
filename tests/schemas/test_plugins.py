"""Plug-in folders: listing imports nothing, and every plug-in found keeps the contract."""

import dataclasses
import subprocess
import sys

import pytest

from schemas.plugins import UnknownPlugin, configure, load_plugin, parse_options, plugin_names, recorded_options

FOLDERS = [
    "pipeline.readers",
    "pipeline.trackers",
    "pipeline.depth",
    "pipeline.cameras",
    "pipeline.flow_sources",
    "pipeline.actions",
    "lamp_model.backbones",
    "lamp_model.fusions",
    "lamp_model.action_heads",
    "lamp_model.serving.protocols",
]
EVERY = [(folder, name) for folder in FOLDERS for name in plugin_names(folder)]


@pytest.mark.parametrize(("folder", "name"), EVERY)
def test_every_plugin_has_a_frozen_config_and_a_builder(folder, name):
    module = load_plugin(folder, name)
    assert dataclasses.is_dataclass(module.Config) and module.Config.__dataclass_params__.frozen
    assert module.__doc__
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


@dataclasses.dataclass(frozen=True)
class ConfigOfPaths:
    weights: str | None = dataclasses.field(default=None, metadata={"contents": True})
    folder: str = dataclasses.field(default="", metadata={"place": True})
    size: int = 3


def test_a_recipe_records_what_paths_hold_and_not_where_they_are(tmp_path):
    for name in ("here", "there"):
        (tmp_path / name / "in").mkdir(parents=True)
        (tmp_path / name / "in" / "model.safetensors").write_bytes(b"numbers")
        (tmp_path / name / ".cache").write_text(name)
    here, there = (recorded_options(ConfigOfPaths(str(tmp_path / n), str(tmp_path / n))) for n in ("here", "there"))
    assert here == there and here["size"] == 3 and "folder" not in here
    assert here["weights"].startswith("sha256:") and str(tmp_path) not in str(here)
    (tmp_path / "there" / "in" / "model.safetensors").write_bytes(b"numbers of another model")
    assert recorded_options(ConfigOfPaths(str(tmp_path / "there")))["weights"] != here["weights"]
    assert recorded_options(ConfigOfPaths("a-hub/name")) == {"weights": "a-hub/name", "size": 3}
    assert recorded_options(ConfigOfPaths())["weights"] is None


def test_options_are_read_as_the_fields_types():
    config = configure("pipeline.trackers", "lk", parse_options(["window=9", "still-level=0.5"]))
    assert config.window == 9 and config.still_level == 0.5
    assert configure("pipeline.cameras", "static", {"fov_y": "none"}).fov_y is None
    assert configure("pipeline.cameras", "static", {"fov_y": "45"}).fov_y == 45.0
    assert configure("pipeline.readers", "libero", {"line": "open"}).line == "open"
    assert configure("pipeline.readers", "libero", {"line": "none"}).line is None
    with pytest.raises(ValueError, match=r"libero.line must be one of open, simulator, found 'shut'"):
        configure("pipeline.readers", "libero", {"line": "shut"})


def test_the_same_number_is_the_same_however_it_is_written():
    written = [
        configure("pipeline.trackers", "lk", {"still_level": value}).still_level for value in (1, 1.0, "1", "1.0")
    ]
    assert [(value, type(value)) for value in written] == [(1.0, float)] * 4
    for wrong in (True, [1], 0.5):
        with pytest.raises(ValueError, match=r"lk\.window must be int, found"):
            configure("pipeline.trackers", "lk", {"window": wrong})


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
