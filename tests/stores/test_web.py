"""Folders of web servers: listed by their index pages, read by ranges, never written."""

import numpy as np
import pytest
from fixtures.object_server import store_folder
from fixtures.shard import write_shards
from fixtures.typed import typed

from lamp_model.shards import open_shards
from schemas.errors import StoreFailed
from schemas.locations import locate

pytest.importorskip("obstore")


def test_a_folder_is_what_its_pages_link_to(server):
    for name in ("a b/x.txt", "a b/sub/y.txt", "z.txt"):
        server.objects[f"site/{name}"], server.modified[f"site/{name}"] = name.encode(), 1e9
    root = locate(f"{server.url}/site")
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == ["a b/sub/y.txt", "a b/x.txt", "z.txt"]
    assert [path.name for path in (root / "a b").iterdir()] == ["sub", "x.txt"]
    assert (root / "a b/x.txt").read_bytes() == b"a b/x.txt" and (root / "z.txt").stat().st_size == 5
    assert not (root / "none").exists()
    with pytest.raises(StoreFailed, match="only read"):
        (root / "z.txt").put(b"new")


def test_shards_of_a_web_server_are_read_and_copied(server, tmp_path):
    folder = write_shards(tmp_path / "here", 2, 2)
    store_folder(server, "site/shards", folder)
    url = f"{server.url}/site/shards"
    here, there = open_shards(folder), open_shards(url)
    assert np.array_equal(here[3]["flow"], there[3]["flow"])
    assert typed("copy", url, tmp_path / "copy")[0] == 0
    assert (tmp_path / "copy/manifest.json").read_bytes() == (folder / "manifest.json").read_bytes()
    code, _, err = typed("copy", folder, f"{server.url}/site/other")
    assert code == 2 and "cannot be written" in err
