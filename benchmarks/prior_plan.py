"""The steps of the experiment in ``prior.py``: what a person would type, in order, and what each leaves."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lamp_model.closed_loop.simulation.perturbations.spec import parse

CELLS = {
    "none": "no_motion",
    "scratch": "no_motion",
    "end-to-end": "no_motion",
    "blind": "no_motion",
    "2d": "motion_2d",
    "add": "fusion_add",
    "concat": "fusion_concat",
}
"""Rows of the paper's tables, for ``lamp-policy table``; other arms stand for ``lamp``."""
MAIN = ("motion", "none")
"""With the prior, and without it on the same backbone."""
FURTHER = ("scratch", "end-to-end", "blind", "untrained", "2d", "add", "concat", "guidance-0", "guidance-10")
"""``scratch`` has no motion and a backbone that stage 1 did not teach; in ``end-to-end`` stage 2 teaches that backbone,
from actions; ``blind`` has no motion and sees black pictures; ``untrained`` is guided by a Motion Expert with its first
random weights: what the further parameters alone do."""
TAUGHT = ("--train-backbone", "full", "--backbone-rate", "5e-5")
"""How a backbone of random weights is taught; at 5e-4 nothing was learnt."""
OF_ARM = {
    "end-to-end": TAUGHT,
    "blind": ("--backbone", "qwen3-vl:blind=true"),
    "add": ("--fusion", "add"),
    "concat": ("--fusion", "concat"),
    "guidance-0": ("--guidance-steps", "0"),
    "guidance-10": ("--guidance-steps", "10"),
}
"""Options of stage 2, beside those that all arms have."""
OF_POLICIES = ("--normalisation", "quantile", "--ema", "0.995")
"""Options of stage 2 of all arms. Quantiles clip what a policy feels to what it learnt from: fingers that an inexact
grasp leaves 8 mm farther closed are else -2.8 where the network knows -1 to 1."""
SEEN, JUDGED = 1, 2
"""Seeds of the collections whose flow stage 1 sees, and that are judged on; the one with actions has 0."""
EVERYTHING = ("--val-fraction", "0")
"""A few demonstrations are learnt from to the last: others are judged on."""


