"""Without the extras every command either works or names the extra in one sentence."""

import json
import subprocess
import sys
import tomllib

import pytest
from fixtures.command import ENVIRONMENT, ROOT
from fixtures.libero import FAST, Demo, write_file

from schemas.optional import EXTRAS

BUILD = ["lamp-data", "build", "--dataset", "libero", *FAST, "--executor", "local", "--output", "other"]
WORKS = [
    [*BUILD[:-1], "shards", "-q"],
    ["lamp-data", "inspect", "shards", "--picture", "flow.png", "--html", "flow.html"],
    ["lamp-data", "evaluate", "--truth", "rigid-world", "--limit", "1"],
    ["lamp-data", "parts"],
    ["lamp-train", "--help"],
    "import lamp_model; assert len(lamp_model.open_shards('shards')[0]['instruction'])",
]
NEEDS = [
    (["lamp-train", "--stage", "1", "--data", "shards"], "train"),
    (["lamp-train", "export", "run", "--output", "out"], "train"),
    (["lamp-policy", "serve", "run"], "train"),
    (["lamp-data", "instruct", "--dataset", "libero"], "train"),
    ([*BUILD, "--depth", "midas"], "depth"),
    ([*BUILD, "--tracker", "cotracker3"], "train"),
    ([*BUILD, "--flow", "icp"], "icp"),
    ([*BUILD, "--flow", "simulator"], "sim"),
    (["lamp-data", "evaluate", "--truth", "rigid-world", "--depth", "midas"], "depth"),
    (["lamp-data", "evaluate", "--truth", "rigid-world", "--tracker", "cotracker3"], "train"),
]
PYTHON = [
    "import lamp_model.policy",
    "import lamp_model; lamp_model.load_policy",
    "import lamp_model; lamp_model.LampPolicy",
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What each call comes to, all in one process."""
    folder = tmp_path_factory.mktemp("core")
    write_file(folder / "data/libero/a_demo.hdf5", [Demo(0)])
    calls = [*WORKS, *(call for call, _ in NEEDS), *PYTHON]
    ran = subprocess.run(
        [sys.executable, "-m", "fixtures.core_only"],
        input=json.dumps(calls),
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    return {json.dumps(call): answer for call, answer in zip(calls, json.loads(ran.stdout), strict=True)}


@pytest.mark.parametrize("call", WORKS, ids=str)
def test_the_core_does_its_work_without_extras(answers, call):
    code, said = answers[json.dumps(call)]
    assert code == 0, said


@pytest.mark.parametrize(("call", "extra"), NEEDS, ids=lambda v: " ".join(v) if isinstance(v, list) else v)
def test_what_needs_an_extra_says_so_in_one_sentence(answers, call, extra):
    code, said = answers[json.dumps(call)]
    assert code == 1 and "Traceback" not in said
    assert f"lamp-robotics[{extra}]" in said.splitlines()[-1]


@pytest.mark.parametrize("call", PYTHON)
def test_an_import_says_it_too(answers, call):
    name, said = answers[json.dumps(call)]
    assert name == "MissingPackage" and said.endswith("pip install 'lamp-robotics[train]'")


def test_the_extras_are_those_of_the_project():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {"PIL": "pillow", "huggingface_hub": "huggingface-hub", "vla_eval": "vla-eval"}
    for package, extra in EXTRAS.items():
        assert any(needed.startswith(named.get(package, package)) for needed in extras[extra]), package
    by_ray = {"ray[train]"}  # its lack is one of several packages, and the command says the extra itself
    brought = {line.split(">")[0].split("=")[0] for extra in set(extras) - {"dev"} for line in extras[extra]}
    assert brought - by_ray == {named.get(package, package) for package in EXTRAS}, "an extra's package has no sentence"
