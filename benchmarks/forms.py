"""Episodes and frames read per second on one core, for each form in which datasets lie on disk; beside others' loaders
on the same files.

    python benchmarks/forms.py [--episodes 6] [--frames 120] [--tensorflow PYTHON] [--lerobot PYTHON]

Files are made with pictures of the shipped LIBERO episodes, enlarged to each form's usual size. Reading ends with all
frames of all cameras as RGB, states and actions as NumPy arrays (torch tensors for lerobot), episode after episode, in
one process bound to one core. ``--tensorflow`` and ``--lerobot`` name the Python of an environment in which tensorflow
and tensorflow-datasets, or lerobot, are installed; they run in a process of their own, one after the other with ours,
on the same files. CPU time is given, because a shared machine's clock says little; the median of the runs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

os.environ.setdefault("SVT_LOG", "1")  # its encoder talks much
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # the fixtures write these forms for the tests

PEAK = """
def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
"""
TENSORFLOW = (
    PEAK
    + """
import json, os, sys, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.sched_setaffinity(0, {int(sys.argv[3])})
import numpy as np, tensorflow as tf, tensorflow_datasets as tfds
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
builder = tfds.builder_from_directory(sys.argv[1])
options = tfds.ReadConfig(
    interleave_cycle_length=1, num_parallel_calls_for_interleave_files=1, num_parallel_calls_for_decode=1
)
def read():
    frames = 0
    for episode in builder.as_dataset(split="train", shuffle_files=False, read_config=options):
        for step in episode["steps"].as_numpy_iterator():
            frames += 1
    return frames
runs = []
for run in range(int(sys.argv[2]) + 1):
    start = time.process_time()
    frames = read()
    runs.append(time.process_time() - start)
version = f"tensorflow {tf.__version__}, tensorflow-datasets {tfds.__version__}"
print(json.dumps({"runs": runs[1:], "frames": frames, "version": version, "mib": peak()}))
"""
)

LEROBOT = (
    PEAK
    + """
import json, os, sys, time
os.sched_setaffinity(0, {int(sys.argv[3])})
os.environ["HF_HUB_OFFLINE"] = "1"
import torch
torch.set_num_threads(1)
from importlib.metadata import version
from pathlib import Path
from lerobot.datasets.lerobot_dataset import LeRobotDataset
data = LeRobotDataset("bench/bench", root=Path(sys.argv[1]), video_backend=sys.argv[4])
def read():
    frames = 0
    for item in torch.utils.data.DataLoader(data, batch_size=None, num_workers=0):
        frames += 1
    return frames
runs = []
for run in range(int(sys.argv[2]) + 1):
    start = time.process_time()
    frames = read()
    runs.append(time.process_time() - start)
print(json.dumps({"runs": runs[1:], "frames": frames, "version": f"lerobot {version('lerobot')}, {sys.argv[4]}",
                  "mib": peak()}))
"""
)


@dataclass(frozen=True)
class Rate:
    """What one way of reading did; ``pictures`` are frames of all cameras."""

    way: str
    episodes: int
    frames: int
    pictures: int
    seconds: float
    mib: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=6)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tensorflow", type=Path)
    parser.add_argument("--lerobot", type=Path)
    parser.add_argument("--only", choices=sorted(WRITERS))
    parser.add_argument("--read", nargs=2, metavar=("DATASET", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    core = min(os.sched_getaffinity(0))
    if args.read:
        os.sched_setaffinity(0, {core})
        print(json.dumps(read_all(*args.read, args.runs)))
        return
    from machine import describe

    print(describe())
    print(f"{args.episodes} episodes of {args.frames} frames, one core, CPU time, median of {args.runs} runs")
    with tempfile.TemporaryDirectory() as folder:
        for name in [args.only] if args.only else WRITERS:
            dataset, cameras, write = WRITERS[name]
            made = Path(folder) / name
            write(made, args.episodes, args.frames)
            ours = run([sys.executable, __file__, "--read", dataset, made, "--runs", str(args.runs)])
            rates = [rate_of(name, args.episodes, cameras, ours)]
            if name.startswith("RLDS"):
                rates += other(args.tensorflow, "tensorflow", TENSORFLOW, made / "droid/1.0.1", args, core, cameras, [])
            if name.startswith("LeRobot") and "PNG" not in name:
                for backend in ("pyav", "torchcodec"):
                    rates += other(args.lerobot, "lerobot", LEROBOT, made, args, core, cameras, [backend])
            show(rates)


def other(
    python: Path | None,
    name: str,
    code: str,
    folder: Path,
    args: argparse.Namespace,
    core: int,
    cameras: int,
    more: list[str],
) -> list[Rate]:
    """Somebody else's loader on the same files, in its own environment; nothing where there is none."""
    if python is None:
        print(f"  {name} is absent: name its environment's Python with --{name}")
        return []
    try:
        told = run([python, "-c", code, folder, str(args.runs), str(core), *more])
    except subprocess.CalledProcessError as error:
        said = (error.stderr or "").strip().splitlines()[-1:]
        print(f"  {name} {' '.join(more)} could not read these files: {' '.join(said)}")
        return []
    return [rate_of(told["version"], args.episodes, cameras, told)]


