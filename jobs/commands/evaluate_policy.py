"""``lamp-policy evaluate``: run a policy in a simulator and report how often it succeeds."""

import contextlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from jobs.cli.exit_codes import Failed, UsageError
from jobs.cli.help_text import optional_in_words
from jobs.cli.torch_env import let_threads_sleep, quieten

if TYPE_CHECKING:
    from lamp_model.closed_loop.benchmarks import Suite
    from lamp_model.closed_loop.child import Simulator
    from lamp_model.closed_loop.results import ResultFolder
    from lamp_model.policy import LampPolicy

log = logging.getLogger(__name__)
SUMMARY, PAGE = "summary.json", "index.html"


@dataclass(frozen=True)
@optional_in_words
class EvaluatePolicy:
    """Run a policy in a simulator, by the published protocol unless told otherwise, and report its success rates.

    Interrupted and given again, the same command goes on with what is missing.
    """

    run: tyro.conf.Positional[str]
    """A stage 2 run, an exported folder, or a checkpoint of the authors (folder, .pt, or a name on the hub)."""
    benchmark: tuple[str, ...] = ("libero",)
    """libero, or suites of it (libero_spatial, libero_object, libero_goal, libero_10); libero_plus, or one perturbation
    (libero_plus:camera, robot, language, light, background, noise, layout); simpler_widowx; robosuite_lift."""
    output: Path | None = None
    """Folder of the results. [default: evaluations/<name of the run>]"""
    tasks: tuple[int, ...] = ()
    """Numbers of the tasks of each suite. [default: all]"""
    episodes: int | None = None
    """So many initial states of each task. [default: as published, 50 for LIBERO]"""
    first_episode: int = 0
    """Number of the first of them, such as 20 where demonstrations began in states 0 to 19. [default: 0, as published]
    """
    parallel: int = 1
    """Simulators at the same time; each takes whole tasks."""
    simulator_python: Path | None = None
    """The Python of the simulator's environment. [default: $LAMP_SIMULATOR_PYTHON, then .venv-sim, then this one]"""
    container: bool = False
    """Run in the container that vla-eval pins, with Docker or Charliecloud."""
    gl: Literal["egl", "osmesa"] = "egl"
    """MuJoCo's renderer."""
    videos: Literal["some", "all", "none"] = "some"
    """Write a video, with the imagined flow drawn over it, of each failure and the first success of a task; of all
    episodes; of none."""
    cell: str = "lamp"
    """The row of the paper's tables that the policy stands for: lamp, no_motion, motion_2d, fusion_add,
    fusion_concat."""
    environment_seed: int = 7
    """Seed of the simulator's own placement, set once for each task."""
    reseed: bool = False
    """Set it before every reset, so that fixtures stand at the same place in all episodes."""
    settle_steps: int = 10
    """Steps without motion at the start of an episode."""
    execute: int | None = None
    """Actions of a predicted chunk that are carried out before the next prediction. [default: all]"""
    max_steps: int | None = None
    """Limit of an episode. [default: 220, 280, 300 and 520 for LIBERO's suites]"""
    seed: int = 7
    """Seed of the policy's noise."""
    perturb: tuple[str, ...] = ()
    """Perturb each episode of LIBERO: AXIS:STRENGTH with the axes camera, light, background, noise, layout, robot,
    language; see docs/collecting.md. [default: as published, nothing]"""
    perturb_seed: int = 0
    """Decides, with the numbers of task and episode, what is drawn."""
    picture_size: int = 256
    """Side of the simulator's pictures in pixels: that of the data that the policy learnt from, as a smaller picture is
    no larger one made small. 256 as published; LIBERO's own files have 128."""
    device: str = "auto"
    """Of the policy: auto, cpu, cuda or cuda:N."""
    statistics_key: str | None = None
    """Of a policy of several datasets or robots: whose it is to be. [default: the only one; of the authors': libero]"""
    features: Literal["after-norm", "before-norm"] | None = None
    """Of a published checkpoint: which hidden states; see docs/training.md. [default: after-norm]"""
    image_orientation: Literal["upright", "mirrored", "rotated-180"] | None = None
    """Of a published checkpoint: how its networks see images. [default: mirrored with LIBERO's statistics]"""
    black_cameras: tuple[str, ...] = ()
    """Cameras of the policy that the benchmark does not have and that it was trained to see black."""
    compile: str | None = None
    """A mode of torch.compile, e.g. default. [default: off]"""
    step_seconds: float = 60.0
    """The longest that a step of the simulator may take before it counts as hung."""
    json: bool = False
    """Print JSON."""


