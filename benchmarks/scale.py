"""How listing, resuming and packing scale: 100,000 episodes and 1.6 million windows, generated.

    python benchmarks/scale.py [--episodes 100000] [--windows 16] [--done 0 0.5 1] [--folder FOLDER]

The listing is real: so many episodes in LIBERO's HDF5 files, links to one file of 50 tiny episodes. Finished episodes
are generated in the build's store, as it would have written them. Each measurement runs in a process of its own, and
ends when the first new episode would be given to a worker, or the first shard where all episodes are finished. Then
what a build does after its last shard is measured: the statistics over all episodes.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe

from pipeline.build.episode_store import (
    EpisodeReport,
    MadeEpisode,
    episode_key,
    rows_of,
    stored_keys,
    stored_reports,
    write_episode,
)
from pipeline.build.episode_values import values_bytes
from pipeline.build.listing import list_chosen
from pipeline.build.run import ShardConfig, build
from pipeline.build.selection import EVERYTHING
from pipeline.build.statistics import dataset_statistics
from pipeline.build.work_folder import EPISODE_STORE, WORK
from pipeline.recipe import Recipe
from schemas.episode import EpisodeRef
from schemas.plugins import PluginChoice
from schemas.shard_formats import webdataset
from schemas.triplet import triplet_key

RECIPE = Recipe(PluginChoice("libero"))
IN_A_FILE = 50
FRAMES = 80
PER_FOLDER = 100


class Reached(Exception):
    """The moment that is measured has come."""


class StopsAtEpisodes:
    """An executor that ends the build at the first task."""

    def run(self, make_worker: Any, tasks: Any, **options: Any) -> Generator[Any, None, None]:
        """See ``pipeline.build.executor.Executor.run``."""
        raise Reached(f"{len(tasks)} tasks")
        yield


def write_listing(folder: Path, episodes: int) -> None:
    """Files of ``IN_A_FILE`` episodes each, with a hundred in a folder; all are links to one."""
    import h5py

    first = folder / "first_demo.hdf5"
    folder.mkdir(parents=True)
    with h5py.File(first, "w") as file:
        data = file.create_group("data")
        data.attrs["problem_info"] = json.dumps({"language_instruction": "put the bowl on the plate"})
        data.attrs["env_name"] = "Libero_Floor_Manipulation"
        for number in range(IN_A_FILE):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = FRAMES
            demo["actions"], demo["states"] = np.zeros((FRAMES, 7)), np.zeros((FRAMES, 10))
            demo.create_group("obs")["agentview_rgb"] = np.zeros((1, 8, 8, 3), np.uint8)
    for number in range(1, episodes // IN_A_FILE):
        below = folder / f"suite_{number // PER_FOLDER:03d}"
        below.mkdir(exist_ok=True)
        os.link(first, below / f"task_{number:06d}_demo.hdf5")


def made_episode(ref: EpisodeRef, windows: int) -> MadeEpisode:
    """A finished episode whose samples are a few bytes; everything that the driver reads is as in a real one."""
    keys = [triplet_key(ref.digest, "agentview", 5 * n) for n in range(windows)]
    regions = [(key, ref.digest, webdataset.pack_sample(key, {"x": b"x"})) for key in keys]
    values = values_bytes({name: np.ones((FRAMES, 8), np.float32) for name in ("state", "action", "standard_action")})
    named = {"dimensions": [f"d{n}" for n in range(8)]}
    report = EpisodeReport(
        key=episode_key(RECIPE, ref),
        ref={"dataset": ref.dataset, "source": ref.source, "episode": ref.episode},
        episode=ref.digest,
        frames=FRAMES,
        instructions=["put the bowl on the plate"],
        success=True,
        rejected_windows=[("agentview", FRAMES - 5 * n, "too_short", float(n)) for n in range(3)],
        rows=rows_of(regions),
        embodiment={"state": named, **{k: {**named, "convention": "osc"} for k in ("action", "standard_action")}},
        value_bytes=len(values),
    )
    return MadeEpisode(report, regions, values)


def finish(output: Path, refs: list[EpisodeRef], share: float, windows: int) -> None:
    """Generate the finished episodes of a share of a build, those that are there already apart."""
    sync, os.fsync = os.fsync, lambda descriptor: None  # a benchmark's files need not outlive a power cut
    folder = output / WORK / EPISODE_STORE
    there = stored_keys(folder)
    for ref in refs[: round(share * len(refs))]:
        if episode_key(RECIPE, ref) not in there:
            write_episode(folder, made_episode(ref, windows))
    os.fsync = sync


def peak_bytes() -> int:
    """The largest memory of this process."""
    return int(re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[0]) * 1024


def measured(source: Path, output: Path) -> dict[str, Any]:
    """Seconds and bytes until the first new task would be given to a worker."""
    wall, cpu = time.perf_counter(), time.process_time()
    reached = "nothing was left to do"
    try:
        build(RECIPE, source, output, ShardConfig(), StopsAtEpisodes(), lambda title, total, items: items)
    except Reached as error:
        reached = str(error)
    return {
        "wall_s": round(time.perf_counter() - wall, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
        "peak_MB": round(peak_bytes() / 1e6),
        "reached": reached,
    }


def apart(function: str, *arguments: Any) -> dict[str, Any]:
    """A function of this module in a process of its own, which imports everything anew."""
    code = f"import json, scale; from pathlib import Path; print(json.dumps(scale.{function}(*{arguments!r})))"
    code = code.replace("PosixPath", "Path")
    ran = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(ran.stderr)
    return json.loads(ran.stdout.splitlines()[-1])


def listed(source: Path) -> dict[str, Any]:
    """Seconds and bytes of listing alone."""
    wall, cpu = time.perf_counter(), time.process_time()
    count = len(list_chosen(RECIPE, source, EVERYTHING).chosen.refs)
    seconds = {"wall_s": round(time.perf_counter() - wall, 1), "cpu_s": round(time.process_time() - cpu, 1)}
    return {**seconds, "peak_MB": round(peak_bytes() / 1e6), "episodes": count}


def summed_up(output: Path) -> dict[str, Any]:
    """Seconds and bytes of the statistics over all finished episodes."""
    store = output / WORK / EPISODE_STORE
    reports = [report for report in stored_reports(store, sorted(stored_keys(store))).values() if report]
    wall, cpu = time.perf_counter(), time.process_time()
    dataset_statistics(reports, store)
    seconds = {"wall_s": round(time.perf_counter() - wall, 1), "cpu_s": round(time.process_time() - cpu, 1)}
    return {**seconds, "peak_MB": round(peak_bytes() / 1e6), "episodes": len(reports)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=100_000)
    parser.add_argument("--windows", type=int, default=16, help="of each episode")
    parser.add_argument("--done", type=float, nargs="+", default=[0.0, 0.5, 1.0], help="shares that are finished")
    parser.add_argument("--folder", type=Path, help="keep the generated files here, for another run")
    args = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory(prefix="lamp-scale") as temporary:
        folder = args.folder or Path(temporary)
        source, output = folder / "in", folder / "out"
        if not source.is_dir():
            write_listing(source, args.episodes)
        print("listing", apart("listed", source), flush=True)
        refs = list_chosen(RECIPE, source, EVERYTHING).chosen.refs
        for share in sorted(args.done):
            finish(output, refs, share, args.windows)
            print(f"{share:.0%} finished", apart("measured", source, output), flush=True)
        print("statistics", apart("summed_up", output), flush=True)


if __name__ == "__main__":
    main()
