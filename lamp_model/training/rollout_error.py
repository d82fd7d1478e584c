"""Errors of predicted motion against the measured one, in pixels and metres, compared with "nothing moves"."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from lamp_model.data.batch import Scene
from lamp_model.training.tally import Tally
from schemas.cameras import lift
from schemas.scene_flow import moving_points


class RolloutErrors:
    """Collects errors of rollouts.

    Most points of a robot scene are static and dominate a mean over all points, so moving points
    (``schemas.scene_flow.MOVES``) are also reported separately.

    Attributes:
        tally: sums of distances, and numbers of them.
    """

    def __init__(self) -> None:
        self.tally = Tally()

    def add(self, increments: Float[np.ndarray, "K T 3"], scene: Scene, name: str = "rollout") -> None:
        """Measure one motion: increments (du, dv, dz) in the unit square and the scene's depth unit.

        Args:
            name: of the metric; for ``rollout``, the error of "nothing moves" is added too.
        """
        start = scene.uvz[:, :1]
        generated = start + np.cumsum(increments, axis=1)
        measured = {name: generated}
        if name == "rollout":
            measured["still"] = np.broadcast_to(start, generated.shape)
        groups = groups_of(scene)
        for one, positions in measured.items():
            for unit, errors in _distances(positions, scene).items():
                for group, chosen in groups.items():
                    self._count(f"{one}_{unit}_{group}", errors[chosen])

    def add_samples(self, samples: Sequence[Float[np.ndarray, "K T 3"]], scene: Scene) -> None:
        """Measure several predicted motions of one scene, in pixels: ``mean``, their mean, and ``best``, the one with
        the lowest error, chosen for each group of points."""
        start = scene.uvz[:, :1]
        positions = [start + np.cumsum(increments, axis=1) for increments in samples]
        each = [_pixels(where, scene) for where in positions]
        mean = _pixels(np.mean(positions, axis=0), scene)
        for group, chosen in groups_of(scene).items():
            self._count(f"mean_px_{group}", mean[chosen])
            self._count(f"best_px_{group}", min((errors[chosen] for errors in each), key=np.sum))

    def add_positions(self, displacement: Float[np.ndarray, "K T 2"], scene: Scene, name: str) -> None:
        """Measure predicted displacements of points from their start in the image, in the unit square."""
        errors = _pixels(scene.uvz[:, :1, :2] + displacement, scene)
        for group, chosen in groups_of(scene).items():
            self._count(f"{name}_px_{group}", errors[chosen])

    def means(self) -> dict[str, float]:
        """Mean distance over points and steps as ``rollout_px_moving``, ``still_m_all``, ...: ``rollout`` is the
        model's, ``still`` that of "nothing moves"; ``px`` in the image, ``m`` in space (``relative`` when depth has no
        unit)."""
        return self.tally.means()

    def _count(self, name: str, errors: np.ndarray) -> None:
        self.tally.add(name, float(errors.sum()), errors.size)


def groups_of(scene: Scene) -> dict[str, Bool[np.ndarray, "K T"]]:
    """Masks of the valid positions of steps 1..T, for all points and for moving ones."""
    usable = scene.valid & scene.valid[:, :1]
    moving = moving_points(lift(scene.uvz * [*scene.size, 1], scene.intrinsics), usable)
    return {"all": usable[:, 1:], "moving": usable[:, 1:] & moving[:, None]}


def _distances(positions: np.ndarray, scene: Scene) -> dict[str, np.ndarray]:
    to_pixels = np.array([*scene.size, 1.0])
    a, b = positions * to_pixels, scene.uvz[:, 1:] * to_pixels
    # Not schemas.cameras.project: a predicted point may lie behind the camera, which counts as a large error.
    distances = np.linalg.norm(lift(a, scene.intrinsics) - lift(b, scene.intrinsics), axis=-1)
    unit = "m" if scene.depth_unit == "m" else "relative"
    return {"px": _pixels(positions, scene), unit: distances}


def _pixels(positions: np.ndarray, scene: Scene) -> np.ndarray:
    return np.linalg.norm((positions[..., :2] - scene.uvz[:, 1:, :2]) * scene.size, axis=-1)
