"""Nodes of Ray's own cluster that die: the short version of ``benchmarks/faults.py``, in which a node and a packer are
killed in one build, and a node that dies with a task.
"""

import json
import os
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


ONE_NODE_DIES = """
import os, signal, sys, tempfile, time
from pathlib import Path

from faults_cluster import TestCluster
from jobs.executors import ray as ray_executor

folder = Path(sys.argv[1])


def make():
    def work(task):
        import ray

        if ray.get_runtime_context().get_node_id() == head:
            while not (folder / "killed").exists():
                time.sleep(0.05)
        elif not (folder / "killed").exists():
            (folder / "killed").touch()
            os.kill(os.getppid(), signal.SIGKILL)  # the node's daemon
            os.kill(os.getpid(), signal.SIGKILL)
        return task

    return work


with tempfile.TemporaryDirectory(prefix="lf", dir="/tmp") as short, TestCluster(Path(short), 2) as cluster:
    head = cluster.cluster.head_node.node_id
    config = ray_executor.Config(address=cluster.cluster.address, workers=2, attempts=1, wait=60)
    print(sorted(ray_executor.build(config).run(make, [0, 1])))
"""


def test_a_task_is_not_blamed_for_the_loss_of_its_node(tmp_path):
    """A single attempt would be used up by a worker's own death."""
    command = [sys.executable, "-c", ONE_NODE_DIES, tmp_path]
    benchmarks = f"{ROOT / 'benchmarks'}{os.pathsep}{ENVIRONMENT['PYTHONPATH']}"
    place = {**ENVIRONMENT, "PYTHONPATH": benchmarks}
    ran = subprocess.run(command, env=place, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (tmp_path / "killed").exists(), ran.stderr
    assert ran.stdout.splitlines()[-1] == "[(0, 0), (1, 1)]", ran.stdout + ran.stderr
