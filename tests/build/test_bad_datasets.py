"""Broken episodes among good ones, built by the command: each named and counted by reason, and the good ones' samples
are the bytes that they are without them."""

import contextlib
import io
import json
import os
import pickle
import shutil
import sys
from collections import Counter
from unittest.mock import patch

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow_datasets as tfds
import yaml
from fixtures.lerobot import encode_video, write_lerobot
from fixtures.libero import samples_of
from fixtures.rlds import jpeg, write_rlds

from jobs.lamp_data import main
from pipeline.formats.tfrecord import index_records
from schemas.manifest import EPISODES, read_manifest

LENGTH, HEIGHT, WIDTH = 14, 48, 64
WORDS = (
    "--stride",
    "2",
    "--horizon-steps",
    "8",
    "--grid",
    "6",
    "--executor",
    "local",
    "--json",
    "--max-quarantined",
    "1",
)
MAPPING = {
    "name": "set",
    "licence": "mine",
    "fps": 10,
    "primary": "front",
    "language": "task_index",
    "cameras": {"front": {"fixed": True, "fov_y": 45, "depth": {"key": "depth", "metres_per_unit": 0.001}}},
    "action": {"convention": "x", "description": "x", "parts": {"key": "action"}},
}


def place(number):
    return 6 + 2 * number


