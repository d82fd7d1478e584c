"""vla-eval's LIBERO, rendered only when the policy looks, and with initial states that do not depend on the order."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from vla_eval.benchmarks.base import StepResult
from vla_eval.benchmarks.libero.benchmark import LIBERO_DUMMY_ACTION, LIBERO_ENV_RESOLUTION, LIBEROBenchmark
from vla_eval.types import Action, Observation, Task

from lamp_model.closed_loop.simulation.camera_gate import CameraGate
from lamp_model.closed_loop.simulation.handled_objects import HandledObjects
from lamp_model.closed_loop.simulation.perturbations.perturber import Perturber
from lamp_model.closed_loop.simulation.perturbations.spec import episode_seed, parse


class RenderOnDemandLIBERO(LIBEROBenchmark):
    """The same episodes as vla-eval's, in a fraction of the time.

    An action's ``observe: False`` says that nobody will look at the pictures of its step. ``make_obs`` refuses to
    return pictures that were not rendered.

    The published initial states do not hold the places of fixtures (stove, cabinet, rack), which LIBERO draws anew at
    each reset from a generator that is seeded once for each task. Episode e therefore belongs to the e-th reset after
    the seed: an episode that begins out of order, as after an interruption, is preceded by the resets that it lacks.
    """

    def __init__(
        self,
        *,
        reseed: bool = False,
        perturb: Sequence[str] = (),
        perturb_seed: int = 0,
        picture_size: int = LIBERO_ENV_RESOLUTION,
        **others: Any,
    ):
        """Args:
        reseed: seed before each reset instead, so that fixtures stand at the same place in all episodes.
        perturb: perturbations of every episode, such as ``camera:1``.
        perturb_seed: with the task's number and the episode's it decides what they draw.
        picture_size: side of the pictures in pixels.
        """
        super().__init__(**others)
        self.reseed, self.perturbations, self.perturb_seed = reseed, parse(perturb), perturb_seed
        self.side = picture_size
        self._perturber = Perturber((), 0)
        self._gate: CameraGate | None = None
        self._handled: HandledObjects | None = None
        self._resets = 0

    @property
    def render_seconds(self) -> float:
        """Spent in rendering so far."""
        return 0.0 if self._gate is None else self._gate.seconds

    @property
    def perturbed(self) -> dict[str, Any]:
        """What was drawn for the present episode, by axis."""
        return self._perturber.drawn

    @property
    def objects(self) -> dict[str, dict[str, float]]:
        """What became of the objects that the present episode is about."""
        return {} if self._handled is None else self._handled.told

    def reset(self, task: Task) -> Any:
        """Begin an episode; only the last settling step is rendered."""
        episode = task.get("episode_idx", 0)
        ran_past = self._resets > episode and not self.reseed
        if self._env is None or self._current_task_id != task["task_id"] or ran_past:
            self._open(task)
        assert self._env is not None and self._gate is not None
        self._perturber = Perturber(self.perturbations, episode_seed(self.perturb_seed, task["task_id"], episode))
        self._gate.open = False
        if self.reseed:
            self._env.seed(self.env_seed)
        else:
            for _ in range(episode - self._resets):
                self._env.reset()
        settle, self.num_steps_wait = self.num_steps_wait, max(self.num_steps_wait - 1, 0)
        self._gate.open = settle == 0
        try:
            raw = super().reset(task)
        finally:
            self.num_steps_wait = settle
        self._resets = episode + 1
        if settle:
            self._gate.open = True
            raw, _, _, _ = self._env.step(LIBERO_DUMMY_ACTION)
        self._handled = HandledObjects(self._env.env)
        return raw

    def step(self, action: Action) -> StepResult:
        """Take one step; ``observe: False`` in the action leaves its pictures out."""
        assert self._gate is not None and self._handled is not None
        self._gate.open = bool(action.get("observe", True))
        taken = super().step(action)
        self._handled.look()
        return taken

    def make_obs(self, raw_obs: Any, task: Task) -> Observation:
        """See ``LIBEROBenchmark``.

        Raises:
            RuntimeError: the pictures of this step were not rendered.
        """
        if self._gate is None or not self._gate.fresh:
            raise RuntimeError("the pictures of this step were not rendered: its action said observe = False")
        seen = super().make_obs(raw_obs, task)
        if self.perturbations:
            seen["images"] = {name: self._perturber.picture(image) for name, image in seen["images"].items()}
            seen["task_description"] = self._perturber.instruction(seen["task_description"])
        return seen

    def _open(self, task: Task) -> None:
        """Make and seed a task's environment, as ``LIBEROBenchmark.reset`` does, with a gate before its cameras."""
        from pathlib import Path

        from libero.libero import get_libero_path
        from libero.libero.envs import OffScreenRenderEnv

        self.cleanup()
        bddl = Path(get_libero_path("bddl_files")) / task["task_obj"].problem_folder / task["task_obj"].bddl_file
        self._env = OffScreenRenderEnv(bddl_file_name=str(bddl), camera_heights=self.side, camera_widths=self.side)
        self._env.seed(self.env_seed)
        spent = self.render_seconds
        self._gate = CameraGate(self._env.env)
        self._gate.seconds = spent
        self._current_task_id, self._resets = task["task_id"], 0
        if self.perturbations:
            self._env.set_init_state = functools.partial(self._start, self._env, self._env.set_init_state)

    def _start(self, environment: Any, set_init_state: Callable[[Any], Any], state: Any) -> Any:
        """Set an initial state, and perturb it before it settles."""
        set_init_state(state)
        self._perturber.change(environment.env)
        environment._update_observables(force=True)
        return environment.env._get_observations()
