"""The contact sheet: the tool is drawn where it is seen, and nothing that a dataset holds can break the drawing."""

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.command import ROOT, lamp_data
from fixtures.rlds import SAMPLE

from pipeline.inspection_datasets.contact_sheet import MOST_EPISODES, TOOL, draw_contact_sheet, moments, tools_in_view
from pipeline.readers.libero import LiberoReader
from schemas.cameras import pose_from_quaternion
from schemas.episode import ActionConvention, BadEpisode, CameraView, Episode, EpisodeRef

BRIDGE = SAMPLE.parent.parent
LOOKING_ALONG_X = pose_from_quaternion(np.zeros(3), np.array([0.5, -0.5, 0.5, -0.5]))  # world x forward, y left, z up
K = np.array([[50.0, 0, 40], [0, 50, 30], [0, 0, 1]])


def episode(pose=LOOKING_ALONG_X, read=None, instructions=("put it",), length=5, **changes):
    state = np.tile([2.0, 0.4, -0.2], (length, 1)) + np.arange(length)[:, None] * [0, 0.1, 0]
    view = CameraView(
        name="front",
        read_frames=read or (lambda: np.zeros((length, 60, 80, 3), np.uint8)),
        length=length,
        size=(80, 60),
        intrinsics=K,
        world_from_camera=None if pose is None else pose[None],
        fixed=True,
    )
    return Episode(
        ref=EpisodeRef("x", "a/b.h5", "demo_0", "/nowhere", ""),
        views={"front": view},
        primary="front",
        wrist=None,
        instructions=instructions,
        fps=20.0,
        state=state,
        state_names=("x", "y", "z"),
        actions=np.zeros((length, 1)),
        action_mask=np.ones(length, bool),
        action_convention=ActionConvention("a", ("b",), "c"),
        **changes,
    )


def rings(figure):
    return [line for axes in figure.axes for line in axes.lines if line.get_markeredgecolor() == TOOL]


def test_first_middle_and_last_frame_are_shown():
    assert moments(5) == [0, 2, 4] and moments(2) == [0, 1] and moments(1) == [0]


def test_the_tool_is_where_a_pinhole_camera_sees_it():
    """Two metres ahead, 0.4 m to the left and 0.2 m below: 10 px left of and 5 px under the principal point."""
    made = episode()
    assert tools_in_view(made, made.views["front"], 0) == pytest.approx(np.array([[30.0, 35.0]]))
    figure, faults = draw_contact_sheet("x", [made])
    drawn = [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in rings(figure)]
    assert drawn == [pytest.approx((u - 0.5, 34.5)) for u in (30, 25, 20)] and not faults


def test_a_tool_that_is_not_in_view_or_that_nobody_can_place_is_not_drawn():
    behind = LOOKING_ALONG_X @ np.diag([-1.0, 1, -1, 1])
    for made, words in ((episode(pose=behind), "tool not in view"), (episode(pose=None), "front, K\nframe 0")):
        figure, _ = draw_contact_sheet("x", [made])
        assert not rings(figure)
        titles = " ".join(axes.get_title(loc="left") for axes in figure.axes)
        assert words in titles


def test_positions_that_the_state_does_not_hold_are_given_apart():
    made = dataclasses.replace(episode(), state_names=("a", "b", "c"))
    assert made.tool_positions is None and not rings(draw_contact_sheet("x", [made])[0])
    tools = np.stack([np.tile([2.0, 0.4, -0.2], (5, 1)), np.tile([2.0, -0.4, -0.2], (5, 1))])
    assert len(rings(draw_contact_sheet("x", [dataclasses.replace(made, tools_xyz=tools)])[0])) == 6


def test_the_ring_lies_on_the_gripper_of_a_real_episode():
    """LIBERO's gripper is dark below the white hand; its fingers are found by colour around the ring."""
    reader = LiberoReader()
    ref = next(iter(reader.list_episodes(ROOT / "data" / "libero")))
    made = reader.read(ref)
    view = made.views[made.primary]
    (uv,) = tools_in_view(made, view, 0)
    u, v = uv.astype(int)
    around = view.frames[0][v - 22 : v - 8, u - 6 : u + 7].astype(int)
    assert (np.ptp(around, axis=-1) < 25).mean() > 0.7, "the hand above the fingers is grey and white"


def test_pictures_that_cannot_be_decoded_are_faults_and_the_rest_is_drawn():
    def broken():
        raise BadEpisode("bad_picture", "a/b.h5:demo_0: front is no picture")

    figure, faults = draw_contact_sheet("x", [episode(read=broken), episode()])
    assert faults == [("bad_picture", "a/b.h5:demo_0: front is no picture")]
    assert sum(bool(axes.images) for axes in figure.axes) == 3


def test_words_of_a_dataset_steer_neither_drawing_nor_terminal():
    figure, _ = draw_contact_sheet("$x_{", [episode(instructions=("$\\frac{", "\x1b[2J\n"))])
    figure.canvas.draw()
    assert not any("\x1b" in text.get_text() for text in figure.texts)


def test_words_of_any_length_stay_on_the_sheet():
    long = tuple(f"take the {colour} one and put it down where it was before" for colour in ("red", "blue", "green"))
    figure, _ = draw_contact_sheet("/a/folder/with/a/long/name/" * 4, [episode(instructions=long), episode()])
    assert " ".join(text.get_text() for text in figure.texts).count("put it down where") == 3
    figure.canvas.draw()
    wide, high = figure.canvas.get_width_height()
    boxes = [text.get_window_extent() for text in figure.texts]
    assert all(b.x1 <= wide and b.y0 >= 0 and b.y1 <= high for b in boxes)
    pictures = [axes.get_window_extent() for axes in figure.axes]
    assert not any(box.overlaps(picture) for box in boxes for picture in pictures)


def test_the_command_writes_the_sheet(tmp_path):
    told = lamp_data("inspect", str(BRIDGE), "--picture", str(tmp_path / "sheet.png"), "--json", folder=ROOT)
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["episodes"] == 3
    image = cv2.imread(str(tmp_path / "sheet.png"))
    assert image.shape[1] > 1500, "three cameras, three frames each"
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]


def test_a_name_that_is_no_pictures_is_a_usage_error_before_anything_is_read(tmp_path):
    told = lamp_data("inspect", str(BRIDGE), "--picture", str(tmp_path / "sheet.doc"), folder=ROOT)
    assert told.returncode == 2 and "must end in .png" in told.stderr and not told.stdout


def test_a_large_dataset_is_shown_by_a_few(monkeypatch, tmp_path):
    from pipeline.inspection_datasets import contact_sheet

    shown = []
    drawn = contact_sheet.draw_contact_sheet
    monkeypatch.setattr(contact_sheet, "draw_contact_sheet", lambda t, e: shown.extend(e) or drawn(t, e))
    contact_sheet.write_contact_sheet(Path(tmp_path / "x.png"), "x", [episode(length=n) for n in range(2, 32)])
    lengths = [e.length for e in shown]
    assert len(lengths) == MOST_EPISODES and (lengths[0], lengths[-1]) == (2, 31)