def scene(length=LENGTH):
    """A wall with a card that moves before it, and the depth of both in millimetres."""
    rng = np.random.default_rng(0)
    wall = cv2.resize(
        rng.integers(30, 220, (12, 16, 3), dtype=np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
    )
    card = cv2.resize(rng.integers(30, 220, (6, 6, 3), dtype=np.uint8), (22, 22), interpolation=cv2.INTER_CUBIC)
    frames, depth = np.repeat(wall[None], length, 0), np.full((length, HEIGHT, WIDTH), 1200, np.uint16)
    for number in range(length):
        frames[number, 14:36, place(number) : place(number) + 22] = card
        depth[number, 14:36, place(number) : place(number) + 22] = 900
    return frames, depth


def png(image):
    return {"bytes": cv2.imencode(".png", image)[1].tobytes(), "path": "x.png"}


def build(root, *words):
    """The summary of a build of ``root/data`` into ``root/out``, as typed, in this process."""
    told = io.StringIO()
    typed = ["lamp-data", "build", "--input", "data", "--output", "out", *words, *WORDS]
    with (
        contextlib.chdir(root),
        contextlib.redirect_stdout(told),
        patch.object(sys, "argv", typed),
        pytest.raises(SystemExit) as end,
    ):
        main()
    assert end.value.code == 0
    return json.loads(told.getvalue())


def check(bad, good, defects, *words):
    """Build with and without the broken ones."""
    summary = build(bad, *words)
    found = {f"{q['source']}:{q['episode']}": q for q in summary["quarantined"]}
    for name, (code, says) in defects.items():
        (key,) = [key for key in found if name in key]
        assert found[key]["code"] == code and says in found[key]["message"] and "\n" not in found[key]["message"], name
    assert len(found) == len(defects)
    counts = read_manifest(bad / "out").counts["quarantined"]
    assert counts == dict(Counter(code for code, _ in defects.values()))
    lines = [json.loads(line) for line in (bad / "out" / EPISODES).read_bytes().splitlines()]
    assert sum("quarantined" in line for line in lines) == len(defects)
    alone = build(good, *words)
    assert not alone["quarantined"] and samples_of(bad / "out") == samples_of(good / "out") != {}


# What is done to an episode of a LeRobot set: its code, and what the sentence says.
LEROBOT = {
    "missing": ("missing_video", "there is no file"),
    "corrupt": ("bad_video", "cannot be decoded"),
    "short": ("video_too_short", "ends after 9 of the episode's 14 frames"),
    "long": ("video_too_long", "more frames than the 14 rows"),
    "late": ("timestamps_off", "from row 6 to the next 0.300 s pass"),
    "rows": ("rows_mismatch", "its file has 13 rows"),
    "parquet": ("unreadable_episode", "cannot be read as parquet"),
    "black": ("black_camera", "every frame of front is black"),
    "picture": ("bad_depth", "depth"),
}


def spoil(folder, number, kind):
    """Break one episode of a written set."""
    video = folder / f"videos/chunk-000/front/episode_{number:06d}.mp4"
    table = folder / f"data/chunk-000/episode_{number:06d}.parquet"
    frames, _ = scene(LENGTH + 1)
    if kind == "missing":
        video.unlink()
    elif kind == "corrupt":
        video.write_bytes(b"\0" * 2000)
    elif kind in ("short", "long", "black"):
        shown = {"short": frames[:9], "long": frames, "black": np.zeros_like(frames[:LENGTH])}[kind]
        encode_video(video, shown, 10.0)
    elif kind == "parquet":
        table.write_bytes(table.read_bytes()[:-200])
    else:
        read = pq.read_table(table)
        if kind == "rows":
            read = read.slice(0, LENGTH - 1)
        elif kind == "late":
            times = read["timestamp"].to_numpy().copy()
            times[7:] += 0.2
            read = read.set_column(read.schema.get_field_index("timestamp"), "timestamp", [times])
        else:
            pictures = read["depth"].to_pylist()
            pictures[3]["bytes"] = pictures[3]["bytes"][:60]
            read = read.set_column(read.schema.get_field_index("depth"), "depth", [pictures])
        pq.write_table(read, table)


def write_set(folder, count):
    frames, depth = scene()
    columns = {"action": np.ones((LENGTH, 2), np.float32), "depth": [png(image) for image in depth]}
    episode = {"task": "move the card", "video": {"front": frames}, "columns": columns}
    write_lerobot(folder, "v2.1", [episode] * count, 10.0)
    info = json.loads((folder / "meta/info.json").read_bytes())
    info["features"]["depth"] = {"dtype": "image", "shape": [HEIGHT, WIDTH, 1], "names": None}
    (folder / "meta/info.json").write_text(json.dumps(info))


def keep_only(folder, numbers):
    """Have the set describe these episodes and no others."""
    path = folder / "meta/episodes.jsonl"
    lines = [line for line in path.read_text().splitlines() if json.loads(line)["episode_index"] in numbers]
    path.write_text("".join(line + "\n" for line in lines))
    info = json.loads((folder / "meta/info.json").read_bytes())
    (folder / "meta/info.json").write_text(json.dumps({**info, "total_episodes": len(lines)}))


def test_a_lerobot_set_with_broken_episodes(tmp_path):
    """The first and the last are well; another is listed twice."""
    bad, good, last = tmp_path / "bad", tmp_path / "good", len(LEROBOT) + 1
    write_set(bad / "data/set", last + 1)
    shutil.copytree(bad, good)
    keep_only(good / "data/set", {0, last})
    for number, kind in enumerate(LEROBOT, 1):
        spoil(bad / "data/set", number, kind)
    path = bad / "data/set/meta/episodes.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    info = json.loads((bad / "data/set/meta/info.json").read_bytes())
    (bad / "data/set/meta/info.json").write_text(json.dumps({**info, "total_episodes": last + 2}))
    for root in (bad, good):
        (root / "my.yaml").write_text(yaml.safe_dump(MAPPING))
    defects = {f"episode_{number:06d}": LEROBOT[kind] for number, kind in enumerate(LEROBOT, 1)}
    defects["info.json"] = ("duplicate_episode", "episode 0 is listed twice")
    check(bad, good, defects, "--dataset", "my.yaml")


class Runs:
    def __reduce__(self):
        return os.system, ("touch hostile",)


RAW = {
    "traj1": ("hostile_pickle", "nothing of it was run"),
    "traj2": ("bad_pickle", "policy_out.pkl cannot be read"),
    "traj3": ("bad_picture", "images0, frame 4, is a JPEG picture"),
    "traj4": ("rows_mismatch", "im_5.jpg is missing"),
    "traj5": ("missing_file", "has no policy_out.pkl"),
    "traj6": ("black_camera", "images0 is black"),
    "traj7": ("bad_depth", "im_2.png must be 16-bit"),
}


def write_trajectory(folder, black=False):
    frames, depth = scene()
    for name in ("images0", "depth_images0"):
        (folder / name).mkdir(parents=True)
    for number in range(LENGTH):
        (folder / f"images0/im_{number}.jpg").write_bytes(jpeg(frames[number] * (not black)).getvalue())
        (folder / f"depth_images0/im_{number}.png").write_bytes(png(depth[number])["bytes"])
    (folder / "obs_dict.pkl").write_bytes(pickle.dumps({"full_state": np.ones((LENGTH, 7))}))
    (folder / "policy_out.pkl").write_bytes(pickle.dumps([{"actions": np.ones(7)}] * (LENGTH - 1)))
    (folder / "lang.txt").write_text("move the card\nconfidence: 0.9\n")


def test_raw_bridge_folders_with_broken_trajectories(tmp_path):
    bad, good = tmp_path / "bad", tmp_path / "good"
    group = "data/bridge_data_v2/kitchen/task/01/2022-03-04_14-36-57/raw/traj_group0"
    for name in ("traj0", "traj8"):
        write_trajectory(good / group / name)
    shutil.copytree(good, bad)
    for name in RAW:
        write_trajectory(bad / group / name, black=name == "traj6")
    place = bad / group
    (place / "traj1/obs_dict.pkl").write_bytes(pickle.dumps({"full_state": Runs()}))
    (place / "traj2/policy_out.pkl").write_bytes((place / "traj2/policy_out.pkl").read_bytes()[:40])
    picture = place / "traj3/images0/im_4.jpg"
    picture.write_bytes(picture.read_bytes()[:400])
    (place / "traj4/images0/im_5.jpg").unlink()
    (place / "traj5/policy_out.pkl").unlink()
    cv2.imwrite(str(place / "traj7/depth_images0/im_2.png"), np.zeros((HEIGHT, WIDTH), np.uint8))
    check(
        bad,
        good,
        RAW,
        *("--dataset", "bridge", "--dataset-options", "depth_unit=0.001"),
        "--camera-options",
        "fov_y=45",
    )
    assert not (bad / "hostile").exists()


def write_records(folder, count):
    """An RLDS set, as tensorflow-datasets writes it; gives its file."""
    frames, depth = scene()
    step = {
        "front": tfds.features.Image(shape=(HEIGHT, WIDTH, 3), encoding_format="jpeg"),
        "depth": tfds.features.Tensor(shape=(HEIGHT, WIDTH, 1), dtype=np.float32),
        "action": tfds.features.Tensor(shape=(2,), dtype=np.float32),
        "text": tfds.features.Text(),
    }
    features = tfds.features.FeaturesDict({"steps": tfds.features.Dataset(step)})

    def steps():
        for frame, z in zip(frames, depth, strict=True):
            picture, far = jpeg(frame), z[..., None].astype(np.float32)
            yield {"front": picture, "depth": far, "action": np.ones(2, np.float32), "text": "move it"}

    return write_rlds(folder, features, [{"steps": list(steps())} for _ in range(count)], "set-train")


def test_records_that_are_damaged_or_not_what_is_promised(tmp_path):
    """One set has a wrong checksum in its second record and ends within its fourth; another's features.json promises
    longer actions.
    """
    bad, good = tmp_path / "bad", tmp_path / "good"
    write_records(good / "data/a/1.0.0", 3)
    path = write_records(bad / "data/a/1.0.0", 4)
    spans, raw = index_records(path).spans, bytearray(path.read_bytes())
    raw[spans[1][0] + spans[1][1] // 2] ^= 1
    path.write_bytes(raw[: spans[3][0] + 500])
    write_records(bad / "data/b/1.0.0", 1)
    described = bad / "data/b/1.0.0/features.json"
    described.write_text(
        described.read_text().replace('"dimensions": ["2"]', '"dimensions": ["3"]').replace('"2"', '"3"')
    )
    mapping = {**MAPPING, "primary": "steps/front", "language": "steps/text"}
    mapping["cameras"] = {
        "steps/front": {**MAPPING["cameras"]["front"], "depth": {"key": "steps/depth", "metres_per_unit": 0.001}}
    }
    mapping["action"] = {**MAPPING["action"], "parts": {"key": "steps/action"}}
    for root in (bad, good):
        (root / "my.yaml").write_text(yaml.safe_dump(mapping))
    defects = {
        "a/1.0.0/set-train.tfrecord-00000-of-00001:record_1": ("damaged_record", "its checksum is"),
        "a/1.0.0/set-train.tfrecord-00000-of-00001:": ("damaged_records", "it ends within record 3"),
        "b/1.0.0/set-train.tfrecord-00000-of-00001:record_0": ("features_mismatch", "promises [14, 3] numbers"),
    }
    summary = build(bad, "--dataset", "my.yaml")
    found = {f"{q['source']}:{q['episode']}": q for q in summary["quarantined"]}
    assert {key: q["code"] for key, q in found.items()} == {key: code for key, (code, _) in defects.items()}
    assert all(says in found[key]["message"] for key, (_, says) in defects.items())
    assert read_manifest(bad / "out").counts["quarantined"] == dict(Counter(code for code, _ in defects.values()))
    alone, kept = (
        samples_of(root / "out") for root in (good, bad) if root == bad or build(good, "--dataset", "my.yaml")
    )
    assert kept and set(kept.items()) < set(alone.items()), (
        "the records before and after the damaged one are as they were"
    )
