"""The main workflow on the shipped episodes, with the commands that a user would type: ``make demo``.

Where a simulator is installed (``make demo-sim`` installs it), the policy acts in it at the end.
"""

import os
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from schemas.scene_flow import SceneFlow
    from schemas.triplet import Triplet

FOLDER = Path("demo")
SHARDS, STAGE1, STAGE2, ACTING = FOLDER / "shards", FOLDER / "stage1", FOLDER / "stage2", FOLDER / "acting"
COMMANDS = (
    (
        f"lamp-data build --dataset libero --stride 1 --output {SHARDS}",
        "not successful: the two shipped recordings are cut before the can is in the basket (data/libero/README.md)",
    ),
    (f"lamp-data inspect {SHARDS} --picture {FOLDER}/flow.png --html {FOLDER}/flow.html --input data/libero", ""),
    (f"lamp-train --stage 1 --data {SHARDS} --output {STAGE1} --steps 300", ""),
    (f"lamp-train --stage 2 --data {SHARDS} --output {STAGE2} --motion {STAGE1}", ""),
)
"""The commands that a user would type, with notes on their output."""
ACT = (
    f"lamp-policy evaluate {STAGE2} --benchmark libero_object --tasks 0 --episodes 1 --max-steps 150 --output {ACTING}"
)
"""The shipped episodes' task, in the simulator."""


def main() -> None:
    """Build, inspect, train both stages and predict; then print what was written and where."""
    if not Path("data/libero").is_dir():
        sys.exit("the demonstration builds from the shipped episodes in data/libero: run it in a clone of the project")
    start = time.perf_counter()
    _clear()
    for command, explained in COMMANDS:
        _type(command)
        if explained:
            print(f"# {explained}", flush=True)
    print(f"\n# load_policy({str(STAGE2)!r}).predict(...) on a sample that training never saw", flush=True)
    act(FOLDER / "imagined.png")
    acted = act_in_simulator()
    print(f"\ndone in {time.perf_counter() - start:.0f} s. What was made:")
    for path, what in (
        (SHARDS, "triplet shards, their index, statistics and manifest"),
        (FOLDER / "flow.png", "flow over the images"),
        (FOLDER / "flow.html", "a page to look through: open it in a browser"),
        (STAGE1, "the Motion Expert; curves.png shows how it learned"),
        (STAGE2, "the policy; curves.png likewise"),
        (FOLDER / "imagined.png", "the flow of the episode beside what the policy imagines, with how far off that is"),
        *acted,
    ):
        print(f"  {path!s:<22} {what}")


def act(picture: Path) -> None:
    """Predict an action chunk for a held-out sample, and draw the predicted flow beside the recorded flow."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: waiting threads sleep, as in lamp-train

    from lamp_model.data.sample import decode_image
    from lamp_model.data.split import split_episodes
    from lamp_model.policy import load_policy
    from pipeline.inspection.pictures import write_picture
    from schemas.shard_set import ShardSet
    from schemas.triplet import ActionChunk

    shards, policy = ShardSet(SHARDS), load_policy(STAGE2)
    _, held_out = split_episodes(shards, 0.1)
    triplet = min((shards.read(int(n)) for n in held_out), key=lambda t: t.source.frame)
    images = [decode_image(triplet, role) for role in policy.cameras]
    actions, motion = policy.predict(images, triplet.instructions[0], triplet.state, return_motion=True)
    np.set_printoptions(precision=3, suppress=True, linewidth=120)
    print(f"{triplet.source.episode}, frame {triplet.source.frame}: {triplet.instructions[0]}")
    recorded = triplet.standard_actions or ActionChunk(triplet.actions, triplet.action_mask, triplet.action_convention)
    print(
        f"  the next {len(actions)} actions ({', '.join(recorded.convention.dimensions)}; {recorded.convention.name}):"
    )
    print("   ", str(actions).replace("\n", "\n    "))
    off = np.abs(actions - recorded.values[: len(actions)])[recorded.mask[: len(actions)]]
    print(f"  mean distance to the actions in the data: {off.mean():.3f}")
    words = imagined_words(motion, triplet)
    print(f"  {words}")
    write_picture(
        picture,
        [
            replace(triplet, instructions=(f"In the data: {triplet.instructions[0]}",)),
            replace(triplet, flow=imagined_flow(motion, triplet), instructions=(words,)),
        ],
    )


def act_in_simulator() -> list[tuple[Path, str]]:
    """Let the policy act for one episode, where a simulator is installed; what was made."""
    from lamp_model.closed_loop.benchmarks import SUITES
    from lamp_model.closed_loop.simulators import NoSimulator, find_python

    try:
        found = find_python(None, SUITES["libero_object"])
    except NoSimulator as error:
        print(f"\n# {error}")
        found = None
    if found is None:
        print("\n# the policy can act in a simulator too: make demo-sim installs one (about 1.5 GB) and shows it")
        return []
    _type(ACT)
    print(
        "# a policy of two recordings, cut before the can is in the basket, and a minute of training moves the arm and "
        "does not solve the task"
    )
    return [(ACTING / "index.html", "the policy at work in the simulator: its video, with what it imagined")]


def imagined_flow(motion: Float[np.ndarray, "K T 3"], triplet: "Triplet") -> "SceneFlow":
    """Scene flow from the predicted increments, starting at the sample's own keypoints; all are marked visible."""
    from schemas.scene_flow import SceneFlow

    start = triplet.flow.uvz[:, :1]
    everywhere = np.repeat(triplet.flow.valid[:, :1], triplet.flow.horizon + 1, axis=1)
    return SceneFlow(np.concatenate([start, start + np.cumsum(motion, axis=1)], axis=1), everywhere, everywhere)


def imagined_words(motion: Float[np.ndarray, "K T 3"], triplet: "Triplet") -> str:
    """The error of the predicted flow beside that of a flow in which nothing moves; printed with the picture."""
    from lamp_model.data.batch import Scene
    from lamp_model.training.rollout_error import RolloutErrors

    flow, camera = triplet.flow, triplet.camera
    errors = RolloutErrors()
    errors.add(motion, Scene(flow.uvz, flow.valid, camera.intrinsics, camera.size, triplet.depth_unit))
    means = errors.means()
    off, still = means["rollout_px_all"], means["still_px_all"]
    said = f"As imagined: off by {off:.1f} px on average; if nothing moved, by {still:.1f} px."
    if "rollout_px_moving" in means:
        said += f" Moving points: {means['rollout_px_moving']:.1f} px against {means['still_px_moving']:.1f}."
    return said + (" So short a training gives mostly noise." if off > still else "")


def _type(command: str) -> None:
    print(f"\n$ {command}", flush=True)
    program, *arguments = shlex.split(command)
    subprocess.run([str(Path(sys.executable).parent / program), *arguments], check=True)


def _clear() -> None:
    """Remove the output of an earlier demonstration, and nothing else."""
    import shutil

    for path in (SHARDS, STAGE1, STAGE2, ACTING):
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    main()
