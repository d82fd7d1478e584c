"""What is made of results: rates, comparison, the paper's tables, page and videos."""

import json
import shlex
from dataclasses import replace

import av
import numpy as np
import pytest
import tyro

from jobs import lamp_policy
from jobs.cli.paper_cells import commands_of, read_cells
from jobs.cli.train_options import Train
from jobs.lamp_data import OPTIONS
from jobs.pages.evaluation import page
from lamp_model.closed_loop.benchmarks import SUITES, suites_of
from lamp_model.closed_loop.comparison import Pairs, compare
from lamp_model.closed_loop.paper import AVERAGE, TABLES, published
from lamp_model.closed_loop.protocol import Protocol
from lamp_model.closed_loop.results import BadResults, EpisodeResult, Evaluation, PolicyIdentity, ResultFolder
from lamp_model.closed_loop.summary import as_text, summarise
from lamp_model.closed_loop.tables import as_markdown, fill
from lamp_model.closed_loop.videos import SIDE, Recording, drawn_frame, read_recording, write_video


def results(folder, outcomes, cell="lamp", protocol=None, suite="libero_object"):
    """A folder with these outcomes: (task, episode) -> success, or None where there is no outcome."""
    made = ResultFolder(folder, Evaluation(PolicyIdentity(f"runs/{cell}", cell, cell), protocol or Protocol()))
    for (task, episode), success in outcomes.items():
        made.add(
            EpisodeResult(suite, task, f"task {task}", episode, success, error=None if success is not None else "x")
        )
    return made


def test_rates_count_what_has_an_outcome(tmp_path):
    outcomes = {(0, 0): True, (0, 1): False, (0, 2): None, (1, 0): True}
    summary = summarise(results(tmp_path, outcomes).results)
    suite = summary.suites[0]
    assert (suite.whole.successes, suite.whole.episodes, suite.whole.errors) == (2, 3, 1)
    assert suite.whole.percent == pytest.approx(200 / 3)
    assert [(task.successes, task.episodes, task.errors) for task in suite.tasks] == [(1, 2, 1), (1, 1, 0)]
    assert suite.whole.paper == 99.8
    said = as_text(summary)
    assert "2/3    66.7%" in said and "99.8%" in said
    assert "1 episodes came to no outcome and are not counted" in said


def test_lifted_counts_episodes_that_tell_of_objects():
    def raised(episode, success, *metres):
        objects = {f"o{number}": {"nearest_m": 0.1, "raised_m": one} for number, one in enumerate(metres)}
        return EpisodeResult("libero_object", 0, "t", episode, success, objects=objects)

    some = [raised(0, True, 0.0, 0.1), raised(1, False, 0.02), raised(2, False, 0.05), raised(3, True)]
    some.append(raised(4, None, 0.5))
    assert [one.lifted for one in some] == [True, False, True, None, None]
    summary = summarise(some)
    assert (summary.suites[0].whole.lifted, summary.suites[0].whole.looked_at) == (2, 3)
    assert "libero_object: an object of the goal was lifted in 2 of 3" in as_text(summary)
    assert "was lifted" not in as_text(summarise([raised(0, True)]))


def test_perturbations_are_summed_by_kind_and_in_all():
    some = [
        EpisodeResult(f"libero_plus:{kind}:{suite}", 0, "t", 0, kind == "camera")
        for kind in ("camera", "light")
        for suite in ("spatial", "object")
    ]
    groups = {rate.name: (rate.successes, rate.episodes, rate.paper) for rate in summarise(some).groups}
    assert groups == {
        "libero_plus:camera": (2, 2, None),
        "libero_plus:light": (0, 2, None),
        "libero_plus": (2, 4, 79.3),
    }


def test_pairs_are_the_same_initial_states(tmp_path):
    results(tmp_path / "a", {(0, 0): True, (0, 1): True, (0, 2): False, (0, 3): True, (0, 4): None, (1, 0): False})
    results(
        tmp_path / "b", {(0, 0): True, (0, 1): False, (0, 2): False, (0, 3): False, (0, 4): True, (2, 0): True}, "no"
    )
    (pairs,) = compare(tmp_path / "a", tmp_path / "b")
    assert pairs == Pairs("libero_object", both=1, only_first=2, only_second=0, neither=1, unpaired=3)
    assert (pairs.first_percent, pairs.second_percent, pairs.p_value) == (75.0, 25.0, 0.5)


def test_suites_are_compared_apart_and_together(tmp_path):
    for name, second in (("a", True), ("b", False)):
        results(tmp_path / name, {(0, 0): True}, name)
        results(tmp_path / name, {(0, e): second for e in range(5)}, name, suite="libero_goal")
    lines = compare(tmp_path / "a", tmp_path / "b")
    assert [(one.name, one.count, one.only_first) for one in lines] == [
        ("libero_goal", 5, 5), ("libero_object", 1, 0), ("all", 6, 5),
    ]  # fmt: skip
    assert lines[-1].p_value == 0.0625