def run(words: Sequence[object]) -> dict:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    made = subprocess.run(
        [str(w) for w in words], check=True, capture_output=True, text=True, env=environment, cwd=ROOT
    )
    return json.loads(made.stdout.strip().splitlines()[-1])


def rate_of(way: str, episodes: int, cameras: int, told: dict) -> Rate:
    return Rate(way, episodes, told["frames"], told["frames"] * cameras, statistics.median(told["runs"]), told["mib"])


def show(rates: list[Rate]) -> None:
    ours = rates[0].seconds
    for number, rate in enumerate(rates):
        beside = "" if number == 0 else f"   ours is {rate.seconds / ours:.1f} times as fast"
        print(
            f"  {rate.way:<58}{rate.episodes / rate.seconds:8.2f} episodes/s {rate.frames / rate.seconds:8.0f} "
            "frames/s "
            f"{rate.pictures / rate.seconds:8.0f} pictures/s {rate.mib:6.0f} MiB{beside}"
        )


def read_all(dataset: str, folder: str, runs: int) -> dict:
    """Read every episode of a folder, ``runs`` times after one that warms caches."""
    from schemas.episode import EpisodeRef
    from schemas.plugins import load_plugin

    cv2.setNumThreads(1)
    module = load_plugin("pipeline.readers", dataset)
    reader = module.build(module.Config())
    seconds, frames = [], 0
    for _ in range(runs + 1):
        start, frames = time.process_time(), 0
        for ref in reader.list_episodes(Path(folder)):
            if not isinstance(ref, EpisodeRef):
                raise SystemExit(str(ref))
            episode = reader.read(ref)
            for view in episode.views.values():
                assert view.frames.shape[0] == episode.length
            frames += episode.length
        seconds.append(time.process_time() - start)
    return {
        "runs": seconds[1:],
        "frames": frames,
        "mib": peak(),
    }


def peak() -> float:
    """The most memory that this process had, MiB. (What getrusage says includes the process that started it.)"""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def film(camera: str, episode: int, length: int, width: int, height: int) -> np.ndarray:
    """Frames of a shipped episode, enlarged; forwards, then backwards, and so on."""
    import h5py

    (path,) = (ROOT / "data" / "libero").rglob("*.hdf5")
    with h5py.File(path) as file:
        demos = sorted(file["data"])  # pyright: ignore[reportArgumentType]
        # pyright: ignore[reportIndexIssue]
        shown = file[f"data/{demos[episode % len(demos)]}/obs/{camera}"][:][:, ::-1]
    swing = np.concatenate([np.arange(len(shown)), np.arange(len(shown))[::-1]])
    order = swing[np.arange(length) % len(swing)]
    return np.stack([cv2.resize(shown[i], (width, height), interpolation=cv2.INTER_CUBIC) for i in order])


def write_hdf5(folder: Path, episodes: int, length: int) -> None:
    from fixtures.libero import Demo, write_file

    folder.mkdir(parents=True)
    write_file(
        folder / "bench_demo.hdf5", [Demo(n, n % 2, 0, min(length, 43)) for n in range(episodes)]
    )  # no longer than the shipped ones


def write_droid_rlds(folder: Path, episodes: int, length: int) -> None:
    from fixtures.rlds import jpeg, write_rlds
    from test_droid_reader import CAMERAS, features_of, step_of

    made = []
    for number in range(episodes):
        films = [film(c, number, length, 320, 180) for c in ("agentview_rgb", "agentview_rgb", "eye_in_hand_rgb")]
        steps = []
        for t in range(length):
            step = step_of(t, ("lift the pot", "", ""))
            for name, frames in zip(CAMERAS, films, strict=True):
                step["observation"][name] = jpeg(frames[t])
            steps.append(step)
        metadata = {"file_path": "x/success/y/z/trajectory.h5", "recording_folderpath": "x"}
        metadata |= {f"extrinsics_{n}": np.ones(6) for n in ("wrist_cam", "exterior_cam_1", "exterior_cam_2")}
        made.append({"steps": steps, "episode_metadata": metadata})
    write_rlds(folder / "droid" / "1.0.1", features_of("1.0.1"), made, "r2d2_faceblur-train")


