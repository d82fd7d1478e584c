"""``lamp-data`` as typed: defaults, sentences instead of tracebacks, exit codes 0, 1 and 2."""

import json
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import weakref

import pytest
from fixtures.command import ENVIRONMENT, ROOT, lamp_data
from fixtures.libero import FAST, Demo, outputs_of, write_file

from jobs.cli.exit_codes import run_command
from jobs.lamp_data import main
from schemas.plugins import plugin_names
from schemas.shard_set import ShardSet

HEAVY = ("torch", "ray", "cv2", "zarr", "h5py", "numcodecs", "transformers", "matplotlib")


def known(package):
    """The plug-ins of a folder as an error lists them."""
    return ", ".join(plugin_names(package))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data/libero, as after cloning."""
    folder = tmp_path_factory.mktemp("place")
    write_file(folder / "data" / "libero" / "suite" / "a_demo.hdf5", [Demo(0), Demo(1, 1)])
    return folder


@pytest.fixture(scope="module")
def built(place):
    """The defaults: only what makes it quick is said, and no Ray."""
    return lamp_data("build", "--dataset", "libero", *FAST, "--executor", "local", folder=place)


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    """The command in this process, in an empty folder: exit code, standard output, standard error."""

    def run(*words):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["lamp-data", *words])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, *capsys.readouterr()

    return run


def test_input_and_output_have_defaults_and_the_summary_says_what_came_out(place, built):
    assert built.returncode == 0
    shards = ShardSet(place / "shards" / "libero")
    assert len(shards) == 6 and shards.read(0).source.file == "suite/a_demo.hdf5"
    for line in ("shards/libero", "episodes     2 with 28 frames", "6 kept of 8 windows", "rejected     2 too_short"):
        assert line in built.stdout


def test_progress_goes_to_standard_error_and_tells_both_stages(built):
    assert "episodes: 2 of 2" in built.stderr and "shards: 1 of 1" in built.stderr
    assert " of 2" not in built.stdout


def test_the_same_command_again_says_that_there_is_nothing_to_do(place, built):
    before = outputs_of(place / "shards")
    again = lamp_data("build", "--dataset", "libero", *FAST, "--executor", "local", folder=place)
    assert again.returncode == 0 and "already complete, nothing to do" in again.stdout
    assert outputs_of(place / "shards") == before


def test_json_is_all_of_standard_output(place):
    ran = lamp_data(
        *("build", "--dataset", "libero", *FAST, "--executor", "local", "--json", "--output", "out", "--limit", "1"),
        *("--format", "zarr"),
        folder=place,
    )
    summary = json.loads(ran.stdout)
    assert ran.returncode == 0
    assert (summary["output"], summary["episodes"], summary["kept"]) == ("out", 1, 3)
    assert summary["rejected"] == {"too_short": 1} and summary["quarantined"] == []
    assert next((place / "out").glob("*.zarr")).is_dir()


def test_the_default_executor_is_ray_and_the_bytes_are_the_same(place, built, tmp_path):
    shutil.copytree(place / "data", tmp_path / "data")
    ran = lamp_data("build", "--dataset", "libero", *FAST, "--executor-options", "workers=1", folder=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert outputs_of(tmp_path / "shards") == outputs_of(place / "shards")
    first, *others = ran.stderr.splitlines()
    assert first.endswith("starting a local Ray cluster with 1 worker")
    assert all(line.startswith(("episodes: ", "shards: ")) for line in others), "Ray says nothing of its own"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--dataset", "libero"], 2, "data/libero does not exist; put LIBERO's <task>_demo.hdf5 files"),
        (["--dataset", "libero", "--input", "."], 2, "holds no "),
        (
            ["--dataset", "rt1"],
            2,
            f"--dataset must be one of {known('pipeline.readers')}, or a mapping file (.yaml, .yml, .toml), "
            "found 'rt1'",
        ),
        (["--dataset", "none.yaml"], 2, "none.yaml cannot be read: No such file or directory"),
        (
            ["--dataset", "libero", "--input", str(ROOT / "data" / "libero"), "--form", "zarr"],
            2,
            "--form must be one of hdf5, rlds, lerobot for this dataset, found 'zarr'",
        ),
        (
            ["--dataset", "libero", "--tracker", "magic"],
            2,
            f"no tracker is called 'magic'; there are: {known('pipeline.trackers')}",
        ),
        (
            ["--dataset", "libero", "--depth", "magic"],
            2,
            f"no depth is called 'magic'; there are: {known('pipeline.depth')}",
        ),
        (
            ["--dataset", "libero", "--camera", "magic"],
            2,
            f"no camera is called 'magic'; there are: {known('pipeline.cameras')}",
        ),
        (
            ["--dataset", "libero", "--format", "rar"],
            2,
            "no shard format is called 'rar'; there are: webdataset, zarr",
        ),
        (
            ["--dataset", "libero", "--format", "zar"],
            2,
            "no shard format is called 'zar'; there are: webdataset, zarr; did you mean 'zarr'?",
        ),
        (
            ["--dataset", "libero", "--tracker-options", "windw=9"],
            2,
            "'lk' has no option 'windw'; its options are: window",
        ),
        (["--dataset", "libero", "--tracker-options", "window=8"], 2, "lk.window must be odd"),
        (["--dataset", "libero", "--tracker-options", "window"], 2, "an option is written NAME=VALUE, found 'window'"),
        (["--dataset", "libero", "--executor-options", "workers=0"], 2, "workers must be 1 or more, found 0"),
        (["--dataset", "libero", "--executor-options", "workers=many"], 2, "must be int, found 'many'"),
        (["--dataset", "libero", "--stride", "0"], 2, "stride must be 1 or more, found 0"),
        (["--dataset", "libero", "--jpeg-quality", "101"], 2, "jpeg_quality lies between 1 and 100, found 101"),
        (["--dataset", "libero", "--samples-per-shard", "0"], 2, "samples_per_shard must be 1 or more, found 0"),
        (["--dataset", "libero", "--limit", "0"], 2, "--limit must be 1 or more, found 0"),
        (["--dataset", "libero", "--max-quarantined", "3"], 2, "--max-quarantined is a share between 0 and 1, found 3"),
    ],
)
def test_a_wrong_word_is_one_sentence_with_what_would_be_right_and_nothing_is_made(typed, tmp_path, words, code, says):
    exit_code, out, err = typed("build", *words)
    assert (exit_code, out) == (code, "")
    assert says in err and err.startswith("lamp-data: ") and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["bild"],
        ["build"],
        ["build", "--dataset"],
        ["build", "--dataset", "libero", "--colour", "red"],
        ["build", "--dataset", "libero", "--stride", "few"],
        ["build", "--dataset", "libero", "--quality.min-valid", "2"],
    ],
)
def test_a_command_line_that_cannot_be_read_is_answered_by_usage_and_code_2(typed, tmp_path, words):
    exit_code, _, err = typed(*words)
    assert exit_code == 2 and len(err.strip()) > 20 and "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_every_dataset_of_the_project_has_a_reader():
    assert set(plugin_names("pipeline.readers")) >= {"libero", "droid", "bridge", "interndata-a1"}


def test_looking_at_the_help_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; import jobs.lamp_data; "
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules]; assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=ENVIRONMENT, cwd=tmp_path)
    for words in (["--help"], ["build", "--help"], ["inspect", "--help"]):
        ran = lamp_data(*words, folder=tmp_path)
        assert ran.returncode == 0 and "lamp-data" in ran.stdout


def test_the_help_of_build_tells_defaults_and_choices(tmp_path):
    text = " ".join(lamp_data("build", "--help", folder=tmp_path).stdout.split())
    words = ("--dataset", "data/<dataset>", "shards/<dataset>", "{ray,local}", "--max-quarantined", "--keep-episodes")
    for word in words:
        assert word in text


def test_lamp_data_is_installed_under_its_name():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["lamp-data"] == "jobs.lamp_data:main"


def test_what_was_built_can_be_inspected_and_damage_is_exit_code_1(place, built, tmp_path):
    shards = shutil.copytree(place / "shards" / "libero", tmp_path / "shards")
    assert lamp_data("inspect", "shards", folder=tmp_path).returncode == 0
    data = bytearray((shards / "libero-000000.tar").read_bytes())
    data[5000] ^= 16
    (shards / "libero-000000.tar").write_bytes(data)
    ran = lamp_data("inspect", "shards", folder=tmp_path)
    assert ran.returncode == 1 and "libero-000000.tar" in ran.stdout + ran.stderr


def test_an_interruption_that_a_library_turned_into_its_own_error_is_one_still(capsys):
    def work():
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise RuntimeError("generator didn't stop after throw()")  # noqa: B904

    assert run_command(work) == 130 and "interrupted; what was finished stays" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="a bug"):
        run_command(lambda: (_ for _ in ()).throw(RuntimeError("a bug")))


def test_an_interruption_that_falls_into_a_callback_is_not_lost(capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    def work():
        thing = set()
        reference = weakref.ref(thing, interrupted)
        del thing
        until = time.monotonic() + 10
        while time.monotonic() < until:
            time.sleep(0.01)
        return 0 if reference() is None else 1

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever had it, as Ray does in other tests
    try:
        assert run_command(work) == 130 and "Traceback" not in capsys.readouterr().err
    finally:
        signal.signal(signal.SIGINT, before)
