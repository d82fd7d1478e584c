"""Recipe files: the same recipe as the command line's, errors by name and place, and builds that go on where they were
stopped.
"""

import contextlib
import dataclasses
import io
import json
from pathlib import Path

import pytest
import tyro
from fixtures.libero import FAST, Demo, outputs_of, write_file

from jobs.cli.build_options import Build, recipe_of, selection_of
from jobs.cli.exit_codes import Failed, UsageError
from jobs.cli.options_file import OPTIONS, WHERE_AND_HOW, read_recipe_file
from jobs.commands import mixture as command
from jobs.commands.build import build_command
from schemas.files import sha256_of
from schemas.manifest import BadManifest, read_manifest
from schemas.mixture import Member, Mixture, is_mixture, member_folder, read_mixture

ROOT = Path(__file__).parents[2]
FAST_YAML = """
  stride: 4
  horizon-steps: 8
  grid: 6
  action_horizon: 4
  quality: {min-steps: 4, min_valid: 0, max_holes: 1, max_edges: 1, max_jumps: 1, min_moving_points: 0}
"""
TWO = f"""
name: two
defaults: {FAST_YAML}
datasets:
  one: {{dataset: libero, weight: 2, stride: 5}}
  other:
    dataset: libero
    weight: 1
    input: deep/other
    action_options: {{noop_filter: yes}}
"""


def words_of_fast():
    return [word.replace("--horizon", "--horizon-steps") if word == "--horizon" else word for word in FAST]


def recipe_file(folder, text):
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def read(folder, text, **options):
    return read_recipe_file(Build(recipe=recipe_file(folder, text), **options))


def test_a_section_is_the_recipe_of_the_same_command_line(tmp_path):
    one, other = (section.build for section in read(tmp_path, TWO).sections)
    typed = [
        ["--dataset", "libero", *words_of_fast(), "--stride", "5"],
        ["--dataset", "libero", *words_of_fast(), "--action-options", "noop_filter=yes"],
    ]
    for build, words in zip((one, other), typed, strict=True):
        parsed = tyro.cli(Build, args=words)
        assert recipe_of(build).digest == recipe_of(parsed).digest and selection_of(build) == selection_of(parsed)
    assert recipe_of(one).digest != recipe_of(other).digest


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("episodes: [0-3, 7]", ["--episodes", "0-3", "7"]),
        ("limit: 3", ["--limit", "3"]),
        ("cameras: all", ["--cameras", "all"]),
        ("cameras: [agentview, eye_in_hand]", ["--cameras", "agentview", "eye_in_hand"]),
        ("depth: recorded\n    camera_options: {fov_y: 45}", ["--camera-options", "fov_y=45"]),
        ("action_options: {noop-filter: false}", ["--action-options", "noop_filter=no"]),
        ("flow: simulator", ["--flow", "simulator"]),
        ("language: optional\n    jpeg-quality: 90", ["--language", "optional", "--jpeg-quality", "90"]),
        ("success: not-failed\n    match: bowl", ["--success", "not-failed", "--match", "bowl"]),
        ("horizon_seconds: 2", ["--horizon-seconds", "2"]),
        (
            "actions: raw\n    format: zarr\n    samples_per_shard: 7",
            ["--actions", "raw", "--format", "zarr", "--samples-per-shard", "7"],
        ),
    ],
)
def test_every_kind_of_option_means_what_it_means_when_typed(tmp_path, yaml, words):
    (section,) = read(tmp_path, f"datasets:\n  libero:\n    {yaml}\n").sections
    typed = tyro.cli(Build, args=["--dataset", "libero", *words])
    assert recipe_of(section.build).digest == recipe_of(typed).digest
    made = {name: getattr(section.build, name) for name in OPTIONS if not name.endswith("_options")}
    assert made == {name: getattr(typed, name) for name in made}
    assert selection_of(section.build) == selection_of(typed)


