"""What the experiment of ``prior.py`` has shown so far: ``results.json``, ``results.md`` and ``results.png``."""

import json
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe
from prior_plan import Experiment, errors_of, name_of, results_of

from lamp_model.closed_loop.results import BadResults, EpisodeResult, read_results
from lamp_model.closed_loop.statistics import bootstrap_mean, mcnemar, wilson
from lamp_model.storage.run_folder import METRICS, finished_run
from lamp_model.training.metrics import read_metrics
from schemas.files import write_whole

MEASURED = ("motion_error", "hidden_state")
"""What stage 1 has learnt, as these scripts print it."""
OUTCOMES = {"success": "success in closed loop", "lifted": "lifted the object"}
"""What an episode came to, as ``EpisodeResult`` has it, and how a picture calls it."""


def write_report(of: Experiment) -> str:
    """Collect what there is, write the three files, and return the table."""
    found = collected(of)
    text = as_markdown(found)
    write_whole(of.folder / "results.json", json.dumps(found, indent=1).encode() + b"\n")
    write_whole(of.folder / "results.md", text.encode())
    if found["arms"]:
        draw(found, of.folder / "results.png")
    return text


def collected(of: Experiment) -> dict[str, Any]:
    """Everything that was measured, over all seeds, by demonstrations and arm; and the pairs of arms."""
    arms, pairs = [], []
    for demos in of.demos:
        for perturbed in (None, *of.perturb):
            named = {"demos": demos, "perturbed": perturbed}
            judged = {arm: _judged(of, demos, arm, perturbed) for arm in of.arms}
            acted = {arm: _acted(of, demos, arm, perturbed) for arm in of.arms}
            for arm in of.arms:
                if judged[arm] or acted[arm]:
                    arms.append({**named, "arm": arm, **_of_arm(of, demos, arm, judged[arm], acted[arm])})
            for one, other in combinations(of.arms, 2):
                pair = _paired(judged[one], judged[other], acted[one], acted[other])
                if pair:
                    pairs.append({**named, "first": one, "second": other, **pair})
    stage1 = {path.stem: path.read_text() for path in (of.folder / f"{name}.txt" for name in MEASURED) if path.exists()}
    spent = {path.stem: json.loads(path.read_bytes())["seconds"] for path in sorted((of.folder / "steps").glob("*"))}
    return {"machine": describe(), "suite": of.suite, "stage1": stage1, "arms": arms, "pairs": pairs, "seconds": spent}


def _judged(of: Experiment, demos: int, arm: str, perturbed: str | None) -> dict[tuple[int, str], float]:
    """Action error by seed and episode."""
    found = {}
    for seed in of.seeds:
        path = errors_of(of, name_of(demos, arm, seed), perturbed)
        if path.exists():
            episodes = json.loads(path.read_bytes())["episodes"]
            found |= {(seed, episode): values["action_error"] for episode, values in episodes.items()}
    return found


def _acted(of: Experiment, demos: int, arm: str, perturbed: str | None) -> dict[tuple[int, int, int], EpisodeResult]:
    """Outcomes by seed, task and initial state."""
    found = {}
    for seed in of.seeds:
        try:
            results = read_results(results_of(of, name_of(demos, arm, seed), perturbed))
        except BadResults:
            continue
        found |= {(seed, one.task, one.episode): one for one in results if one.success is not None}
    return found


def _of_arm(of: Experiment, demos: int, arm: str, judged: dict, acted: dict) -> dict[str, Any]:
    runs = [of.folder / "policies" / name_of(demos, arm, seed) for seed in of.seeds]
    configs = [finished_run(run) for run in runs if (run / "model.safetensors").exists()]
    gates = [line["gate"] for run in runs for line in read_metrics(run / METRICS)[-2:] if "gate" in line]
    told: dict[str, Any] = {"seeds": len({_seed(key) for key in (*judged, *acted)})}
    if configs:
        told |= {"steps": configs[0].training.steps, "batch": configs[0].training.batch_size}
    if gates:
        told["gate"] = gates[-1]
    if judged:
        told["action_error"] = {"mean": float(np.mean(list(judged.values()))), "interval": _interval(judged),
                                "episodes": len(judged), "by_seed": _means(judged, _seed)}  # fmt: skip
    for name in OUTCOMES:
        if outcomes := _outcomes(acted, name):
            count = sum(outcomes.values())
            told[name] = {"count": count, "episodes": len(outcomes), "interval": list(wilson(count, len(outcomes))),
                          "by_seed": _means(outcomes, _seed)}  # fmt: skip
    return told


def _outcomes(acted: dict[tuple[int, int, int], EpisodeResult], name: str) -> dict[tuple[int, int, int], bool]:
    """One of ``OUTCOMES``, of the episodes that tell it."""
    return {key: told for key, one in acted.items() if (told := getattr(one, name)) is not None}


def _means(values: Mapping[tuple, float], of: Callable[[tuple], Any]) -> dict[Any, float]:
    """Means over the keys that have something in common, by it."""
    groups: dict[Any, list[float]] = {}
    for key, value in values.items():
        groups.setdefault(of(key), []).append(value)
    return {group: float(np.mean(groups[group])) for group in sorted(groups)}


def _interval(values: Mapping[tuple, float]) -> list[float]:
    """Of their mean, 95%: a bootstrap over what several seeds began from, or were judged on."""
    return [*bootstrap_mean([*_means(values, _start).values()])]


def _seed(key: tuple) -> int:
    return key[0]