@dataclass(frozen=True)
class Experiment:
    """What is run.

    Attributes:
        folder: everything is written below it.
        demonstrations: a folder with a LIBERO HDF5 file for each task; None: they are collected.
        fresh: goes with ``demonstrations``: another, all of which is judged on. None: they are collected, ``judged`` of
            each task.
        flow_from: another, of more tasks, whose flow stage 1 sees; None: see ``flow_demos``.
        demos: numbers of demonstrations a task with actions, ascending.
        flow_demos: demonstrations a task that are collected for stage 1 alone, without pushes, as nobody can foresee a
            push; with ``flow_from``: so many of each of its files. None: stage 1 sees as many as have actions, of
            ``flow_from`` or of ``demonstrations``.
        judged: demonstrations a task that are collected for judging only.
        pushes: how often the hand is pushed in those that are collected, as ``lamp-data collect --pushes`` takes it.
        vary: perturbations that demonstrations are collected under and policies act under, as ``--perturb`` of both
            takes them: with ``layout:1`` things stand elsewhere in each episode. Empty: LIBERO's own starts.
        tasks: numbers of the tasks that are collected and acted on; empty: all of the suite.
        first_episode, episodes: initial states that are acted from, for each task.
        execute: actions of a chunk that are carried out before the next look; None: all, as published.
        videos: which of their episodes are filmed, as ``lamp-policy evaluate --videos`` takes it; under perturbations
            none are.
        perturb: what the policies also act under, as ``lamp-policy evaluate --perturb`` takes it: ``camera:1`` ...,
            and what the demonstrations for judging, if they are collected, are collected under once more: with camera,
            light, background and noise the same motions that look otherwise.
        stage1_steps, stage2_steps: None: the preset's.
        train_backbone: what stage 1 teaches of the backbone: ``none`` or ``full``. All arms then use its backbone.
        simulator: the Python of the simulator's environment, which also holds what its scenes look like; None: what
            the commands find by themselves.
        stride: frames from one window of flow to the next, and of those that actions are judged on.
        action_stride: frames from one sample of actions to the next.
        stage1, stage2: further words of ``lamp-train``, for all arms alike.
    """

    folder: Path
    suite: str = "libero_object"
    demonstrations: Path | None = None
    fresh: Path | None = None
    flow_from: Path | None = None
    demos: tuple[int, ...] = (5, 20)
    flow_demos: int | None = None
    judged: int = 2
    pushes: float = 0.0
    vary: tuple[str, ...] = ()
    arms: tuple[str, ...] = MAIN
    seeds: tuple[int, ...] = (0, 1, 2)
    tasks: tuple[int, ...] = ()
    first_episode: int = 0
    episodes: int = 10
    execute: int | None = None
    videos: str = "some"
    perturb: tuple[str, ...] = ()
    preset: str = "laptop"
    stage1_steps: int | None = None
    stage2_steps: int | None = None
    train_backbone: str = "none"
    simulator: Path | None = None
    stride: int = 3
    action_stride: int = 1
    threads: int = 1
    parallel: int = 1
    stage1: tuple[str, ...] = ()
    stage2: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if unknown := set(self.arms) - {*MAIN, *FURTHER}:
            raise ValueError(f"arms are {', '.join((*MAIN, *FURTHER))}, found {', '.join(sorted(unknown))}")
        if not self.demos or list(self.demos) != sorted(set(self.demos)) or self.demos[0] < 1:
            raise ValueError(f"demos must be ascending numbers of at least 1, found {self.demos}")
        if (self.demonstrations is None) != (self.fresh is None):
            raise ValueError("--demonstrations and --fresh go together: those to learn from, and others to judge on")
        if self.flow_demos is not None and self.demonstrations is not None and self.flow_from is None:
            raise ValueError("--flow-demos with --demonstrations needs --flow-from: whose flow stage 1 sees")
        for perturbed in (None, *self.perturb):
            parse(self.shifts(perturbed))
        if "scratch" in self.arms and self.train_backbone == "none":
            raise ValueError("without --train-backbone full stage 1 teaches no backbone, so the arm scratch is none")

    def shifts(self, perturbed: str | None) -> tuple[str, ...]:
        """What is collected or acted under: what always varies, and one perturbation."""
        return (*self.vary, perturbed) if perturbed else self.vary

    def policies(self) -> list[tuple[int, str, int]]:
        """(demonstrations a task, arm, seed) of every policy: pairs stand together, so that an interrupted experiment
        can be read."""
        return [(demos, arm, seed) for seed in self.seeds for demos in self.demos for arm in self.arms]


