"""Reads the dataset's own frames of a sample through the dataset's reader."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from pipeline.actions import RAW, with_standard_actions
from pipeline.errors import SeveralForms, UnknownForm
from pipeline.formats.discovery import find_forms
from pipeline.readers import Reader
from schemas.episode import BadEpisode, Episode, EpisodeRef
from schemas.manifest import Manifest
from schemas.plugins import load_plugin
from schemas.structured import structure
from schemas.triplet import Source, Triplet

LARGEST_SIDE = 320
"""Frames on a page are at most this large, in px."""
JPEG_QUALITY = 80


class NoWayBack(Exception):
    """The frames of a sample cannot be read; the message gives the reason in a sentence."""


@dataclass(frozen=True)
class _Listing:
    reader: Any
    standard: Any
    episodes: dict[str, EpisodeRef]


class WayBack:
    """Finds frames of a dataset by their source. Only one episode is held in memory, so callers should go through the
    samples in the order of episodes.

    Args:
        root: the dataset's folder, or a folder with one subfolder per dataset, each with the dataset's name.
    """

    def __init__(self, root: Path):
        self.root = root
        self._listings: dict[str, _Listing | NoWayBack] = {}
        self._last: tuple[str, Episode] | None = None

    def frames(
        self, source: Source, digest: str, offsets: Int[np.ndarray, " N"], manifest: Manifest | None
    ) -> list[UInt8[np.ndarray, "H W 3"]]:
        """Frames of an episode. Offsets after its end give its last frame.

        Args:
            source: names the dataset, the camera and the frame that offsets start from.
            digest: the episode's.
            offsets: frame offsets from the source's frame.
            manifest: of the build, for the reader's options.

        Raises:
            NoWayBack: the folder does not hold the episode, or it cannot be read.
        """
        episode = self.episode(source, digest, manifest)
        if source.camera not in episode.views:
            raise NoWayBack(f"{episode.ref.name} has no camera {source.camera} any more")
        view = episode.views[source.camera]
        try:
            frames = view.frames
        except (BadEpisode, OSError) as error:
            raise NoWayBack(str(error)) from error
        numbers = episode.source_frames
        first = source.frame if numbers is None else int(np.searchsorted(numbers, source.frame))
        return [frames[i] for i in np.clip(first + offsets, 0, len(frames) - 1)]

    def episode(self, source: Source, digest: str, manifest: Manifest | None) -> Episode:
        """An episode as the build used it: with standard actions, and without the frames that its filters removed.

        Raises:
            NoWayBack: the folder does not hold the episode, or it cannot be read.
        """
        if self._last is not None and self._last[0] == digest:
            return self._last[1]
        if source.dataset not in self._listings:
            self._listings[source.dataset] = self._list(source.dataset, manifest.recipe if manifest else {})
        listing = self._listings[source.dataset]
        if isinstance(listing, NoWayBack):
            raise listing
        if digest not in listing.episodes:
            raise NoWayBack(f"{self.root} does not hold {source.file}, {source.episode}")
        self._last = None  # freed before the next one is read, so that two are never in memory
        try:
            # Frames that the build removed are removed here too, so that the steps are the same.
            episode = with_standard_actions(listing.reader.read(listing.episodes[digest]), listing.standard)
        except (BadEpisode, OSError) as error:
            raise NoWayBack(str(error)) from error
        self._last = (digest, episode)
        return episode

    def _list(self, dataset: str, recipe: Mapping[str, Any]) -> "_Listing | NoWayBack":
        folder = self.root / dataset
        folder = folder.resolve() if folder.is_dir() and folder.parent == self.root else self.root.resolve()
        try:
            reader = _built("pipeline.readers", recipe.get("dataset") or {"name": dataset})
            standard = _built("pipeline.actions", recipe.get("actions") or {"name": RAW})
            found = _episodes_in(reader, folder)
        except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
            return NoWayBack(str(error))
        return _Listing(reader, standard, {ref.digest: ref for ref in found})


def _episodes_in(reader: Reader, folder: Path) -> list[EpisodeRef]:
    """Every episode, in every form in which the folder holds the dataset; the digest identifies the one that is wanted.

    Raises:
        FileNotFoundError: the folder holds nothing of this dataset.
        SeveralForms: a choice is needed that the form alone does not settle.
    """
    try:
        return [ref for ref in reader.list_episodes(folder) if isinstance(ref, EpisodeRef)]
    except SeveralForms:
        found: list[EpisodeRef] = []
        for form in sorted({form for form, _ in find_forms(folder)}):
            with contextlib.suppress(UnknownForm):
                found += [ref for ref in reader.list_episodes(folder, form) if isinstance(ref, EpisodeRef)]
        return found


def _built(package: str, recorded: Mapping[str, Any]) -> Any:
    """Build a plug-in as a recipe records it.

    Raises:
        ValueError: there is no such plug-in here, or it does not have these options.
    """
    module = load_plugin(package, recorded["name"])
    return module.build(structure(module.Config, recorded.get("options") or {}, "the recipe in the manifest"))


def frame_offsets(t: Triplet) -> Int[np.ndarray, " S"]:
    """Frame offset of each step 0..T from the reference frame; a step between two frames gets the nearer one."""
    return np.rint(np.arange(t.flow.horizon + 1) * t.step_seconds * t.fps).astype(np.int64)


def small_jpeg(frame: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """Encode a frame as JPEG, no larger than a page needs."""
    import cv2

    height, width = frame.shape[:2]
    scale = min(1.0, LARGEST_SIDE / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", np.ascontiguousarray(frame[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[
        1
    ].tobytes()
