"""Folders of plain videos with a text each: motion without actions, for stage 1.

* Videos of any length are cut into clips of equal length, each an episode, so that a worker's memory is bounded. With
  ``shots=split`` they are first divided where the scene changes, and no clip holds a cut.
* Frames are taken at a constant rate, the video's own unless one is given; see ``pipeline.formats.video_clips``.
* There are no states and no actions: both have width 0, and every action is masked.
* The camera is unknown unless the user describes it: ``fixed=true`` if it does not move in any video of the folder.
"""

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.errors import UnreadableSource
from pipeline.formats.discovery import list_forms
from pipeline.formats.fingerprint import stamps_of
from pipeline.formats.ref_paths import path_of, root_of
from pipeline.formats.video_clips import MOST_FPS, ClipSpan, is_video, open_clip, video_timing
from pipeline.readers import EpisodeTexts
from pipeline.readers._camera_views import NO_ACTIONS, spoken
from pipeline.readers._text_files import BadTexts, texts_beside
from pipeline.readers._video_shots import find_shots
from schemas.episode import BadEpisode, CameraView, DatasetInfo, Episode, EpisodeRef, check_dataset_name

INFO = DatasetInfo(name="video", version="unknown", licence="unknown", credit="unknown")
CAMERA = "video"
MOST_BYTES = 1 << 30
LAST_MORE = 2
"""Headers of files with a variable rate may leave out the duration of the last frame. The last clip takes up to this
many more frames if the file has them.
"""

SHOT = re.compile(r"shot_[0-9]+_([0-9]+)-([0-9]+)")
"""A clip's name where videos are divided into shots: its first frame and the one after its last, at the clips' rate."""

BYTES_A_PIXEL = 7
"""Bytes of a pixel in memory: three colours, and depth as a float."""


@dataclass(frozen=True)
class Config:
    """How videos are read.

    Attributes:
        text: where the words are: ``beside`` the videos (``.txt``, or texts.csv, texts.jsonl, texts.json), the
            ``filename``, or ``none``.
        fps: frames per second that are taken; None for each video's own.
        fixed: the camera stands still in every video.
        clip_frames: a longer video is cut into equal clips of at most so many frames.
        shots: ``split`` looks for cuts when the videos are listed, which decodes each of them once, and ends clips
            there; ``refuse`` leaves it to the flow source to refuse a clip with a cut.
        longest_side: larger pictures are made smaller to this, in pixels.
        name, licence, credit: of the videos, for the manifest.
    """

    text: Literal["beside", "filename", "none"] = "beside"
    fps: float | None = None
    fixed: bool = False
    clip_frames: int = 256
    shots: Literal["refuse", "split"] = "refuse"
    longest_side: int = 640
    name: str = INFO.name
    licence: str = INFO.licence
    credit: str = INFO.credit

    def __post_init__(self) -> None:
        if self.fps is not None and not 0 < self.fps <= MOST_FPS:
            raise ValueError(f"video.fps must be above 0 and at most {MOST_FPS:g}, found {self.fps:g}")
        if self.clip_frames < 2 or self.longest_side < 32:
            raise ValueError("video.clip_frames must be 2 or more, and video.longest_side 32 or more")
        needed = self.clip_frames * self.longest_side**2 * BYTES_A_PIXEL
        if needed > MOST_BYTES:
            raise ValueError(
                f"video.clip_frames {self.clip_frames} with longest_side {self.longest_side} may need "
                f"{needed / 1e9:.1f} GB in each worker; "
                f"at most {MOST_BYTES / 1e9:.1f} are meant: make one of them smaller"
            )
        check_dataset_name(self.name, "video.name")

    @property
    def info(self) -> DatasetInfo:
        """For the manifest."""
        return DatasetInfo(self.name, INFO.version, self.licence, self.credit)


def unanswered(config: Config, recipe: Mapping[str, Any], texts: Iterable[tuple[str, ...]]) -> list[str]:
    """The facts that the recipe needs and the user has not given, each as the option to add to the command.

    Args:
        recipe: as a manifest holds it (``pipeline.recipe.Recipe.as_dict``).
        texts: of each clip; read until the first text is found.
    """
    asked = []
    depth, camera = recipe.get("depth", {}).get("name"), recipe.get("camera", {})
    if depth in ("recorded", "stereo"):
        asked.append("--depth depth-anything-v2, midas or zoedepth, because videos hold no depth")
    if camera.get("name") == "static" and not config.fixed:
        asked.append("--dataset-options fixed=true if the camera stands still in every video, else --camera estimated")
    if camera.get("name") == "static" and camera["options"].get("fov_y") is None:
        still = "" if config.fixed else ", if it stands still"
        asked.append(f"--camera-options fov_y=DEGREES, the camera's vertical field of view{still}")
    if recipe["language"] == "required" and not any(texts):
        asked.append(
            "texts beside the videos (clip.txt, texts.csv), --dataset-options text=filename, or --language optional"
        )
    return asked


