"""Results on disk: nothing lost, nothing mixed."""

import json
from dataclasses import replace

import pytest

from lamp_model.closed_loop.protocol import Protocol
from lamp_model.closed_loop.results import (
    EPISODES,
    BadResults,
    EpisodeResult,
    Evaluation,
    PolicyIdentity,
    ResultFolder,
    read_results,
)

HERE = Evaluation(PolicyIdentity("runs/a", "aaaa"), Protocol())
ONE = EpisodeResult("libero_goal", 3, "open the drawer", 0, True, steps=90, seconds={"total": 4.2})


def test_results_are_there_again(tmp_path):
    folder = ResultFolder(tmp_path / "out", HERE)
    folder.add(ONE)
    folder.add(replace(ONE, episode=1, success=None, error="it crashed"))
    again = ResultFolder(tmp_path / "out", HERE)
    assert again.results == folder.results == read_results(tmp_path / "out")
    assert again.finished("libero_goal") == {(3, 0)}  # what came to no outcome runs again
    assert again.finished("libero_10") == set()


def test_the_later_line_of_an_episode_counts(tmp_path):
    folder = ResultFolder(tmp_path, HERE)
    folder.add(replace(ONE, success=None, error="it crashed"))
    folder.add(ONE)
    assert read_results(tmp_path) == [ONE]


def test_a_line_cut_off_by_an_interruption_is_run_again(tmp_path):
    folder = ResultFolder(tmp_path, HERE)
    folder.add(ONE)
    folder.add(replace(ONE, episode=1))
    path = tmp_path / EPISODES
    path.write_bytes(path.read_bytes()[:-20])
    assert read_results(tmp_path) == [ONE]
    again = ResultFolder(tmp_path, HERE)
    again.add(replace(ONE, episode=2))
    assert [result.episode for result in read_results(tmp_path)] == [0, 2]


def test_a_damaged_line_is_named(tmp_path):
    ResultFolder(tmp_path, HERE).add(ONE)
    path = tmp_path / EPISODES
    path.write_bytes(b'{"suite": 3}\n' + path.read_bytes())
    with pytest.raises(BadResults, match=r"episodes.jsonl, line 1 cannot be read"):
        ResultFolder(tmp_path, HERE)


def test_another_policy_is_refused(tmp_path):
    ResultFolder(tmp_path, HERE).add(ONE)
    other = replace(HERE, policy=PolicyIdentity("runs/b", "bbbb"))
    with pytest.raises(BadResults, match=r"holds results of runs/a \(aaaa\), not of runs/b \(bbbb\)"):
        ResultFolder(tmp_path, other)
    moved = replace(HERE, policy=PolicyIdentity("/elsewhere/a", "aaaa"))
    assert ResultFolder(tmp_path, moved).results == [ONE]  # the same weights at another place


def test_another_protocol_is_refused_by_what_differs(tmp_path):
    ResultFolder(tmp_path, HERE).add(ONE)
    with pytest.raises(BadResults, match="another protocol \\(settle_steps 10 against 0, seed 7 against 8\\)"):
        ResultFolder(tmp_path, replace(HERE, protocol=Protocol(settle_steps=0, seed=8)))


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / EPISODES).write_text(json.dumps({}) + "\n")
    with pytest.raises(BadResults, match=r"exists without evaluation\.json"):
        ResultFolder(tmp_path, HERE)


def test_seeds_are_the_published_ones():
    assert Protocol().episode_seed(place=0, task=0, episode=0) == 7
    assert Protocol().episode_seed(place=3, task=9, episode=49) == 7 + 300_000 + 9_000 + 49


@pytest.mark.parametrize("wrong", [{"settle_steps": -1}, {"execute": 0}, {"max_steps": 0}])
def test_a_protocol_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        Protocol(**wrong)
