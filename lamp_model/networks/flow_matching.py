"""Flow matching: both time conventions, their paths and their Euler solvers. They are defined only here.

======  =======================  ==========================  ============================
flow    time                     path                        velocity (what is regressed)
======  =======================  ==========================  ============================
motion  0 is noise, 1 is data    (1 - t) noise + t data      data - noise
action  1 is noise, 0 is data    t noise + (1 - t) data      noise - data
======  =======================  ==========================  ============================

Both velocities are dx/dt of their own path, so both solvers add ``velocity * dt``; the action's dt is negative.

On the motion path a velocity and an estimate of the data can be converted into each other (``motion_velocity``,
``motion_estimate``), so a network may predict either and the solver stays the same.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float

Velocity = Callable[[torch.Tensor, float], torch.Tensor]
"""(x at time t, t) to dx/dt."""

TIMESTEPS = 1000
"""The motion network gets the time as an integer in thousandths."""


def motion_path(
    data: Float[torch.Tensor, " B *n"], noise: Float[torch.Tensor, " B *n"], t: Float[torch.Tensor, " B"]
) -> tuple[Float[torch.Tensor, " B *n"], Float[torch.Tensor, " B *n"]]:
    """x_t and its velocity on the motion path (paper, section 3.2)."""
    t = _broadcast(t, data)
    return (1 - t) * noise + t * data, data - noise


def action_path(
    data: Float[torch.Tensor, " B *n"], noise: Float[torch.Tensor, " B *n"], t: Float[torch.Tensor, " B"]
) -> tuple[Float[torch.Tensor, " B *n"], Float[torch.Tensor, " B *n"]]:
    """x_t and its velocity on the action path (paper, section 3.4)."""
    t = _broadcast(t, data)
    return t * noise + (1 - t) * data, noise - data


def motion_velocity(
    x: Float[torch.Tensor, " B *n"], estimate: Float[torch.Tensor, " B *n"], t: Float[torch.Tensor, " B"]
) -> Float[torch.Tensor, " B *n"]:
    """Convert an estimate of the data to the velocity at x_t: (estimate - x_t) / (1 - t), for t below 1."""
    return (estimate - x) / (1 - _broadcast(t, x))


def motion_estimate(
    x: Float[torch.Tensor, " B *n"], velocity: Float[torch.Tensor, " B *n"], t: Float[torch.Tensor, " B"]
) -> Float[torch.Tensor, " B *n"]:
    """Convert the velocity at x_t to an estimate of the data: x_t + (1 - t) velocity; the inverse of
    ``motion_velocity``."""
    return x + (1 - _broadcast(t, x)) * velocity


def motion_gain(t: Float[torch.Tensor, " B"], sigma: Float[torch.Tensor, " "]) -> Float[torch.Tensor, " B"]:
    """The factor that makes x_t the best linear estimate of data / sigma: t sigma / ((1-t)^2 + t^2 sigma^2).

    sigma is the standard deviation of the data; that of the noise is 1. The factor is 0 at t = 0, where x_t is pure
    noise, and 1 / sigma at t = 1.
    """
    return t * sigma / ((1 - t) ** 2 + t**2 * sigma**2)


def sample_motion_time(batch: int, generator: torch.Generator) -> Float[torch.Tensor, " B"]:
    """Times for training the Motion Expert: uniform on [0, 1)."""
    return torch.rand(batch, generator=generator, device=generator.device)


def sample_action_time(batch: int, generator: torch.Generator) -> Float[torch.Tensor, " B"]:
    """Times for training the Action Expert: 0.999 Beta(1.5, 1) + 0.001, by the inverse of Beta's distribution u =
    x^1.5.
    """
    uniform = torch.rand(batch, generator=generator, device=generator.device)
    return 0.999 * uniform ** (1 / 1.5) + 0.001


def motion_timestep(t: float) -> int:
    """The motion network's integer input for time t."""
    return int(t * TIMESTEPS)


def integrate_motion(velocity: Velocity, noise: torch.Tensor, steps: int, first: int | None = None) -> torch.Tensor:
    """Euler from noise at t = 0 in equal steps of 1 / ``steps``: to data at t = 1, or only the ``first`` steps.

    Raises:
        ValueError: steps is not positive, or ``first`` is above it.
    """
    taken = steps if first is None else first
    if steps < 1 or not 0 <= taken <= steps:
        raise ValueError(
            f"integrating motion takes at least 1 step and no more than there are, found {taken} of {steps}"
        )
    x = noise
    for step in range(taken):
        x = x + velocity(x, step / steps) * (1 / steps)
    return x


def integrate_action(velocity: Velocity, noise: torch.Tensor, steps: int) -> torch.Tensor:
    """Euler from noise at t = 1 to data at t = 0 in equal steps.

    Raises:
        ValueError: steps is not positive.
    """
    if steps < 1:
        raise ValueError(f"integrating actions takes at least 1 step, found {steps}")
    x = noise
    for step in range(steps):
        x = x - velocity(x, 1 - step / steps) / steps
    return x


def _broadcast(t: torch.Tensor, data: torch.Tensor) -> torch.Tensor:
    return t.view(-1, *[1] * (data.ndim - 1)).to(data.dtype)
