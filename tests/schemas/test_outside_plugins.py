"""Plug-ins of other packages: by a dotted path, and by an entry point."""

import importlib.metadata
import sys

import pytest

from pipeline.recipe import Recipe
from pipeline.trackers import Tracker, make_tracker
from schemas.plugins import PluginChoice, UnknownPlugin, configure, load_plugin, plugin_names

MODULE = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Config:
    window: int = 3

def build(config):
    return Still(config)

class Still:
    def __init__(self, config):
        self.config = config

    def track(self, frames, references, keypoints, horizon):
        return []
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A user's package on ``sys.path``, with an entry point as an installed one has."""
    package = tmp_path / "lampown"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "still.py").write_text(MODULE)
    (package / "broken.py").write_text("import a_module_that_is_not_there")
    (package / "empty.py").write_text("Config = 3")
    info = tmp_path / "lampown-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lampown\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[lamp.trackers]\nstill-one = lampown.still\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "lampown"]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["lampown.still", "still-one"])
def test_a_part_of_another_package_is_built_with_its_options(own, name):
    tracker = make_tracker(PluginChoice.parse(f"{name}:window=9"))
    assert isinstance(tracker, Tracker) and tracker.config.window == 9
    recipe = Recipe(PluginChoice("libero"), tracker=PluginChoice(name, {"window": "9"}))
    assert recipe.as_dict()["tracker"] == {"name": name, "options": {"window": 9}}
    with pytest.raises(ValueError, match="its options are: window"):
        configure("pipeline.trackers", name, {"size": "3"})


def test_an_entry_point_is_listed_without_being_imported_and_in_its_own_folder_only(own):
    assert "still-one" in plugin_names("pipeline.trackers") and "still-one" not in plugin_names("pipeline.depth")
    assert "lampown.still" not in sys.modules


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lampown.broken", "cannot be imported .*a_module_that_is_not_there.*PYTHONPATH"),
        ("lampown.nowhere", "cannot be imported .*lampown.nowhere"),
        ("lampown.empty", "has no build"),
        ("json", "the module json is no tracker: it has no Config and no build"),
        ("lampnowhere", "no tracker is called"),
        ("not a.module", "no tracker is called"),
        ("../x.y", "no tracker is called"),
    ],
)
def test_what_is_no_part_is_answered_with_a_sentence(own, name, said):
    with pytest.raises(UnknownPlugin, match=said):
        load_plugin("pipeline.trackers", name)


def test_an_option_is_given_once():
    assert PluginChoice.said("lk:window=9", ["levels=2"]).options == {"window": "9", "levels": "2"}
    with pytest.raises(ValueError, match="lk: the option window is given twice"):
        PluginChoice.said("lk:window=9", ["window=7"])


def test_installed_packages_are_looked_through_once(own, monkeypatch):
    """It opens a file of each, and a build asks several times for every episode."""
    looked = []
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: looked.append(group) or ())
    for _ in range(3):
        plugin_names("pipeline.cameras")
    assert looked == ["lamp.cameras"]
