"""A finished or begun build is never replaced unasked; going on with one and adding to it need no word."""

import json
import shutil

import pytest
from fixtures.command import lamp_data, said
from fixtures.libero import FAST, Demo, fast_recipe, outputs_of, write_file

from jobs.executors.local import LocalExecutor
from pipeline.build.replacing import WouldReplace
from pipeline.build.run import ShardConfig, build
from pipeline.build.selection import Selection
from pipeline.build.work_folder import WORK
from schemas.manifest import NAME
from schemas.plugins import PluginChoice


def run(source, output, shards=ShardConfig(), recipe=None, selection=Selection(), **options):  # noqa: B008
    return build(
        recipe or fast_recipe(), source, output, shards, LocalExecutor(), lambda *a: a[2], selection, **options
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("libero")
    write_file(folder / "a_demo.hdf5", [Demo(0), Demo(1, 0, 14)])
    write_file(folder / "b_demo.hdf5", [Demo(0, 1, 14)])
    return folder


@pytest.fixture(scope="module")
def finished(source, tmp_path_factory):
    output = tmp_path_factory.mktemp("finished") / "out"
    run(source, output)
    return output


@pytest.fixture
def output(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "out")


OTHERS = [
    ({"recipe": fast_recipe(jpeg_quality=80)}, r"--jpeg-quality: was 95, is 80"),
    ({"recipe": fast_recipe(cameras=("all",))}, r"--cameras: was primary, is all"),
    ({"shards": ShardConfig("zarr")}, r"--format: was webdataset, is zarr"),
    ({"shards": ShardConfig(samples_per_shard=3)}, r"--samples-per-shard: was 2048, is 3"),
    ({"shards": ShardConfig(seed=5)}, r"--seed: was 0, is 5"),
    ({"selection": Selection(limit=1)}, r"--limit: was not set, is 1; 2 of its 3 episodes would go"),
]


@pytest.mark.parametrize(("options", "says"), OTHERS, ids=lambda v: None if isinstance(v, dict) else v)
def test_another_recipe_layout_or_choice_is_refused_and_both_are_named(source, output, options, says):
    before = outputs_of(output)
    with pytest.raises(WouldReplace, match=rf"holds a finished build .*{says}.*--overwrite"):
        run(source, output, **options)
    assert outputs_of(output) == before
    run(source, output, **options, overwrite=True)
    assert outputs_of(output) != before


def test_another_folder_with_other_episodes_is_refused_and_one_with_all_of_them_and_more_is_not(
    source, output, tmp_path
):
    write_file(tmp_path / "other/c_demo.hdf5", [Demo(0)])
    with pytest.raises(WouldReplace, match=rf"--input: was {source}, is {tmp_path / 'other'}; 3 of its 3 episodes"):
        run(tmp_path / "other", output)
    more = shutil.copytree(source, tmp_path / "more")
    write_file(more / "c_demo.hdf5", [Demo(3, 1)])
    assert run(more, output).episodes == 4


def test_more_episodes_by_a_wider_choice_are_a_continuation(source, finished, tmp_path):
    run(source, tmp_path / "out", selection=Selection(limit=1))
    run(source, tmp_path / "out")
    assert outputs_of(tmp_path / "out") == outputs_of(finished)


def test_a_begun_build_of_another_recipe_is_refused_and_the_same_one_goes_on(source, finished, tmp_path):
    def ends(title, total, results):
        for number, result in enumerate(results):
            if number == 1:
                raise KeyboardInterrupt
            yield result

    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        build(fast_recipe(), source, output, ShardConfig(), LocalExecutor(), ends)
    with pytest.raises(WouldReplace, match=r"holds an unfinished build .*--jpeg-quality: was 95, is 80"):
        run(source, output, recipe=fast_recipe(jpeg_quality=80))
    assert run(source, output).made == 1
    assert outputs_of(output) == outputs_of(finished)


def test_a_damaged_manifest_is_no_reason_to_forget_what_was_begun(source, output):
    (output / NAME).write_text("{")
    with pytest.raises(WouldReplace, match="--seed: was 0, is 5"):
        run(source, output, ShardConfig(seed=5))
    (output / WORK / "begun.json").unlink()
    assert run(source, output, ShardConfig(seed=5)).kept


def test_a_file_that_cannot_be_read_any_more_does_not_shrink_a_finished_build(source, output, tmp_path):
    own = shutil.copytree(source, tmp_path / "own")
    (own / "b_demo.hdf5").write_text("no longer")
    with pytest.raises(WouldReplace, match=r"1 of its 3 episodes would go, b_demo.hdf5 is no file of demonstrations"):
        run(own, output)


def test_a_build_that_could_not_start_is_none_that_was_begun(source, tmp_path):
    from pipeline.errors import BuildError

    with pytest.raises(BuildError):
        run(source, tmp_path / "out", recipe=fast_recipe(tracker=PluginChoice("cotracker3", {"repo": "nowhere"})))
    assert run(source, tmp_path / "out").kept


def test_the_command_refuses_with_code_2_and_a_dry_run_says_so(source, tmp_path):
    shutil.copytree(source, tmp_path / "data/libero")
    words = ("build", "--dataset", "libero", *FAST, "--executor", "local")
    assert lamp_data(*words, folder=tmp_path).returncode == 0
    before = outputs_of(tmp_path / "shards")
    refused = lamp_data(*words, "--stride", "3", folder=tmp_path)
    assert refused.returncode == 2 and "--stride: was 4, is 3" in said(refused)
    tried = lamp_data(*words, "--stride", "3", "--dry-run", "--json", folder=tmp_path)
    assert tried.returncode == 0 and "--stride: was 4, is 3" in json.loads(tried.stdout)["refused"]
    assert outputs_of(tmp_path / "shards") == before
    assert lamp_data(*words, "--stride", "3", "--overwrite", folder=tmp_path).returncode == 0
    assert outputs_of(tmp_path / "shards") != before