def evaluate_policy_command(args: EvaluatePolicy) -> int:
    """Evaluate, write the report and print it; 1 if an episode came to no outcome."""
    let_threads_sleep()
    from lamp_model.closed_loop.benchmarks import suites_of
    from lamp_model.closed_loop.results import BadResults
    from lamp_model.closed_loop.run import EvaluationFailed
    from lamp_model.closed_loop.simulators import NoSimulator
    from lamp_model.errors import BadCheckpoint

    quieten()
    try:
        suites = suites_of(args.benchmark)
        for name, value in (("--episodes", args.episodes), ("--parallel", args.parallel)):
            if value is not None and value < 1:
                raise UsageError(f"{name} must be 1 or more, found {value}")
        if args.first_episode < 0:
            raise UsageError(f"--first-episode must be 0 or more, found {args.first_episode}")
        results = _evaluated(args, suites)
    except (BadCheckpoint, EvaluationFailed, NoSimulator) as error:
        raise Failed(str(error)) from error
    except (BadResults, ValueError) as error:
        raise UsageError(str(error)) from error
    return _reported(args, results)


def _evaluated(args: EvaluatePolicy, suites: "list[Suite]") -> "ResultFolder":
    """Everything that can be refused is refused before the first episode: simulator, results there, conventions."""
    from jobs.commands.serve import load
    from lamp_model.closed_loop.identity import identify
    from lamp_model.closed_loop.protocol import Protocol
    from lamp_model.closed_loop.results import LOCK, Evaluation, ResultFolder
    from lamp_model.closed_loop.simulation.perturbations.spec import parse
    from schemas.locks import held

    protocol = Protocol(
        args.environment_seed,
        args.reseed,
        args.settle_steps,
        args.execute,
        args.max_steps,
        args.seed,
        tuple(map(str, parse(args.perturb))),
        args.perturb_seed,
        args.picture_size,
    )
    for suite in suites:
        suite.arguments(protocol)
    simulators = None if args.container else {suite.name: _simulator(args, suite) for suite in suites}
    options = {name: getattr(args, name) for name in ("statistics_key", "features", "image_orientation")}
    options["black_cameras"] = args.black_cameras or None
    identity = identify(args.run, args.cell, {name: value for name, value in options.items() if value is not None})
    policy = load(args)
    _check_conventions(args, policy, suites)
    folder = args.output or Path("evaluations") / Path(args.run).name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with held(folder / LOCK):
            results = ResultFolder(folder, Evaluation(identity, protocol))
            try:
                for group in _by_client(suites):
                    _run_group(args, group, policy, results, simulators)
            finally:  # of what there is, after an interruption too
                _write_report(args, results)
    except BlockingIOError:
        raise Failed(f"another lamp-policy evaluate is at work in {folder}") from None
    return results


def _by_client(suites: "list[Suite]") -> "list[list[Suite]]":
    """Suites that one server can answer, in order."""
    groups: dict[str, list[Suite]] = {}
    for suite in suites:
        groups.setdefault(suite.client, []).append(suite)
    return list(groups.values())


def _run_group(
    args: EvaluatePolicy,
    suites: "list[Suite]",
    policy: "LampPolicy",
    results: "ResultFolder",
    simulators: "dict[str, Simulator] | None",
) -> None:
    from lamp_model.closed_loop.run import Plan, Runner

    motion = args.videos != "none" and policy.model.config.guided and simulators is not None
    with _served(args, policy, suites[0].client, motion) as url:
        if simulators is None:
            _run_in_containers(args, suites, results, url)
            return
        for suite in suites:
            record = args.videos != "none"
            plan = Plan(suite, args.tasks or None, args.episodes, args.first_episode, record)
            runner = Runner(plan, results, simulators[suite.name], _Keeper(args, results))
            runner.run(url, args.parallel)


