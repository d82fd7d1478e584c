"""A trial foretells the build: exactly where it tries everything, within its bounds where it tries some, and it writes
nothing.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.libero import QUALITY, Demo, fast_recipe, write_file
from fixtures.libero import replace as replace_array

from jobs.cli.build_options import Build
from jobs.cli.build_report import trial_text, trials_text
from jobs.cli.exit_codes import Failed, UsageError
from jobs.commands.build import build_command
from jobs.executors.local import LocalExecutor
from pipeline.build.dry_run import Estimate, estimate, spread, summed, try_build
from pipeline.build.listing import list_chosen
from pipeline.build.run import ShardConfig, build
from pipeline.build.selection import Selection


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Five episodes: one has a NaN in its actions, one no words."""
    root = tmp_path_factory.mktemp("place") / "data" / "libero"

    def nan(file):
        actions = file["data/demo_1/actions"][:]
        actions[3] = np.nan
        replace_array(file, "actions", actions, "demo_1")

    write_file(root / "a_demo.hdf5", [Demo(0), Demo(1, 1), Demo(2, 0, 20)], nan)
    write_file(root / "b_demo.hdf5", [Demo(0, 1, 14)])
    write_file(
        root / "c_demo.hdf5",
        [Demo(0)],
        lambda file: file["data"].attrs.__setitem__("problem_info", json.dumps({"language_instruction": ""})),
    )
    return root.parent.parent


def tried(place, selection=None, **options):
    selection = selection or Selection()
    listing = list_chosen(fast_recipe(), place / "data" / "libero", selection)
    return try_build(fast_recipe(), listing, selection, workers=2, **options)


@pytest.mark.parametrize("selection", [Selection(), Selection(match="SOUP", episodes=("0-2",))])
def test_a_trial_of_every_episode_says_what_the_build_then_makes(place, tmp_path, selection):
    trial = tried(place, selection)
    data, run_here = place / "data" / "libero", LocalExecutor()
    made = build(fast_recipe(), data, tmp_path / "out", ShardConfig(), run_here, lambda *a: a[2], selection)
    assert trial.exact and trial.workers == 2
    told = {name: total.about for name, total in trial.totals.items()}
    assert all(total.low == total.about == total.high for total in trial.totals.values())
    assert (told["episodes"], told["frames"], told["triplets"]) == (made.episodes, made.frames, made.kept)
    assert told["windows"] == made.kept + sum(made.rejected.values())
    assert told["bytes"] <= made.bytes < told["bytes"] + 20_000, "the rest is the tar's end and the index"
    assert trial.outcomes("quarantined") == {"not_finite": 1}
    left = {**trial.left_out}
    for reason, count in trial.outcomes("left out").items():
        left[reason] = left.get(reason, 0) + count
    assert left == made.left_out
    assert trial.reasons == pytest.approx({r: n / told["windows"] for r, n in made.rejected.items()})


def test_a_trial_that_has_no_time_tries_one_episode_and_says_that_this_tells_no_spread(place):
    trial = tried(place, seconds=0)
    assert len(trial.tried) == 1 and not trial.exact
    assert trial.totals["triplets"].low is None and trial.totals["triplets"].about == 5 * trial.tried[0].triplets
    said = trial_text(trial, place, 10**9, 100)
    assert "tried        1 of 5 episodes" in said and "does not tell how far the others differ" in said
    assert said.endswith("nothing was written") and "; 1000 MB are free\n" in said
    in_store = trial_text(trial, place, 10**9, 100, in_store=True)
    assert "1000 MB are free on this machine, where each shard is made\n" in in_store
    assert "1000 MB are free on this machine, where" in trials_text(trial.totals, 2, 10**9, in_store=True)


def test_a_limit_on_what_matches_bounds_what_is_foretold(place):
    trial = tried(place, Selection(match="soup", limit=2))
    everything = tried(place, Selection(match="soup"))
    assert trial.totals["episodes"].about == 2 and everything.totals["episodes"].about == 3
    assert trial.totals["triplets"].about == pytest.approx(everything.totals["triplets"].about * 2 / 3)


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_every_beginning_of_the_order_is_evenly_spread(count):
    order = list(spread(count))
    assert sorted(order) == list(range(count))
    for first in (n for n in (5, 20, 100) if n <= count):
        places = np.sort([-1, *order[:first], count])
        assert np.diff(places).max() <= 3 * count / first


def test_the_bounds_hold_the_truth_in_about_19_of_20_cases():
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        everything = rng.gamma(4, 5, 200)
        found = estimate(rng.choice(everything, 25, replace=False).tolist(), 200)
        assert found.low is not None and found.high is not None
        held += found.low <= everything.sum() <= found.high
    assert 0.92 <= held / 400 <= 0.98
    assert estimate([1.0, 2.0, 4.0], 3) == Estimate(7, 7, 7)


def test_totals_of_several_builds_add_up_and_their_errors_as_independent_ones():
    assert summed([Estimate(10, 7, 13), Estimate(20, 16, 24)]) == Estimate(30, 25, 35)
    assert summed([Estimate(10, 7, 13), Estimate(20, None, None)]) == Estimate(30, None, None)


def test_the_command_writes_nothing_and_speaks_words_or_json(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = sorted(place.rglob("*"))
    asked = Build(
        "libero", input=place / "data" / "libero", dry_run=True, stride=4, horizon_steps=8, grid=6, quality=QUALITY
    )
    assert build_command(replace(asked, executor_options=("workers=3",))) == 0
    said = capsys.readouterr().out
    assert "nothing was written" in said and "with 3 worker(s)" in said
    assert build_command(replace(asked, json=True, episodes=("b_demo.hdf5", "c_demo.hdf5"))) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["listed"], told["tried"], told["exact"], told["triplets"]["about"]) == (5, 2, True, 3)
    assert told["tried_left_out"] == {"no_language": 1} and told["free_bytes"] > 0 and told["hours"]["about"] > 0
    with pytest.raises(Failed, match="none of the episodes tried could be used; the first: a_demo"):
        build_command(replace(asked, episodes=("a_demo.hdf5:demo_1",)))
    with pytest.raises(UsageError, match="nowhere does not exist"):
        build_command(replace(asked, input=Path("nowhere")))
    assert sorted(place.rglob("*")) == before and not list(tmp_path.iterdir())
