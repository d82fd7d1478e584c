"""The card of a build that is published as a data set: what is in it, under which terms, and how to load it."""

import json
from typing import Any

from schemas.manifest import Manifest

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10**7, "1M<n<10M"))
SPDX = {
    "mit": "mit",
    "apache-2.0": "apache-2.0",
    "cc by 4.0": "cc-by-4.0",
    "cc-by-4.0": "cc-by-4.0",
    "cc by-nc 4.0": "cc-by-nc-4.0",
    "cc-by-nc-4.0": "cc-by-nc-4.0",
    "cc by-nc-sa 4.0": "cc-by-nc-sa-4.0",
    "cc-by-nc-sa-4.0": "cc-by-nc-sa-4.0",
    "cc0-1.0": "cc0-1.0",
}
"""The hub's names of licences; any other is ``other``, with the words of the manifest."""


def card(manifest: Manifest, repository: str, picture: str | None) -> str:
    """The text of ``README.md``, with the fields that the hub reads at its head.

    Args:
        repository: ``OWNER/NAME``.
        picture: name of the picture beside the card, if there is one.
    """
    return f"---\n{_head(manifest)}---\n\n{_body(manifest, repository, picture)}"


def _head(manifest: Manifest) -> str:
    """YAML; texts are written as JSON, which YAML reads too."""
    name = manifest.dataset.get("name", "")
    licence = SPDX.get(manifest.dataset.get("licence", "").lower(), "other")
    size = next((words for most, words in SIZES if manifest.samples < most), "n>10M")
    lines = [
        f"pretty_name: {json.dumps(f'{name}: observation, instruction, 3D scene flow', ensure_ascii=False)}",
        f"license: {licence}",
        *([f"license_name: {json.dumps(_slug(manifest))}"] if licence == "other" else []),
        "task_categories:",
        "- robotics",
        f"size_categories:\n- {size}",
        "tags:\n- webdataset\n- scene-flow\n- robotics\n- LaMP",
        "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: '*.tar'",
    ]
    return "\n".join(lines) + "\n"


def _slug(manifest: Manifest) -> str:
    words = "".join(c if c.isalnum() else "-" for c in manifest.dataset.get("licence", "").lower())
    return "-".join(filter(None, words.split("-"))) or "unknown"


def _body(manifest: Manifest, repository: str, picture: str | None) -> str:
    dataset, recipe, counts = manifest.dataset, manifest.recipe, manifest.counts
    windows = recipe.get("windows", {})
    rows = [
        ("source", f"{dataset.get('name', '?')} {dataset.get('version', '')}".strip()),
        ("credit", dataset.get("credit", "?")),
        ("samples", f"{manifest.samples:,}"),
        ("episodes", f"{counts.get('episodes', 0):,}"),
        ("frames", f"{counts.get('frames', 0):,}"),
        ("shards", f"{len(manifest.shards):,}, {sum(s.bytes for s in manifest.shards) / 1e6:,.1f} MB"),
        ("windows not kept", _counts(counts.get("rejected", {}))),
        ("episodes not used", _counts(counts.get("quarantined", {}))),
        (
            "keypoints and steps",
            f"{windows.get('grid', '?')} x {windows.get('grid', '?')}, {windows.get('horizon', '?')}",
        ),
        (
            "flow, depth, camera",
            ", ".join(_plugin(recipe.get(part)) for part in ("flow", "tracker", "depth", "camera")),
        ),
        ("recipe", f"`{manifest.recipe_digest}`"),
    ]
    table = "\n".join(f"| {name} | {_cell(said)} |" for name, said in rows)
    terms = "\n".join(f"- {name}: {_cell(said)}" for name, said in manifest.licences.items())
    names = [shard.name for shard in manifest.shards]
    urls = f"https://huggingface.co/datasets/{repository}/resolve/main/"
    return f"""# {dataset.get("name", "?")}: observation, instruction, 3D scene flow

Samples of robot episodes, made by the data pipeline of [LaMP](https://arxiv.org/abs/2603.25399): an image, the
instruction, and how every point of a grid moves in 3D over the steps that follow.
{f"{chr(10)}![samples]({picture}){chr(10)}" if picture else ""}
|  |  |
|---|---|
{table}

## Terms

The terms of the source and of every model that was used hold for these samples:

{terms or f"- {dataset.get('name', '?')}: {dataset.get('licence', 'unknown')}"}

## Loading

With LaMP, every sample's checksum verified:

```python
from lamp_model.shards import open_shards

shards = open_shards("hf://datasets/{repository}")
sample = shards[0]  # image, instruction, flow, flow_mask, positions, state, actions ...
```

`lamp-train --stage 1 --data hf://datasets/{repository}` trains on them. With plain webdataset:

```python
import webdataset

urls = [{json.dumps(urls)} + name for name in {json.dumps(names if len(names) <= 4 else [*names[:2], "..."])}]
for sample in webdataset.WebDataset(urls, shardshuffle=False):
    sample["__key__"], sample["image.jpg"]
```

`manifest.json` holds the SHA-256 of every file and the recipe; `episodes.jsonl` the outcome of every episode.
"""


def _counts(counts: dict[str, Any]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items()) or "none"


def _plugin(choice: Any) -> str:
    return str(choice.get("name", "?")) if isinstance(choice, dict) else str(choice or "?")


def _cell(said: str) -> str:
    """Text of a dataset in a table: on one line, without the table's own sign."""
    return " ".join(str(said).split()).replace("|", "\\|")
