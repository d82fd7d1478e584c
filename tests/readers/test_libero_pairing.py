"""LIBERO-layout files whose observations were recorded before the action, or that do not tell."""

import numpy as np
import pytest
from fixtures.libero import Demo, replace, shipped, write_file

from pipeline.readers.libero import Config, LiberoReader
from schemas.episode import BadEpisode

JOINTS = "obs/joint_states"
T = 14


def played_again(file, first_is_the_originals=False):
    """The rows of observations one step earlier than those of actions and states, as tools that play again record."""
    demo = file["data/demo_0"]
    for name in [n for n in demo if n != "obs"]:
        replace(file, name, demo[name][1:])
    for name in demo["obs"]:
        replace(file, f"obs/{name}", demo["obs"][name][:-1])
    if first_is_the_originals:
        states = demo["states"][:]
        states[0, 1:] += 0.25
        replace(file, "states", states)


def read(folder, change=None, frames=T, **options):
    write_file(folder / "x_demo.hdf5", [Demo(frames=frames)], change)
    reader = LiberoReader(Config(**options))
    (ref,) = reader.list_episodes(folder)
    return reader.read(ref)


def actions_of(first, last):
    return shipped(0)["arrays"]["actions"][first:last].astype(np.float32)


def test_a_published_file_is_paired_a_step_later_and_nothing_is_noted(tmp_path):
    episode = read(tmp_path)
    assert np.array_equal(episode.actions[:-1], actions_of(1, T)) and episode.notes == {}


@pytest.mark.parametrize("option", [None, "after"])
def test_a_file_that_was_played_again_is_paired_row_by_row_whatever_is_said(tmp_path, option):
    """Frame t and action t + 1 of the published file share a row, as they do after pairing the published one."""
    again, published = read(tmp_path / "again", played_again, observed=option), read(tmp_path / "published")
    assert again.length == T - 1 and again.action_mask.all()
    assert np.array_equal(again.actions, published.actions[:-1])
    assert np.array_equal(again.views["agentview"].frames, published.views["agentview"].frames[:-1])
    assert again.notes == {"observations": "recorded before the action of their row, as joint_states and states say"}
    states, expected = (e.views["agentview"].simulation.read()[1] for e in (again, published))
    assert np.array_equal(states, expected[:-1])


def test_the_first_state_of_the_original_is_not_taken_for_what_the_first_frame_shows(tmp_path):
    episode = read(tmp_path, lambda file: played_again(file, first_is_the_originals=True))
    assert np.array_equal(episode.actions, actions_of(1, T))
    states = episode.views["agentview"].simulation.read()[1]
    assert np.isnan(states[0]).all() and np.isfinite(states[1:]).all()


@pytest.mark.parametrize("change", [None, played_again])
def test_states_that_were_stored_with_less_precision_tell_too(tmp_path, change):
    def coarse(file):
        if change is not None:
            change(file)
        replace(file, "states", file["data/demo_0/states"][:].astype(np.float32))

    episode = read(tmp_path, coarse)
    assert episode.action_mask.all() == (change is played_again)


def without_states(file):
    del file["data/demo_0/states"]


def standing_still(file):
    for name in ("states", JOINTS):
        replace(file, name, np.repeat(file[f"data/demo_0/{name}"][:1], T, 0))
    states = file["data/demo_0/states"]
    states[:, 1:8] = file[f"data/demo_0/{JOINTS}"][:]


@pytest.mark.parametrize("change", [without_states, standing_still])
def test_where_states_do_not_tell_liberos_own_way_is_taken_and_said_and_an_option_says_the_other(tmp_path, change):
    episode = read(tmp_path / "a", change)
    assert np.array_equal(episode.actions[:-1], actions_of(1, T)) and not episode.action_mask[-1]
    assert episode.notes == {"observations": "taken to be recorded after the action of their row, which no states tell"}
    episode = read(tmp_path / "b", change, observed="before")
    assert np.array_equal(episode.actions, actions_of(0, T)) and episode.action_mask.all()
    assert episode.notes["observations"].endswith("before the action of their row, as configured")


def contradicting(file):
    replace(file, JOINTS, file[f"data/demo_0/{JOINTS}"][:] + 1e-9)


def test_states_that_fit_neither_way_are_refused_unless_somebody_says(tmp_path):
    with pytest.raises(BadEpisode, match=r"demo_0: .*observed=after or observed=before") as error:
        read(tmp_path / "a", contradicting)
    assert error.value.code == "observation_time"
    assert np.array_equal(read(tmp_path / "b", contradicting, observed="after").actions[:-1], actions_of(1, T))
    assert np.array_equal(read(tmp_path / "c", contradicting, observed="before").actions, actions_of(0, T))
