"""Which episodes are built: decided on the listing where that can be, on words where it must, and never on pixels."""

import json
import shutil
from typing import Any

import h5py
import numpy as np
import pytest
from fixtures.inspection import seen
from fixtures.lerobot import moving, write_lerobot
from fixtures.libero import Demo, fast_recipe, outputs_of, samples_of, write_file

from jobs.cli.build_options import Build
from jobs.cli.exit_codes import UsageError
from jobs.commands.build import build_command
from jobs.executors.local import LocalExecutor
from pipeline.build.run import ShardConfig, build
from pipeline.build.selection import BadSelection, Selection, choose_by_words, choose_listed
from pipeline.errors import BuildError
from pipeline.readers import EpisodeTexts
from pipeline.readers.libero import LiberoReader
from schemas.episode import EpisodeRef
from schemas.manifest import EPISODES, read_manifest
from schemas.sample_codec import encode_triplet
from schemas.shard_set import ShardSet


def ref(source, episode, split=None):
    return EpisodeRef("d", source, episode, f"/x/{source}", "1", split)


LISTED = [ref("a.tfrecord", f"record_{n}", "train") for n in range(4)] + [ref("b.tfrecord", "record_0", "val")]


def names(chosen):
    return [r.name for r in chosen.refs]


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (["0-2,4"], [0, 1, 2, 4]),
        (["4", "1"], [1, 4]),
        (["record_0"], [0, 4]),
        (["b.tfrecord", "a.tfrecord:record_3"], [3, 4]),
        (["1,1,0-1"], [0, 1]),
    ],
)
def test_episodes_are_chosen_by_number_and_by_name_in_the_order_of_the_listing(words, numbers):
    chosen = choose_listed(Selection(episodes=tuple(words)), LISTED)
    assert chosen.refs == [LISTED[n] for n in numbers]
    assert chosen.left_out == ({"episodes": 5 - len(numbers)} if len(numbers) < 5 else {})


@pytest.mark.parametrize(
    ("selection", "says"),
    [
        (Selection(episodes=("3-5",)), "--episodes 3-5: the folder lists 5 episodes, numbered 0 to 4"),
        (Selection(episodes=("2-1",)), "numbered 0 to 4"),
        (Selection(episodes=("demo_1",)), "no episode or file has this name; there are a.tfrecord:record_0, "),
        (Selection(split="test"), "there is no such split; there are: train, val"),
    ],
)
def test_what_there_is_not_is_answered_with_what_there_is(selection, says):
    with pytest.raises(BadSelection, match=says):
        choose_listed(selection, LISTED)


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_splits_of_lerobot_are_ranges_of_its_own_numbers(tmp_path, version):
    numbers = {key: np.zeros((4, width), np.float32) for key, width in (("state", 8), ("actions", 7))}
    image = {name: moving(4, 64, 64) for name in ("image", "wrist_image")}
    write_lerobot(tmp_path / "set", version, [{"task": "x", "image": image, "columns": numbers}] * 3, 20)
    info = tmp_path / "set" / "meta" / "info.json"
    info.write_text(
        json.dumps({**json.loads(info.read_text()), "splits": {"train": "0:2", "val": "2:3", "odd": "all"}})
    )
    refs = [r for r in LiberoReader().list_episodes(tmp_path) if isinstance(r, EpisodeRef)]
    assert [r.split for r in refs] == ["train", "train", "val"]
    assert len(choose_listed(Selection(split="val"), refs).refs) == 1


def test_a_split_where_the_form_has_none_is_refused():
    with pytest.raises(BadSelection, match="belong to no split"):
        choose_listed(Selection(split="train"), [ref("a.hdf5", "demo_0")])


def test_numbers_mean_the_whole_listing_and_each_episode_left_out_is_counted_once():
    chosen = choose_listed(Selection(episodes=("1-4",), split="train", limit=2), LISTED)
    assert names(chosen) == ["a.tfrecord:record_1", "a.tfrecord:record_2"]
    assert chosen.left_out == {"episodes": 1, "split": 1, "limit": 1}


def by_words(selection, refs, words, looks=None):
    def look(some):
        if looks is not None:
            looks.append(len(some))
        return [(r, words(r)) for r in reversed(some)]

    return choose_by_words(selection, refs, look)