def write_libero_lerobot(folder: Path, episodes: int, length: int, codec: str, image: bool = False) -> None:
    from fixtures.lerobot import encode_video, write_lerobot

    keys = {"observation.images.image": "agentview_rgb", "observation.images.wrist_image": "eye_in_hand_rgb"}
    made = []
    for number in range(episodes):
        films = {key: film(camera, number, length, 256, 256) for key, camera in keys.items()}
        columns = {
            "observation.state": np.random.default_rng(number).random((length, 8), dtype=np.float32),
            "action": np.random.default_rng(number).random((length, 7), dtype=np.float32),
        }
        made.append({"task": "lift the pot", "image" if image else "video": films, "columns": columns})
    write_lerobot(folder, "v2.1", made, codec=codec or "libx264")
    for number, episode in enumerate(
        made
    ):  # again, as lerobot itself encodes: key frames two apart, which is best for random access
        for key, frames in episode.get("video", {}).items():
            path = folder / f"videos/chunk-000/{key}/episode_{number:06d}.mp4"
            encode_video(path, frames, 20.0, codec, {"crf": "30", "g": "2"})
    describe_for_lerobot(folder, episodes, length, keys)


def describe_for_lerobot(folder: Path, episodes: int, length: int, keys: dict[str, str]) -> None:
    """What lerobot's own loader asks for beside the format's description: totals, splits, and statistics of each
    episode.
    """
    path = folder / "meta" / "info.json"
    info = json.loads(path.read_bytes())
    info |= {
        "total_tasks": 1,
        "total_videos": episodes * len(keys),
        "total_chunks": 1,
        "splits": {"train": f"0:{episodes}"},
    }
    usual = {"timestamp": "float32"} | dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), "int64")
    info["features"] |= {key: {"dtype": dtype, "shape": [1], "names": None} for key, dtype in usual.items()}
    path.write_text(json.dumps(info))
    stats = {}
    for key, feature in info["features"].items():
        one = [[[0.0]]] * 3 if key in keys else [0.0] * feature["shape"][0]
        stats[key] = dict.fromkeys(("min", "max", "mean", "std"), one) | {"count": [length]}
    lines = [{"episode_index": number, "stats": stats} for number in range(episodes)]
    (folder / "meta" / "episodes_stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_bridge_raw(folder: Path, episodes: int, length: int) -> None:
    import pickle

    from fixtures.rlds import jpeg

    for number in range(episodes):
        place = folder / f"bridge_data_v2/kitchen/task/01/2022-03-04_14-36-57/raw/traj_group0/traj{number}"
        (place / "images0").mkdir(parents=True)
        for t, frame in enumerate(film("agentview_rgb", number, length, 640, 480)):
            (place / "images0" / f"im_{t}.jpg").write_bytes(jpeg(frame).getvalue())
        (place / "obs_dict.pkl").write_bytes(pickle.dumps({"full_state": np.zeros((length, 7))}))
        actions = [{"actions": np.zeros(7), "new_robot_transform": np.eye(4)} for _ in range(length - 1)]
        (place / "policy_out.pkl").write_bytes(pickle.dumps(actions))


def write_droid_raw(folder: Path, episodes: int, length: int) -> None:
    import test_droid_raw as raw

    raw.T, raw.HAND = length, np.zeros((length, 3))
    raw.pictures = lambda seed, count=length: film("agentview_rgb", seed, length, 1280, 720)
    for number in range(episodes):
        raw.write(folder, f"AUTOLab/success/2023-07-07/Fri_Jul__7_10:30:{number:02d}_2023")


Writer = Callable[[Path, int, int], None]
WRITERS: dict[str, tuple[str, int, Writer]] = {
    "HDF5 (LIBERO, 2 x 128 x 128)": ("libero", 2, write_hdf5),
    "RLDS (DROID, 3 x 320 x 180 JPEG)": ("droid", 3, write_droid_rlds),
    "LeRobot (LIBERO, 2 x 256 x 256, H.264)": ("libero", 2, lambda f, e, n: write_libero_lerobot(f, e, n, "libx264")),
    "LeRobot (LIBERO, 2 x 256 x 256, AV1)": ("libero", 2, lambda f, e, n: write_libero_lerobot(f, e, n, "libsvtav1")),
    "LeRobot (LIBERO, 2 x 256 x 256, PNG in the table)": (
        "libero",
        2,
        lambda f, e, n: write_libero_lerobot(f, e, n, "", True),
    ),
    "Bridge raw (640 x 480 JPEG)": ("bridge", 1, write_bridge_raw),
    "DROID raw (3 x 1280 x 720 MPEG-4, read at a quarter)": ("droid", 3, write_droid_raw),
}


if __name__ == "__main__":
    main()
