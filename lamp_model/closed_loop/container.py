"""Evaluates in the container in which vla-eval's authors pinned a benchmark's simulator.

vla-eval runs the episodes there with its own classes, which render every step, so a suite is the unit that an
interruption costs: its results are read when it has ended.
"""

from collections.abc import Callable, Sequence
from typing import Any

from lamp_model.closed_loop.benchmarks import Suite, refuse_departures
from lamp_model.closed_loop.protocol import Protocol
from lamp_model.closed_loop.results import EpisodeResult, ResultFolder

OURS = ("reseed", "perturb", "perturb_seed", "picture_size")
"""Arguments that vla-eval's own classes do not have."""
Evaluate = Callable[[dict[str, Any]], Sequence[Any]]
"""``vla_eval.run`` with where and how it runs: takes a configuration, returns a result for each of its benchmarks."""


def suite_config(suite: Suite, protocol: Protocol, episodes: int, url: str, render: str) -> dict[str, Any]:
    """The configuration of a suite for ``vla_eval.run``."""
    params = {name: value for name, value in suite.arguments(protocol).items() if name not in OURS}
    entry: dict[str, Any] = {
        "benchmark": suite.upstream or suite.benchmark,
        "subname": suite.name.replace(":", "-"),
        "episodes_per_task": episodes,
        "params": params,
        "recording": {"record_step": False, "record_video": False},
    }
    if protocol.max_steps is not None:
        entry["max_steps"] = protocol.max_steps
    docker = {} if suite.image is None else {"docker": {"image": suite.image, **suite.container}}
    return {"server": {"url": url}, "render": render, "benchmarks": [entry], **docker}


def run_suite(suite: Suite, episodes: int, results: ResultFolder, evaluate: Evaluate, url: str, render: str) -> None:
    """Run a suite and add its results; nothing where all its episodes are there.

    Raises:
        ValueError: the protocol asks for something that the container cannot do.
    """
    protocol = results.evaluation.protocol
    refuse_departures(protocol, OURS, f"{suite.name} in a container")
    done = results.finished(suite.name)
    for found in evaluate(suite_config(suite, protocol, episodes, url, render)):
        for number, task in enumerate(found["tasks"]):
            for episode in task["episodes"]:
                result = episode_of(suite, number, task["task"], episode, protocol)
                if (result.task, result.episode) not in done:
                    results.add(result)


def episode_of(suite: Suite, number: int, text: str, episode: dict[str, Any], protocol: Protocol) -> EpisodeResult:
    """One of vla-eval's episodes as ours; an error there counts as a failure, here it has no outcome."""
    place = int(episode["episode_id"])
    said = [part for part in (episode.get("failure_reason"), episode.get("failure_detail")) if part]
    error = ": ".join(map(str, said)) or None
    return EpisodeResult(
        suite.name,
        number,
        text,
        place,
        None if error else bool(episode.get("metrics", {}).get("success", False)),
        steps=int(episode.get("steps", 0)),
        seed=protocol.episode_seed(suite.place, number, place),
        seconds={"total": float(episode.get("elapsed_sec", 0.0))},
        error=error,
    )