MANY = [ref("files/Kitchen.hdf5" if n % 50 == 7 else "x.hdf5", f"demo_{n}") for n in range(1000)]


def test_words_match_without_regard_to_case_in_any_instruction_or_in_the_files_name():
    def words(r):
        return EpisodeTexts(("Open the DRAWER", "pull") if r.episode == "demo_3" else ("close it",))

    chosen = by_words(Selection(match="drawer"), MANY, words)
    assert names(chosen) == ["x.hdf5:demo_3"] and chosen.left_out == {"match": 999}
    assert len(by_words(Selection(match="kitchen"), MANY, words).refs) == 20


@pytest.mark.parametrize("limit", [1, 3, 19, 20, 21, 1000])
def test_a_limit_takes_the_first_that_match_and_does_not_look_through_everything(limit):
    looks = []
    chosen = by_words(Selection(match="kitchen", limit=limit), MANY, lambda r: EpisodeTexts(()), looks)
    every = by_words(Selection(match="kitchen"), MANY, lambda r: EpisodeTexts(()))
    assert chosen.refs == every.refs[:limit]
    assert len(chosen.refs) + sum(chosen.left_out.values()) == len(MANY)
    assert sum(looks) <= 64 if limit == 1 else sum(looks) <= len(MANY)


@pytest.mark.parametrize(("choice", "kept"), [("any", 3), ("succeeded", 1), ("not-failed", 2)])
def test_outcomes_are_told_apart_and_the_unknown_is_no_failure(choice, kept):
    outcome = {"demo_0": True, "demo_1": False, "demo_2": None}
    chosen = by_words(Selection(success=choice), MANY[:3], lambda r: EpisodeTexts((), outcome[r.episode]))
    assert len(chosen.refs) == kept and chosen.left_out == ({"success": 3 - kept} if kept < 3 else {})


def test_an_episode_whose_words_cannot_be_read_is_neither_taken_nor_counted():
    chosen = by_words(
        Selection(match="x", limit=2), MANY[:4], lambda r: None if r.episode == "demo_0" else EpisodeTexts(())
    )
    assert names(chosen) == ["x.hdf5:demo_1", "x.hdf5:demo_2"] and chosen.left_out == {"limit": 1}


@pytest.mark.parametrize(("values", "says"), [({"limit": 0}, "--limit"), ({"match": " "}, "--match")])
def test_a_choice_of_nothing_is_refused(values, says):
    with pytest.raises(ValueError, match=says):
        Selection(**values)


# In a build


def words_of_file(text):
    return lambda file: file["data"].attrs.__setitem__("problem_info", json.dumps({"language_instruction": text}))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Three files of two episodes; of the drawer's, the first failed, and its pictures are no pictures."""
    folder = tmp_path_factory.mktemp("place")
    root = folder / "data" / "libero"

    def drawer(file):
        words_of_file("Open the Drawer")(file)
        file["data/demo_0/rewards"][-1] = 0
        file["data/demo_1/rewards"][-1] = 1

    write_file(root / "a_demo.hdf5", [Demo(0), Demo(1, 1)], words_of_file("pick up the soup"))
    write_file(root / "b_demo.hdf5", [Demo(0), Demo(1, 1)], drawer)
    write_file(root / "c_demo.hdf5", [Demo(0), Demo(1, 1)], words_of_file(""))
    return folder


