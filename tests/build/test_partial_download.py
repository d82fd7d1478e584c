"""Some episodes of a LeRobot dataset, as a download of a part leaves them: they are built, chosen and looked at."""

import contextlib
import io
import json
import sys
from unittest.mock import patch

import pytest
import yaml
from build.test_bad_datasets import MAPPING, WORDS, build, spoil, write_set

from jobs.lamp_data import main
from pipeline.inspection_datasets.keys import dataset_keys, draft_mapping
from schemas.manifest import EPISODES, NAME


@pytest.fixture
def partial(tmp_path):
    """Episodes 2 and 4 of five."""
    write_set(tmp_path / "data/set", 5)
    for number in (0, 1, 3):
        spoil(tmp_path / "data/set", number, "missing")
        (tmp_path / f"data/set/data/chunk-000/episode_{number:06d}.parquet").unlink()
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(MAPPING))
    return tmp_path


def failed(root, *words):
    """What a build says that fails."""
    told = io.StringIO()
    typed = ["lamp-data", "build", "--input", "data", "--output", "out", "--dataset", "my.yaml", *words, *WORDS]
    with (
        contextlib.chdir(root),
        contextlib.redirect_stderr(told),
        contextlib.redirect_stdout(io.StringIO()),
        patch.object(sys, "argv", typed),
        pytest.raises(SystemExit) as end,
    ):
        main()
    assert end.value.code == 1
    return told.getvalue()


def lines_of(root):
    return [json.loads(line) for line in (root / "out" / EPISODES).read_bytes().splitlines()]


def test_episodes_that_are_there_are_built_and_chosen_among(partial):
    summary = build(partial, "--dataset", "my.yaml", "--episodes", "1", "episode_000002")
    assert summary["episodes"] == 2 and summary["quarantined"] == [] and summary["kept"] > 0
    assert {line["episode"] for line in lines_of(partial)} == {"episode_000002", "episode_000004"}
    summary = build(partial, "--dataset", "my.yaml")
    assert summary["episodes"] == 2 and [q["code"] for q in summary["quarantined"]] == ["missing_file"] * 3


def test_what_is_wrong_with_files_that_are_there_is_said_first_and_every_reason_is_kept(partial):
    for number in (2, 4):
        spoil(partial / "data/set", number, "corrupt")
    told = failed(partial)
    assert "5 quarantined (2 bad_video, 3 missing_file), the first because " in told and "cannot be decoded" in told
    assert f"{partial}/out/{EPISODES} names every episode with its reason" in told
    found = [line["quarantined"] for line in lines_of(partial)]
    assert sorted(q["code"] for q in found) == ["bad_video"] * 2 + ["missing_file"] * 3


def test_a_finished_builds_list_outlives_a_failed_one(partial):
    build(partial, "--dataset", "my.yaml")
    before = (partial / "out" / EPISODES).read_bytes()
    for number in (2, 4):
        spoil(partial / "data/set", number, "corrupt")
    assert EPISODES not in failed(partial)
    assert (partial / "out" / EPISODES).read_bytes() == before and (partial / "out" / NAME).is_file()


def test_a_draft_is_made_from_an_episode_that_is_there(partial):
    (keys,) = dataset_keys(partial / "data")
    assert {key.key: key.kind for key in keys.keys}["front"] == "camera"
    assert "primary: front" in draft_mapping(keys)
