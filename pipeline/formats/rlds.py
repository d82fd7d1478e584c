"""RLDS as tensorflow-datasets stores it: TFRecord files, one ``tf.Example`` per episode, typed by ``features.json``.

An episode's features are flattened: ``steps/observation/image_0`` holds T encoded images, ``steps/action`` T x 7
floats, ``episode_metadata/file_path`` one text. ``features.json`` lists the
features and their shapes.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from pipeline.errors import UnreadableSource
from pipeline.formats.ref_paths import path_of
from pipeline.formats.tf_example import MalformedExample, Values, parse_example
from pipeline.formats.tfrecord import DamagedRecord, index_records, read_record
from pipeline.formats.tfrecord_index import RecordIndexes, shared_index
from schemas.episode import BadEpisode, EpisodeRef
from schemas.locations import StorePath, locate

FEATURES, DATASET_INFO = "features.json", "dataset_info.json"
SHARD_NAME = re.compile(r"(?P<name>[^.].*)-(?P<split>[^-]+)\.tfrecord-(?P<number>\d{5})-of-(?P<total>\d{5})")
"""The name before the split is not always the dataset's: LIBERO-10's files are named ``liber_o10-train``."""


class BadFeatures(ValueError):
    """``features.json`` cannot be understood."""


@dataclass(frozen=True)
class Field:
    """One feature.

    Attributes:
        kind: ``tensor``, ``image``, ``text``, or ``other`` for features that are not read.
        shape: shape of one step's value; None for a variable size.
        dtype: NumPy's name of the type.
        encoding: of a tensor: ``none``, or how its bytes are packed.
    """

    kind: str
    shape: tuple[int | None, ...] = ()
    dtype: str = "object"
    encoding: str = "none"


def is_rlds_folder(names: Iterable[str]) -> bool:
    """Whether a folder with these files holds an RLDS dataset."""
    return any(name == FEATURES or SHARD_NAME.fullmatch(name) for name in names)


def read_features(folder: Path) -> dict[str, Field]:
    """Every feature by its flattened key.

    Raises:
        BadFeatures: the file is missing or has other content; the message names it.
    """
    path = folder / FEATURES
    try:
        described = json.loads(path.read_bytes())
        fields = dict(_flatten("", described))
    except FileNotFoundError as error:
        raise BadFeatures(f"{folder.name} has no {FEATURES}, which says how its records are typed") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadFeatures(f"{folder.name}/{FEATURES} does not describe features: {error}") from error
    if not any(key.startswith("steps/") for key in fields):
        raise BadFeatures(f"{folder.name}/{FEATURES} describes no steps, so these are no episodes")
    return fields


def _flatten(prefix: str, feature: dict[str, Any]) -> Iterator[tuple[str, Field]]:
    if "featuresDict" in feature:
        for name, inner in feature["featuresDict"]["features"].items():
            yield from _flatten(f"{prefix}/{name}" if prefix else name, inner)
    elif "sequence" in feature and prefix == "steps":
        yield from _flatten(prefix, feature["sequence"]["feature"])
    elif "image" in feature:
        yield prefix, Field("image", _shape(feature["image"]), feature["image"].get("dtype", "uint8"))
    elif "text" in feature:
        yield prefix, Field("text")
    elif "tensor" in feature:
        tensor = feature["tensor"]
        dtype, encoding = tensor["dtype"], tensor.get("encoding", "none")
        if dtype in ("string", "object"):
            yield prefix, Field("text", _shape(tensor))
        else:
            np.dtype(dtype)
            yield prefix, Field("tensor" if encoding == "none" else "other", _shape(tensor), dtype, encoding)
    else:
        yield prefix, Field("other")


def _shape(described: dict[str, Any]) -> tuple[int | None, ...]:
    sizes = [int(size) for size in described.get("shape", {}).get("dimensions", [])]
    return tuple(None if size < 0 else size for size in sizes)


def list_rlds(dataset: str, root: Path, folder: Path, needed: Sequence[str]) -> Iterator[EpisodeRef | UnreadableSource]:
    """The episodes of an RLDS folder: files by name, records by number.

    Args:
        dataset: name for the refs.
        root: the dataset's folder, to which sources are relative.
        folder: where ``features.json`` is.
        needed: features without which these files are another dataset's.
    """
    described = (folder.relative_to(root) / FEATURES).as_posix()
    try:
        features = read_features(folder)
    except BadFeatures as error:
        yield UnreadableSource(described, "bad_features", str(error))
        return
    missing = [key for key in needed if key not in features]
    if missing:
        yield UnreadableSource(
            described,
            "foreign_features",
            f"{described} has no {', '.join(missing)}, so it is not {dataset}; is it another dataset's folder?",
        )
        return
    counts = _shard_lengths(folder)
    paths = sorted(p for p in folder.iterdir() if SHARD_NAME.fullmatch(p.name))
    yield from _missing_files(described, paths)
    indexes = RecordIndexes(folder)
    for path in paths:
        if isinstance(path, StorePath) and path.name in counts:
            yield from _list_unread(dataset, path.relative_to(root).as_posix(), path, counts[path.name])
            continue
        yield from _list_file(dataset, path.relative_to(root).as_posix(), path, counts.get(path.name), indexes)
    indexes.keep()


def _missing_files(described: str, paths: list[Path]) -> Iterator[UnreadableSource]:
    """Splits with missing files: without this check an incomplete download would look like a small dataset."""
    matches = [match for path in paths if (match := SHARD_NAME.fullmatch(path.name))]
    found = Counter((match["name"], match["split"], int(match["total"])) for match in matches)
    for (name, split, total), count in found.items():
        if count < total:
            said = f"only {count} of the {total} files of {name}-{split} are there, beside {described}"
            yield UnreadableSource(described, "missing_files", said)


def _list_unread(dataset: str, source: str, path: StorePath, expected: int) -> Iterator[EpisodeRef]:
    """The episodes of a file in a store, as many as ``dataset_info.json`` says: the file itself is not asked. Where its
    records are is found when the first of them is read."""
    match = SHARD_NAME.fullmatch(path.name)
    fingerprint, split = _fingerprint(path), match["split"] if match else None
    for number in range(expected):
        yield EpisodeRef(dataset, source, f"record_{number}", str(path), fingerprint, split)


def _span(ref: EpisodeRef, path: Path) -> tuple[int, int]:
    """Where an episode's record is in its file.

    Raises:
        DamagedRecord: the file ends before it, or is damaged before it.
        OSError: the file cannot be read.
    """
    index = shared_index(path) if isinstance(path, StorePath) else index_records(path)
    number = int(ref.episode.removeprefix("record_"))
    if number >= len(index.spans):
        raise DamagedRecord(index.damage or f"its file holds {len(index.spans)} episode(s), {DATASET_INFO} says more")
    return index.spans[number]


def _list_file(
    dataset: str, source: str, path: Path, expected: int | None, indexes: RecordIndexes
) -> Iterator[EpisodeRef | UnreadableSource]:
    try:
        fingerprint = _fingerprint(path)
        index = indexes.of(path)
    except OSError as error:
        yield UnreadableSource(source, "unreadable_file", f"{source} cannot be read: {error.strerror}")
        return
    match = SHARD_NAME.fullmatch(path.name)
    split = match["split"] if match else None
    for number, span in enumerate(index.spans):
        yield EpisodeRef(dataset, source, f"record_{number}", str(path), fingerprint, split, span)
    found = len(index.spans)
    if index.damage is not None:
        yield UnreadableSource(
            source, "damaged_records", f"{source} is damaged after {found} episode(s): {index.damage}"
        )
    elif expected is not None and found != expected:
        yield UnreadableSource(
            source, "missing_records", f"{source} holds {found} episode(s), {DATASET_INFO} says {expected}"
        )


def _shard_lengths(folder: Path) -> dict[str, int]:
    """How many records each file should hold; empty where ``dataset_info.json`` does not fit the files."""
    try:
        splits = json.loads((folder / DATASET_INFO).read_bytes())["splits"]
        lengths = {split["name"]: [int(n) for n in split["shardLengths"]] for split in splits}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    counts = {}
    for path in folder.iterdir():
        match = SHARD_NAME.fullmatch(path.name)
        if match and len(lengths.get(match["split"], [])) == int(match["total"]) > int(match["number"]):
            counts[path.name] = lengths[match["split"]][int(match["number"])]
    return counts


def _fingerprint(path: Path) -> str:
    stats = [path.stat(), (path.parent / FEATURES).stat()]
    return "-".join(str(value) for stat in stats for value in (stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=64)
def _features(folder: str, fingerprint: str) -> dict[str, Field]:
    return read_features(locate(folder))


def _values_a_step(field: Field) -> int:
    """How many values of the record make one step; 0 if the shape does not say."""
    if field.kind == "image":
        return 1
    if field.kind == "other" or None in field.shape:
        return 0
    return int(np.prod([size for size in field.shape if size is not None], dtype=int))


def read_rlds(ref: EpisodeRef) -> "RldsEpisode":
    """One episode; its images stay encoded.

    Raises:
        BadEpisode: the record is damaged, or is not what ``features.json`` describes.
    """
    path = path_of(ref)
    try:
        features = _features(str(path.parent), ref.fingerprint)
        record = read_record(path, ref.span or _span(ref, path))
    except DamagedRecord as error:
        raise BadEpisode("damaged_record", f"{ref.name} is damaged: {error}") from error
    except (OSError, BadFeatures) as error:
        raise BadEpisode("unreadable_episode", f"{ref.name} cannot be read: {error}") from error
    try:
        return RldsEpisode(ref, features, parse_example(record))
    except MalformedExample as error:
        raise BadEpisode("bad_record", f"{ref.name} is no tf.train.Example: {error}") from error


class RldsEpisode:
    """One episode's features.

    Attributes:
        length: T, the number of steps.
    """

    def __init__(self, ref: EpisodeRef, features: dict[str, Field], example: dict[str, Values]):
        self.ref, self.features, self._example = ref, features, example
        self.length = self._count_steps()

    def _count_steps(self) -> int:
        """The number of steps, from the number of values; features with one value per step are preferred."""
        sizes = {key: _values_a_step(field) for key, field in self.features.items() if key.startswith("steps/")}
        for key, size in sorted(sizes.items(), key=lambda item: (item[1], item[0])):
            if size and len(self._example.get(key, ())) >= size:
                return len(self._example[key]) // size
        raise BadEpisode("no_steps", f"{self.ref.name} has no step")

    def has(self, key: str) -> bool:
        """Whether the dataset has this feature."""
        return key in self.features

    def array(self, key: str) -> Shaped[np.ndarray, " *shape"]:
        """A tensor of each step, or of the episode if the key is not under ``steps``.

        Raises:
            BadEpisode: the record does not hold as many numbers as ``features.json`` says.
        """
        field, values = self._values(key, "tensor")
        lead = (self.length,) if key.startswith("steps/") else ()
        want = lead + tuple(-1 if size is None else size for size in field.shape)
        try:
            if not isinstance(values, np.ndarray):
                raise ValueError
            return values.reshape(want).astype(np.dtype(field.dtype))
        except ValueError as error:
            raise self._mismatch(key, f"{list(want)} numbers", f"{len(values)} values") from error

    def images(self, key: str) -> list[memoryview]:
        """A camera's encoded images.

        Raises:
            BadEpisode: the camera is missing, or does not have one image per step.
        """
        _, values = self._values(key, "image")
        if isinstance(values, np.ndarray) or len(values) != self.length:
            raise self._mismatch(key, f"{self.length} images", f"{len(values)}")
        return values

    def texts(self, key: str) -> list[str]:
        """A text of each step, or of the episode.

        Raises:
            BadEpisode: as for ``images``, or the text is not UTF-8.
        """
        _, values = self._values(key, "text")
        count = self.length if key.startswith("steps/") else 1
        if isinstance(values, np.ndarray) or len(values) != count:
            raise self._mismatch(key, f"{count} texts", f"{len(values)}")
        try:
            return [str(value, "utf-8") for value in values]
        except UnicodeDecodeError as error:
            raise BadEpisode("bad_language", f"{self.ref.name}: {key} is not UTF-8 text") from error

    def _values(self, key: str, kind: str) -> tuple[Field, Values]:
        if key not in self.features:
            code = "missing_camera" if kind == "image" else "missing_field"
            raise BadEpisode(code, f"{self.ref.name} has no {key}")
        field = self.features[key]
        if field.kind != kind:
            raise BadEpisode(
                "features_mismatch", f"{self.ref.name}: {key} must be of kind {kind}, {FEATURES} says {field.kind}"
            )
        if key not in self._example:
            raise self._mismatch(key, f"a feature of kind {kind}", "nothing")
        return field, self._example[key]

    def _mismatch(self, key: str, expected: str, found: str) -> BadEpisode:
        return BadEpisode(
            "features_mismatch",
            f"{self.ref.name}: {FEATURES} promises {expected} in {key}, the record holds {found}",
        )
