"""Standard actions: what each dataset's rule makes, by hand-worked numbers and by laws; filters leave out what they say
and no more.
"""

import collections.abc
import dataclasses
import typing

import numpy as np
import pytest
from fixtures.rlds import SAMPLE
from hypothesis import given
from hypothesis import strategies as st

from pipeline.actions import standard_of, with_standard_actions
from pipeline.actions.bridge import binarised, pose_changes
from pipeline.episodes.slicing import take_frames
from pipeline.readers import bridge as bridge_reader
from pipeline.readers._libero_hdf5 import CONVENTION as LIBERO
from pipeline.readers._libero_lerobot import OPEN_IS_ONE
from schemas.episode import (
    ActionConvention,
    BadEpisode,
    CameraView,
    Episode,
    EpisodeRef,
    RecordedDepth,
    RecordedSimulation,
    StereoPair,
)
from schemas.plugins import PluginChoice, configure, load_plugin, plugin_names

LENGTH = 8


def standard(name, **options):
    return load_plugin("pipeline.actions", name).build(configure("pipeline.actions", name, options))


def episode(actions, convention, state=None, names=None, mask=None, **changes):
    actions = np.asarray(actions, np.float32)
    length = len(actions)
    pictures = np.arange(length, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    view = CameraView(
        "front",
        lambda: pictures,
        length,
        (4, 4),
        world_from_camera=np.eye(4)[None] * np.arange(length)[:, None, None],
        depth=RecordedDepth(
            lambda: np.arange(length, dtype=np.float32)[:, None, None] * np.ones((1, 4, 4), np.float32), "m", ""
        ),
        simulation=RecordedSimulation(lambda: ("<xml/>", np.arange(length)[:, None] * np.ones((1, 3))), "front"),
        stereo=StereoPair(lambda: pictures + 100, 0.12),
        read_some=lambda numbers: pictures[numbers],
    )
    still = dataclasses.replace(
        view, name="still", world_from_camera=np.eye(4)[None], depth=None, simulation=None, stereo=None
    )
    state = np.zeros((length, 7), np.float32) if state is None else np.asarray(state, np.float32)
    return Episode(
        ref=EpisodeRef("d", "file", "one", "/file", "0"),
        views={"front": view, "still": still},
        primary="front",
        wrist=None,
        instructions=("go",),
        fps=5.0,
        state=state,
        state_names=names or tuple(f"s{i}" for i in range(state.shape[1])),
        actions=actions,
        action_mask=np.ones(length, bool) if mask is None else mask,
        action_convention=convention,
        **changes,
    )


def test_a_dataset_has_the_standard_of_its_name_and_others_that_of_the_convention_they_name():
    named = {
        None: "raw",
        "mine": "raw",
        LIBERO.name: "libero",
        OPEN_IS_ONE.name: "libero",
        "bridge_cartesian_delta": "bridge",
    }
    assert {name: standard_of("mapped", name) for name in named} == named
    assert [standard_of(name) for name in ("libero", "bridge", "droid", "interndata-a1", "mapped")] == [
        "libero",
        "bridge",
        "droid",
        "interndata-a1",
        "raw",
    ]


@pytest.mark.parametrize("name", plugin_names("pipeline.actions"))
def test_a_published_default_leaves_the_raw_actions_as_they_are(name):
    """Whatever the standard form is, the raw actions of the frames that stay are untouched."""
    raw = {"libero": LIBERO, "bridge": bridge_reader.CONVENTION}.get(name)
    names = (*(f"joint_{i}" for i in range(1, 7)), "gripper")
    raw = raw or ActionConvention("interndata_a1_joint_position_7", names, "")
    before = episode(np.random.default_rng(0).normal(size=(LENGTH, 7)), raw, names=names)
    after = with_standard_actions(before, standard(name))
    assert np.array_equal(after.actions, before.actions) and after.action_convention == raw
    if after.standard_actions is not None:
        assert len(after.standard_actions.values) == LENGTH


# LIBERO


def test_libero_has_1_for_open_from_either_line():
    gripper = np.array([-1, -0.5, 0, 0.25, 1, 1, -1, -1], np.float32)
    actions = np.concatenate([np.full((LENGTH, 6), 0.3), gripper[:, None]], 1)
    made = with_standard_actions(episode(actions, LIBERO), standard("libero")).standard_actions
    assert made.values[:, 6].tolist() == [1, 1, 1, 0.75, 0, 0, 1, 1]
    assert (made.values[:, :6] == np.float32(0.3)).all() and made.convention == OPEN_IS_ONE
    actions[:, 6] = [1, 1, 1, 0.75, 0, 0, 1, 1]
    turned = with_standard_actions(episode(actions, OPEN_IS_ONE), standard("libero")).standard_actions
    assert np.array_equal(turned.values, made.values) and turned.convention == made.convention


def test_actions_of_another_convention_are_refused_by_name():
    other = ActionConvention("mine", LIBERO.dimensions, "")
    with pytest.raises(BadEpisode, match=r"libero_osc_delta or .*, found mine; --action.* raw") as error:
        with_standard_actions(episode(np.zeros((LENGTH, 7)), other), standard("libero"))
    assert error.value.code == "other_actions"


def test_the_noop_filter_is_off_and_leaves_out_what_does_nothing():
    actions = np.zeros((LENGTH, 7), np.float32)
    actions[:, 6] = [-1, -1, -1, 1, 1, 1, 1, -1]
    actions[2, 0], actions[5, 1] = 0.5, 2e-4
    mask = np.arange(LENGTH) < LENGTH - 1  # the last frame has no action
    given = episode(actions, LIBERO, mask=mask)
    assert with_standard_actions(given, standard("libero")).length == LENGTH
    kept = with_standard_actions(given, standard("libero", noop_filter=True))
    # 0, 1: nothing yet; 2 moves; 3 closes the gripper; 4 repeats that; 5 moves just enough; 6 repeats; 7 has no action
    assert kept.source_frames.tolist() == [2, 3, 5, 7] and kept.notes["frames_left_out"].startswith("4 of 8")
    assert kept.views["front"].frames[:, 0, 0, 0].tolist() == [2, 3, 5, 7]


def test_a_gripper_that_changes_while_frames_are_left_out_is_compared_with_the_last_that_stayed():
    """Left-out frames repeat the gripper of the last that stayed, so a change is never lost."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        actions = np.zeros((30, 7), np.float32)
        actions[:, 0] = rng.random(30) < 0.3
        actions[:, 6] = np.where(rng.random(30) < 0.5, -1, 1)
        kept = standard("libero", noop_filter=True).kept_frames(episode(actions, LIBERO))
        last = None
        for frame in range(30):
            if kept[frame]:
                last = actions[frame, 6]
            else:
                assert not actions[frame, :6].any() and last in (None, actions[frame, 6])


# Bridge


def test_bridge_by_hand():
    state = np.zeros((4, 7))
    state[:, 0] = [0.0, 0.1, 0.3, 0.6]
    state[:, 5] = [0.0, 3.1, -3.1, -3.0]  # across 180 degrees
    actions = np.zeros((4, 7))
    actions[1:, :6], actions[:, 6] = 9.0, [1.0, 0.5, 0.02, 0.6]
    made = with_standard_actions(episode(actions, bridge_reader.CONVENTION, state), standard("bridge"))
    assert made.source_frames.tolist() == [1, 2, 3] and made.notes["frames_left_out"].startswith("1 of 4")
    form = made.standard_actions
    assert form.mask.tolist() == [True, True, False] and form.convention.name == "bridge_reached_delta"
    np.testing.assert_allclose(form.values[:2, 0], [0.2, 0.3], atol=1e-6)
    np.testing.assert_allclose(form.values[:2, 5], [2 * np.pi - 6.2, 0.1], atol=1e-6)
    assert form.values[:, 6].tolist() == [0, 0, 0], "the last is zero because it is masked"
    assert made.actions[0, 0] == 9, "raw actions stay"


def test_bridges_options_each_do_their_own_part():
    rng = np.random.default_rng(0)
    actions = rng.uniform(0.2, 0.8, (LENGTH, 7)).astype(np.float32)
    actions[0, :6] = 0
    given = episode(actions, bridge_reader.CONVENTION, rng.normal(size=(LENGTH, 7)))
    off = {"relabel": False, "binarise_gripper": False, "drop_first": False}
    none = with_standard_actions(given, standard("bridge", **off))
    assert np.array_equal(none.standard_actions.values, actions) and none.source_frames is None
    assert none.standard_actions.convention == bridge_reader.CONVENTION and none.standard_actions.mask.all()
    first = with_standard_actions(given, standard("bridge", **{**off, "drop_first": True}))
    assert np.array_equal(first.standard_actions.values, actions[1:])
    told = with_standard_actions(given, standard("bridge", **{**off, "relabel": True})).standard_actions
    np.testing.assert_allclose(told.values[:-1, :3], np.diff(given.state[:, :3], axis=0))
    assert np.array_equal(told.values[:-1, 6], actions[:-1, 6])


def test_a_first_step_that_does_something_was_cut_before():
    actions = np.full((LENGTH, 7), 0.5)
    assert with_standard_actions(episode(actions, bridge_reader.CONVENTION), standard("bridge")).length == LENGTH


@given(st.lists(st.tuples(*[st.floats(-3, 3)] * 3), min_size=2, max_size=6), st.integers(-2, 2))
def test_relabelled_motion_leads_from_pose_to_pose_and_never_turns_the_long_way(angles, turns):
    poses = np.concatenate([np.zeros((len(angles), 3)), np.array(angles)], 1)
    moved = pose_changes(poses)
    assert (np.abs(moved[:, 3:]) <= np.pi + 1e-9).all()
    reached = poses[0, 3:] + np.cumsum(moved[:, 3:], axis=0)
    assert np.allclose(np.cos(reached), np.cos(poses[1:, 3:])) and np.allclose(np.sin(reached), np.sin(poses[1:, 3:]))
    poses[1:, 3:] += turns * 2 * np.pi  # the same angles, written otherwise
    np.testing.assert_allclose(pose_changes(poses), moved, atol=1e-9)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([0.5, 0.5, 1.0, 0.5, 0.0], [1, 1, 1, 0, 0]),
        ([0.96, 0.04, 0.95, 0.05, 0.96], [1, 0, 1, 1, 1]),
        ([1.0, 0.5, 0.25], [1, 0.25, 0.25]),  # never decided any more: the last number, as published
    ],
)
def test_a_gripper_between_takes_the_next_decided_value(given, expected):
    assert binarised(np.array(given, np.float32)).tolist() == expected


# DROID


def test_droid_takes_the_velocity_where_the_form_has_it():
    velocity = np.random.default_rng(0).normal(size=(LENGTH, 6)).astype(np.float32)
    velocity[2], velocity[5] = 0, 5e-6
    gripper = np.linspace(0, 1, LENGTH, dtype=np.float32)[:, None]
    convention = ActionConvention("droid_cartesian_position", LIBERO.dimensions, "")
    given = episode(
        np.ones((LENGTH, 7)), convention, other_actions={"cartesian_velocity": velocity, "gripper_position": gripper}
    )
    made = with_standard_actions(given, standard("droid"))
    assert np.array_equal(made.standard_actions.values[:, :6], velocity)
    np.testing.assert_allclose(made.standard_actions.values[:, 6], 1 - gripper[:, 0])
    assert np.flatnonzero(~made.standard_actions.begins).tolist() == [2, 5] and made.length == LENGTH
    assert made.notes["no_window_begins"].startswith("at 2 of 8")
    off = with_standard_actions(given, standard("droid", zero_action_filter=False))
    assert off.standard_actions.begins is None and not off.notes
    without = dataclasses.replace(given, other_actions={})
    assert with_standard_actions(without, standard("droid")).standard_actions is None


# InternData-A1


def test_interndata_is_relative_to_where_the_chunk_begins():
    names = ("left_joint_1", "left_gripper", "right_joint_1", "right_gripper")
    convention = ActionConvention("interndata_a1_joint_position_4", names, "")
    state = np.random.default_rng(0).normal(size=(LENGTH, 4))
    given = episode(np.random.default_rng(1).normal(size=(LENGTH, 4)), convention, state, names)
    form = with_standard_actions(given, standard("interndata-a1")).standard_actions
    assert form.convention.name == "interndata_a1_joint_delta_4"
    assert np.array_equal(form.values, given.actions)
    assert np.array_equal(form.origin[:, [0, 2]], given.state[:, [0, 2]]) and not form.origin[:, [1, 3]].any()
    assert with_standard_actions(given, standard("interndata-a1", joints="absolute")).standard_actions is None
    with pytest.raises(BadEpisode, match="joints=absolute leaves them"):
        with_standard_actions(dataclasses.replace(given, state_names=names[::-1]), standard("interndata-a1"))


# Leaving frames out


def test_what_is_left_of_an_episode_is_what_those_frames_held():
    rng = np.random.default_rng(0)
    given = episode(
        rng.normal(size=(LENGTH, 7)),
        LIBERO,
        rng.normal(size=(LENGTH, 7)),
        other_actions={"x": rng.normal(size=(LENGTH, 2))},
    )
    given = with_standard_actions(given, standard("libero"))
    given = dataclasses.replace(given, tools_xyz=rng.normal(size=(1, LENGTH, 3)).astype(np.float32))
    frames = np.array([1, 4, 6])
    taken = take_frames(given, frames)
    view, was = taken.views["front"], given.views["front"]
    assert taken.length == view.length == 3 and np.array_equal(view.frames, was.frames[frames])
    assert np.array_equal(view.read_some(np.array([0, 2])), was.frames[frames[[0, 2]]])
    assert np.array_equal(taken.tools_xyz, given.tools_xyz[:, frames])
    assert np.array_equal(view.depth.read(), was.depth.read()[frames])
    assert np.array_equal(view.simulation.read()[1], was.simulation.read()[1][frames])
    assert np.array_equal(view.stereo.read_right(), was.stereo.read_right()[frames])
    assert np.array_equal(view.world_from_camera, was.world_from_camera[frames])
    assert np.array_equal(taken.views["still"].world_from_camera, given.views["still"].world_from_camera)
    for name in ("state", "actions", "action_mask"):
        assert np.array_equal(getattr(taken, name), getattr(given, name)[frames])
    assert np.array_equal(taken.other_actions["x"], given.other_actions["x"][frames])
    assert np.array_equal(taken.standard_actions.values, given.standard_actions.values[frames])
    assert [taken.source_frame(i) for i in range(3)] == [1, 4, 6]
    twice = take_frames(taken, np.array([2]))
    assert twice.source_frame(0) == 6, "the way back goes through both"


def per_frame(kind) -> set[str]:
    """Fields of a dataclass that hold something for each frame: arrays with a first dimension T or P, functions, and
    what holds such.
    """

    def is_one(hint) -> bool:
        if typing.get_origin(hint) is collections.abc.Callable:
            return True
        if dims := getattr(hint, "dim_str", ""):
            return dims.split()[0] in ("T", "P") or " T " in f" {dims} "
        if dataclasses.is_dataclass(hint):
            return bool(per_frame(hint))
        return any(is_one(inner) for inner in typing.get_args(hint))

    hints = typing.get_type_hints(kind)
    return {f.name for f in dataclasses.fields(kind) if is_one(hints[f.name])}


def test_every_part_of_a_view_that_belongs_to_a_frame_is_known_to_frame_selection():
    """A new field of a view or an episode that is per frame must be thought of in ``pipeline.episodes.slicing`` and
    then be named here.
    """
    assert per_frame(CameraView) == {"read_frames", "read_some", "world_from_camera", "depth", "simulation", "stereo"}
    cut = {
        "views",
        "state",
        "actions",
        "action_mask",
        "other_actions",
        "standard_actions",
        "source_frames",
        "tools_xyz",
        "joints",
    }
    assert per_frame(Episode) == cut


def test_reading_waits_until_pixels_are_asked_for():
    def refuse():
        raise AssertionError("nobody asked for pixels")

    given = episode(np.ones((LENGTH, 7)), LIBERO)
    view = dataclasses.replace(given.views["front"], read_frames=refuse)
    taken = take_frames(dataclasses.replace(given, views={"front": view}), np.array([0, 1]))
    assert taken.length == 2


def test_an_episode_of_which_nothing_is_left_is_refused():
    actions = np.zeros((LENGTH, 7), np.float32)
    with pytest.raises(BadEpisode, match="leaves 0 frames") as error:
        with_standard_actions(episode(actions, LIBERO), standard("libero", noop_filter=True))
    assert error.value.code == "too_short"


def test_a_mapping_file_that_names_a_convention_gets_its_standard_form():
    from pipeline.readers._mapping_file import ActionMapping, CameraMapping, DatasetMapping, Numbers
    from pipeline.recipe import Recipe

    for convention, expected in ((LIBERO.name, "libero"), ("my_own", "raw")):
        action = ActionMapping((Numbers("action"),), convention, "as said")
        mapping = DatasetMapping("mine", "none", 10.0, {"top": CameraMapping()}, "top", action=action)
        recipe = Recipe(PluginChoice("mapped", {"mapping": mapping}))
        assert recipe.as_dict()["actions"]["name"] == expected


def test_measured_motion_of_real_trajectories_follows_what_was_commanded():
    """Bridge's own files: the standard form is another measurement of the same motion, in the same units and axes."""
    reader, alike = bridge_reader.BridgeReader(), []
    for ref in reader.list_episodes(SAMPLE.parents[1]):
        if isinstance(ref, EpisodeRef):
            one = with_standard_actions(reader.read(ref), standard("bridge"))
            form = one.standard_actions
            moved, told = form.values[form.mask], one.actions[form.mask]
            alike.append(np.corrcoef(moved[:, :3].ravel(), told[:, :3].ravel())[0, 1])
            assert set(np.unique(moved[:, 6])) <= {0, 1} and np.abs(moved[:, 3:6]).max() < 1
    assert len(alike) >= 3 and np.median(alike) > 0.7
