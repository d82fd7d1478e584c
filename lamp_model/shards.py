"""Finished shards as a sequence of decoded samples, for any training code; needs numpy only, no torch."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from lamp_model.data.dataset import TrainingData
from schemas.jpeg import START, decode_jpeg
from schemas.locations import locate
from schemas.shard_formats import CorruptShard
from schemas.triplet import Triplet


class Shards:
    """The samples of a build or of a mixture, decoded; see ``open_shards``.

    It can be pickled to other processes, which open the files again.
    """

    def __init__(self, path: Path):
        self.path = path
        self._data: TrainingData | None = TrainingData(path)
        self._length = len(self._data)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int) -> dict[str, Any]:
        """One sample (``decoded``); negative numbers count from the end.

        Raises:
            CorruptShard: it is damaged, by name.
            IndexError: there is no such sample.
        """
        place = int(number) + (self._length if number < 0 else 0)
        if not 0 <= place < self._length:
            raise IndexError(f"sample {number} of {self._length}")
        return decoded(self._opened().read(place))

    def triplet(self, number: int) -> Triplet:
        """One sample with all its fields; images stay encoded."""
        return self._opened().read(number)

    def close(self) -> None:
        """Close the files; they are opened again when they are needed."""
        if self._data is not None:
            self._data.close()
        self._data = None

    def _opened(self) -> TrainingData:
        if self._data is None:
            self._data = TrainingData(self.path)
        return self._data

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_length": self._length, "_data": None}


def open_shards(path: str | Path) -> Shards:
    """Open what ``lamp-data build`` has made.

    Args:
        path: a folder of shards, its ``manifest.json``, or the folder of a mixture; or the URL of one, such as
            ``s3://bucket/shards`` (docs/object-stores.md).

    Returns:
        A sequence: ``len(shards)`` and ``shards[i]``, a dict of numpy arrays (``decoded``). A torch ``DataLoader``
        takes it as it is, with workers, forked or spawned.

    Raises:
        BadManifest: the build or mixture is not finished, or its manifest is damaged.
        CorruptShard: a shard is missing or damaged, by name.
        ValueError: the path is a URL of no known kind.
        StoreFailed: the store of a URL cannot be read.
    """
    return Shards(locate(path))


def decoded(triplet: Triplet) -> dict[str, Any]:
    """A sample as numpy arrays, numbers and texts.

    Always there (K keypoints, T steps, H actions, S and A their widths):

    * ``image`` uint8 [height, width, 3]: the reference frame, upright RGB; every other picture under its role, such as
      ``wrist``.
    * ``instruction``: the first text of the episode's own, ``""`` where it has none.
    * ``flow`` float32 [K, T, 3]: increments (du, dv, dz) of each step; u and v in shares of width and height, z in
      ``depth_unit``; zero where ``flow_mask`` bool [K, T] is false.
    * ``positions`` float32 [K, T + 1, 3]: (u, v, z) in the camera of the reference frame; ``visible`` and ``valid``
      bool [K, T + 1]; ``point_flags`` uint8 [K] (``schemas.scene_flow.PointFlag``).
    * ``state`` float32 [S]; ``actions`` float32 [H, A], raw, with ``action_mask`` bool [H].
    * ``intrinsics`` float32 [3, 3], in pixels; ``world_from_camera`` float32 [T + 1, 4, 4], OpenCV axes.
    * ``fps`` (of actions), ``step_seconds`` (of flow), ``depth_unit``: ``m`` or ``relative``.
    * ``key``, ``dataset``, ``file``, ``episode``, ``camera``, ``frame``: where it comes from.

    Where the dataset has a standard form of the actions also ``standard_actions`` and ``standard_action_mask``; in
    builds with ``--keypoints adaptive`` also ``adaptive_positions``, ``adaptive_visible``, ``adaptive_valid`` and
    ``adaptive_point_flags``, of those keypoints.
    """
    flow, source = triplet.flow, triplet.source
    increments, mask = flow.increments()
    poses = np.asarray(triplet.camera.world_from_camera, np.float32)
    sample = {
        **{role: _pixels(triplet, role) for role in triplet.images},
        "instruction": triplet.instructions[0] if triplet.instructions else "",
        "flow": increments.astype(np.float32),
        "flow_mask": mask,
        "positions": flow.uvz.astype(np.float32),
        "visible": flow.visible,
        "valid": flow.valid,
        "point_flags": triplet.point_flags,
        "state": triplet.state.astype(np.float32),
        "actions": triplet.actions.astype(np.float32),
        "action_mask": triplet.action_mask,
        "intrinsics": np.asarray(triplet.camera.intrinsics, np.float32),
        "world_from_camera": np.array(np.broadcast_to(poses, (flow.horizon + 1, 4, 4))),
        "fps": float(triplet.fps),
        "step_seconds": float(triplet.step_seconds),
        "depth_unit": triplet.depth_unit,
        "key": triplet.key,
        **{name: getattr(source, name) for name in ("dataset", "file", "episode", "camera", "frame")},
    }
    if triplet.standard_actions is not None:
        sample["standard_actions"] = triplet.standard_actions.values.astype(np.float32)
        sample["standard_action_mask"] = triplet.standard_actions.mask
    if triplet.adaptive is not None:
        more = triplet.adaptive.flow
        sample["adaptive_positions"] = more.uvz.astype(np.float32)
        sample["adaptive_visible"], sample["adaptive_valid"] = more.visible, more.valid
        sample["adaptive_point_flags"] = triplet.adaptive.point_flags
    return sample


def _pixels(triplet: Triplet, role: str) -> UInt8[np.ndarray, "H W 3"]:
    """A picture as upright RGB.

    Raises:
        CorruptShard: it does not decode.
    """
    data = triplet.images[role]
    if not data.startswith(START):
        import cv2

        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        if picture is None:
            raise CorruptShard(f"sample {triplet.key}: the picture {role!r} is a PNG that does not decode")
        return np.asarray(picture, np.uint8)
    try:
        return decode_jpeg(data)
    except ValueError as error:
        raise CorruptShard(f"sample {triplet.key}: the picture {role!r} is a JPEG picture that {error}") from error
