"""The short version of ``benchmarks/faults.py``: a node and a packer are killed in one build on Ray's own cluster."""

import json
import subprocess
import sys

from fixtures.command import ENVIRONMENT, ROOT


def test_a_lost_node_and_a_killed_packer_lose_and_duplicate_nothing(tmp_path):
    words = ["--kills", "2", "--nodes", "2", "--files", "3", "--plan", "episodes:node", "shards:packer"]
    command = [sys.executable, ROOT / "benchmarks" / "faults.py", *words, "--results", tmp_path / "found.json"]
    ran = subprocess.run(command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert ran.returncode == 0, ran.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert sum(found["kills"].values()) >= 2 and found["samples_compared"] >= 30
    assert (found["lost"], found["duplicated"], found["different_files"], found["partial_files"]) == (0, 0, 0, 0)
    assert found["unexpected"] == []
