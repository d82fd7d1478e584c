"""How true flow is, against exact flow, for every combination that runs without downloads:
docs/flow-accuracy-tables.md, and the short tables of docs/flow-accuracy.md.

python benchmarks/flow_accuracy.py [--input FOLDER] [--robosuite DIR --libero-assets DIR [--replay FOLDER] [--held-out
FOLDER]] > TABLES

The rigid world and the shipped episodes need nothing. LIBERO episodes below --replay, and demonstrations of robosuite
tasks below --held-out, are replayed by the simulator at 256 x 256 (docs/simulator.md).
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from machine import describe

from pipeline.evaluation.ground_truth import ExactEpisode
from pipeline.evaluation.metrics import Metrics
from pipeline.evaluation.report import as_markdown
from pipeline.evaluation.run import Evaluation, evaluate, exact_episodes
from pipeline.evaluation.simulator_truth import ReplayConfig
from pipeline.evaluation.sweep import combinations, sources
from pipeline.recipe import QualityConfig, Recipe
from schemas.episode import BadEpisode
from schemas.plugins import PluginChoice

DEFAULT = "lk + recorded + recorded"
UNTESTED = f"{DEFAULT} + tracked:test=False"
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
AIMED = ("88 %", "98 %", "0.7 cm", "97 %", "99.5 %", "")
HELD_OUT_STRIDE = 16
TRADED = "moving points kept, their mean error, share within 2 cm."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, default=Path("data/libero"))
    parser.add_argument("--replay", type=Path, help="folder of LIBERO's HDF5 files")
    parser.add_argument("--held-out", type=Path, help="folder of robosuite's HDF5 files")
    parser.add_argument("--robosuite", type=Path)
    parser.add_argument("--libero-assets", type=Path)
    args = parser.parse_args()
    known = ReplayConfig(args.robosuite, args.libero_assets)
    other = ReplayConfig(args.robosuite, args.libero_assets, stride=HELD_OUT_STRIDE)
    everything, few = combined(), combined(few=True)
    kinds = [
        ("rigid world", exact_episodes("rigid-world", args.input, None, known), everything),
        ("shipped episodes", exact_episodes("files", args.input, None, known), everything),
    ]
    if args.replay:
        kinds.append(("LIBERO", exact_episodes("simulator", args.replay, None, known), everything))
    if args.held_out:
        robosuite = PluginChoice("robosuite")
        kinds.append(("held out", exact_episodes("simulator", args.held_out, None, other, robosuite), few))
    measured, curves = {}, {}
    for name, episodes, recipes in kinds:
        measured[name], curves[name] = measure(name, episodes, recipes)
    print(
        "# Flow against exact flow: all tables\n\nHow to read them: [flow-accuracy.md](flow-accuracy.md). "
        f"{describe()}\n"
    )
    print(f"## In short\n\n{in_short(measured)}\n\nlk at each tolerance: {TRADED}\n\n{trade_off(curves)}", end="")
    for name, results in measured.items():
        print(f"\n## {name}\n\n{as_markdown(results)}", end="")


def combined(few: bool = False) -> dict[str, Recipe]:
    """Every tracker with recorded depth and poses, with and without the tests of tracks; estimated poses; and clouds
    registered.
    """
    trackers = ("lk", "dis") if few else ("lk", "dis", "dis:preset=ultrafast")
    tested, untested = PluginChoice("tracked"), PluginChoice("tracked", {"test": False})
    found = combinations([tested, untested], parts(*trackers))
    found |= combinations([tested], parts("lk", camera="estimated"))
    return found if few else found | combinations([PluginChoice("icp")], parts("lk"))


def parts(*trackers: str, camera: str = "recorded") -> dict[str, list[PluginChoice]]:
    """Trackers with recorded depth and one camera solver."""
    return {
        "tracker": [PluginChoice.parse(name) for name in trackers],
        "depth": [PluginChoice("recorded")],
        "camera": [PluginChoice(camera)],
    }


def measure(
    name: str, episodes: Iterable[ExactEpisode | BadEpisode], recipes: dict[str, Recipe]
) -> tuple[list[Evaluation], list[Evaluation]]:
    """The choices, and ``lk`` at each tolerance, over the same episodes, which are drawn once."""
    print(f"measuring {name} ...", file=sys.stderr, flush=True)
    curve = combinations([PluginChoice("tracked", {"tolerance": factor}) for factor in FACTORS], parts("lk"))
    results = evaluate(name, episodes, [*sources(recipes), *sources(curve)], QualityConfig())
    return results[: -len(curve)], results[-len(curve) :]


def in_short(measured: dict[str, list[Evaluation]]) -> str:
    """What was aimed at and what ``lk`` reaches, where the simulator is the evaluate."""
    shown: list[tuple[str, tuple[str, ...]]] = [("aimed at", AIMED)]
    for name in [kind for kind in ("LIBERO", "held out") if kind in measured] or measured:
        metrics = {e.choice: e.metrics for e in measured[name] if e.metrics is not None}
        shown.append((f"{name}, {metrics[DEFAULT]['windows']} windows", cells(metrics[DEFAULT])))
        shown.append((f"{name}, depth and rigidity tests off", cells(metrics[UNTESTED])))
    names = (
        "moving points kept",
        "- within 2 cm",
        "- mean error",
        "static points kept",
        "- within 5 mm",
        "false movers a window",
    )
    head = ["| " + " | ".join(["", *(title for title, _ in shown)]) + " |", "| --- " * (len(shown) + 1) + "|"]
    rows = [[name, *(values[i] for _, values in shown)] for i, name in enumerate(names)]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def cells(metrics: Metrics) -> tuple[str, ...]:
    """A column of ``in_short``."""
    moving, static = metrics["moving"], metrics["static"]
    return (
        f"{100 * moving['kept']:.1f} %",
        f"{100 * moving['within_cm']['2.0']:.1f} %",
        f"{moving['cm']['mean']:.2f} cm",
        f"{100 * static['kept']:.1f} %",
        f"{100 * static['within_cm']['0.5']:.2f} %",
        f"{metrics['false_movers']['mean']:.2f}",
    )


def trade_off(curves: dict[str, list[Evaluation]]) -> str:
    """Moving points kept, their mean error and the share within 2 cm at each tolerance."""
    lines = [f"| tolerance | {' | '.join(curves)} |", "| --- " * (len(curves) + 1) + "|"]
    for index, factor in enumerate(FACTORS):
        row = []
        for results in curves.values():
            metrics = results[index].metrics
            moving = metrics["moving"] if metrics is not None else None
            row.append(
                "-"
                if moving is None or moving["cm"]["mean"] is None
                else f"{100 * moving['kept']:.1f} %, {moving['cm']['mean']:.2f} cm, "
                f"{100 * moving['within_cm']['2.0']:.1f} %"
            )
        lines.append(f"| {factor:g} | {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
