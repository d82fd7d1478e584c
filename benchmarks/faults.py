"""Whether anything is lost when processes and whole nodes are killed during builds, and whether damage is found.

    python benchmarks/faults.py [--kills 200] [--flips 1000] [--poison] [--results faults.json] [--place local]

``--kills``: builds run on three nodes of Ray on this machine. Driver, workers, packers, node daemons (raylets) and
whole nodes are killed (SIGKILL) at random moments, and the same command goes on until it ends well. Every output is
compared with that of a build that nothing disturbed. ``--flips``: single bits of shards, indexes and manifests are
turned, and ``lamp-data inspect`` has to name the file. ``--poison``: an episode kills every worker that touches it.

Counts are kept in the file of results and added up, so that an interrupted run goes on from there.
"""

import argparse
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from faults_cluster import KINDS, TestCluster
from faults_damage import flip_bits, poison
from faults_places import PLACES, Place, digests_of
from machine import describe

SHIPPED = Path(__file__).parents[1] / "data" / "libero" / "libero_object"
EPISODE_KILLS = (*("worker",) * 9, *("driver",) * 5, *("raylet",) * 3, *("node",) * 2, "head")
"""Kinds of kills while episodes are made, drawn at random; a head's end takes the cluster with it."""
SHARD_KILLS = (*("packer",) * 6, *("driver",) * 2, "raylet", "node")
"""The same while shards are packed."""
LONGEST_S = 900.0
"""Seconds without a new episode or shard after which a driver is taken to hang."""


@dataclass
class Results:
    """What has been counted so far; see the fields' names.

    Attributes:
        kills: by kind and place, such as ``worker, local``.
        resume_s: seconds from the start of a driver that resumes to its first new episode or shard.
        given_up: builds that ended with an episode quarantined, since it lost its worker three times; the same command
            then tries it again.
        unexpected: messages of drivers that ended as they should not.
    """

    builds: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    samples_compared: int = 0
    lost: int = 0
    duplicated: int = 0
    different_files: int = 0
    partial_files: int = 0
    given_up: int = 0
    unexpected: list[str] = field(default_factory=list)
    resume_s: list[float] = field(default_factory=list)
    flips: dict[str, int] = field(default_factory=dict)
    flips_missed: list[str] = field(default_factory=list)
    poison: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Results":
        """Those of earlier runs."""
        return cls(**json.loads(path.read_text())) if path.exists() else cls()

    def write(self, path: Path) -> None:
        """Keep them."""
        aside = path.with_suffix(".partial")
        aside.write_text(json.dumps(asdict(self), indent=1) + "\n")
        aside.replace(path)

    def count(self, kind: str, place: str) -> None:
        """Count a kill."""
        name = f"{kind}, {place}"
        self.kills[name] = self.kills.get(name, 0) + 1

    def killed(self, place: str) -> int:
        """Kills in builds into a place."""
        return sum(count for name, count in self.kills.items() if name.endswith(f", {place}"))


def write_source(folder: Path, files: int) -> Path:
    """A dataset of so many files of two episodes each, copies of the shipped one."""
    shipped = next(SHIPPED.glob("*_demo.hdf5"))
    folder.mkdir(parents=True)
    for number in range(files):
        shutil.copy(shipped, folder / f"task_{number:02d}_demo.hdf5")
    return folder


def words_for(source: Path, output: str) -> list[str]:
    """The command line of the build."""
    words = ["build", "--dataset", "libero", "--input", str(source), "--output", output, "--samples-per-shard", "2"]
    return [*words, "--stride", "8", "--grid", "10", "--quiet"]


def planned(rng: random.Random) -> list[tuple[str, str]]:
    """Stage and kind of the kills of one build."""
    early = [("episodes", rng.choice(EPISODE_KILLS)) for _ in range(rng.randint(3, 8))]
    return early + [("shards", rng.choice(SHARD_KILLS)) for _ in range(rng.randint(1, 4))]