def build(config: Config) -> "VideoReader":
    """The reader."""
    return VideoReader(config)


class VideoReader:
    """See ``pipeline.readers.Reader``."""

    def __init__(self, config: Config):
        self.config = config

    def list_episodes(self, root: Path, form: str | None = None) -> Iterator[EpisodeRef | UnreadableSource]:
        """Every clip of every video below; files sorted by path, clips by time."""
        return list_forms(root, {"video": self._list_folder}, "video", "videos (.mp4, .webm, .mov ...)", form)

    def read(self, ref: EpisodeRef) -> Episode:
        """One clip; its frames are decoded on demand."""
        path = path_of(ref)
        clip = open_clip(ref.name, self._span(path, ref))
        view = CameraView(CAMERA, partial(clip.read, ref.name), clip.length, clip.size, fixed=self.config.fixed)
        return Episode(
            ref=ref,
            views={CAMERA: view},
            primary=CAMERA,
            wrist=None,
            instructions=self.words(ref).instructions,
            fps=clip.span.fps,
            state=np.zeros((clip.length, 0), np.float32),
            state_names=(),
            actions=np.zeros((clip.length, 0), np.float32),
            action_mask=np.zeros(clip.length, bool),
            action_convention=NO_ACTIONS,
            notes={"frame_times": f"brought to {clip.span.fps:.4g} a second: {clip.variable}"} if clip.variable else {},
            source_frames=clip.span.first + np.arange(clip.length),
        )

    def words(self, ref: EpisodeRef) -> EpisodeTexts:
        """See ``pipeline.readers.TellsWords``."""
        return EpisodeTexts(spoken(self._texts(path_of(ref), root_of(ref), ref.name)))

    def _list_folder(self, root: Path, folder: Path) -> Iterator[EpisodeRef | UnreadableSource]:
        for path in sorted(p for p in folder.iterdir() if is_video(p.name)):
            source = path.relative_to(root).as_posix()
            try:
                names = self._names(path, source)
                texts = self._texts(path, root, source)
                fingerprint = f"{stamps_of([path])}-{hashlib.sha256(repr(texts).encode()).hexdigest()[:16]}"
            except BadEpisode as error:
                yield UnreadableSource(source, error.code, error.message)
                continue
            except OSError as error:
                yield UnreadableSource(source, "unreadable_file", f"{source} cannot be read: {error.strerror}")
                continue
            for name in names:
                yield EpisodeRef(self.config.name, source, name, str(path), fingerprint)

    def _names(self, path: Path, source: str) -> list[str]:
        """The names of a video's clips: ``clip_2``; in shots with their frames, ``shot_1_120-376``.

        Raises:
            BadEpisode: the file cannot be read.
        """
        fps, frames = self._rate(path, source)
        if self.config.shots == "refuse":
            return [f"clip_{number}" for number in range(len(self._edges(frames)) - 1)]
        names = []
        for number, (start, stop) in enumerate(find_shots(source, path, fps, frames)):
            edges = [start + edge for edge in self._edges(stop - start)]
            names += [f"shot_{number}_{first}-{after}" for first, after in pairwise(edges)]
        return names

    def _rate(self, path: Path, name: str) -> tuple[float, int]:
        """Frames per second, and number of frames of the whole video at that rate."""
        timing = video_timing(name, path)
        fps = self.config.fps or timing.fps
        return fps, max(round(timing.seconds * fps), 1)

    def _edges(self, frames: int) -> list[int]:
        """First frames of equal clips of a number of frames, and that number."""
        count = math.ceil(frames / self.config.clip_frames)
        return [round(edge * frames / count) for edge in range(count + 1)]

    def _span(self, path: Path, ref: EpisodeRef) -> ClipSpan:
        fps, frames = self._rate(path, ref.name)
        if found := SHOT.fullmatch(ref.episode):
            first, after = map(int, found.groups())
        else:
            number, edges = int(ref.episode.removeprefix("clip_")), self._edges(frames)
            first, after = edges[number], edges[number + 1]
        beyond = LAST_MORE if after == frames else 0
        return ClipSpan(path, fps, first, after - first + beyond, self.config.longest_side)

    def _texts(self, path: Path, root: Path, name: str) -> tuple[str, ...]:
        """The texts of a video. Raises BadEpisode if they cannot be read."""
        if self.config.text == "none":
            return ()
        if self.config.text == "filename":
            return (re.sub(r"[_\s]+", " ", re.sub(r"[_-]?\d+$", "", path.stem)),)
        try:
            return texts_beside(path, root)
        except BadTexts as error:
            raise BadEpisode("bad_texts", f"{name}: {error}") from error
