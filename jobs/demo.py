"""The main job on the shipped episodes, as a person would type it: ``make demo``."""

import os
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

FOLDER = Path("demo")
SHARDS, STAGE1, STAGE2 = FOLDER / "shards", FOLDER / "stage1", FOLDER / "stage2"


def main() -> None:
    """Build, look, train both stages, act; then say what was made and where."""
    start = time.perf_counter()
    commands = [
        f"lamp-data build --dataset libero --output {SHARDS}",
        f"lamp-data inspect {SHARDS} --picture {FOLDER}/flow.png --html {FOLDER}/flow.html --input data/libero",
        f"lamp-train --stage 1 --data {SHARDS} --output {STAGE1}",
        f"lamp-train --stage 2 --data {SHARDS} --output {STAGE2} --motion {STAGE1}",
    ]
    _clear()
    for command in commands:
        print(f"\n$ {command}", flush=True)
        program, *arguments = shlex.split(command)
        subprocess.run([str(Path(sys.executable).parent / program), *arguments], check=True)
    print(f"\n# load_policy({str(STAGE2)!r}).predict(...) on a sample that training never saw", flush=True)
    act(FOLDER / "imagined.png")
    print(f"\ndone in {time.perf_counter() - start:.0f} s. What was made:")
    for path, what in (
        (SHARDS, "triplet shards, their index, statistics and manifest"),
        (FOLDER / "flow.png", "flow over the images"),
        (FOLDER / "flow.html", "a page to look through: open it in a browser"),
        (STAGE1, "the Motion Expert; curves.png shows how it learned"),
        (STAGE2, "the policy; curves.png likewise"),
        (FOLDER / "imagined.png", "the flow of the episode beside the flow that the policy imagines"),
    ):
        print(f"  {path!s:<22} {what}")


def act(picture: Path) -> None:
    """Predict an action chunk for a held-out sample and draw what the policy imagines beside what happened."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: waiting threads sleep, as in lamp-train

    from lamp_model.data.loader import split_episodes
    from lamp_model.data.sample import decode_image
    from lamp_model.policy import load_policy
    from pipeline.inspection.pictures import write_picture
    from schemas.scene_flow import SceneFlow
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
    start = triplet.flow.uvz[:, :1]
    everywhere = np.repeat(triplet.flow.valid[:, :1], triplet.flow.horizon + 1, axis=1)
    imagined = SceneFlow(np.concatenate([start, start + np.cumsum(motion, axis=1)], axis=1), everywhere, everywhere)
    write_picture(
        picture,
        [
            replace(triplet, instructions=(f"in the data: {triplet.instructions[0]}",)),
            replace(triplet, flow=imagined, instructions=(f"as imagined: {triplet.instructions[0]}",)),
        ],
    )


def _clear() -> None:
    """Remove what an earlier demonstration left, and only that."""
    import shutil

    for path in (SHARDS, STAGE1, STAGE2):
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    main()
