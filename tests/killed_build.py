"""Builds that die in the middle of writing: run as a script by test_build.py, in a process of its own.

Every attempt is a fork whose n-th step of writing ends the process at once, as a power cut would: half a ``write``, before an
``fsync``, before or after a rename, before a file is deleted. After each death the folder is looked at, then the next attempt
goes on from there until one comes through. Prints one JSON object.
"""

import json
import os
import random
import sys
from pathlib import Path

from libero_fixture import fast_recipe, outputs_of

import schemas.files
from jobs.executors.local import LocalExecutor
from pipeline.build import ShardConfig, build
from schemas.manifest import NAME
from schemas.shard_formats import shard_digests
from schemas.shard_set import ShardSet

DIED = 99


class Countdown:
    """Ends the process at the n-th step."""

    def __init__(self, steps: int):
        self.left = steps

    def reached(self) -> bool:
        self.left -= 1
        return self.left == 0

    def step(self, function):
        """The function, before or after which the process may end."""

        def counted(*args, **options):
            if self.reached():
                os._exit(DIED)
            result = function(*args, **options)
            if self.reached():
                os._exit(DIED)
            return result

        return counted

    def open(self, path, mode="r", *args):
        """A file of which a write may be cut in half."""
        file = Path(path).open(mode, *args)  # noqa: SIM115
        return Halving(file, self) if "w" in mode else file


class Halving:
    """A file that writes half and ends the process when it is time."""

    def __init__(self, file, countdown: Countdown):
        self.file, self.countdown = file, countdown

    def write(self, data):
        if self.countdown.reached():
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            os._exit(DIED)
        return self.file.write(data)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)


def attempt(source: Path, output: Path, config: ShardConfig, steps: int | None) -> bool:
    """Build in a fork that dies at a step; whether it came through."""
    child = os.fork()
    if child == 0:
        if steps is not None:
            countdown = Countdown(steps)
            schemas.files.open = countdown.open  # type: ignore[attr-defined]
            for name in ("replace", "fsync", "unlink", "rmdir"):
                setattr(os, name, countdown.step(getattr(os, name)))
        build(fast_recipe(), source, output, config, LocalExecutor(), lambda title, total, items: items)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, DIED), status
    return status == 0


def look(output: Path, builds: list[dict[str, str]]) -> str | None:
    """What is wrong with the folder as the death left it."""
    for name, digest in outputs_of(output).items():
        if ".partial" not in name and all(known.get(name) != digest for known in builds):
            return f"{name} stands under its name and is of no build"
    if (output / NAME).exists():
        shards = ShardSet(output)
        for number in range(len(shards)):
            shards.read(number)
        for entry in shards.manifest.shards:
            if shard_digests(output / entry.name) != (entry.sha256, entry.index_sha256):
                return f"{entry.name} is not what the manifest names"
        shards.close()
    return None


def main(source: Path, work: Path, format_name: str, seeds: list[int], most: int) -> None:
    """Chains of deaths, into an empty folder and over a finished other build."""
    wanted = ShardConfig(format_name, samples_per_shard=2, seed=0)
    other = ShardConfig(format_name, samples_per_shard=1, seed=7)
    assert attempt(source, work / "wanted", wanted, None) and attempt(source, work / "other", other, None)
    builds = [outputs_of(work / name) for name in ("wanted", "other")]
    deaths, wrong = 0, []
    for seed in seeds:
        rng, longest = random.Random(seed), most
        output = work / f"killed-{seed}"
        if seed % 2:
            attempt(source, output, other, None)
        while not attempt(source, output, wanted, rng.randint(1, longest)):
            deaths += 1
            longest += most // 10  # else a shard of many files might never be done
            if (fault := look(output, builds)) is not None:
                wrong.append(f"seed {seed}, death {deaths}: {fault}")
        if outputs_of(output) != builds[0]:
            wrong.append(f"seed {seed}: the result differs from an uninterrupted build")
        if list(output.rglob("*.partial")):
            wrong.append(f"seed {seed}: something half-written was left")
    print(json.dumps({"deaths": deaths, "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], [int(s) for s in sys.argv[4].split(",")], int(sys.argv[5]))
