"""The figures of docs/flow-accuracy.md: every combination that runs without downloads, against exact flow, as Markdown.

python benchmarks/flow_accuracy.py [--input FOLDER] [--robosuite DIR --libero-assets DIR --replay FOLDER]

The rigid world and the shipped episodes need nothing. With the last three, LIBERO episodes below FOLDER are replayed by the simulator at
256 x 256 (docs/simulator.md).
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

from machine import describe

from pipeline.evaluation.report import as_markdown
from pipeline.evaluation.run import Evaluation, ReplayConfig, choices, evaluate, exact_episodes
from pipeline.evaluation.truth import ExactEpisode
from pipeline.quality import QualityConfig
from schemas.episode import BadEpisode
from schemas.plugins import PluginChoice

TRACKERS = ("lk", "dis", "dis:preset=ultrafast")
CURVE = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Factors on the trust thresholds that bound motion in metres."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, default=Path("data/libero"))
    parser.add_argument("--replay", type=Path)
    parser.add_argument("--robosuite", type=Path)
    parser.add_argument("--libero-assets", type=Path)
    args = parser.parse_args()
    replay = ReplayConfig(args.robosuite, args.libero_assets)
    print(describe())
    truths = [
        ("rigid-world", args.input),
        ("files", args.input),
        *([("simulator", args.replay)] if args.replay else []),
    ]
    for truth, folder in truths:
        episodes = list(exact_episodes(truth, folder, None, replay))
        print(f"\n## {truth}\n")
        print(as_markdown(combinations(truth, episodes)))
        print(f"Trading coverage for error on {truth}, lk:\n")
        print(curve(truth, episodes))


def combinations(truth: str, episodes: Iterable[ExactEpisode | BadEpisode]) -> list[Evaluation]:
    """Every tracker with recorded depth and poses, with and without the tests of tracks; estimated poses; and clouds registered."""
    recorded = {
        "tracker": [PluginChoice.parse(t) for t in TRACKERS],
        "depth": [PluginChoice("recorded")],
        "camera": [PluginChoice("recorded")],
    }
    estimated = {**recorded, "tracker": [PluginChoice("lk")], "camera": [PluginChoice("estimated")]}
    tracked = PluginChoice("tracked")
    flows = [tracked, PluginChoice("tracked", {"test": False})]
    sources = [*choices(flows, recorded), *choices([tracked], estimated), *choices([PluginChoice("icp")], recorded)]
    return evaluate(truth, episodes, sources, QualityConfig())


def curve(truth: str, episodes: Iterable[ExactEpisode | BadEpisode]) -> str:
    """Moving points kept, and how wrong they are, as the bounds on their motion loosen."""
    flows = [
        PluginChoice("tracked", {"stretch": 0.008 * f, "agree": 0.006 * f, "astray": 0.01 * f, "match": 0.01 * f})
        for f in CURVE
    ]
    parts = {
        "tracker": [PluginChoice("lk")],
        "depth": [PluginChoice("recorded")],
        "camera": [PluginChoice("recorded")],
    }
    found = evaluate(truth, episodes, list(choices(flows, parts)), QualityConfig())[1:]
    rows = ["| bounds x | moving kept | mean cm | < 2 cm |", "| --- | --- | --- | --- |"]
    for factor, result in zip(CURVE, found, strict=True):
        moving = result.metrics["moving"] if result.metrics else None
        if moving is not None and moving["cm"]["mean"] is not None:
            rows.append(
                f"| {factor:g} | {100 * moving['kept']:.1f} % | {moving['cm']['mean']:.2f} | {100 * moving['within_cm']['2.0']:.1f} % |"
            )
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