def _start(key: tuple) -> tuple:
    """What several seeds began from, or were judged on: task and initial state, or episode."""
    return key[1:]


def _paired(one: dict, other: dict, acted: dict, others: dict) -> dict[str, Any]:
    """The first arm against the second on the same episodes and seeds. An episode that several seeds were judged on, or
    an initial state that they began from, is one draw of the bootstrap; McNemar's test takes each seed's by itself."""
    told: dict[str, Any] = {}
    if both := sorted(one.keys() & other.keys()):
        differences = {key: one[key] - other[key] for key in both}
        difference = float(np.mean([*differences.values()]))
        told["action_error"] = {"difference": difference, "interval": _interval(differences),
                                "better": sum(d < 0 for d in differences.values()), "episodes": len(both)}  # fmt: skip
    for name in OUTCOMES:
        outcomes, its = _outcomes(acted, name), _outcomes(others, name)
        if both := sorted(outcomes.keys() & its.keys()):
            apart = {key: outcomes[key] - its[key] for key in both}
            only = [sum(value == sign for value in apart.values()) for sign in (1, -1)]
            told[name] = {"only_first": only[0], "only_second": only[1], "pairs": len(both), "p_value": mcnemar(*only),
                          "difference": sum(apart.values()) / len(both), "interval": _interval(apart)}  # fmt: skip
    return told


def as_markdown(found: dict[str, Any]) -> str:
    """Tables for a terminal and for docs/evidence.md."""
    lines = [*(line for text in found["stage1"].values() for line in (*text.splitlines(), ""))]
    lines += ["| demonstrations a task | arm | seeds | action error (95%) | by seed | success | 95% (Wilson) | by seed "
              "| lifted | by seed | gate |", "|---|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for arm in found["arms"]:
        error, success, lifted = arm.get("action_error"), arm.get("success"), arm.get("lifted")
        off, rate, raised = ("", ""), ("", "", ""), ("", "")
        if error:
            low, high = error["interval"]
            off = f"{error['mean']:.4f} ({low:.4f} to {high:.4f})", _of_seeds(error, "{:.4f}")
        if success:
            low, high = success["interval"]
            rate = _counted(success), f"{100 * low:.0f} to {100 * high:.0f}%", _of_seeds(success, "{:.0%}")
        if lifted:
            raised = _counted(lifted), _of_seeds(lifted, "{:.0%}")
        gate = f"{arm['gate']:.2f}" if "gate" in arm else ""
        cells = str(arm["demos"]), _named(arm, "arm"), str(arm["seeds"]), *off, *rate, *raised, gate
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| demonstrations a task | pair | action error, difference (95%) | better on "
              "| success, difference (95%) | of only one | p | lifted, difference (95%) | of only one | p |",
              "|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for pair in found["pairs"]:
        error = pair.get("action_error")
        off = ("", "")
        if error:
            low, high = error["interval"]
            off = f"{error['difference']:+.4f} ({low:+.4f} to {high:+.4f})", f"{error['better']} of {error['episodes']}"
        outcomes = [cell for name in OUTCOMES for cell in _told_apart(pair.get(name))]
        cells = str(pair["demos"]), f"{_named(pair, 'first')} - {pair['second']}", *off, *outcomes
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _counted(outcome: dict[str, Any]) -> str:
    return f"{outcome['count']}/{outcome['episodes']}"


def _told_apart(outcome: dict[str, Any] | None) -> tuple[str, str, str]:
    """Three cells of a pair's row: by how much the first has it more often, how often only one has it, and p."""
    if outcome is None:
        return "", "", ""
    low, high = outcome["interval"]
    only = f"{outcome['only_first']}, {outcome['only_second']} of {outcome['pairs']}"
    return f"{outcome['difference']:+.0%} ({low:+.0%} to {high:+.0%})", only, f"{outcome['p_value']:.2g}"


def _of_seeds(measured: dict[str, Any], form: str) -> str:
    return "; ".join(form.format(value) for value in measured["by_seed"].values())


def _named(row: dict[str, Any], name: str) -> str:
    return f"{row['perturbed']}: {row[name]}" if row["perturbed"] else row[name]


def draw(found: dict[str, Any], path: Path) -> None:
    """Action error and success of each arm with their intervals."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.use("agg")
    titles = {"action_error": "action error, unseen demonstrations", **OUTCOMES}
    titles = {name: title for name, title in titles.items() if any(name in arm for arm in found["arms"])}
    figure = Figure(figsize=(max(5.5, 1.1 * len(found["arms"])) * len(titles), 4))
    axes = figure.subplots(1, len(titles), squeeze=False)[0]
    colours = list(dict.fromkeys(arm["arm"] for arm in found["arms"]))
    for axis, (name, title) in zip(axes, titles.items(), strict=True):
        shown = [arm for arm in found["arms"] if name in arm]
        axis.set(title=title)
        labels = ["\n".join((arm["perturbed"] or "", arm["arm"], f"{arm['demos']} a task")).strip() for arm in shown]
        values = [arm[name]["mean"] if name == "action_error" else arm[name]["count"] / arm[name]["episodes"]
                  for arm in shown]  # fmt: skip
        spans = np.abs(np.array([arm[name]["interval"] for arm in shown]).reshape(-1, 2).T - np.array(values))
        axis.bar(labels, values, yerr=spans, capsize=4, color=[f"C{colours.index(arm['arm']) % 10}" for arm in shown])
        axis.set_ylim(bottom=0)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