def name_of(demos: int, arm: str, seed: int) -> str:
    """The folder of a policy, and of its evaluation."""
    return f"demos{demos}-{arm}-seed{seed}"


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        name: also of the file that says that it is done.
        kind: the part of the experiment, for ``--only``.
        command: words; ``output`` is among them.
        begun: where this file exists, the step was begun and ``again`` is the command that goes on.
        again: None: the same command goes on by itself.
        grows: the same folder may be given to a larger command later.
        keep: standard output is kept in this file.
    """

    name: str
    kind: str
    command: tuple[str, ...]
    begun: Path | None = None
    again: tuple[str, ...] | None = None
    grows: bool = False
    keep: Path | None = None


KINDS = ("collect", "build", "stage1", "measure", "stage2", "judge", "evaluate", "robustness")


def steps_of(of: Experiment) -> Iterator[Step]:
    """All steps in order; each needs only earlier ones."""
    demonstrations = of.demonstrations or of.folder / "demos" / of.suite
    flow_from = of.flow_from or demonstrations
    if of.demonstrations is None:
        yield _collect("collect", of, "demos", of.demos[-1], _pushes(of))
        if of.flow_demos and of.flow_from is None:
            yield _collect("collect-flow-demos", of, "flow-demos", of.flow_demos, ("--seed", str(SEEN)))
            flow_from = of.folder / "flow-demos" / of.suite
    most = _chosen(of.flow_demos or of.demos[-1])
    simulated = ("--flow", "simulator", *_assets(of.simulator), "--stride", str(of.stride))
    yield _build("flow", of, flow_from, most, simulated)
    for demos in of.demos:
        words = ("--flow", "none", "--stride", str(of.action_stride))
        yield _build(f"actions-{demos}", of, demonstrations, _chosen(demos), words)
    yield from _judged(of, None)
    yield _build("judged-flow", of, *_judged_on(of, None), simulated)
    yield from _priors(of, flow_from)
    for demos, arm, seed in of.policies():
        name = name_of(demos, arm, seed)
        run = of.folder / "policies" / name
        yield _train(f"stage2-{name}", "stage2", of, run, _policy_words(of, demos, arm, seed))
        yield _judge(of, name, None)
    for perturbed in of.perturb if of.fresh is None else ():
        yield from _judged(of, perturbed)
        for demos, arm, seed in of.policies():
            yield _judge(of, name_of(demos, arm, seed), perturbed)
    for perturbed in (None, *of.perturb):
        for demos, arm, seed in of.policies():
            yield _evaluate(of, name_of(demos, arm, seed), CELLS.get(arm, "lamp"), perturbed)


def _judged(of: Experiment, perturbed: str | None) -> Iterator[Step]:
    """Collect what is judged on, under a perturbation, and build its actions."""
    name = _under("judged", perturbed)
    if of.fresh is None:
        words = ("--seed", str(JUDGED), *_pushes(of))
        yield _collect(f"collect-{name}", of, f"{name}-demos", of.judged, words, perturbed)
    words = ("--flow", "none", "--stride", str(of.stride))
    yield _build(name, of, *_judged_on(of, perturbed), words, perturbed)


def _judged_on(of: Experiment, perturbed: str | None) -> tuple[Path, tuple[str, ...]]:
    """The folder of demonstrations that are judged on, and which of them are."""
    if of.fresh is not None:
        return of.fresh, ()
    return of.folder / f"{_under('judged', perturbed)}-demos" / of.suite, _chosen(of.judged)


def _priors(of: Experiment, flow_from: Path) -> Iterator[Step]:
    """Runs of stage 1 that the arms need, and what they have learnt; ``flow_from``: the files with what they saw."""
    learns = (*TAUGHT, "--warmup", "50") if of.train_backbone == "full" else ("--train-backbone", of.train_backbone)
    steps = ("--steps", str(of.stage1_steps)) if of.stage1_steps else ()
    common = ("--preset", of.preset, "--data", str(of.folder / "flow"), *EVERYTHING, *of.stage1)
    prior = of.folder / "stage1"
    yield _train("stage1", "stage1", of, prior, ("--stage", "1", *common, *steps, *learns))
    taught = ()
    if of.train_backbone != "none":
        whole = of.folder / "stage1-whole"
        yield Step("merge", "stage1", ("lamp-train", "merge", str(prior), "--output", str(whole)))
        taught = ("--backbone", f"qwen3-vl:weights={whole / 'backbone'}")
    if "2d" in of.arms:
        words = ("--stage", "1", *common, *steps, *taught, "--motion", "2d")
        yield _train("stage1-2d", "stage1", of, of.folder / "stage1-2d", words)
    if "untrained" in of.arms:
        words = ("--stage", "1", *common, *taught, "--steps", "1", "--learning-rate", "1e-9", "--minimum-rate", "0")
        yield _train("stage1-untrained", "stage1", of, of.folder / "stage1-untrained", words)
    files = ("--demonstrations", str(flow_from), str(_judged_on(of, None)[0]), "--fit-on", *map(str, of.demos))
    for script, options in (("motion_error", ("--windows", "160")), ("hidden_state", files)):
        words = ("python", f"benchmarks/{script}.py", str(prior), "--data", str(of.folder / "judged-flow"), *options)
        yield Step(script, "measure", (*words, "--threads", str(of.threads)), keep=of.folder / f"{script}.txt")


def _policy_words(of: Experiment, demos: int, arm: str, seed: int) -> tuple[str, ...]:
    if CELLS.get(arm) == "no_motion":
        prior: tuple[str, ...] = ("--motion", "none")
        if arm == "none" and of.train_backbone != "none":
            prior += ("--backbone", f"qwen3-vl:weights={of.folder / 'stage1-whole' / 'backbone'}")
    else:
        prior = ("--motion", str(of.folder / {"2d": "stage1-2d", "untrained": "stage1-untrained"}.get(arm, "stage1")))
    steps = ("--steps", str(of.stage2_steps)) if of.stage2_steps else ()
    data = ("--preset", of.preset, "--data", str(of.folder / f"actions-{demos}"), *EVERYTHING, *OF_POLICIES)
    return ("--stage", "2", *data, *prior, "--seed", str(seed), *steps, *of.stage2, *OF_ARM.get(arm, ()))


def _assets(simulator: Path | None) -> tuple[str, ...]:
    """Where the build finds what LIBERO's models name."""
    if simulator is None:
        return ()
    packages = next(iter(sorted(simulator.parents[1].glob("lib/python3*/site-packages"))), None)
    if packages is None:
        raise ValueError(f"{simulator} is no Python of an environment that lamp-policy simulator made")
    return ("--flow-options", f"robosuite={packages / 'robosuite'}",
            f"libero-assets={packages / 'libero' / 'libero' / 'assets'}")  # fmt: skip