@contextlib.contextmanager
def _served(args: EvaluatePolicy, policy: "LampPolicy", client: str, motion: bool) -> Iterator[str]:
    """The address of a server of this process."""
    from vla_eval.api import serve_background

    from lamp_model.serving import conventions
    from lamp_model.serving.episode import Served
    from lamp_model.serving.protocols.vla_eval import LampModelServer
    from lamp_model.serving.service import PolicyService

    matched = conventions.match(policy, getattr(conventions, client), args.black_cameras)
    with PolicyService(policy, max_batch=max(args.parallel, 1)) as service:
        served = Served(service, matched, args.seed, args.execute, motion)
        with serve_background(LampModelServer(served)) as handle:
            yield handle.url


def _check_conventions(args: EvaluatePolicy, policy: "LampPolicy", suites: "list[Suite]") -> None:
    """Raises:
    ValueError: the policy was trained on other actions, states or cameras than a benchmark has.
    """
    from lamp_model.serving import conventions

    for client in dict.fromkeys(suite.client for suite in suites):
        conventions.match(policy, getattr(conventions, client), args.black_cameras)


def _simulator(args: EvaluatePolicy, suite: "Suite") -> "Simulator":
    from lamp_model.closed_loop.child import Simulator
    from lamp_model.closed_loop.simulators import NoSimulator, container_runtime, find_python, how_to_get

    python = find_python(args.simulator_python, suite)
    if python is None:
        raise NoSimulator(how_to_get(suite, container_runtime() if suite.image else None))
    return Simulator(python, args.gl, args.step_seconds)


def _run_in_containers(args: EvaluatePolicy, suites: "list[Suite]", results: "ResultFolder", url: str) -> None:
    import functools

    import vla_eval

    from lamp_model.closed_loop.container import run_suite
    from lamp_model.closed_loop.run import EvaluationFailed

    if args.first_episode:
        raise UsageError(
            "--first-episode is for simulators of this machine: in a container, states are taken from 0 on"
        )
    if args.tasks:
        raise UsageError("--tasks is for simulators of this machine: in a container, all tasks of a suite run")
    evaluate = functools.partial(vla_eval.run, docker=True, output_dir=results.folder / "vla-eval", pull=True)
    render = "gpu" if args.gl == "egl" else "cpu"
    for suite in suites:
        try:
            run_suite(suite, args.episodes or suite.episodes, results, evaluate, url, render)
        except RuntimeError as error:
            raise EvaluationFailed(f"{suite.name}: {error}") from error


class _Keeper:
    """Makes an episode's video where one is wanted, and says how the episode ended."""

    def __init__(self, args: EvaluatePolicy, results: "ResultFolder"):
        self._args, self._results = args, results

    def __call__(self, result: Any, recording: Path | None) -> Any:
        from dataclasses import replace

        from lamp_model.closed_loop.benchmarks import SUITES
        from lamp_model.closed_loop.videos import read_recording, write_video

        outcome = {True: "success", False: "failure", None: f"no outcome: {result.error}"}[result.success]
        log.info(
            "%s, task %d, episode %d: %s after %d steps",
            result.suite,
            result.task,
            result.episode,
            outcome,
            result.steps,
        )
        if recording is None or not self._wanted(result):
            return result
        name = f"videos/{result.suite.replace(':', '-')}-{result.task}-{result.episode}.mp4"
        write_video(self._results.folder / name, read_recording(recording, SUITES[result.suite].mirrored))
        return replace(result, video=name)

    def _wanted(self, result: Any) -> bool:
        if self._args.videos == "all" or not result.success:
            return True
        task = (result.suite, result.task)
        return not any((one.suite, one.task) == task and one.success and one.video for one in self._results.results)


def _write_report(args: EvaluatePolicy, results: "ResultFolder") -> None:
    from jobs.pages.evaluation import write_page
    from lamp_model.closed_loop.summary import summarise
    from schemas.files import write_whole

    summary = summarise(results.results, args.cell)
    write_whole(results.folder / SUMMARY, json.dumps(summary.as_dict(), indent=1).encode() + b"\n")
    write_page(results.folder / PAGE, results.evaluation, summary, results.results)


def _reported(args: EvaluatePolicy, results: "ResultFolder") -> int:
    from lamp_model.closed_loop.summary import as_text, summarise

    summary = summarise(results.results, args.cell)
    print(json.dumps(summary.as_dict(), indent=1) if args.json else as_text(summary))
    if not args.json:
        if departures := results.evaluation.protocol.departures:
            print(f"not by the published protocol, as the paper's figures are, but {departures}")
        print(f"{results.folder / PAGE}: the page with the videos")
    return 1 if any(result.success is None for result in results.results) else 0
