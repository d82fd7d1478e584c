"""robosuite's own tasks as a benchmark of vla-eval: they come with robosuite's wheel and need no other assets."""

from typing import Any

import numpy as np
from vla_eval.benchmarks.base import StepBenchmark, StepResult
from vla_eval.render import configure_mujoco_render
from vla_eval.specs import GRIPPER_CLOSE_POS, IMAGE_RGB, LANGUAGE, POSITION_DELTA, ROTATION_AA, STATE_EEF_POS_AA_GRIP
from vla_eval.types import Action, EpisodeResult, Observation, Task

from lamp_model.closed_loop.simulation.camera_gate import CameraGate

TEXTS = {
    "Lift": "lift the red cube",
    "Stack": "put the red cube on the green cube",
    "Door": "open the door",
    "PickPlaceCan": "put the can into its bin",
    "NutAssemblySquare": "put the square nut on its peg",
}
"""The tasks and their instructions, which are ours: robosuite has none."""
CAMERAS = ("agentview", "robot0_eye_in_hand")
REST = [0.0] * 6 + [-1.0]


def make_environment(name: str, cameras: int | None) -> Any:
    """A robosuite environment for one Panda arm with LIBERO's controller and rate.

    Args:
        cameras: side of their pictures, pixels; None makes none.
    """
    import robosuite

    seen: dict[str, Any] = {"camera_names": list(CAMERAS), "camera_heights": cameras, "camera_widths": cameras}
    return robosuite.make(
        name,
        robots="Panda",
        controller_configs=robosuite.load_controller_config(default_controller="OSC_POSE"),
        has_renderer=False,
        has_offscreen_renderer=cameras is not None,
        use_camera_obs=cameras is not None,
        control_freq=20,
        ignore_done=True,
        **(seen if cameras is not None else {}),
    )


class RobosuiteBenchmark(StepBenchmark):
    """Tasks for one Panda arm, with LIBERO's robot, controller, images (turned by 180 degrees) and state.

    There are no published initial states: episode e is placed by robosuite's own generator, seeded with seed + e.
    """

    render_backends = frozenset({"gpu", "cpu"})

    @classmethod
    def configure_render(cls, mode: str) -> dict[str, str]:
        """See ``Benchmark``."""
        return configure_mujoco_render(mode)

    def __init__(
        self,
        tasks: list[str] | None = None,
        env_seed: int = 7,
        num_steps_wait: int = 10,
        max_steps: int = 200,
        side: int = 256,
        send_wrist_image: bool = True,
        send_state: bool = True,
    ):
        super().__init__()
        self.tasks = list(TEXTS) if tasks is None else tasks
        self.env_seed, self.num_steps_wait, self.max_steps, self.side = env_seed, num_steps_wait, max_steps, side
        self.send_wrist_image, self.send_state = send_wrist_image, send_state
        self._env: Any = None
        self._gate: CameraGate | None = None
        self._name = ""

    @property
    def render_seconds(self) -> float:
        """Spent in rendering so far."""
        return 0.0 if self._gate is None else self._gate.seconds

    def get_tasks(self) -> list[Task]:
        """See ``Benchmark``."""
        return [
            {"name": TEXTS[name], "suite": "robosuite", "task_id": number, "environment": name}
            for number, name in enumerate(self.tasks)
        ]

    def reset(self, task: Task) -> Any:
        """Begin an episode."""
        if self._env is None or self._name != task["environment"]:
            self._open(task["environment"])
        assert self._env is not None and self._gate is not None
        np.random.seed(self.env_seed + task.get("episode_idx", 0))  # noqa: NPY002 - robosuite draws from it
        self._gate.open = self.num_steps_wait == 0
        raw = self._env.reset()
        for left in reversed(range(self.num_steps_wait)):
            self._gate.open = left == 0
            raw, _, _, _ = self._env.step(REST)
        return raw

    def step(self, action: Action) -> StepResult:
        """Take one step; ``observe: False`` in the action leaves its pictures out."""
        assert self._gate is not None
        self._gate.open = bool(action.get("observe", True))
        raw, reward, _, info = self._env.step(np.asarray(action["actions"], float))
        return StepResult(raw, float(reward), bool(self._env._check_success()), info)

    def make_obs(self, raw_obs: Any, task: Task) -> Observation:
        """See ``StepBenchmark``.

        Raises:
            RuntimeError: the pictures of this step were not rendered.
        """
        if self._gate is None or not self._gate.fresh:
            raise RuntimeError("the pictures of this step were not rendered: its action said observe = False")
        names = {"agentview": CAMERAS[0], **({"wrist": CAMERAS[1]} if self.send_wrist_image else {})}
        images = {role: np.ascontiguousarray(raw_obs[f"{name}_image"][::-1, ::-1]) for role, name in names.items()}
        found: Observation = {"images": images, "task_description": task["name"]}
        if self.send_state:
            from robosuite.utils.transform_utils import quat2axisangle

            pose = (raw_obs["robot0_eef_pos"], quat2axisangle(raw_obs["robot0_eef_quat"].copy()))
            found["states"] = np.concatenate([*pose, raw_obs["robot0_gripper_qpos"]])
        return found

    def get_step_result(self, step_result: StepResult) -> EpisodeResult:
        """See ``StepBenchmark``."""
        return {"success": step_result.done}

    def get_metadata(self) -> dict[str, Any]:
        """See ``Benchmark``."""
        return {"max_steps": self.max_steps}

    def get_action_spec(self) -> dict[str, Any]:
        """See ``Benchmark``."""
        return {"position": POSITION_DELTA, "rotation": ROTATION_AA, "gripper": GRIPPER_CLOSE_POS}

    def get_observation_spec(self) -> dict[str, Any]:
        """See ``Benchmark``."""
        return {"agentview": IMAGE_RGB, "wrist": IMAGE_RGB, "language": LANGUAGE, "state": STATE_EEF_POS_AA_GRIP}

    def cleanup(self) -> None:
        """Close the environment."""
        if self._env is not None:
            self._env.close()
            self._env = None

    def _open(self, name: str) -> None:
        self.cleanup()
        self._env = make_environment(name, self.side)
        spent = self.render_seconds
        self._gate = CameraGate(self._env)
        self._gate.seconds = spent
        self._name = name
