"""Instructions that a model writes: the file, the command, and what a build makes of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.libero import INSTRUCTION, Demo, fast_recipe, samples_of, write_file

from jobs.cli.build_options import Build, recipe_of
from jobs.cli.exit_codes import Failed, UsageError
from jobs.commands.instruct import Instruct, instruct_command
from jobs.executors.local import LocalExecutor
from lamp_model.instructions import QUESTIONS, Asking, InstructionWriter
from pipeline.build.run import ShardConfig, build
from schemas.generated_instructions import (
    LONGEST,
    STYLES,
    Author,
    BadInstructions,
    GeneratedFile,
    InstructionFile,
    read_instructions,
    tidy,
)
from schemas.shard_set import ShardSet

AUTHOR = Author("libero", "a model at 1", "ab" * 32)
MODEL = ("weights=random:tiny", "seed=4", "image_size=32", "min_pixels=1024")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("libero")
    write_file(folder / "a_demo.hdf5", [Demo(0), Demo(1, 1), Demo(2, 0, 20)])
    return folder


def instruct(source, output, **options) -> int:
    options = {"backbone_options": MODEL, "most_tokens": 4, "frames": 2, **options}
    return instruct_command(Instruct("libero", input=source, output=output, **options))


# ---- the file
# ------------------------------------------------------------------------------------------------------------


def test_an_interruption_changes_no_byte(tmp_path):
    texts = {f"{n:016x}": {"request": f"please {n}", "imperative": f"do {n}"} for n in range(5)}
    order = list(texts)
    whole = InstructionFile(tmp_path / "whole.jsonl", AUTHOR)
    for episode in order:
        whole.add(episode, texts[episode])
    assert not whole.path.exists()  # nobody takes an unfinished file for a finished one
    whole.finish(order)
    torn = InstructionFile(tmp_path / "torn.jsonl", AUTHOR)
    for episode in order[3:1:-1]:
        torn.add(episode, texts[episode])
    torn.aside.write_bytes(torn.aside.read_bytes()[:-9])  # killed within a line
    again = InstructionFile(torn.path, AUTHOR)
    assert list(again.texts) == [order[3]]
    for episode in order:
        if episode not in again.texts:
            again.add(episode, texts[episode])
    again.finish(order)
    assert torn.path.read_bytes() == whole.path.read_bytes()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    more = InstructionFile(whole.path, AUTHOR)
    more.add("f" * 16, {"stepwise": "first this, then that"})
    more.finish(["f" * 16])
    assert read_instructions(whole.path).texts == {**texts, "f" * 16: {"stepwise": "first this, then that"}}


def test_what_another_model_wrote_is_not_gone_on_with(tmp_path):
    InstructionFile(tmp_path / "file.jsonl", AUTHOR).finish([])
    with pytest.raises(BadInstructions, match=r"another model \(a model at 1, now another\)"):
        InstructionFile(tmp_path / "file.jsonl", replace(AUTHOR, model="another"))


HEAD = {"format": "lamp-generated-instructions", "version": 1, "dataset": "d", "model": "m", "prompt": "p"}


@pytest.mark.parametrize("head", [{}, [1], "x", {**HEAD, "format": "y"}, {**HEAD, "version": 2}, {**HEAD, "model": 3}])
def test_a_file_with_another_first_line_is_refused_by_name(tmp_path, head):
    _refused(tmp_path / "file.jsonl", json.dumps(head).encode() + b"\n")


@pytest.mark.parametrize(
    "line", [b"{", b"[]\n", b'{"episode":"e","instructions":{"shout":"x"}}\n', b'{"episode":"e"}\n']
)
def test_a_file_with_a_damaged_line_is_refused_by_name(tmp_path, line):
    _refused(tmp_path / "file.jsonl", json.dumps(HEAD).encode() + b"\n" + line)
    _refused(tmp_path / "file.jsonl", b"")


def _refused(path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(BadInstructions, match=r"file\.jsonl") as caught:
        read_instructions(path)
    assert "\n" not in str(caught.value)


def test_texts_are_one_line_of_printable_words_of_bounded_length():
    assert tidy('  "Put\n the\x1b[2J  cup\t away." ') == "Put the [2J cup away."
    assert tidy("** pick it up **") == "pick it up"
    long = tidy("word " * 200)
    assert len(long) <= LONGEST and set(long.split()) == {"word"}


# ---- the model's questions
# -----------------------------------------------------------------------------------------------


class _Repeats:
    """A writer that answers with what it was asked and the brightness of what it was shown."""

    def generate(self, images, questions, most_tokens):
        assert all(len(i) == len(questions) for i in images)
        return [f"{q}|{[int(i[n].float().mean()) for i in images]}" for n, q in enumerate(questions)]


def test_the_model_sees_frames_from_first_to_last_and_the_peoples_words():
    frames = np.broadcast_to(np.arange(0, 110, 10, np.uint8)[:, None, None, None], (11, 8, 8, 3))
    texts = InstructionWriter(_Repeats(), Asking(frames=3), torch.device("cpu")).write(
        frames, ("take the cup", "other")
    )
    assert list(texts) == list(STYLES) == list(QUESTIONS)
    for style, text in texts.items():
        assert QUESTIONS[style] in text and "'take the cup'" in text and "other" not in text
        assert text.endswith("[0, 50, 100]")
    alone = InstructionWriter(_Repeats(), Asking(("request",)), torch.device("cpu")).write(frames, ())
    assert "told" not in alone["request"] and list(alone) == ["request"]


def test_everything_that_decides_the_texts_decides_the_digest():
    asked = [Asking(), Asking(frames=4), Asking(most_tokens=5), Asking(("request",))]
    digests = {a.digest({"image_size": size}) for a in asked for size in (32, 64)}
    assert len(digests) == 8
    with pytest.raises(ValueError, match="the styles are imperative, stepwise, request, found shout"):
        Asking(("shout",))


# ---- the command
# ---------------------------------------------------------------------------------------------------------


def test_the_command_writes_the_same_file_however_often_it_is_stopped(source, tmp_path, capsys):
    assert instruct(source, tmp_path / "once.jsonl") == 0
    assert "of 3 episodes" in capsys.readouterr().out
    assert instruct(source, tmp_path / "parts.jsonl", limit=1) == 0
    first = read_instructions(tmp_path / "parts.jsonl")
    assert instruct(source, tmp_path / "parts.jsonl") == 0
    assert (tmp_path / "parts.jsonl").read_bytes() == (tmp_path / "once.jsonl").read_bytes()
    found = read_instructions(tmp_path / "once.jsonl")
    assert len(first.texts) == 1 and len(found.texts) == 3 and any(found.texts.values())
    assert found.author.model == "random:tiny"
    with pytest.raises(UsageError, match="another prompt"):
        instruct(source, tmp_path / "once.jsonl", most_tokens=5)


def test_episodes_with_words_of_their_own_can_be_passed_over(source, tmp_path):
    assert instruct(source, tmp_path / "file.jsonl", blank_only=True) == 0
    assert not read_instructions(tmp_path / "file.jsonl").texts


def test_mistakes_are_sentences(source, tmp_path):
    for options, said in (
        ({"backbone": "none"}, "no backbone is called 'none'"),
        ({"backbone_options": ("weights=random:huge",)}, "random weights come in the sizes"),
        ({"styles": ("shout",)}, "the styles are"),
        ({"episodes": ("7",)}, "numbered 0 to 2"),
        ({"device": "abacus"}, "device must be"),
    ):
        with pytest.raises(UsageError, match=said):
            instruct(source, tmp_path / "file.jsonl", **options)
    with pytest.raises(UsageError):
        instruct(tmp_path / "nowhere", tmp_path / "file.jsonl")


def test_an_episode_that_cannot_be_read_is_told_and_the_rest_goes_on(tmp_path):
    folder = tmp_path / "libero"
    folder.mkdir()
    write_file(folder / "a_demo.hdf5", [Demo(0), Demo(1)], change=lambda f: f["data/demo_0"].__delitem__("actions"))
    with pytest.raises(Failed, match=r"1 of 2 episodes could not be read, the first because a_demo\.hdf5:demo_0"):
        instruct(folder, tmp_path / "file.jsonl")
    assert len(read_instructions(tmp_path / "file.jsonl").texts) == 1


# ---- a build with them
# ---------------------------------------------------------------------------------------------------


def test_samples_carry_them_tagged_and_beside_the_peoples_own(source, tmp_path):
    def made(name, recipe):
        build(recipe, source, tmp_path / name, ShardConfig(), LocalExecutor(), lambda *a: a[2])
        return ShardSet(tmp_path / name)

    plain = made("plain", fast_recipe())
    episodes = sorted({plain.read(n).episode for n in range(len(plain))})
    file = InstructionFile(tmp_path / "file.jsonl", AUTHOR)
    file.add(episodes[0], {"request": "please?", "imperative": "do it"})
    file.finish(episodes)
    recipe = fast_recipe(generated_instructions=GeneratedFile.at(file.path, "libero"))
    shards = made("told", recipe)
    for number in range(len(shards)):
        t = shards.read(number)
        assert t.instructions == (INSTRUCTION,)
        found = [(g.style, g.text, g.model) for g in t.generated_instructions]
        expected = [("imperative", "do it", AUTHOR.model), ("request", "please?", AUTHOR.model)]
        assert found == (expected if t.episode == episodes[0] else [])
    assert shards.manifest.recipe["generated_instructions"]["model"] == AUTHOR.model
    moved = tmp_path / "elsewhere.jsonl"
    moved.write_bytes(file.path.read_bytes())
    assert fast_recipe(generated_instructions=GeneratedFile.at(moved, "libero")).digest == recipe.digest
    assert recipe.digest != fast_recipe().digest
    assert samples_of(tmp_path / "plain").keys() == samples_of(tmp_path / "told").keys()
    file.add(episodes[1], {"request": "more"})
    file.finish(episodes)
    assert fast_recipe(generated_instructions=GeneratedFile.at(file.path, "libero")).digest != recipe.digest
    with pytest.raises(BadInstructions, match="changed since the build began"):
        recipe.generated_instructions.load()


def test_a_file_for_another_dataset_is_refused(tmp_path):
    InstructionFile(tmp_path / "file.jsonl", AUTHOR).finish([])
    with pytest.raises(BadInstructions, match="written for libero, and this is a build of bridge"):
        GeneratedFile.at(tmp_path / "file.jsonl", "bridge")
    assert json.loads((tmp_path / "file.jsonl").read_bytes())["model"] == AUTHOR.model


def test_the_build_says_what_is_wrong_with_a_file(tmp_path):
    with pytest.raises(ValueError, match=r"none\.jsonl cannot be read: No such file"):
        recipe_of(Build("libero", generated_instructions=tmp_path / "none.jsonl"))
    InstructionFile(tmp_path / "file.jsonl", AUTHOR).finish([])
    told = recipe_of(Build("libero", generated_instructions=tmp_path / "file.jsonl"))
    assert told.generated_instructions is not None and told.generated_instructions.model == AUTHOR.model
    assert recipe_of(Build("libero")).generated_instructions is None