def test_folders_are_below_those_of_the_command_line(tmp_path):
    made = read(tmp_path, TWO, input=Path("in"), output=Path("out"), executor="local", json=True)
    assert [(s.build.input, s.build.output, s.weight) for s in made.sections] == [
        (Path("in/one"), Path("out/one"), 2.0),
        (Path("in/deep/other"), Path("out/other"), 1.0),
    ]
    assert all(s.build.executor == "local" and s.build.json for s in made.sections)
    assert read(tmp_path, TWO).output == Path("shards/two")
    assert {f.name for f in dataclasses.fields(Build)} == {*OPTIONS, *WHERE_AND_HOW}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "datasets: {libero: {strid: 5}}",
            r"datasets.libero has a name 'strid' that is not known; known are weight, input, dataset",
        ),
        ("dataset: {libero: {}}", "has a name 'dataset' that is not known; known are name, defaults, datasets"),
        ("datasets: {libero: {quality: {min_step: 5}}}", "quality has a name 'min_step' that is not known; known are"),
        ("datasets: {libero: {stride: five}}", "datasets.libero: stride must be a whole number, found 'five'"),
        ("datasets: {libero: {language: perhaps}}", "language must be one of required, optional, found 'perhaps'"),
        ("datasets: {libero: {executor: ray}}", "has a name 'executor' that is not known"),
        ("defaults: {weight: 1}\ndatasets: {libero: {}}", "defaults has a name 'weight'"),
        ("datasets: {a/b: {}}", "datasets.a/b: the name becomes a folder's"),
        ("datasets: {libero: {input: ../x}}", "input must be a folder below --input, found '../x'"),
        ("datasets: {libero: {weight: much}}", "weight must be a number, found 'much'"),
        ("datasets: {libero: {weight: 0}}", "a weight must be a number above 0, found 0.0"),
        ("datasets: {libero: {weight: .nan}}", "a weight must be a number above 0"),
        ("datasets: {libero: {weight: 1}, bridge: {}}", "either every dataset of a mixture has a weight, or none has"),
        ("datasets: {}", "datasets must name at least one dataset"),
        ("datasets: [libero]", "datasets must hold names with values, found"),
        ("name: 3\ndatasets: {libero: {}}", "name must be text, found 3"),
        ("datasets: {libero: {}, libero: {}}", "libero stands twice"),
        ("!!python/object/apply:os.system [echo]", "cannot be read: could not determine a constructor"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(tmp_path, text, says):
    with pytest.raises(ValueError, match=says) as error:
        read(tmp_path, text)
    assert "recipe.yaml" in str(error.value) and "\n" not in str(error.value)


def test_what_the_recipe_says_is_not_said_beside_it(tmp_path):
    with pytest.raises(
        UsageError, match=r"--jpeg-quality beside --recipe: write it into .*recipe.yaml, under defaults or a dataset"
    ):
        build_command(Build(recipe=recipe_file(tmp_path, TWO), jpeg_quality=80))
    with pytest.raises(
        UsageError, match="--dataset is missing: a dataset or a mapping file; or, in its place, --recipe"
    ):
        build_command(Build())


@pytest.mark.parametrize("name", ["laptop.yaml", "paper.yaml", "video.yaml"])
def test_the_shipped_recipes_are_recipes(name):
    made = read_recipe_file(Build(recipe=ROOT / "jobs/recipes" / name))
    for section in made.sections:
        assert recipe_of(section.build).digest
    if name == "paper.yaml":
        assert [section.name for section in made.sections] == ["libero", "bridge", "droid", "interndata-a1"]


# Building


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("in")
    write_file(root / "one" / "a_demo.hdf5", [Demo(0)])
    write_file(root / "deep" / "other" / "b_demo.hdf5", [Demo(0, 0, 14, 10)])
    return root


def build(folder, source, output, text=TWO, **options):
    args = Build(recipe=recipe_file(folder, text), input=source, output=output, executor="local", **options)
    return build_command(args)


@pytest.fixture(scope="module")
def built(source, tmp_path_factory):
    folder, said = tmp_path_factory.mktemp("out"), io.StringIO()
    with contextlib.redirect_stdout(said):
        assert build(folder, source, folder / "two", json=True) == 0
    (folder / "said.json").write_text(said.getvalue())
    return folder / "two"


def test_a_mixture_names_its_builds(built):
    mixture = read_mixture(built)
    assert is_mixture(built) and is_mixture(built / "mixture.json") and not is_mixture(built / "one")
    assert [(m.name, m.weight, m.samples, m.episodes) for m in mixture.members] == [
        ("one", 2.0, mixture.members[0].samples, 1),
        ("other", 1.0, mixture.members[1].samples, 1),
    ]
    for member in mixture.members:
        manifest = read_manifest(member_folder(built, member))
        assert manifest.samples == member.samples > 0 and manifest.dataset == member.dataset
        assert member.manifest_sha256 == sha256_of(built / member.folder / "manifest.json")
    assert read_manifest(built / "other").recipe["actions"]["options"] == {"noop_filter": True}


def test_a_member_is_the_build_of_the_command_line_byte_for_byte(built, source, tmp_path):
    words = [
        "--dataset",
        "libero",
        "--input",
        str(source / "one"),
        "--output",
        str(tmp_path / "alone"),
        "--executor",
        "local",
    ]
    assert build_command(tyro.cli(Build, args=[*words, *words_of_fast(), "--stride", "5"])) == 0
    assert outputs_of(tmp_path / "alone") == outputs_of(built / "one")


def test_an_interrupted_mixture_goes_on_and_comes_out_the_same(built, source, tmp_path, monkeypatch):
    made, original = [], command.build_one

    def dies(args, plan):
        if made:
            raise KeyboardInterrupt
        made.append(plan.output.name)
        return original(args, plan)

    monkeypatch.setattr(command, "build_one", dies)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, source, tmp_path / "two")
    assert made == ["one"] and not (tmp_path / "two" / "mixture.json").exists()
    with pytest.raises(BadManifest, match="does not exist: the mixture has not been built to its end"):
        read_mixture(tmp_path / "two")
    monkeypatch.undo()
    assert build(tmp_path, source, tmp_path / "two") == 0
    assert outputs_of(tmp_path / "two") == outputs_of(built)