def _chosen(count: int) -> tuple[str, ...]:
    """The first demonstrations of every file, by name."""
    return ("--episodes", *(f"demo_{number}" for number in range(count)))


def _collect(
    name: str, of: Experiment, folder: str, count: int, words: tuple[str, ...], perturbed: str | None = None
) -> Step:
    asked = ("lamp-data", "collect", "--suite", of.suite, "--demos", str(count), *_tasks(of), *words)
    output = ("--workers", str(of.parallel), "--output", str(of.folder / folder))
    words = (*asked, *_perturb(of, perturbed), *_simulator(of), *output)
    return Step(name, _kind("collect", perturbed), words, grows=True)


def _build(
    name: str, of: Experiment, source: Path, chosen: tuple[str, ...], words: tuple[str, ...],
    perturbed: str | None = None,
) -> Step:  # fmt: skip
    output = ("--executor", "local", "--output", str(of.folder / name))
    asked = ("lamp-data", "build", "--dataset", "libero", "--input", str(source))
    return Step(name, _kind("build", perturbed), (*asked, *chosen, *words, *output))


def _train(name: str, kind: str, of: Experiment, run: Path, words: tuple[str, ...]) -> Step:
    output = ("--output", str(run), "--threads", str(of.threads))
    stage = words[:2]
    again = ("lamp-train", *stage, *output, "--resume")
    return Step(name, kind, ("lamp-train", *words, *output), run / "config.json", again)


def _pushes(of: Experiment) -> tuple[str, ...]:
    return ("--pushes", f"{of.pushes:g}") if of.pushes else ()


def _perturb(of: Experiment, perturbed: str | None) -> tuple[str, ...]:
    shifts = of.shifts(perturbed)
    return ("--perturb", *shifts) if shifts else ()


def _kind(kind: str, perturbed: str | None) -> str:
    """The part of the experiment that a step is of: whatever is done under a perturbation is one."""
    return "robustness" if perturbed else kind


def _under(name: str, perturbed: str | None) -> str:
    """What has this name, under a perturbation."""
    return name if perturbed is None else f"{name}-{perturbed.replace(':', '-')}"


def results_of(of: Experiment, name: str, perturbed: str | None) -> Path:
    """The folder of a policy's evaluation."""
    return of.folder / "evaluations" / _under(name, perturbed)


def errors_of(of: Experiment, name: str, perturbed: str | None) -> Path:
    """The file with a policy's action errors."""
    return of.folder / "judged-actions" / f"{_under(name, perturbed)}.json"


def _judge(of: Experiment, name: str, perturbed: str | None) -> Step:
    written = errors_of(of, name, perturbed)
    words = ("python", "benchmarks/action_error.py", str(of.folder / "policies" / name), "--data",
             str(of.folder / _under("judged", perturbed)),
             "--output", str(written), "--threads", str(of.threads))  # fmt: skip
    return Step(f"judge-{written.stem}", _kind("judge", perturbed), words)


def _evaluate(of: Experiment, name: str, cell: str, perturbed: str | None) -> Step:
    results = results_of(of, name, perturbed)
    first = ("--first-episode", str(of.first_episode)) if of.first_episode else ()
    videos = "none" if perturbed else of.videos
    looks = ("--execute", str(of.execute)) if of.execute else ()
    words = ("lamp-policy", "evaluate", str(of.folder / "policies" / name), "--benchmark", of.suite, *_tasks(of))
    how = ("--episodes", str(of.episodes), "--parallel", str(of.parallel), "--videos", videos, "--cell", cell,
           "--output", str(results))  # fmt: skip
    words += (*first, *_perturb(of, perturbed), *looks, *_simulator(of), *how)
    return Step(f"evaluate-{results.name}", _kind("evaluate", perturbed), words, grows=True)


def _tasks(of: Experiment) -> tuple[str, ...]:
    return ("--tasks", *map(str, of.tasks)) if of.tasks else ()


def _simulator(of: Experiment) -> tuple[str, ...]:
    return ("--simulator-python", str(of.simulator)) if of.simulator else ()
