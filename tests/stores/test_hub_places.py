"""``lamp-data push`` and ``hf://``: a data set that says what it is and that LaMP and plain webdataset load."""

import json
import os

import pytest
import yaml
from fixtures.hub_server import hub_server
from fixtures.shard import write_shards
from fixtures.typed import typed

from pipeline.inspection.card import card
from schemas.manifest import NAME, read_manifest

pytest.importorskip("huggingface_hub")
SET = "hf://datasets/lab/flow"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    import huggingface_hub.constants

    from schemas import stores

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    with hub_server() as running:
        own = {"HF_ENDPOINT": running.url, "HF_TOKEN": "token", "LAMP_CACHE": str(tmp_path / "cache")}
        for name, value in {**own, "LAMP_STORE_TRIES": "2", "NO_PROXY": "127.0.0.1"}.items():
            monkeypatch.setenv(name, value)
        stores._opened.cache_clear()
        yield running
        stores._opened.cache_clear()


def test_a_build_is_published_and_read_back(hub, tmp_path):
    folder = write_shards(tmp_path / "here", episodes=1, frames=2)
    code, _, err = typed("push", folder, SET, "--private")
    assert code == 0, err
    there = hub.sets["lab/flow"]
    assert hub.private["lab/flow"]
    assert {n: there[n] for n in there if n not in ("README.md", "samples.png")} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    assert NAME in hub.commits[-1] and not any(NAME in names for names in hub.commits[:-1]), "the manifest is the last"
    assert there["samples.png"].startswith(b"\x89PNG")

    commits = len(hub.commits)
    assert typed("push", folder, SET)[0] == 0
    assert not any(name.endswith(".tar") for names in hub.commits[commits:] for name in names), "it is there already"

    other = write_shards(tmp_path / "other", episodes=1, frames=1)
    code, _, err = typed("push", other, SET)
    assert code == 2 and "--overwrite" in err

    code, out, err = typed("inspect", SET, "--json")
    assert code == 0 and json.loads(out)["samples"] == 2, err
    assert os.listdir(tmp_path / "cache")


def test_a_data_set_that_is_not_there_is_a_sentence(hub, tmp_path):
    code, _, err = typed("inspect", "hf://datasets/lab/none")
    assert code == 2 and "hf://datasets/lab/none does not exist" in err and "Traceback" not in err


@pytest.mark.parametrize("command", ["inspect", "push"])
def test_a_hub_that_cannot_be_reached_is_a_sentence(monkeypatch, tmp_path, command):
    from schemas import stores

    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "token", "LAMP_STORE_TRIES": "2"}
    for name, value in nowhere.items():
        monkeypatch.setenv(name, value)
    stores._opened.cache_clear()
    given = [write_shards(tmp_path / "here", episodes=1, frames=1), SET] if command == "push" else [SET]
    code, _, err = typed(command, *given)
    stores._opened.cache_clear()
    assert code == 1 and f"{SET} failed 2 times, the last time with: " in err and "Traceback" not in err


def test_the_card_says_what_is_in_it_and_is_what_the_hub_reads(tmp_path):
    manifest = read_manifest(write_shards(tmp_path / "here"))
    text = card(manifest, "lab/flow", "samples.png")
    _, head, body = text.split("---\n", 2)
    fields = yaml.safe_load(head)
    assert fields["license"] == "cc0-1.0" and fields["configs"][0]["data_files"][0]["path"] == "*.tar"
    assert fields["task_categories"] == ["robotics"] and fields["size_categories"] == ["n<1K"]
    for words in (
        "| samples | 12 |",
        "| episodes | 3 |",
        manifest.recipe_digest,
        "samples.png",
        "hf://datasets/lab/flow",
    ):
        assert words in body


def test_words_of_a_dataset_cannot_break_the_card(tmp_path):
    from dataclasses import replace

    manifest = read_manifest(write_shards(tmp_path / "here", episodes=1, frames=1))
    dataset = {"name": 'x"\n---\nlicense: mit', "licence": "own | terms", "credit": "a | b\n\n# c"}
    text = card(replace(manifest, dataset=dataset), "lab/flow", None)
    fields = yaml.safe_load(text.split("---\n", 1)[1].split("\n---\n", 1)[0])
    assert fields["license"] == "other" and fields["license_name"] == "own-terms"
    assert "| credit | a \\| b # c |" in text
