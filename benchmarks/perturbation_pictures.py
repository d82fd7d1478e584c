"""Draws docs/perturbations.png: the first picture of one episode under each perturbation and strength.

In the simulator's Python, with the repository in its path::

    PYTHONPATH=. MUJOCO_GL=egl .venv-sim/bin/python benchmarks/perturbation_pictures.py --output docs/perturbations.png
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from lamp_model.closed_loop.simulation.cameras import Cameras
from lamp_model.closed_loop.simulation.perturbations.perturber import Perturber
from lamp_model.closed_loop.simulation.perturbations.spec import AXES, Perturbation
from lamp_model.closed_loop.simulation.scripted.demonstration import REST
from lamp_model.closed_loop.simulation.scripted.environments import OpenTask, open_task, reset

STRENGTHS = (1.0, 2.0)
SEEDS = (1,)
SETTLE = 3
LINE = 14


def main() -> None:
    """Draw a row for each axis: as published, then each strength with each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/perturbations.png"))
    parser.add_argument("--suite", default="libero_object")
    parser.add_argument("--task", type=int, default=0)
    parser.add_argument("--side", type=int, default=120)
    args = parser.parse_args()
    task = open_task(args.suite, args.task)
    published = _cell(task, Perturber((), 0), "as published", args.side)
    rows = [np.concatenate([published, *_cells(task, axis, args.side)], axis=1) for axis in AXES]
    sheet = Image.fromarray(np.concatenate(rows))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(args.output, optimize=True)
    print(f"{args.output}: {sheet.width} x {sheet.height}")


def _cells(task: OpenTask, axis: str, side: int) -> list[np.ndarray]:
    drawn = [(strength, seed) for strength in STRENGTHS for seed in SEEDS]
    made = [(Perturber((Perturbation(axis, strength),), seed), f"{axis}:{strength:g}") for strength, seed in drawn]
    return [_cell(task, perturber, title, side) for perturber, title in made]


def _cell(task: OpenTask, perturber: Perturber, title: str, side: int) -> np.ndarray:
    """The agent view after a few steps, with a title above, and the instruction if that is perturbed."""
    reset(task.environment, 0)
    perturber.change(task.environment)
    for _ in range(SETTLE):
        task.environment.step(REST)
    sim = task.environment.sim
    with Cameras(sim.model._model, side) as cameras:
        picture = perturber.picture(cameras.look(sim.data._data, "agentview")[0])[::-1]
    cell = Image.new("RGB", (side + 2, side + LINE + 2), "white")
    draw = ImageDraw.Draw(cell)
    draw.text((2, 1), title, fill="black")
    cell.paste(Image.fromarray(np.ascontiguousarray(picture)), (0, LINE))
    said = perturber.instruction(task.instruction)
    if said != task.instruction:
        draw.multiline_text((3, LINE + 3), "\n".join(_wrapped(said, side // 6)), fill="black")
    return np.asarray(cell)


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width)


if __name__ == "__main__":
    main()
