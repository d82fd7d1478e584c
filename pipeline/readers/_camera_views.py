"""Helpers that all readers share: views of encoded pictures, checks of numbers, lists of instructions."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float, Shaped

from pipeline.formats.images import BLACK_LEVEL, Encoded, decode_picture, decode_pictures, is_black
from pipeline.formats.lerobot import LeRobotEpisode
from pipeline.formats.orientation import upright_view
from pipeline.formats.video import VideoFrames, VideoSpan, check_end, first_frame, read_video
from pipeline.readers import EpisodeTexts
from schemas.cameras import intrinsics_from_fov
from schemas.episode import BLACK_CAMERAS, ActionConvention, BadEpisode, CameraKind, CameraView, Episode, EpisodeRef
from schemas.orientation import Orientation

MOST_SHORT = 5
"""How many pictures a camera may have fewer than the table has rows; a third of a second at 15 Hz."""
FEWEST = 2
"""Fewest frames of an episode that can show motion."""
NO_ACTIONS = ActionConvention("none", (), "no actions were recorded")
"""For episodes without recorded actions; their actions are T x 0 and masked."""


def view_of_pictures(
    ref: EpisodeRef,
    name: str,
    encoded: Encoded,
    fixed: bool = False,
    orientation: Orientation = "upright",
) -> CameraView | None:
    """A camera whose frames are encoded pictures. Only the first is decoded now, or three if the first is black.

    Args:
        fixed: the dataset says that the camera does not move.
        orientation: how the pictures are stored; the view returns them upright.

    Returns:
        None when every frame is black: datasets store an absent camera so.

    Raises:
        BadEpisode: the first picture cannot be decoded.
    """
    said = f"{ref.name}: {name}"
    first = decode_picture(said, encoded[0])
    if is_black(said, encoded, first):
        return None
    read = partial(decode_pictures, said, encoded)
    view = CameraView(name, read, len(encoded), (first.shape[1], first.shape[0]), fixed=fixed, read_some=read)
    return upright_view(view, orientation)


def view_of_lerobot(
    episode: LeRobotEpisode, key: str, fixed: bool = False, orientation: Orientation = "upright"
) -> CameraView | None:
    """A camera of a LeRobot episode, whose frames are a video or pictures in the table; see ``view_of_pictures``.

    Raises:
        BadEpisode: the camera is missing, or its first frame cannot be decoded.
    """
    if episode.meta.features[key].get("dtype") == "image":
        return view_of_pictures(episode.ref, key, episode.pictures(key), fixed, orientation)
    span = episode.video(key)
    view = view_of_video(episode.ref, key, span, fixed, orientation)
    return view and replace(view, short=check_end(f"{episode.ref.name}: {key}", span))


def view_of_video(
    ref: EpisodeRef, name: str, span: VideoSpan, fixed: bool = False, orientation: Orientation = "upright"
) -> CameraView | None:
    """A camera whose frames are a span of a video. Only the first is decoded now, or also the middle and the last if
    the first is black.

    Raises:
        BadEpisode: the first frame cannot be decoded.
    """
    said = f"{ref.name}: {name}"
    first, some = first_frame(said, span), VideoFrames(said, span).some
    looked_at = np.unique([0, span.length // 2, span.length - 1])
    if first.max() < BLACK_LEVEL and some(looked_at).max() < BLACK_LEVEL:
        return None
    size, read = (first.shape[1], first.shape[0]), partial(read_video, said, span)
    return upright_view(CameraView(name, read, span.length, size, fixed=fixed, read_some=some), orientation)


def with_fov(view: CameraView, fov_y_degrees: float) -> CameraView:
    """The view with the intrinsics of a vertical field of view."""
    return replace(
        view,
        intrinsics=intrinsics_from_fov(fov_y_degrees, *view.size),
        intrinsics_source=f"vertical field of view of {fov_y_degrees:g} degrees",
    )


def with_kinds(episode: Episode, kind: CameraKind, wrist: CameraKind | None = None) -> Episode:
    """The episode with the kinds of its cameras, used when intrinsics are missing: one kind for all but the wrist."""
    kinds = {name: wrist if name == episode.wrist else kind for name in episode.views}
    return replace(episode, views={name: replace(view, kind=kinds[name]) for name, view in episode.views.items()})


def usable_views(ref: EpisodeRef, views: Iterable[tuple[str, CameraView | None]]) -> dict[str, CameraView]:
    """The cameras that are present, by name; the primary one may be missing (``pipeline.episodes.camera_choice``).

    Raises:
        BadEpisode: all are black.
    """
    found = dict(views)
    there = {name: view for name, view in found.items() if view is not None}
    if not there:
        raise BadEpisode(
            "black_camera", f"{ref.name}: every frame of {', '.join(found)} is black; no camera was recorded"
        )
    return there


@dataclass(frozen=True)
class Cameras:
    """The cameras of an episode, as ``schemas.episode.Episode`` takes them.

    Attributes:
        notes: on cameras that are black, cannot be read or end early.
    """

    views: dict[str, CameraView]
    unusable: dict[str, BadEpisode]
    notes: dict[str, str]


def find_cameras(ref: EpisodeRef, makers: Mapping[str, Callable[[], CameraView | None]]) -> Cameras:
    """The usable cameras, by name. A camera that cannot be read is left out; the others are kept.

    Args:
        makers: each creates a view, or None if every frame is black.

    Raises:
        BadEpisode: there is none.
    """
    made: list[tuple[str, CameraView | None]] = []
    unusable: dict[str, BadEpisode] = {}
    for name, make in makers.items():
        try:
            made.append((name, make()))
        except BadEpisode as error:
            unusable[name] = error
    if unusable and not any(view is not None for _, view in made):
        raise next(iter(unusable.values()))
    views = usable_views(ref, made)
    short = {f"camera {name}": f"{view.short} picture short of its table" for name, view in views.items() if view.short}
    said = {f"camera {name}": f"{error.code}: {error.message}" for name, error in unusable.items()}
    return Cameras(views, unusable, {**black_note(made), **said, **short})


def shortest_length(length: int, counts: Iterable[int]) -> int:
    """The length to which an episode is cut when cameras have a few pictures fewer than the table has rows.

    Args:
        length: rows of the table.
        counts: pictures of each camera. Cameras that end much earlier are ignored.
    """
    return min([length, *(count for count in counts if count >= max(length - MOST_SHORT, FEWEST))])


def black_note(views: Iterable[tuple[str, CameraView | None]]) -> dict[str, str]:
    """The note that names black cameras, if there are any."""
    black = [name for name, view in views if view is None]
    return {BLACK_CAMERAS: ", ".join(black)} if black else {}


def numbers(
    ref: EpisodeRef, name: str, array: Shaped[np.ndarray, " T *d"], width: int
) -> Float[np.ndarray, "T {width}"]:
    """State or action as float32, T x width.

    Raises:
        BadEpisode: another shape, or a value that is not finite.
    """
    if array.ndim == 1 and width == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != width:
        raise BadEpisode("wrong_shape", f"{ref.name}: {name} must be [T, {width}], found {list(array.shape)}")
    values = array.astype(np.float32)
    if not np.isfinite(values).all():
        raise BadEpisode("not_finite", f"{ref.name}: {name} hold a value that is not finite")
    return values


def enough_frames(ref: EpisodeRef, length: int) -> None:
    """Refuse an episode that is too short to show motion.

    Raises:
        BadEpisode: fewer than two frames.
    """
    if length < FEWEST:
        raise BadEpisode("too_short", f"{ref.name} has {length} frame(s); an episode needs at least {FEWEST}")


def words_of_tasks(episode: LeRobotEpisode) -> EpisodeTexts:
    """The instructions of a LeRobot episode whose data do not contain the outcome."""
    return EpisodeTexts(spoken(episode.tasks()))


def spoken(texts: Iterable[str]) -> tuple[str, ...]:
    """The texts that are not blank, each once, in their order."""
    return tuple(dict.fromkeys(said for text in texts if (said := text.strip())))
