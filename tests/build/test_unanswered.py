"""What a dataset cannot tell is asked for all at once and before any work."""

import pytest
from fixtures.command import lamp_data, said
from fixtures.lerobot import encode_video, moving

from pipeline.build.listing import Unanswered, list_chosen
from pipeline.build.selection import EVERYTHING
from pipeline.recipe import Recipe
from schemas.plugins import PluginChoice

DEPTH, STILL, VIEW, TEXT = "--depth depth-anything-v2, midas", "fixed=true if", "fov_y=DEGREES", "text=filename, or"
ALL = {DEPTH, STILL, VIEW, TEXT}


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_all_of_it_is_asked_in_one_sentence_and_nothing_is_begun(tmp_path, words):
    encode_video(tmp_path / "in" / "a.mp4", moving(4, 48, 64), 10)
    ran = lamp_data(
        "build",
        "--dataset",
        "video",
        "--input",
        "in",
        "--output",
        "out",
        "--executor",
        "local",
        *words,
        folder=tmp_path,
    )
    assert ran.returncode == 2 and all(part in said(ran) for part in ALL)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        ({}, ALL),
        ({"depth": "midas"}, {STILL, VIEW, TEXT}),
        ({"depth": "stereo"}, ALL),
        ({"fixed": True}, {DEPTH, VIEW, TEXT}),
        ({"fov_y": 60.0}, {DEPTH, STILL, TEXT}),
        ({"camera": "estimated"}, {DEPTH, TEXT}),
        ({"text": "filename"}, {DEPTH, STILL, VIEW}),
        ({"language": "optional"}, {DEPTH, STILL, VIEW}),
        ({"depth": "midas", "fixed": True, "fov_y": 60.0, "text": "filename"}, set()),
    ],
)
def test_what_was_said_is_not_asked_again(tmp_path, change, asked):
    encode_video(tmp_path / "a.mp4", moving(4, 48, 64), 10)
    video = {name: change[name] for name in ("fixed", "text") if name in change}
    recipe = Recipe(
        dataset=PluginChoice("video", video),
        depth=PluginChoice(change.get("depth", "recorded")),
        camera=PluginChoice(change.get("camera", "static"), {"fov_y": change["fov_y"]} if "fov_y" in change else {}),
        language=change.get("language", "required"),
    )
    if not asked:
        assert len(list_chosen(recipe, tmp_path, EVERYTHING).chosen.refs) == 1
        return
    with pytest.raises(Unanswered) as error:
        list_chosen(recipe, tmp_path, EVERYTHING)
    assert {part for part in ALL if part in str(error.value)} == asked


def test_one_text_among_many_is_enough_and_the_others_are_left_out_as_ever(tmp_path):
    for name in "abc":
        encode_video(tmp_path / f"{name}.mp4", moving(4, 48, 64), 10)
    (tmp_path / "c.txt").write_text("wave")
    recipe = Recipe(
        dataset=PluginChoice("video", {"fixed": True}), depth=PluginChoice("midas"), camera=PluginChoice("estimated")
    )
    assert len(list_chosen(recipe, tmp_path, EVERYTHING).chosen.refs) == 3
