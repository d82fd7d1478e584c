"""Shards as zarr v3 groups: every field is an array over the samples, in one zarr shard file each.

``NAME.zarr`` holds, for N samples of K keypoints and T steps:

===================  ==================================================================================
``flow``             int16 [N, K, T, 3]: displacement from ``start`` in quanta (``schemas.flow_quanta``)
``start``            float32 [N, K, 3]
``visible, valid``   bool [N, K, T + 1]
``point_flags``      uint8 [N, K]
``actions``          float32 [N, H, A]
``standard_actions`` float32 [N, H, A], where the samples have standard actions
``adaptive_...``     ``flow``, ``start``, ``visible``, ``valid`` and ``point_flags`` of adaptive keypoints, if there are
``meta``             string [N]: the JSON of ``schemas.sample_metadata``
``pictures``         uint8 [bytes]: encoded pictures one after the other
``picture_ranges``   int64 [N, roles, 2]: begin and end in ``pictures``; the roles are the group's attribute ``roles``
``key, episode``     string [N]
``crc32c``           uint32 [N]: of the sample's decoded contents (``_checksum``)
===================  ==================================================================================

A missing zarr chunk reads as zeros without an error from zarr; the checksum of a sample detects that too.
"""

import hashlib
import os
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from schemas.errors import StoreFailed
from schemas.files import name_file, remove, sha256_of, sync_folder
from schemas.flow_quanta import dequantise, quantise
from schemas.locations import StorePath
from schemas.parallel import in_parallel
from schemas.sample_codec import decode_triplet
from schemas.sample_metadata import CorruptSample, encode_metadata, load_metadata
from schemas.sample_metadata import build_triplet as build
from schemas.shard_formats import FORMATS, INDEX_DTYPE, CorruptShard, Samples, ShardFile, UnfitSamples
from schemas.triplet import AdaptiveFlow, Triplet

SUFFIX = FORMATS["zarr"]
ROOT = "zarr.json"
"""The description of the group: without it there is no shard."""
PICTURE_CHUNK = 1 << 16
FIELDS = ("flow", "start", "visible", "valid", "point_flags", "actions")
STANDARD = "standard_actions"
ADAPTIVE = tuple(f"adaptive_{name}" for name in FIELDS[:-1])


@dataclass(frozen=True)
class Config:
    """No options."""


def write_shard(folder: Path, stem: str, samples: Samples) -> ShardFile:
    """Write ``stem.zarr``; see ``schemas.shard_formats.write_shard``.

    Raises:
        UnfitSamples: the samples differ in the shape of a field.
    """
    final = folder / f"{stem}{SUFFIX}"
    if isinstance(final, StorePath):
        return _write_stored(final, samples)
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".{stem}{SUFFIX}.{secrets.token_hex(4)}.partial"
    try:
        count = _fill(aside, samples)
        _sync(aside)
        remove(final)
        os.replace(aside, final)
        sync_folder(folder)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        name_file(error, final)
        raise
    return _written(final, count)


def _written(folder: Path, count: int) -> ShardFile:
    size = sum(f.stat().st_size for f in _files(folder))
    return ShardFile(folder.name, count, size, *shard_digests(folder))


def _write_stored(final: StorePath, samples: Samples) -> ShardFile:
    """Make a shard here and send it. What makes it a shard, the description of its group, is sent last, and removed
    first of one that stood there."""
    with tempfile.TemporaryDirectory(prefix="lamp-") as folder:
        made = Path(folder) / final.name
        try:
            count = _fill(made, samples)
            written = _written(made, count)
        except OSError as error:
            name_file(error, made)
            raise
        (final / ROOT).unlink()
        remove(final)
        names = [name for file in _files(made) if (name := file.relative_to(made).as_posix()) != ROOT]
        for _ in in_parallel(lambda name: (final / name).put(made / name), names, final):
            pass
        (final / ROOT).put(made / ROOT)
    return written


def shard_digests(path: Path) -> tuple[str, str]:
    """SHA-256 over the names and SHA-256 of the folder's files, in order; the index is inside the shard."""
    if not path.is_dir():
        raise CorruptShard(f"{path} is missing")
    total = hashlib.sha256()
    for file in _files(path):
        total.update(f"{file.relative_to(path).as_posix()} {sha256_of(file)}\n".encode())
    return total.hexdigest(), ""


def open_shard(path: Path) -> "ZarrShard":
    """See ``schemas.shard_formats.open_shard``."""
    return ZarrShard(path)


