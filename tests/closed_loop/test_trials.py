"""Trials on a real robot."""

import csv
import io
import json

import pytest
from fixtures.command import lamp_data

from lamp_model.closed_loop.trials import BadTrials, Task, TrialFolder, read_task
from schemas.structured import BadFile

TASK = """
task: pour
instruction: pour the beans into the bowl
stages: [reach, grasp, lift, pour]
conditions: {in-domain: 3, new background: 2}
"""


@pytest.fixture
def task_file(tmp_path):
    path = tmp_path / "pour.yaml"
    path.write_text(TASK)
    return path


def test_progress_is_the_share_of_stages(task_file, tmp_path):
    folder = TrialFolder(tmp_path / "out", read_task(task_file))
    for reached in (4, 2, 0):
        folder.add("lamp", "in-domain", reached)
    folder.add("base", "new background", 1, "slipped")
    lamp, base = folder.progress()
    assert (lamp.trials, lamp.planned, lamp.mean, lamp.successes) == (3, 3, 0.5, 1)
    assert lamp.by_stage == (2 / 3, 2 / 3, 1 / 3, 1 / 3)
    assert 0 <= lamp.interval[0] < 0.5 < lamp.interval[1] <= 1
    assert (base.policy, base.condition, base.mean, base.planned) == ("base", "new background", 0.25, 2)
    assert base.interval is None, "one trial says nothing of the spread"
    rows = list(csv.DictReader(io.StringIO(folder.as_csv())))
    assert [row["progress"] for row in rows] == ["1.0", "0.5", "0.0", "0.25"] and rows[3]["note"] == "slipped"


def test_it_goes_on_and_keeps_whole_lines_only(task_file, tmp_path):
    folder = TrialFolder(tmp_path / "out", read_task(task_file))
    folder.add("lamp", "in-domain", 4)
    with open(tmp_path / "out" / "trials.jsonl", "ab") as file:
        file.write(b'{"policy": "lamp", "cond')
    again = TrialFolder(tmp_path / "out", read_task(task_file))
    assert again.trials == folder.trials
    assert again.missing("lamp") == [
        ("in-domain", 2), ("in-domain", 3), ("new background", 1), ("new background", 2),
    ]  # fmt: skip
    assert again.add("lamp", "in-domain", 1).number == 2


def test_wrong_trials_are_refused(task_file, tmp_path):
    folder = TrialFolder(tmp_path / "out", read_task(task_file))
    with pytest.raises(BadTrials, match="a trial reaches 0 to 4 stages, found 5"):
        folder.add("lamp", "in-domain", 5)
    with pytest.raises(BadTrials, match="must be one of in-domain, new background, found 'outside'"):
        folder.add("lamp", "outside", 1)
    other = Task("pour", "pour", ("reach", "pour"), {"in-domain": 1})
    with pytest.raises(BadTrials, match="with other stages"):
        TrialFolder(tmp_path / "out", other)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("stages: []", "needs stages"),
        ("stages: [a, a]", "a name of its own"),
        ("conditions: {in-domain: 0}", "1 trial"),
    ],
)
def test_wrong_task_files_are_refused(task_file, wrong, said):
    name = wrong.partition(":")[0]
    task_file.write_text("\n".join(line for line in TASK.splitlines() if not line.startswith(name)) + f"\n{wrong}\n")
    with pytest.raises(BadFile, match=said):
        read_task(task_file)


def test_the_command_adds_and_reports(task_file, tmp_path):
    def trials(*words):
        done = lamp_data("trials", task_file.name, *words, folder=tmp_path, module="jobs.lamp_policy")
        assert done.returncode == 0, done.stderr
        return done.stdout

    trials("--policy", "lamp", "--add", "in-domain", "--reached", "3")
    said = trials()
    assert "lamp  in-domain" in said and "1 of 3 trials  progress  75.0%" in said
    shown = json.loads(trials("--json"))
    assert shown["progress"][0]["mean"] == 0.75
