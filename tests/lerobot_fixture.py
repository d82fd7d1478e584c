"""LeRobot datasets of versions 2.0, 2.1 and 3.0, written from the format's description with PyArrow and PyAV."""

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SAMPLE = Path(__file__).parent / "samples" / "lerobot_v20"
AV1_SAMPLE = Path(__file__).parent / "samples" / "libero_goal_wrist_av1.mp4"


def encode_video(
    path: Path, frames: np.ndarray, fps: float, codec: str = "libx264", options: Mapping[str, str] | None = None
) -> None:
    """Write T x H x W x 3 frames; nearly without loss, if the encoder's options do not say otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rate = Fraction(fps).limit_denominator(1000)
    with av.open(str(path), "w") as container:
        fine = {"crf": "12", "preset": "8"} if codec == "libsvtav1" else {"crf": "4", "g": "5", "preset": "veryfast"}
        stream = container.add_stream(codec, rate=rate, options=dict(options or fine))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())


def png(image: np.ndarray) -> dict[str, Any]:
    """A picture as a feature of dtype ``image`` holds it."""
    ok, data = cv2.imencode(".png", image[..., ::-1])
    assert ok
    return {"bytes": data.tobytes(), "path": "frame.png"}


def moving(length: int, height: int = 64, width: int = 96, seed: int = 0) -> np.ndarray:
    """Frames of a smooth picture with a red top left corner and a bright bar that tells which frame it is."""
    rng = np.random.default_rng(seed)
    picture = cv2.resize(rng.integers(40, 200, (4, 6, 3), dtype=np.uint8), (width, height))
    picture[: height // 4, : width // 4] = (240, 20, 20)
    frames = np.repeat(picture[None], length, 0)
    for number in range(length):
        left = number * 4 % (width - 8)
        frames[number, -height // 4 :, left : left + 8] = 255
    return frames


def write_lerobot(
    folder: Path,
    version: str,
    episodes: Sequence[Mapping[str, Any]],
    fps: float = 20.0,
    codec: str = "libx264",
) -> Path:
    """Write a dataset.

    Args:
        version: ``v2.0``, ``v2.1`` or ``v3.0``; 3.0 puts all episodes into one file.
        episodes: for each ``task``, and by key: ``video`` and ``image`` with frames, ``columns`` with arrays or lists of text.
    """
    tables, tasks, start = [], list(dict.fromkeys(e["task"] for e in episodes)), 0
    for number, episode in enumerate(episodes):
        columns = {key: _column(values) for key, values in episode["columns"].items()}
        columns |= {key: pa.array([png(image) for image in frames]) for key, frames in episode.get("image", {}).items()}
        length = len(next(iter(columns.values())))
        counted = np.arange(length)
        columns["timestamp"] = pa.array((counted / fps).astype(np.float32))
        columns["frame_index"] = pa.array(counted)
        columns["episode_index"] = pa.array(np.full(length, 0 if version == "v3.0" else number))  # not unique in v3.0
        columns["index"] = pa.array(start + counted)
        columns["task_index"] = pa.array(np.full(length, tasks.index(episode["task"])))
        tables.append(pa.table(columns))
        start += length
    (folder / "meta").mkdir(parents=True, exist_ok=True)
    (folder / "meta" / "info.json").write_text(json.dumps(_info(version, episodes, tables, fps), indent=1))
    write = _write_v3 if version == "v3.0" else _write_v2
    write(folder, episodes, tables, tasks, fps, codec)
    return folder


def _column(values: Any) -> pa.Array:
    return pa.array(values.tolist()) if isinstance(values, np.ndarray) and values.ndim > 1 else pa.array(values)


def _info(version: str, episodes: Sequence[Mapping[str, Any]], tables: list[pa.Table], fps: float) -> dict[str, Any]:
    features = {}
    for dtype in ("video", "image"):
        for key, frames in episodes[0].get(dtype, {}).items():
            features[key] = {"dtype": dtype, "shape": list(frames.shape[1:]), "names": ["height", "width", "channel"]}
    for key, values in episodes[0]["columns"].items():
        array = np.asarray(values)
        features[key] = {"dtype": array.dtype.name, "shape": list(array.shape[1:]) or [1], "names": None}
    data, video = (
        "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        ("videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"),
    )
    if version == "v3.0":
        data = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        video = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    return {
        "codebase_version": version,
        "robot_type": "franka",
        "total_episodes": len(episodes),
        "total_frames": sum(t.num_rows for t in tables),
        "chunks_size": 1000,
        "fps": fps,
        "data_path": data,
        "video_path": video,
        "features": features,
    }


def _write_v2(folder, episodes, tables, tasks, fps, codec) -> None:
    lines = [{"task_index": i, "task": task} for i, task in enumerate(tasks)]
    (folder / "meta" / "tasks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    lines = []
    for number, (episode, table) in enumerate(zip(episodes, tables, strict=True)):
        lines.append({"episode_index": number, "tasks": [episode["task"]], "length": table.num_rows})
        path = folder / f"data/chunk-000/episode_{number:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
        for key, frames in episode.get("video", {}).items():
            encode_video(folder / f"videos/chunk-000/{key}/episode_{number:06d}.mp4", frames, fps, codec)
    (folder / "meta" / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _write_v3(folder, episodes, tables, tasks, fps, codec) -> None:
    for name in ("data/chunk-000", "meta/episodes/chunk-000"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.concat_tables(tables), folder / "data/chunk-000/file-000.parquet", row_group_size=7)
    texts = pa.table({"task_index": pa.array(range(len(tasks))), "__index_level_0__": pa.array(tasks)})
    pq.write_table(texts, folder / "meta/tasks.parquet")
    for key in episodes[0].get("video", {}):
        together = np.concatenate([episode["video"][key] for episode in episodes])
        encode_video(folder / f"videos/{key}/chunk-000/file-000.mp4", together, fps, codec)
    rows, start = [], 0
    for number, (episode, table) in enumerate(zip(episodes, tables, strict=True)):
        end = start + table.num_rows
        row = {"episode_index": number, "tasks": [episode["task"]], "length": table.num_rows}
        row |= {"data/chunk_index": 0, "data/file_index": 0, "dataset_from_index": start, "dataset_to_index": end}
        for key in episode.get("video", {}):
            row |= {f"videos/{key}/{name}": 0 for name in ("chunk_index", "file_index")}
            row |= {f"videos/{key}/from_timestamp": start / fps, f"videos/{key}/to_timestamp": end / fps}
        rows.append(row)
        start = end
    pq.write_table(pa.Table.from_pylist(rows), folder / "meta/episodes/chunk-000/file-000.parquet")