class ZarrShard:
    """An open zarr shard. In a store its samples are read by ranges, the arrays of one at the same time."""

    def __init__(self, path: Path):
        import zarr

        self.path, self.index_sha256 = path, ""
        try:
            group: Any = zarr.open_group(_place(path), mode="r", zarr_format=3)
            self._roles = [str(role) for role in group.attrs["roles"]]
            self._fields = (*FIELDS, *(name for name in (STANDARD, *ADAPTIVE) if name in group))
            self._arrays: dict[str, Any] = {n: group[n] for n in (*self._fields, "meta", "pictures")}
            self._ranges = group["picture_ranges"][:]
            self.index = _index_of(group["key"][:], group["episode"][:], group["crc32c"][:], self._ranges)
            count = self._arrays["flow"].shape[0]
        except FileNotFoundError as error:
            raise CorruptShard(f"{path} is missing or is no zarr v3 group") from error
        except StoreFailed:
            raise
        except Exception as error:  # zarr raises many types of errors for damaged metadata
            raise CorruptShard(f"{path} is no shard of triplets, or is damaged: {error!r}") from error
        if len(self.index) != count:
            raise CorruptShard(f"{path}: its arrays differ in the number of samples")

    def __len__(self) -> int:
        return len(self.index)

    def read(self, row: int, flow: bool = True) -> Triplet:
        """See ``schemas.shard_formats.Shard.read``."""
        key = self.index[row]["key"].decode()
        try:
            pictures_at = [("pictures", slice(*at)) for at in self._ranges[row].tolist()]
            asked = [*((name, row) for name in (*self._fields, "meta")), *pictures_at]
            parts = in_parallel(self._part, asked, self.path)
            fields = {name: next(parts) for name in self._fields}
            meta = str(next(parts))
            pictures = {role: part.tobytes() for role, part in zip(self._roles, parts, strict=True) if part.size}
        except StoreFailed:
            raise
        except Exception as error:  # zarr raises many types of errors for damaged data
            raise CorruptShard(f"{self.path}: sample {key} is damaged: {error!r}") from error
        episode = self.index[row]["episode"].decode()
        if _checksum(key, episode, meta.encode(), fields, pictures) != self.index[row]["crc32c"]:
            raise CorruptShard(f"{self.path}: sample {key} is damaged: its CRC-32C differs from the index")
        try:
            return _triplet(key, load_metadata(key, meta.encode()), fields, pictures, flow)
        except CorruptSample as error:
            raise CorruptShard(f"{self.path}: {error}") from error

    def _part(self, asked: tuple[str, int | slice]) -> Any:
        """Some rows of an array."""
        name, rows = asked
        return self._arrays[name][rows]

    def close(self) -> None:
        """Do nothing: no file is open between reads."""


def _place(path: Path) -> Any:
    """What zarr opens a shard's group from."""
    if not isinstance(path, StorePath):
        return path
    from schemas.shard_formats._zarr_in_store import ZarrInStore

    return ZarrInStore(path)


