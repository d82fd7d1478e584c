"""How far a generated motion is from the measured one, in pixels and in metres, beside "nothing moves"."""

import numpy as np
from jaxtyping import Float

from lamp_model.data.batch import Scene
from schemas.cameras import lift
from schemas.scene_flow import moving_points


class RolloutErrors:
    """Collects errors of rollouts.

    Most points of a robot scene stand still, so a figure over all points mostly measures stillness: points that move
    (``schemas.scene_flow.MOVES``) are told apart.
    """

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, increments: Float[np.ndarray, "K T 3"], scene: Scene) -> None:
        """Measure one rollout: increments (du, dv, dz) in the unit square and the scene's depth unit."""
        start = scene.uvz[:, :1]
        generated = start + np.cumsum(increments, axis=1)
        still = np.broadcast_to(start, generated.shape)
        truth = scene.uvz[:, 1:]
        usable = scene.valid & scene.valid[:, :1]
        moving = moving_points(lift(scene.uvz * [*scene.size, 1], scene.intrinsics), usable)
        groups = {"all": usable[:, 1:], "moving": usable[:, 1:] & moving[:, None]}
        for name, positions in (("rollout", generated), ("still", still)):
            for unit, errors in self._errors(positions, truth, scene).items():
                for group, chosen in groups.items():
                    self._count(f"{name}_{unit}_{group}", errors[chosen])

    def means(self) -> dict[str, float]:
        """Mean distance over points and steps as ``rollout_px_moving``, ``still_m_all``, ...: ``rollout`` is the
        model's, ``still`` that of "nothing moves"; ``px`` in the image, ``m`` in space (``relative`` when depth has no
        unit)."""
        return {name: total / self._counts[name] for name, total in self._sums.items() if self._counts[name]}

    def _errors(self, positions: np.ndarray, truth: np.ndarray, scene: Scene) -> dict[str, np.ndarray]:
        to_pixels = np.array([*scene.size, 1.0])
        a, b = positions * to_pixels, truth * to_pixels
        # Not schemas.cameras.project: a generated point may lie behind the camera, and is then simply far off.
        distances = np.linalg.norm(lift(a, scene.intrinsics) - lift(b, scene.intrinsics), axis=-1)
        unit = "m" if scene.depth_unit == "m" else "relative"
        return {"px": np.linalg.norm(a[..., :2] - b[..., :2], axis=-1), unit: distances}

    def _count(self, name: str, errors: np.ndarray) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + float(errors.sum())
        self._counts[name] = self._counts.get(name, 0) + errors.size
