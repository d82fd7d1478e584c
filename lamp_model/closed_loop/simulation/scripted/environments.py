"""A task's environment without cameras, which is the fastest: only what is recorded is rendered, afterwards."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

ROBOSUITE = "robosuite"
ROBOSUITE_TASKS = ("Lift", "Stack")
"""In the order of their numbers."""


@dataclass(frozen=True)
class OpenTask:
    """A task with its environment.

    Attributes:
        environment: robosuite's.
        name: of the task, as in the names of LIBERO's files.
        instruction: as the evaluation gives it.
        suite: of the task.
        attributes: what LIBERO's own tool keeps of a task in its files.
    """

    environment: Any
    name: str
    instruction: str
    suite: str
    attributes: dict[str, Any]


def libero_tasks(suite: str) -> list[Any]:
    """The tasks of one of LIBERO's suites, in the published order."""
    from libero.libero import benchmark

    made = benchmark.get_benchmark(suite)()
    return [made.get_task(number) for number in range(made.n_tasks)]


def open_task(suite: str, number: int) -> OpenTask:
    """Make a task's environment; it has to be reset before it is used."""
    return open_robosuite(number) if suite == ROBOSUITE else open_libero(suite, number)


def open_robosuite(number: int) -> OpenTask:
    """One of robosuite's own tasks."""
    from lamp_model.closed_loop.simulation.robosuite_tasks import TEXTS, make_environment

    name = ROBOSUITE_TASKS[number]
    environment = make_environment(name, cameras=None)
    problem = {"problem_name": name, "domain_name": ROBOSUITE, "language_instruction": TEXTS[name]}
    attributes = {"env_name": name, "problem_info": problem}
    return OpenTask(environment, name.lower(), TEXTS[name], ROBOSUITE, attributes)


def open_libero(suite: str, number: int) -> OpenTask:
    """Make a task's environment; it has to be reset before it is used.

    The arm starts off its rest pose by 0.02 rad in each joint (standard deviation, robosuite's own default), as in
    LIBERO's recordings and published initial states. LIBERO's wrapper turns that off unless told.
    """
    from libero.libero import get_libero_path
    from libero.libero.envs import bddl_utils
    from libero.libero.envs.env_wrapper import ControlEnv

    task = libero_tasks(suite)[number]
    file = os.path.join(get_libero_path("bddl_files"), task.problem_folder, task.bddl_file)
    wrapped = ControlEnv(
        bddl_file_name=file,
        initialization_noise="default",
        use_camera_obs=False,
        has_offscreen_renderer=False,
        ignore_done=True,
    )
    problem = {**bddl_utils.get_problem_info(file), "language_instruction": task.language}
    with open(file) as read:
        content = read.read()
    attributes = {
        "env_name": type(wrapped.env).__name__,
        "problem_info": problem,
        "bddl_file_name": f"{task.problem_folder}/{task.bddl_file}",
        "bddl_file_content": content,
    }
    return OpenTask(wrapped.env, os.path.splitext(task.bddl_file)[0], task.language, suite, attributes)


def reset(environment: Any, seed: int) -> None:
    """Put everything in its place as a seed decides, fixtures too. robosuite's observations are turned off, which saves
    time in each step.
    """
    from robosuite.utils.errors import RandomizationError

    np.random.seed(seed)  # noqa: NPY002 - robosuite and LIBERO draw from it
    while True:
        try:
            environment.reset()
            break
        except RandomizationError:  # no free place was found: it draws on
            continue
    for name in environment.observation_names:
        for what in ("enabled", "active"):
            environment.modify_observable(name, what, False)
