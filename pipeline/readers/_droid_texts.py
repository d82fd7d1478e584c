"""Text files beside DROID's raw recordings: tasks, outcome and the serial numbers of the cameras.

``aggregated-annotations-*.json`` (or ``droid_language_annotations.json``) beside the labs' folders maps episodes to
up to three instructions. Without it the collector's task is used, which names only the kind of task.
"""

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.errors import UnreadableSource
from pipeline.formats.fingerprint import stamps_of
from pipeline.formats.ref_paths import path_of
from pipeline.readers import EpisodeTexts
from pipeline.readers._camera_views import spoken
from pipeline.readers._droid_calibration import SERIAL_OF
from schemas.episode import BadEpisode, EpisodeRef
from schemas.locations import locate

ANNOTATIONS = ("aggregated-annotations-*.json", "droid_language_annotations.json")
UNREADABLE = (OSError, ValueError, LookupError, TypeError, RuntimeError, MemoryError)


def annotation_files(folder: Path, root: Path) -> list[Path]:
    """Annotation files, beside the labs' folders or in the dataset's folder."""
    places = dict.fromkeys([*folder.parents[3:4], root])
    return [path for place in places for name in ANNOTATIONS for path in sorted(place.glob(name))]


def words_of_raw(ref: EpisodeRef, root: Path) -> tuple[EpisodeTexts, dict[str, str]]:
    """The texts and the outcome of an episode, and notes on them."""
    folder = path_of(ref).parent
    metadata = metadata_of(ref, folder)
    instructions, note = _instructions(folder, root, metadata)
    success = {"success": True, "failure": False}.get(folder.parents[1].name, _said(metadata.get("success")))
    return EpisodeTexts(instructions, success), note


def metadata_of(ref: EpisodeRef, folder: Path) -> dict[str, Any]:
    """The content of ``metadata_<uuid>.json``.

    Raises:
        BadEpisode: it cannot be read or names no serial numbers.
    """
    try:
        (path,) = folder.glob("metadata_*.json")
        metadata = json.loads(path.read_bytes())
        bad = [key for key in SERIAL_OF.values() if not re.fullmatch(r"\w{1,32}", str(metadata.get(key, "")))]
    except (*UNREADABLE, AttributeError) as error:
        raise BadEpisode("bad_metadata", f"{ref.name}: its metadata_<uuid>.json cannot be read: {error}") from error
    if bad:
        raise BadEpisode("bad_metadata", f"{ref.name}: {path.name} names no serial number in {', '.join(bad)}")
    return metadata


def _instructions(folder: Path, root: Path, metadata: dict[str, Any]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The annotators' instructions, else the collector's task; and notes on them."""
    for path in annotation_files(folder, root):
        entry = _annotations(str(path), stamps_of([path])).get(str(metadata.get("uuid", "")))
        if isinstance(entry, dict):
            texts = [str(text) for key, text in sorted(entry.items()) if key.startswith("language_instruction")]
            if spoken(texts):
                return spoken(texts), {}
    task = spoken([str(metadata.get("current_task") or "")])
    return task, {"instruction": "the collector's task, because there is no annotation"} if task else {}


@lru_cache(maxsize=4)
def _annotations(path: str, stamp: str) -> dict[str, Any]:
    """An annotation file, read once per process. Empty if it cannot be read: that was reported when the folder was
    listed.
    """
    try:
        table = json.loads(locate(path).read_bytes())
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}


def bad_annotations(root: Path) -> Iterator[UnreadableSource]:
    """Annotation files in the dataset's folder that cannot be read."""
    for path in (path for name in ANNOTATIONS for path in sorted(root.glob(name))):
        if not _annotations(str(path), stamps_of([path])):
            said = (
                f"{path.name} must be JSON that maps episodes to instructions; the collectors' tasks are used "
                "without it"
            )
            yield UnreadableSource(path.name, "bad_annotations", said)


def _said(success: Any) -> bool | None:
    return success if isinstance(success, bool) else None