def disturbed_build(
    cluster: TestCluster,
    place: Place,
    words: list[str],
    plan: list[tuple[str, str]],
    rng: random.Random,
    found: Results,
) -> None:
    """Run a build to its end, and carry out the plan on the way; what ends otherwise than it should is noted."""
    resumed = False
    while True:
        begun = moved = time.monotonic()
        seen = before = first = place.finished_tasks()
        driver = cluster.start_driver(words)
        while driver.poll() is None:
            if (tasks := place.finished_tasks()) != seen:
                seen, moved = tasks, time.monotonic()
            if resumed and first == before and first != seen:
                first = seen
                found.resume_s.append(round(moved - begun, 2))
            if time.monotonic() - moved > LONGEST_S:
                found.unexpected.append(f"the driver hung for {LONGEST_S:g} s in stage {place.stage()}")
                driver.kill()
            if plan and seen != before and place.stage() == plan[0][0]:
                stage, kind = plan[0]
                time.sleep(rng.uniform(0, 1.5 if stage == "episodes" else 0.6))
                if place.stage() == stage and cluster.kill(kind, driver, rng):
                    found.count(kind, place.name)
                    print(f"killed: {kind}, in stage {stage}", flush=True)
                    plan.pop(0)
                    before = place.finished_tasks()
            elif plan and plan[0][0] == "episodes" and place.stage() == "shards":
                plan.pop(0)  # the build was quicker than the plan
            time.sleep(0.1)
        said = driver.communicate()[1].strip().splitlines()
        given_up = any("were quarantined" in line for line in said)
        found.given_up += given_up
        found.partial_files += len(place.half_written(driver.returncode == 0 or given_up))
        if driver.returncode == 0:
            return
        excused = (
            driver.returncode == -9
            or given_up
            or any("is lost" in line or "no Ray cluster answers" in line for line in said)
        )
        if not excused:
            found.unexpected.append(f"exit code {driver.returncode}: {said[-1] if said else ''}")
        cluster.mend()
        resumed = True


def compare(place: Place, wanted: dict[str, str], keys: Counter[str], found: Results) -> None:
    """Compare an output with that of the build that nothing disturbed."""
    there, samples = place.digests(), place.keys()
    found.builds += 1
    found.samples_compared += sum(samples.values())
    found.lost += sum((keys - samples).values())
    found.duplicated += sum((samples - keys).values())
    found.different_files += sum(there.get(name) != digest for name, digest in wanted.items())
    found.different_files += len(there.keys() - wanted.keys())


def run_kills(args: argparse.Namespace) -> None:
    """Disturb builds until so many kills in that place have been counted."""
    kills, place_name, path = args.kills, args.place, args.results
    found = Results.read(path)
    rng = random.Random(f"{found.killed(place_name)} {place_name}")
    with tempfile.TemporaryDirectory(prefix="lf", dir="/tmp") as folder:
        source = write_source(Path(folder) / "in", args.files)
        cluster, place = TestCluster(Path(folder), args.nodes), PLACES[place_name](Path(folder), args.moto)
        with place, cluster:  # in this order: nodes inherit the place's environment
            reference = Path(folder) / "wanted"
            cluster.undisturbed(words_for(source, str(reference)))
            wanted, keys = digests_of(reference)
            while found.killed(place_name) < kills:
                place.begin()
                cluster.environment |= place.environment
                plan = [(stage, kind) for stage, _, kind in (one.partition(":") for one in args.plan)] or planned(rng)
                disturbed_build(cluster, place, words_for(source, place.output), plan, rng, found)
                compare(place, wanted, keys, found)
                found.write(path)
                print(summary(found), flush=True)


def summary(found: Results) -> str:
    """The counts on one line."""
    by_kind: Counter[str] = Counter()
    for name, count in found.kills.items():
        by_kind[name.partition(",")[0]] += count
    middle = sorted(found.resume_s)[len(found.resume_s) // 2] if found.resume_s else float("nan")
    kinds = ", ".join(f"{by_kind[kind]} {kind}" for kind in KINDS if by_kind[kind])
    return (
        f"{found.builds} builds, {sum(by_kind.values())} kills ({kinds}): {found.lost} lost, {found.duplicated} "
        f"duplicated, {found.different_files} files different, {found.partial_files} half-written, "
        f"{found.given_up} builds with an episode given up at first, "
        f"{len(found.unexpected)} unexpected ends; resumed in {middle:.1f} s (median of {len(found.resume_s)}); "
        f"flips: {sum(found.flips.values())}, missed: {len(found.flips_missed)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--flips", type=int, default=0)
    parser.add_argument("--poison", action="store_true")
    parser.add_argument("--place", choices=list(PLACES), default="local")
    parser.add_argument("--moto", metavar="PYTHON", help="a Python with moto[server], for --place s3")
    parser.add_argument("--files", type=int, default=8, help="files of two episodes each")
    parser.add_argument("--nodes", type=int, default=3, help="of Ray; 0 for builds without Ray, whose driver is killed")
    parser.add_argument(
        "--plan", nargs="*", default=[], help="kills of each build, such as episodes:node shards:packer"
    )
    parser.add_argument("--results", type=Path, default=Path("faults.json"))
    args = parser.parse_args()
    print(describe())
    if args.kills:
        run_kills(args)
    found = Results.read(args.results)
    with tempfile.TemporaryDirectory(prefix="lf", dir="/tmp") as folder:
        if args.flips or args.poison:
            source = write_source(Path(folder) / "in", 2)
            if args.flips:
                flip_bits(source, Path(folder), args.flips, found.flips, found.flips_missed)
                found.write(args.results)
            if args.poison:
                found.poison = poison(source, Path(folder))
                found.write(args.results)
    print(summary(found), found.poison)


if __name__ == "__main__":
    main()