def _index_of(keys: np.ndarray, episodes: np.ndarray, sums: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    if not len(keys) == len(episodes) == len(sums) == len(ranges):
        raise ValueError("its arrays differ in the number of samples")
    index = np.zeros(len(keys), INDEX_DTYPE)
    index["key"] = [str(k).encode() for k in keys]
    index["episode"] = [str(e).encode() for e in episodes]
    index["offset"] = np.arange(len(keys))
    index["size"] = (ranges[..., 1] - ranges[..., 0]).sum(axis=1)
    index["crc32c"] = sums
    return index


def _triplet(
    key: str, meta: dict[str, Any], fields: dict[str, np.ndarray], pictures: dict[str, bytes], with_flow: bool
) -> Triplet:
    from schemas.scene_flow import SceneFlow, no_flow

    size = (meta["camera"]["size"][0], meta["camera"]["size"][1])

    def flow_of(names: tuple[str, ...]) -> tuple[SceneFlow, np.ndarray]:
        displacement, start, visible, valid, flags = (fields[name] for name in names)
        return SceneFlow(dequantise(start, displacement, size), visible, valid), flags

    flow, flags = flow_of(FIELDS[:-1]) if with_flow else (no_flow(), np.zeros(0, np.uint8))
    adaptive = AdaptiveFlow(*flow_of(ADAPTIVE)) if with_flow and ADAPTIVE[0] in fields else None
    return build(key, meta, pictures, flow, flags, fields["actions"], fields.get(STANDARD), adaptive)


def _fill(folder: Path, samples: Samples) -> int:
    """Write all arrays of a shard and return the number of samples."""
    import zarr

    keys, episodes, metas, sums, pictures = [], [], [], [], []
    columns: dict[str, list[np.ndarray]] = {}
    for key, episode, members in samples:
        triplet = decode_triplet(key, members)
        values = (*_flow_fields(triplet, triplet), triplet.actions)
        fields: dict[str, np.ndarray] = dict(zip(FIELDS, values, strict=True))
        if triplet.standard_actions is not None:
            fields[STANDARD] = triplet.standard_actions.values
        if triplet.adaptive is not None:
            fields |= zip(ADAPTIVE, _flow_fields(triplet, triplet.adaptive), strict=True)
        if keys and fields.keys() != columns.keys():
            raise UnfitSamples(
                f"a zarr shard holds samples of one kind: some have {STANDARD} or {ADAPTIVE[0]} and others, such as "
                f"{key}, differ; build them with --format webdataset"
            )
        for name, value in fields.items():
            column = columns.setdefault(name, [])
            if column and value.shape != column[0].shape:
                raise UnfitSamples(
                    f"a zarr shard holds samples of one shape: {name} of {key} is {value.shape}, "
                    f"others are {column[0].shape}; build this mixture with --format webdataset"
                )
            column.append(value)
        meta = encode_metadata(triplet)
        keys.append(key)
        episodes.append(episode)
        metas.append(meta.decode())
        pictures.append(triplet.images)
        sums.append(_checksum(key, episode, meta, fields, triplet.images))
    roles = sorted({role for images in pictures for role in images})
    ranges, blob = _lay_out(pictures, roles)
    group = zarr.create_group(folder, zarr_format=3, attributes={"roles": roles})
    for name, values in columns.items():
        _put(group, name, np.stack(values), chunk=1)
    for name, strings in (("key", keys), ("episode", episodes), ("meta", metas)):
        array = group.create_array(name, shape=(len(strings),), chunks=(len(strings),), dtype="string")
        array[:] = np.array(strings, dtype=object)
    _put(group, "crc32c", np.array(sums, np.uint32), chunk=len(sums))
    _put(group, "picture_ranges", ranges, chunk=len(ranges))
    _put(group, "pictures", blob, chunk=PICTURE_CHUNK, compress=False)
    return len(keys)


def _flow_fields(triplet: Triplet, of: Triplet | AdaptiveFlow) -> tuple[np.ndarray, ...]:
    """Displacements, start, visible, valid and flags of the grid's or of the adaptive keypoints."""
    start, displacement = quantise(of.flow, triplet.camera.size)
    return displacement, start, of.flow.visible, of.flow.valid, of.point_flags


def _put(group: Any, name: str, values: np.ndarray, chunk: int, compress: bool = True) -> None:
    """Write one array as one zarr shard file, ``chunk`` rows per chunk."""
    from zarr.codecs import BloscCodec

    rows = max(1, -(-len(values) // chunk)) * chunk
    widths = [max(size, 1) for size in values.shape[1:]]  # an array of actions without dimensions would have no chunk
    codec = BloscCodec(cname="zstd", clevel=7, shuffle="bitshuffle", typesize=values.dtype.itemsize)
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=(chunk, *widths),
        shards=(rows, *widths),
        dtype=values.dtype,
        compressors=codec if compress else None,
        config={"write_empty_chunks": True},
    )
    array[...] = values


def _lay_out(pictures: list[dict[str, bytes]], roles: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Byte ranges [N, roles, 2] of all pictures laid one after the other, and those bytes."""
    ranges, position, parts = np.zeros((len(pictures), len(roles), 2), np.int64), 0, []
    for row, images in enumerate(pictures):
        for column, role in enumerate(roles):
            data = images.get(role, b"")
            ranges[row, column] = position, position + len(data)
            position += len(data)
            parts.append(data)
    return ranges, np.frombuffer(b"".join(parts), np.uint8)


def _checksum(key: str, episode: str, meta: bytes, fields: dict[str, np.ndarray], pictures: dict[str, bytes]) -> int:
    """CRC-32C over key, episode, metadata, the arrays in the order of ``FIELDS``, the standard actions, the
    adaptive keypoints, and the pictures' roles and bytes by role.
    """
    parts = [key.encode(), episode.encode(), meta]
    parts += [np.ascontiguousarray(fields[name]).tobytes() for name in (*FIELDS, STANDARD, *ADAPTIVE) if name in fields]
    parts += [part for role in sorted(pictures) for part in (role.encode(), pictures[role])]
    total = 0
    for part in parts:
        total = google_crc32c.extend(total, part)
    return total


def _sync(folder: Path) -> None:
    """Sync a folder and everything in it to disk."""
    for file in _files(folder):
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())
    for inner in [*(p for p in folder.rglob("*") if p.is_dir()), folder]:
        sync_folder(inner)


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())