def test_json_is_one_document_with_everything(built):
    said = json.loads((built.parent / "said.json").read_text())
    assert said["samples"] == sum(values["kept"] for values in said["datasets"].values())
    assert list(said["datasets"]) == ["one", "other"] and said["mixture"].endswith("two/mixture.json")


def test_trying_a_recipe_adds_up_what_its_datasets_come_to(source, tmp_path, capsys):
    assert build(tmp_path, source, tmp_path / "two", dry_run=True, json=True) == 0
    said = json.loads(capsys.readouterr().out)
    for name in ("triplets", "bytes"):
        assert said["total"][name]["about"] == sum(values[name]["about"] for values in said["datasets"].values()) > 0
    assert build(tmp_path, source, tmp_path / "two", dry_run=True) == 0
    assert f"all 2 datasets\n  triplets     {said['total']['triplets']['about']:.0f}\n" in capsys.readouterr().out
    assert not (tmp_path / "two").exists()


def test_a_folder_that_is_missing_is_said_before_any_work(source, tmp_path):
    with pytest.raises(UsageError, match=r"deep/elsewhere does not exist: put other there"):
        build(tmp_path, source, tmp_path / "two", TWO.replace("deep/other", "deep/elsewhere"))
    assert not (tmp_path / "two").exists()


def test_a_dataset_that_fails_keeps_the_others_from_nothing_and_there_is_no_mixture(source, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "one").symlink_to(source / "deep" / "other")
    (tmp_path / "in" / "deep" / "other").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "other" / "b_demo.hdf5").write_bytes(b"no file of this kind")
    with pytest.raises(Failed, match=r"1 of 2 datasets of .*recipe.yaml failed \(other: no triplet came out of"):
        build(tmp_path, tmp_path / "in", tmp_path / "two")
    assert read_manifest(tmp_path / "two" / "one").samples and not (tmp_path / "two" / "mixture.json").exists()


# The file


def member(name="a", folder="a", weight=None):
    return Member(name, folder, weight, "0" * 64, 1, 1, {"name": "x"})


def test_a_mixture_that_was_tampered_with_or_leads_out_is_refused(tmp_path):
    Mixture("m", (member(),)).write(tmp_path)
    path = tmp_path / "mixture.json"
    path.write_text(path.read_text().replace('"samples": 1', '"samples": 2'))
    with pytest.raises(BadManifest, match="is not what was written"):
        read_mixture(tmp_path)
    for folder in ("../x", "/etc"):
        Mixture("m", (member(folder=folder),)).write(tmp_path)
        with pytest.raises(BadManifest, match="leads out of"):
            read_mixture(tmp_path)
    path.write_text("{}")
    with pytest.raises(BadManifest, match="is no mixture: it lacks 'sha256'"):
        read_mixture(tmp_path)


def test_a_build_made_again_is_not_the_one_that_was_named(tmp_path):
    Mixture("m", (member(),)).write(tmp_path)
    (named,) = read_mixture(tmp_path).members
    with pytest.raises(BadManifest, match="the build of a has not finished; build the mixture again"):
        member_folder(tmp_path, named)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "manifest.json").write_text("{}")
    with pytest.raises(BadManifest, match=r"was built again after .*mixture.json was written"):
        member_folder(tmp_path / "mixture.json", named)


def test_names_and_weights_must_say_something():
    with pytest.raises(ValueError, match="need names of their own, found a, a"):
        Mixture("m", (member(), member(folder="b")))
    with pytest.raises(ValueError, match="either every dataset"):
        Mixture("m", (member(weight=1.0), member("b", "b")))
