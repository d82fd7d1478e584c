"""The wheel holds all that the commands need, and works in any folder."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest
import setuptools
from fixtures.command import ROOT

from jobs.cli.shipped import SHIPPED, shipped_names

HOUSES = ("schemas", "pipeline", "lamp_model", "jobs")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, unpacked where no clone is; the folder in which commands run, and their environment."""
    if int(setuptools.__version__.split(".")[0]) < 77:
        pytest.skip("pyproject.toml needs setuptools 77 to build")
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    for house in HOUSES:
        shutil.copytree(ROOT / house, source / house, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation", "-w", place]
    subprocess.run([*build, source], check=True, cwd=place, capture_output=True)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "target")
    (place / "elsewhere").mkdir()
    return place / "elsewhere", {**os.environ, "PYTHONPATH": str(place / "target"), "OMP_NUM_THREADS": "1"}


def ran(installed, *words):
    folder, environment = installed
    return subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)


def test_it_holds_every_recipe_and_mapping(installed):
    shipped = installed[0].parent / "target/jobs/recipes"
    found = {path.relative_to(shipped) for path in shipped.rglob("*.yaml")}
    assert found == {path.relative_to(SHIPPED) for path in SHIPPED.rglob("*.yaml")} and len(found) > 20


def test_recipes_are_found_by_name_and_evaluation_needs_no_files(installed):
    build = ran(installed, "-m", "jobs.lamp_data", "build", "--recipe", "laptop")
    assert build.returncode == 2 and "data/libero does not exist" in build.stderr
    evaluated = ran(installed, "-m", "jobs.lamp_data", "evaluate")
    assert evaluated.returncode == 0 and "rigid-world" in evaluated.stdout, evaluated.stderr


def test_the_demonstration_says_in_one_sentence_that_it_needs_a_clone(installed):
    shown = ran(installed, "-m", "jobs.demo")
    assert shown.returncode == 1 and shown.stderr.startswith("the demonstration builds from the shipped episodes")
    assert not (installed[0] / "demo").exists()


def test_shipped_files_have_names():
    assert "laptop" in shipped_names() and "so100" in shipped_names("mappings") and "joint" in shipped_names("train")