def run(place, output, selection=None, executor=None, **options):
    return build(
        fast_recipe(), place / "data" / "libero", output, ShardConfig(), executor or LocalExecutor(), lambda *a: a[2],
        selection or Selection(), **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def everything(place, tmp_path_factory):
    output = tmp_path_factory.mktemp("everything") / "out"
    run(place, output, keep_episodes=True)
    return output


def test_parts_made_under_one_choice_serve_every_other(place, everything, tmp_path):
    output = shutil.copytree(everything, tmp_path / "out")
    summary = run(place, output, Selection(match="drawer", success="not-failed"), keep_episodes=True, overwrite=True)
    assert (summary.episodes, summary.made) == (1, 0)
    assert summary.left_out == {"match": 4, "success": 1}
    assert samples_of(output).items() < samples_of(everything).items()
    manifest = read_manifest(output)
    assert manifest.layout["selection"] == {"match": "drawer", "success": "not-failed"}
    assert (
        manifest.counts["left_out"] == summary.left_out
        and manifest.recipe_digest == read_manifest(everything).recipe_digest
    )
    assert [json.loads(line)["episode"] for line in (output / EPISODES).read_bytes().splitlines()] == ["demo_1"]
    assert run(place, output, Selection(match="drawer", success="not-failed"), keep_episodes=True).already_complete
    assert run(place, output, keep_episodes=True).made == 0, "the same stored episodes again"
    assert outputs_of(output) == outputs_of(everything)


def test_a_choice_by_number_equals_the_same_choice_by_name(place, tmp_path):
    run(place, tmp_path / "numbers", Selection(episodes=("2-3",)))
    run(place, tmp_path / "names", Selection(episodes=("b_demo.hdf5",)))
    assert samples_of(tmp_path / "numbers") == samples_of(tmp_path / "names")


def test_words_are_read_without_pictures_and_only_once(place, tmp_path):
    """Pictures are damaged after the words were read once: nothing is read of them, and words are not read again."""
    copied = shutil.copytree(place, tmp_path / "place")
    for name in ("a", "c"):
        with h5py.File(copied / "data" / "libero" / f"{name}_demo.hdf5", "r+") as file:
            for demo in ("demo_0", "demo_1"):
                pictures: Any = file[f"data/{demo}/obs/agentview_rgb"]
                chunk = pictures.id.get_chunk_info(0)
                with open(file.filename, "r+b") as raw:
                    raw.seek(chunk.byte_offset)
                    raw.write(b"\xff" * chunk.size)
    assert run(copied, tmp_path / "out", Selection(match="DRAWER")).quarantined == []


def test_what_was_chosen_is_remembered_while_the_build_goes_on(place, tmp_path):
    class Interrupted(LocalExecutor):
        def __init__(self):
            self.runs = []

        def run(self, make_worker, tasks, **options):
            self.runs.append(len(tasks))
            for number, done in enumerate(super().run(make_worker, tasks)):
                if len(self.runs) == 2 and number == 0:
                    raise KeyboardInterrupt
                yield done

    executor = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        run(place, tmp_path / "out", Selection(match="drawer"), executor)
    run(place, tmp_path / "out", Selection(match="drawer"), executor)
    assert executor.runs == [6, 2, 1, 1], "words, parts until the interruption, the rest of the parts, a shard"


def test_an_episode_without_an_instruction_is_left_out_and_counted_or_kept_and_tagged(place, everything, tmp_path):
    assert read_manifest(everything).counts["left_out"] == {"no_language": 2}
    kept = build(
        fast_recipe(language="optional"), place / "data" / "libero", tmp_path / "out", ShardConfig(), LocalExecutor(),
        lambda *a: a[2], Selection(episodes=("c_demo.hdf5", "b_demo.hdf5")),
    )  # fmt: skip
    assert (kept.no_language, kept.episodes, kept.left_out) == (2, 4, {"episodes": 2})
    assert read_manifest(tmp_path / "out").counts["no_language"] == 2
    shards = ShardSet(tmp_path / "out")
    triplets = [shards.read(number) for number in range(len(shards))]
    assert {(t.source.file[0], t.no_language) for t in triplets} == {("b", False), ("c", True)}
    assert sum(b'"no_language":true' in encode_triplet(t)["json"] for t in triplets) == len(triplets) / 2
    assert seen(tmp_path / "out")[1]["samples_without_instruction"] == len(triplets) / 2
    with pytest.raises(
        BuildError, match="every episode was left out \\(4 episodes, 2 no_language\\); --language optional"
    ):
        run(place, tmp_path / "none", Selection(episodes=("c_demo.hdf5",)))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"match": "oven"}, "no episode of .* is left: 6 match of 6 were left out"),
        ({"episodes": ("6",)}, "numbered 0 to 5"),
        ({"split": "train"}, "belong to no split"),
        ({"limit": 0}, "--limit must be 1 or more"),
    ],
)
def test_a_choice_that_cannot_be_is_answered_as_an_error_of_usage(place, tmp_path, options, says):
    asked = Build("libero", input=place / "data" / "libero", output=tmp_path / "out", executor="local", **options)
    with pytest.raises(UsageError, match=says):
        build_command(asked)