def test_what_cannot_be_paired_is_refused(tmp_path):
    results(tmp_path / "a", {(0, 0): True})
    results(tmp_path / "b", {(0, 0): True}, protocol=Protocol(seed=8))
    results(tmp_path / "c", {(1, 0): True})
    with pytest.raises(BadResults, match=r"different protocols \(seed 7 against 8\)"):
        compare(tmp_path / "a", tmp_path / "b")
    with pytest.raises(BadResults, match="no finished episode in common"):
        compare(tmp_path / "a", tmp_path / "c")
    with pytest.raises(BadResults, match="holds no results of lamp-policy evaluate"):
        compare(tmp_path / "a", tmp_path / "d")


def test_tables_are_filled_and_have_holes(tmp_path):
    for place, suite in enumerate(("libero_spatial", "libero_object", "libero_goal", "libero_10")):
        whole = {(task, episode): task > place for task in range(10) for episode in range(50)}
        results(tmp_path / "all" / suite, whole, suite=suite)
    results(tmp_path / "look", {(0, 0): True}, "no_motion")
    libero, *_, fusion = fill(tmp_path)
    lamp = libero.cells["lamp"]
    assert [lamp[c].measured.percent for c in libero.table.columns] == [90.0, 80.0, 70.0, 60.0]
    assert (lamp[AVERAGE].measured.percent, lamp[AVERAGE].paper, lamp[AVERAGE].short) == (75.0, 98.3, False)
    look = libero.cells["no_motion"]
    assert look["libero_object"].measured.percent == 100.0 and look["libero_object"].short
    assert look["libero_goal"].measured is None and look[AVERAGE].measured is None
    assert fusion.cells["fusion_add"]["libero_10"].measured is None
    said = as_markdown([libero])
    assert "| LaMP | 90.0 [87.1, 92.3] (99.4) |" in said
    assert "| without motion | - | 100.0* [20.7, 100.0] | - | - | - (92.4) |" in said


def test_a_figure_of_another_protocol_is_marked(tmp_path):
    whole = {(task, episode): True for task in range(10) for episode in range(50)}
    made = results(tmp_path, whole, protocol=Protocol(max_steps=60, execute=4))
    libero, *_ = fill(tmp_path)
    said = as_markdown([libero])
    assert "| LaMP | - (99.4) | 100.0† [99.2, 100.0] (99.8) | - (97.4) |" in said
    assert (
        "† LaMP: not by the published protocol, but execute 4, max_steps 60" in said and "of fewer episodes" not in said
    )
    assert "execute 4, max_steps 60" in page(made.evaluation, summarise(made.results), made.results)
    assert Protocol().departures == ""


def test_two_runs_for_one_cell_are_refused(tmp_path):
    results(tmp_path / "a", {(0, 0): True})
    results(tmp_path / "b", {(0, 1): True})
    with pytest.raises(BadResults, match="both hold libero_object for the cell 'lamp'"):
        fill(tmp_path)
    results(tmp_path / "c", {(0, 1): True}, cell="no_motion")
    results(tmp_path / "d", {(0, 1): True}, cell="no_motion", protocol=Protocol(seed=8), suite="libero_goal")
    (tmp_path / "b").rename(tmp_path.parent / "away")
    with pytest.raises(BadResults, match=r"same cell 'no_motion'.*seed 7 against 8\): give one of them another --cell"):
        fill(tmp_path)


def test_every_cell_has_a_recipe_and_every_column_a_suite():
    recipes = read_cells()
    for table in TABLES:
        assert all(any(c in (s.name, s.group) for s in SUITES.values()) for c in table.columns)
        assert len(suites_of([recipes.tables[table.name].benchmark]))
        for row in table.rows:
            commands = commands_of(table.name, row)
            assert commands[-1].startswith("lamp-policy evaluate") and f"--cell {row}" in commands[-1]
            assert commands[-2].startswith("lamp-train") and "{" not in "".join(commands)
    assert published("libero") == 98.3 and published("libero", "no_motion") == 92.4


def test_benchmarks_are_found_by_suite_group_and_perturbation():
    assert [suite.name for suite in suites_of(["libero_goal", "libero"])][:2] == ["libero_goal", "libero_spatial"]
    assert len(suites_of(["libero"])) == 4
    assert len(suites_of(["libero_plus:camera"])) == 4 and len(suites_of(["libero_plus"])) == 28
    assert {suite.params["category"] for suite in suites_of(["libero_plus:noise"])} == {"Sensor Noise"}
    assert len(suites_of(["simpler_widowx"])) == 4
    with pytest.raises(ValueError, match=r"no benchmark 'libero_objekt'.*did you mean 'libero_object'"):
        suites_of(["libero_objekt"])


def test_a_protocol_that_a_benchmark_cannot_follow_is_refused():
    (plus, *_), (libero, *_) = suites_of(["libero_plus:light"]), suites_of(["libero"])
    assert libero.arguments(Protocol(reseed=True, settle_steps=3))["reseed"] is True
    assert plus.arguments(Protocol(environment_seed=5))["env_seed"] == 5
    with pytest.raises(ValueError, match="does not take a seed before each reset"):
        plus.arguments(Protocol(reseed=True))


