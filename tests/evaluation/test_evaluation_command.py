"""``lamp-data evaluate``: what may be asked for, and one sentence for what may not."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from readers.test_robosuite_reader import write

from jobs.lamp_data import main
from pipeline.evaluation.sweep import combinations
from pipeline.simulator.model import simulator_library
from schemas.episode import BadEpisode
from schemas.plugins import PluginChoice


@pytest.fixture
def typed(monkeypatch, capsys):
    """A command in this process: exit code, standard output, standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lamp-data", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def is_one_sentence(error: str) -> bool:
    return error.startswith("lamp-data: ") and error.count("\n") == 1 and "╭" not in error


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--tracker", "nonsense"], "there are: "),
        (["--tracker", "lk:window=8"], "must be odd"),
        (["--truth", "files", "--input", "/nowhere"], "does not exist"),
        (["--picture", "worst.doc"], "must end in"),
        (["--limit", "0"], "--limit must be 1 or more"),
        (["--quality.min-valid", "2"], "quality.min_valid is a share between 0 and 1, found 2"),
        (["--replay.size", "10"], "replay.size must be 32 or more, found 10"),
        (["--replay.camera", "all"], "replay.camera names one camera, found all"),
        (["--replay.stride", "0"], "replay.stride must be 1 or more"),
        (["--replay.robosuite", "/nope"], "replay.robosuite must be a folder, found '/nope'"),
        (["--replay.libero-assets", "/nope"], "replay.libero_assets must be a folder"),
        (["--dataset", "nonsense", "--truth", "simulator"], "there are: "),
        (["--dataset", "robosuite"], "is for --truth simulator"),
        (["--truth", "files", "--horizon", "64"], "the files of exact flow have their own"),
        (["--truth", "rigid-world", "--grid", "0"], "--grid must be 1 or more"),
    ],
)
def test_a_wrong_command_line_is_answered_in_a_sentence(words, says, typed):
    code, _, error = typed("evaluate", *words)
    assert code == 2 and says in error and is_one_sentence(error)


@pytest.mark.parametrize("command", [["evaluate", "--truth", "rigid-world"], ["build", "--dataset", "libero"]])
@pytest.mark.parametrize(
    ("midas", "says"),
    [("weights=/nowhere", "there is no such folder"), ("device=cuda:99", "GPUs can be used here")],
)
def test_what_a_part_lacks_is_said_alike_by_every_command(command, midas, says, typed, tmp_path):
    data = Path(__file__).parents[2] / "data" / "libero"
    if command[0] == "build":
        words = [
            "--depth",
            "midas",
            "--depth-options",
            midas,
            "--input",
            data,
            "--output",
            tmp_path,
            "--executor",
            "local",
        ]
    else:
        words = ["--depth", f"midas:{midas}"]
    code, _, error = typed(*command, *words)
    if (command[0], midas) == ("build", "device=cuda:99"):  # the executor has the devices, and is asked last
        says = "are not on this machine"
    assert code == 1 and says in error and is_one_sentence(error)


def test_quality_is_refused_alike_by_build(typed):
    code, _, error = typed("build", "--dataset", "libero", "--quality.min-valid", "2")
    assert code == 2 and "quality.min_valid" in error and is_one_sentence(error)


def test_who_may_use_what_is_made_is_said_before_anything_is_loaded(typed, tmp_path):
    words = ("--truth", "rigid-world", "--tracker", f"cotracker3:repo={tmp_path},weights={tmp_path / 'none'}")
    code, _, error = typed("evaluate", *words)
    first, second = error.splitlines()
    assert code == 1 and "not for commercial use: tracker cotracker3: CC-BY-NC 4.0" in first and "CoTracker3" in second


def test_a_choice_is_named_without_the_places_of_this_machine(tmp_path):
    folder = PluginChoice.parse(f"simulator:robosuite={tmp_path},libero-assets={tmp_path}")
    parts = {"tracker": [PluginChoice.parse("lk:window=9")], "depth": [PluginChoice("recorded")]}
    names = list(combinations([folder, PluginChoice("tracked")], {**parts, "camera": [PluginChoice("static")]}))
    assert names == ["simulator", "lk:window=9 + recorded + static"]


def test_robosuite_demonstrations_are_replayed_and_the_simulator_is_right_about_them(typed, tmp_path):
    try:
        simulator_library()
    except BadEpisode as error:
        pytest.skip(str(error))
    frames = 36
    states = np.zeros((frames, 18))
    states[:, 1], states[:, 3], states[:, 4] = np.linspace(-0.4, 0.4, frames), 0.5, 1
    folder = write(tmp_path / "a.hdf5", states=states, actions=np.zeros((frames, 7)))
    words = ("--truth", "simulator", "--dataset", "robosuite", "--input", folder, "--replay.size", 64, "--limit", 1)
    code, out, _ = typed("evaluate", *words, "--flow", "simulator", "--json")
    _, exact = json.loads(out)
    assert code == 0 and exact["choice"] == "simulator"
    m = exact["metrics"]
    assert m["labelled"] == m["windows"] == 1 and m["moving"]["points"] > 100
    assert m["jaccard_3d"] == m["visibility_accuracy"] == m["moving"]["kept"] == m["moving"]["within_cm"]["0.5"] == 1


def test_a_missing_mesh_is_said_once_with_the_options_that_this_command_has(typed, tmp_path):
    try:
        simulator_library()
    except BadEpisode as error:
        pytest.skip(str(error))
    from test_robosuite_reader import MODEL

    model = MODEL.replace("<worldbody>", '<asset><mesh file="/x/assets/b.stl"/></asset><worldbody>', 1)
    frames = {"states": np.zeros((36, 18)), "actions": np.zeros((36, 7))}
    folder = write(tmp_path / "a.hdf5", model=model, **frames)
    words = ("--truth", "simulator", "--dataset", "robosuite", "--input", folder, "--limit", 1)
    code, out, error = typed("evaluate", *words, "--tracker", "lk", "dis")
    assert code == 1 and out.count("/x/assets/b.stl") == 1 and "--replay.robosuite DIR" in out
    assert "--flow-options" not in out and is_one_sentence(error)
