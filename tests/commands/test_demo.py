"""What the demonstration says of its own results."""

import shlex
from pathlib import Path

import numpy as np
import tyro
from fixtures.inspection import STEP, known_triplet

from jobs import demo, lamp_policy
from jobs.demo import ACT, COMMANDS, imagined_flow, imagined_words
from pipeline.build.summary import OUTCOMES


def test_what_is_imagined_is_said_beside_what_standing_still_would_cost():
    t = known_triplet(moving=40)
    motion = np.diff(t.flow.uvz, axis=1)
    mean = np.hypot(*STEP[:2]) * np.arange(1, 33).mean()
    words = imagined_words(motion, t)
    assert f"off by 0.0 px on average; if nothing moved, by {mean / 10:.1f} px" in words
    assert f"Moving points: 0.0 px against {mean:.1f}." in words and "noise" not in words
    np.testing.assert_allclose(imagined_flow(motion, t).uvz, t.flow.uvz, atol=1e-9)
    jitter = np.random.default_rng(0).normal(scale=0.02, size=motion.shape)
    assert "mostly noise" in imagined_words(motion + jitter, t)


def test_a_sample_in_which_nothing_moves_has_words_too():
    t = known_triplet(moving=0)
    words = imagined_words(np.zeros((400, 32, 3)), t)
    assert words == "As imagined: off by 0.0 px on average; if nothing moved, by 0.0 px."


def test_the_word_that_a_build_prints_of_the_shipped_episodes_is_explained():
    command, explained = COMMANDS[0]
    assert command.startswith("lamp-data build") and explained.startswith(f"{OUTCOMES[False]}: ")


def test_the_demonstration_acts_where_a_simulator_is_and_says_how_to_get_one_elsewhere(monkeypatch, capsys):
    program, command, *rest = shlex.split(ACT)
    tyro.cli(lamp_policy.load_command(command)[0], args=rest)
    assert program == "lamp-policy"
    typed = []
    monkeypatch.setattr(demo, "_type", typed.append)
    monkeypatch.setattr("lamp_model.closed_loop.simulators.find_python", lambda said, suite: None)
    assert demo.act_in_simulator() == [] and typed == []
    assert "make demo-sim" in capsys.readouterr().out
    monkeypatch.setattr("lamp_model.closed_loop.simulators.find_python", lambda said, suite: Path("python"))
    ((page, _),) = demo.act_in_simulator()
    assert typed == [ACT] and str(page) in ("demo/acting/index.html",)