def test_pictures_have_the_size_that_a_policy_learnt_from():
    small = Protocol(picture_size=128)
    assert SUITES["libero_goal"].arguments(small)["picture_size"] == 128
    assert SUITES["robosuite_lift"].arguments(small)["side"] == 128
    assert small.departures == "picture_size 128"
    with pytest.raises(ValueError, match=r"does not take pictures of another size \(--picture-size\)"):
        SUITES["simpler_widowx_stack_cube"].arguments(small)
    with pytest.raises(ValueError, match="picture_size must be 16 or more, found 8"):
        Protocol(picture_size=8)


def moving_recording(mirrored=False):
    """20 grey frames with a white left edge; one keypoint of 2 x 2 moves 0.2 to the right and away."""
    frames = np.full((4, 32, 48, 3), 90, np.uint8)
    frames[:, :, :4] = 255
    motion = np.zeros((1, 4, 8, 3), np.float16)
    motion[0, 1 if mirrored else 0] = (-0.025 if mirrored else 0.025, 0, 0.01)
    return {"frames": frames[:, :, ::-1] if mirrored else frames, "steps": np.array([0, 5, 10, 15]), "motion": motion,
            "motion_steps": np.array([5])}  # fmt: skip


def test_a_recording_is_unmirrored_and_its_motion_is_drawn(tmp_path):
    with open(tmp_path / "r.npz", "wb") as file:
        np.savez(file, **moving_recording(mirrored=True))
    recording = read_recording(tmp_path / "r.npz", mirrored=True)
    assert recording.frames[0, 0, 0, 0] == 255 and recording.frames[0, 0, -1, 0] == 90
    before, after = drawn_frame(recording, 0), drawn_frame(recording, 1)
    assert before.shape == (SIDE, SIDE * 3 // 2, 3)
    changed = np.abs(before.astype(int) - after).sum(axis=-1)[: SIDE - 40] > 0  # not the step's number
    rows, columns = np.nonzero(changed)
    # From the first keypoint, at a quarter of width and height, to 0.2 further right.
    assert rows.min() >= SIDE * 0.25 - 6 and rows.max() <= SIDE * 0.25 + 6
    assert columns.min() >= SIDE * 1.5 * 0.25 - 6 and abs(columns.max() - SIDE * 1.5 * 0.45) < 8


def test_a_video_plays(tmp_path):
    stored = moving_recording()
    recording = Recording(
        stored["frames"], stored["steps"], stored["motion"].astype(np.float32), stored["motion_steps"]
    )
    write_video(tmp_path / "videos" / "a.mp4", recording)
    with av.open(str(tmp_path / "videos" / "a.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
        assert float(video.streams.video[0].average_rate) == 8.0  # every fifth of 20 steps a second, twice as fast
    assert len(frames) == 4 and frames[0].shape == (SIDE, SIDE * 3 // 2, 3)
    assert np.abs(frames[0].astype(int) - drawn_frame(recording, 0)).mean() < 6


def test_the_page_shows_rates_videos_and_faults_and_no_foreign_markup(tmp_path):
    made = results(tmp_path, {(0, 0): True, (0, 1): None})
    failed = EpisodeResult("libero_object", 1, "<script>alert(1)</script>", 0, False, 280, video="videos/x-1-0.mp4")
    made.add(failed)
    shown = page(made.evaluation, summarise(made.results), made.results)
    assert "src='videos/x-1-0.mp4'" in shown and "Failures (1 shown)" in shown
    assert "50.0%" in shown and "99.8%" in shown and "No outcome" in shown
    assert "<script" not in shown and "&lt;script&gt;" in shown
    json.dumps(summarise(made.results).as_dict())


def test_under_a_video_stands_what_the_policy_was_told(tmp_path):
    made = results(tmp_path, {})
    perturbed = {"language": {"strength": 1.0, "instruction": "grab the soup"}}
    made.add(EpisodeResult("libero_object", 0, "pick up the soup", 0, False, video="v.mp4", perturbed=perturbed))
    shown = page(made.evaluation, summarise(made.results), made.results)
    assert "initial state 0: grab the soup" in shown and "initial state 0: pick up the soup" not in shown


def test_an_unknown_cell_is_refused(tmp_path):
    results(tmp_path, {(0, 0): True}, "lampe")
    with pytest.raises(BadResults, match="stands for 'lampe'; the tables have lamp, no_motion"):
        fill(tmp_path)
    assert replace(Protocol(), seed=1).digest != Protocol().digest == Protocol().digest


def test_every_command_of_a_cell_can_be_read():
    lines = {line for table in TABLES for row in table.rows for line in commands_of(table.name, row)}
    for line in lines:
        program, *words = shlex.split(line)
        if program == "lamp-train":
            tyro.cli(Train, args=words)
        else:
            options = OPTIONS[words[0]] if program == "lamp-data" else lamp_policy.load_command(words[0])[0]
            tyro.cli(options, args=words[1:])
