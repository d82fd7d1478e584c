"""What both commands share: flags, versions, misspelt words, quiet and plain output, and the list of parts."""

import dataclasses
import sys
import typing

import pytest
import tyro
from fixtures.command import lamp_data
from fixtures.libero import FAST, Demo, write_file

from jobs import lamp_data as data_command
from jobs import lamp_train as train_command
from jobs.cli.build_options import Build
from jobs.cli.command_line import common_options, in_groups, ungrouped
from jobs.cli.train_options import Train
from jobs.commands.export import Export
from jobs.commands.parts import ROOMS, attributes_of, is_option
from schemas.plugins import load_plugin, plugin_names
from schemas.progress import PlainProgress
from schemas.suggestions import did_you_mean
from schemas.version import VERSION

OPTIONS = [*data_command.OPTIONS.values(), Train, Export]


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    """A command in this process, in an empty folder: exit code, standard output, standard error."""

    def run(command, *words):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [command.__name__.split(".")[-1], *words])
        with pytest.raises(SystemExit) as end:
            command.main()
        return end.value.code, *capsys.readouterr()

    return run


def flags():
    for options in OPTIONS:
        flat = getattr(options, "flat", options)
        for name, hint in typing.get_type_hints(flat).items():
            if hint is bool or bool in typing.get_args(hint):
                yield options, name


@pytest.mark.parametrize(("options", "name"), flags(), ids=lambda v: getattr(v, "__name__", v))
def test_every_boolean_is_a_pair_of_bare_flags(options, name):
    needed = {"Instruct": ["--dataset", "x"], "Inspect": ["path"], "Export": ["run", "--output", "x"]}
    needed |= {"Copy": ["from", "to"], "Push": ["from", "to"], "Status": ["path"]}
    needed |= {"Collect": ["--suite", "libero_object", "--output", "x"]}
    word = name.replace("_", "-")
    for said, value in ((f"--{word}", True), (f"--no-{word}", False)):
        parsed = ungrouped(tyro.cli(options, args=[*needed.get(options.__name__, []), said]))
        assert getattr(parsed, name) is value


def test_grouped_options_are_those_of_the_flat_class_and_help_shows_the_groups(typed):
    assert ungrouped(tyro.cli(in_groups(Build), args=[])) == Build()
    words = ["--stride", "3", "--quality.min-steps", "2", "--cameras", "a", "b", "--no-json"]
    assert ungrouped(tyro.cli(in_groups(Build), args=words)) == tyro.cli(Build, args=words)
    _, out, _ = typed(data_command, "build", "--help")
    for title in ("input", "episode", "flow", "window", "sample", "shard", "run", "quality"):
        assert f"{title} options" in out
    names = ",".join(plugin_names("pipeline.trackers"))
    assert f"--tracker {{{names}}}" in out and "(default: )" not in out


@pytest.mark.parametrize("command", [data_command, train_command])
def test_the_version(typed, command):
    code, out, err = typed(command, "--version")
    assert (code, err) == (0, "") and out.split()[1:] == [VERSION]


def test_the_help_of_training_names_export(typed):
    assert "lamp-train export RUN --output FOLDER" in typed(train_command, "--help")[1]


@pytest.mark.parametrize(
    ("command", "words", "says"),
    [
        (data_command, ["bulid"], "there is no command 'bulid'; the commands are build"),
        (data_command, ["bulid"], "did you mean 'build'?"),
        (train_command, ["exprot"], "did you mean 'export'?"),
        (data_command, ["build", "--dataset", "libro"], "did you mean 'libero'?"),
        (data_command, ["build", "--dataset", "libero", "--tracker", "lkk"], "did you mean 'lk'?"),
        (data_command, ["build", "--dataset", "libero", "--tracker-options", "windw=9"], "did you mean 'window'?"),
        (data_command, ["build", "--dataset", "libero", "--executor", "loacl"], "did you mean 'local'?"),
        (data_command, ["evaluate", "--truth", "rigid-world", "fils"], "did you mean 'files'?"),
        (data_command, ["inspect", "x", "--order=wrst"], "did you mean 'worst'?"),
        (train_command, ["--stage", "1", "--preset", "tny"], "did you mean 'tiny'?"),
        (data_command, ["parts", "tracker"], "did you mean 'trackers'?"),
    ],
)
def test_a_misspelt_word_is_answered_by_the_closest_one(typed, command, words, says):
    code, out, err = typed(command, *words)
    assert (code, out) == (2, "") and says in err and err.count("\n") == 1


def test_words_that_resemble_nothing_get_no_suggestion():
    assert did_you_mean("xyzzy", ["lk", "dis"]) == ""


def test_common_options_may_stand_anywhere():
    assert common_options(["build", "-q", "--limit", "3"]).arguments == ["build", "--limit", "3"]
    assert common_options(["x", "--", "-q"]).arguments == ["x", "--", "-q"]
    assert common_options(["-v"]).level < common_options([]).level < common_options(["--quiet"]).level


def test_quiet_says_the_result_only_and_no_line_is_overwritten_when_it_is_a_file(tmp_path):
    write_file(tmp_path / "data/libero/a_demo.hdf5", [Demo(0)])
    words = ("build", "--dataset", "libero", *FAST, "--executor", "local")
    plain = lamp_data(*words, "--output", "one", folder=tmp_path)
    assert plain.returncode == 0 and "\r" not in plain.stderr + plain.stdout
    assert [line.split(",")[0] for line in plain.stderr.splitlines()] == ["episodes: 1 of 1", "shards: 1 of 1"]
    quiet = lamp_data(*words, "--output", "two", "-q", folder=tmp_path)
    assert quiet.stderr == "" and "3 kept" in quiet.stdout


def test_verbose_shows_where_an_error_came_from(typed):
    code, _, err = typed(data_command, "-v", "build", "--dataset", "libero", "--stride", "0")
    assert code == 2 and "Traceback" in err and err.splitlines()[-1].endswith("stride must be 1 or more, found 0")


def test_plain_progress_says_count_rate_and_time_left_every_few_seconds_and_the_end():
    now, lines = [0.0], []
    progress = PlainProgress("episodes", 100, done=10, every=10, clock=lambda: now[0], say=lines.append)
    for _ in range(45):
        now[0] += 1
        progress.update()
    progress.set_postfix_str("loss 0.5")
    progress.close()
    assert lines == [
        "episodes: 20 of 100, 1/s, 80 s left",
        "episodes: 30 of 100, 1/s, 70 s left",
        "episodes: 40 of 100, 1/s, 60 s left",
        "episodes: 50 of 100, 1/s, 50 s left",
        "episodes: 55 of 100, in 45 s, loss 0.5",
    ]


def parts():
    return [(room, name) for room, (package, _) in ROOMS.items() for name in plugin_names(package)]


@pytest.mark.parametrize(("room", "name"), parts())
def test_every_option_of_every_part_has_a_meaning(room, name):
    config = load_plugin(ROOMS[room][0], name).Config
    hints, meanings = typing.get_type_hints(config), attributes_of(config)
    options = [field.name for field in dataclasses.fields(config) if is_option(field.name, hints[field.name])]
    assert [option for option in options if not meanings.get(option)] == []


def test_parts_lists_all_and_shows_options_defaults_and_meanings(typed):
    code, out, _ = typed(data_command, "parts")
    assert code == 0 and all(name in out for _, name in parts())
    _, out, _ = typed(data_command, "parts", "lk", "fusions")
    assert "window=17  (int)\n      side of the square that is matched, in px, odd." in out
    assert "gated-tokens (fusions)" in out and "feature_width" not in out
