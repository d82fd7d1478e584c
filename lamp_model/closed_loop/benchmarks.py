"""The benchmarks: which of vla-eval's classes, with which parameters, limits and conventions."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from lamp_model.closed_loop.protocol import Protocol
from schemas.suggestions import did_you_mean

ON_DEMAND = "lamp_model.closed_loop.simulation.libero:RenderOnDemandLIBERO"
UPSTREAM = "vla_eval.benchmarks.libero.benchmark:LIBEROBenchmark"
PERTURBATIONS = {
    "camera": "Camera Viewpoints",
    "robot": "Robot Initial States",
    "language": "Language Instructions",
    "light": "Light Conditions",
    "background": "Background Textures",
    "noise": "Sensor Noise",
    "layout": "Objects Layout",
}
"""LIBERO-Plus' seven perturbations: our short names and its own ``category``."""
LIBERO_TAKES = {"env_seed": "environment_seed", "num_steps_wait": "settle_steps"}
LOOKS = {"send_wrist_image": True, "send_state": True, "quat_no_antipodal": True}
"""As in LIBERO's data and the authors' evaluation, the rotation vector is that of the quaternion as it is, with angles
above pi where w < 0."""
VULKAN = {
    "env": ["NVIDIA_DRIVER_CAPABILITIES=all"],
    "volumes": ["/usr/share/vulkan/icd.d:/usr/share/vulkan/icd.d:ro"],
}
"""What vla-eval's own configuration gives SimplerEnv's container, so that it finds the GPU's renderer."""
DEPARTURES = {
    "reseed": "a seed before each reset",
    "settle_steps": "other settling steps",
    "perturb": "perturbations",
    "picture_size": "pictures of another size",
}
"""Choices of the protocol that not every benchmark takes, in words."""
WIDOWX_TASKS = ("widowx_spoon_on_towel", "widowx_carrot_on_plate", "widowx_stack_cube", "widowx_put_eggplant_in_basket")


@dataclass(frozen=True)
class Suite:
    """A group of tasks that one benchmark object holds.

    Attributes:
        name: as a person writes it after ``--benchmark``.
        benchmark: import path ``module:Class`` of a class on vla-eval's ``Benchmark``.
        params: arguments of the class.
        takes: arguments of the class that the protocol decides: the class's name and the protocol's.
        client: the convention of its observations and actions, by its name in ``lamp_model.serving.conventions``.
        place: of the suite in the published order; decides the seeds.
        episodes: of each task, as published.
        tasks: how many there are; None where only the simulator knows.
        mirrored: its images are mirrored (turned by 180 degrees and not flipped); videos undo it.
        upstream: vla-eval's own class, where ``benchmark`` is ours, which its container does not have.
        image: the container in which vla-eval's authors pinned the simulator; None where there is none.
        container: further options of the container, in vla-eval's words.
        group: what the suite is averaged with.
    """

    name: str
    benchmark: str
    params: dict[str, Any] = field(default_factory=dict)
    takes: dict[str, str] = field(default_factory=dict)
    client: str = "LIBERO_VLA_EVAL"
    place: int = 0
    episodes: int = 50
    tasks: int | None = None
    mirrored: bool = True
    upstream: str | None = None
    image: str | None = None
    container: dict[str, Any] = field(default_factory=dict)
    group: str = "libero"

    def arguments(self, protocol: Protocol) -> dict[str, Any]:
        """All arguments of the class.

        Raises:
            ValueError: the protocol differs from the published one in something that this benchmark cannot do.
        """
        refuse_departures(protocol, DEPARTURES.keys() - self.takes.values(), self.name)
        return {**{its: getattr(protocol, name) for its, name in self.takes.items()}, **self.params}


def refuse_departures(protocol: Protocol, unable: Collection[str], who: str) -> None:
    """Refuse a protocol that departs from the published one.

    Args:
        unable: choices of ``DEPARTURES`` that ``who`` does not take.

    Raises:
        ValueError: it departs in one of them.
    """
    usual = Protocol()
    for name, what in DEPARTURES.items():
        if name in unable and getattr(protocol, name) != getattr(usual, name):
            raise ValueError(f"{who} does not take {what} (--{name.replace('_', '-')})")


def _libero() -> list[Suite]:
    names = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
    image = "ghcr.io/allenai/vla-evaluation-harness/libero"
    takes = {**LIBERO_TAKES, **{name: name for name in ("reseed", "perturb", "perturb_seed", "picture_size")}}
    return [
        Suite(name, ON_DEMAND, {"suite": name, **LOOKS}, takes, place=place, tasks=10, upstream=UPSTREAM, image=image)
        for place, name in enumerate(names)
    ]


def _libero_plus() -> list[Suite]:
    one = "vla_eval.benchmarks.libero_plus.benchmark:LIBEROPlusBenchmark"
    image = "ghcr.io/allenai/vla-evaluation-harness/libero-plus"
    return [
        Suite(
            f"libero_plus:{short}:{suite.name.removeprefix('libero_')}",
            one,
            {"suite": suite.name, "category": category, **LOOKS},
            LIBERO_TAKES,
            place=suite.place,
            episodes=1,
            image=image,
            group=f"libero_plus:{short}",
        )
        for short, category in PERTURBATIONS.items()
        for suite in _libero()
    ]


def _simpler() -> list[Suite]:
    return [
        Suite(
            f"simpler_{name}",
            "vla_eval.benchmarks.simpler.benchmark:SimplerEnvBenchmark",
            {"task_name": name, "send_state": True, "success_mode": "accumulate"},
            {"seed": "environment_seed"},
            client="WIDOWX_VLA_EVAL",
            place=place,
            episodes=24,
            tasks=1,
            mirrored=False,
            image="ghcr.io/allenai/vla-evaluation-harness/simpler",
            container=VULKAN,
            group="simpler_widowx",
        )
        for place, name in enumerate(WIDOWX_TASKS)
    ]


def _robosuite() -> list[Suite]:
    one = "lamp_model.closed_loop.simulation.robosuite_tasks:RobosuiteBenchmark"
    return [
        Suite("robosuite_lift", one, {"tasks": ["Lift"]}, {**LIBERO_TAKES, "side": "picture_size"}, group="robosuite")
    ]


SUITES = {suite.name: suite for suite in (*_libero(), *_libero_plus(), *_simpler(), *_robosuite())}
"""All suites by name."""


def suites_of(names: list[str] | tuple[str, ...]) -> list[Suite]:
    """The suites that ``--benchmark`` names: a suite, or a group such as ``libero`` or ``libero_plus:camera``.

    Raises:
        ValueError: a name is unknown.
    """
    found: list[Suite] = []
    for name in names:
        some = [suite for suite in SUITES.values() if suite.name == name or _belongs(suite, name)]
        if not some:
            known = sorted({"libero_plus", *SUITES, *(suite.group for suite in SUITES.values())} - _long_names())
            raise ValueError(f"there is no benchmark {name!r}; known are {', '.join(known)}{did_you_mean(name, known)}")
        found += [suite for suite in some if suite not in found]
    return found


def _belongs(suite: Suite, group: str) -> bool:
    return suite.group == group or suite.group.startswith(f"{group}:")


def _long_names() -> set[str]:
    return {name for name in SUITES if name.count(":") > 1}
