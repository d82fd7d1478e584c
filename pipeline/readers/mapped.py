"""Any LeRobot or RLDS dataset, read as a mapping file says: ``--dataset my.yaml``.

The file's content is part of the recipe, so another mapping is another build; the path of the file does not matter. Its
fields are described in ``_mapping_file``.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from pipeline.errors import UnreadableSource
from pipeline.formats.depth_images import decode_depth_pictures
from pipeline.formats.discovery import list_forms
from pipeline.formats.lerobot import LeRobotEpisode, list_lerobot, read_lerobot
from pipeline.formats.lerobot_meta import LeRobotMeta
from pipeline.formats.orientation import upright_view
from pipeline.formats.rlds import RldsEpisode, list_rlds, read_rlds
from pipeline.readers import EpisodeTexts
from pipeline.readers._camera_views import (
    NO_ACTIONS,
    enough_frames,
    find_cameras,
    numbers,
    view_of_lerobot,
    view_of_pictures,
    with_fov,
)
from pipeline.readers._instructions import Instructions, instructions_of
from pipeline.readers._lerobot_tar import CacheConfig, is_packed, list_packed, read_packed
from pipeline.readers._mapping_file import ActionMapping, CameraMapping, DatasetMapping, DepthMapping, Numbers
from pipeline.readers._pose_check import intrinsics_fault
from schemas.episode import (
    ActionConvention,
    BadEpisode,
    CameraView,
    DatasetInfo,
    Episode,
    EpisodeRef,
    RecordedDepth,
)

INFO = DatasetInfo(
    name="mapped", version="unknown", licence="as the mapping file says", credit="as the mapping file says"
)
Table = LeRobotEpisode | RldsEpisode
TASKS = "task_index"
"""A column that every LeRobot table has, even if it is not listed in the features."""


@dataclass(frozen=True)
class Config(CacheConfig):
    """What is read, and where packed datasets are unpacked to be read.

    Attributes:
        mapping: the content of a mapping file.
    """

    mapping: DatasetMapping | None = None

    @property
    def info(self) -> DatasetInfo:
        """Who made the dataset, from the mapping."""
        return self.mapping.info if self.mapping else INFO

    @property
    def action_convention(self) -> str | None:
        """The mapping's name for the convention of the actions. If an action standard takes it, the dataset uses that
        standard (``pipeline.actions``).
        """
        return self.mapping.action.convention if self.mapping and self.mapping.action else None


def build(config: Config) -> "MappedReader":
    """The reader."""
    return MappedReader(config)


class MappedReader:
    """See ``pipeline.readers.Reader``."""

    def __init__(self, config: Config):
        self._mapping, self._cache = config.mapping, config.open_cache()

    @property
    def mapping(self) -> DatasetMapping:
        """The content of the mapping file.

        Raises:
            FileNotFoundError: no mapping file was given.
        """
        if self._mapping is None:
            raise FileNotFoundError(
                "a dataset without a reader of its own needs a mapping file: --dataset my.yaml; "
                "lamp-data inspect FOLDER --draft-mapping my.yaml writes a draft of one"
            )
        return self._mapping

    def list_episodes(self, root: Path, form: str | None = None) -> Iterator[EpisodeRef | UnreadableSource]:
        """Every episode of every LeRobot or RLDS folder below that has the mapping's keys."""
        name, keys = self.mapping.name, self.mapping.keys
        lister = partial(list_lerobot, name, is_ours=partial(_missing_key, keys))
        listers = {
            "rlds": partial(list_rlds, name, needed=keys),
            "lerobot": lister,
            "tar.gz": partial(list_packed, self._cache, lister),
        }
        for listed in list_forms(
            root, listers, "RLDS folder, LeRobot folder or *.tar.gz of one", "the dataset's folder", form
        ):
            if isinstance(listed, UnreadableSource) and listed.code == "foreign_features":
                said = (
                    f"{listed.message.split(', so it is not')[0]}, which the mapping of {name} names; lamp-data "
                    "inspect shows the keys there are"
                )
                listed = UnreadableSource(listed.source, listed.code, said)
            yield listed

    def read(self, ref: EpisodeRef) -> Episode:
        """One episode; its frames are decoded on demand."""
        if is_packed(ref):
            return read_packed(self._cache, ref, self.read)
        return _episode(ref, _table(ref), self.mapping)

    def words(self, ref: EpisodeRef) -> EpisodeTexts:
        """See ``pipeline.readers.TellsWords``; packed episodes are unpacked to read them."""
        if is_packed(ref):
            episode = self.read(ref)
            return EpisodeTexts(episode.instructions, episode.success)
        return _words(_table(ref), self.mapping)


def _table(ref: EpisodeRef) -> Table:
    return read_lerobot(ref) if ref.path.endswith(".parquet") else read_rlds(ref)


def _words(table: Table, mapping: DatasetMapping) -> EpisodeTexts:
    return EpisodeTexts(_instructions(table, mapping).every, _success(table, mapping))


def _instructions(table: Table, mapping: DatasetMapping) -> Instructions:
    return instructions_of([_texts(table, key) for key in mapping.language], table.length)


def _missing_key(keys: list[str], meta: LeRobotMeta) -> str | None:
    missing = [key for key in keys if key not in meta.features and key != TASKS]
    return ", ".join(missing) or None


def _episode(ref: EpisodeRef, table: Table, mapping: DatasetMapping) -> Episode:
    enough_frames(ref, table.length)
    names = mapping.names
    makers = {names[key]: partial(_view, table, key, names[key], mapping.cameras[key]) for key in sorted(names)}
    cameras = find_cameras(ref, makers)
    state, state_names = _side_by_side(table, mapping.state)
    actions, mask, convention = _actions(table, mapping.action)
    wrist, told = names[mapping.wrist] if mapping.wrist else None, _instructions(table, mapping)
    return Episode(
        ref=ref,
        views=cameras.views,
        primary=names[mapping.primary],
        wrist=wrist if wrist in cameras.views else None,
        instructions=told.every,
        fps=mapping.fps,
        state=state,
        state_names=state_names,
        actions=actions,
        action_mask=mask,
        action_convention=convention,
        success=_success(table, mapping),
        notes=cameras.notes | _notes(table, mapping),
        frame_instructions=told.by_frame,
        unusable_cameras=cameras.unusable,
    )


def _view(table: Table, key: str, name: str, camera: CameraMapping) -> CameraView | None:
    """An upright camera with its settings from the mapping; None when every frame is black."""
    if isinstance(table, LeRobotEpisode):
        view = view_of_lerobot(table, key, camera.fixed)
    else:
        view = view_of_pictures(table.ref, name, table.images(key), camera.fixed)
    if view is None:
        return None
    if camera.depth is not None:
        said = f"{camera.depth.key}, {camera.depth.metres_per_unit:g} m a unit"
        read = partial(_depth, table, camera.depth, view)
        view = dataclasses.replace(view, depth=RecordedDepth(read, "m", f"mapping: {said}", read))
    view = upright_view(view, camera.orientation)
    if camera.fov_y is not None:
        return with_fov(view, camera.fov_y)
    return _with_intrinsics(table.ref, view, camera)


def _with_intrinsics(ref: EpisodeRef, view: CameraView, camera: CameraMapping) -> CameraView:
    """The view with the mapping's intrinsics, scaled to the size of its pictures."""
    given = camera.intrinsics
    if given is None:
        return view
    x, y = view.size[0] / given.size[0], view.size[1] / given.size[1]
    intrinsics = np.array([[given.fx * x, 0, given.cx * x], [0, given.fy * y, given.cy * y], [0, 0, 1]])
    fault = intrinsics_fault(intrinsics, view.size)
    if fault is not None:
        raise BadEpisode("bad_intrinsics", f"{ref.name}: {view.name}: the mapping's intrinsics are refused: {fault}")
    return dataclasses.replace(view, intrinsics=intrinsics, intrinsics_source="mapping file")


def _depth(
    table: Table, depth: DepthMapping, view: CameraView, wanted: Int[np.ndarray, " N"] | None = None
) -> Float[np.ndarray, "N H W"]:
    """Recorded depth as it is stored, in metres.

    Args:
        wanted: numbers of the frames; all of them by default.

    Raises:
        BadEpisode: it is not depth, or not of the pictures' size.
    """
    said = f"{table.ref.name}: {depth.key}"
    numbers = np.arange(view.length) if wanted is None else wanted
    if isinstance(table, RldsEpisode) and table.features[depth.key].kind == "image":
        stored = decode_depth_pictures(said, table.images(depth.key), numbers)
    elif isinstance(table, LeRobotEpisode) and table.meta.features[depth.key].get("dtype") == "image":
        stored = decode_depth_pictures(said, table.pictures(depth.key), numbers)
    else:
        stored = table.array(depth.key)
        stored = stored[..., 0] if stored.ndim == 4 and stored.shape[3] == 1 else stored
        stored = stored[numbers] if len(stored) == view.length else stored
    expected = (len(numbers), view.size[1], view.size[0])
    if stored.shape != expected:
        raise BadEpisode("wrong_shape", f"{said} must be {list(expected)} as its pictures, found {list(stored.shape)}")
    return stored.astype(np.float32) * np.float32(depth.metres_per_unit)


def _side_by_side(table: Table, parts: tuple[Numbers, ...]) -> tuple[Float[np.ndarray, "T D"], tuple[str, ...]]:
    """Columns side by side, with a name for each number."""
    columns, names = [np.zeros((table.length, 0), np.float32)], []
    for part in parts:
        values = table.array(part.key)
        if len(values) != table.length:
            raise BadEpisode("wrong_shape", f"{table.ref.name}: {part.key} must have a row for each frame")
        values = values.reshape(table.length, -1)
        own = _own_names(table, part.key, values.shape[1])
        if part.take:
            if max(part.take) >= values.shape[1]:
                raise BadEpisode(
                    "wrong_shape",
                    f"{table.ref.name}: {part.key} has {values.shape[1]} numbers, the mapping takes {part.take}",
                )
            values, own = values[:, part.take], [own[index] for index in part.take]
        named = list(part.names) or own
        columns.append(numbers(table.ref, part.key, values, len(named)))
        names += named
    return np.concatenate(columns, axis=1), tuple(names)


def _own_names(table: Table, key: str, width: int) -> list[str]:
    said = feature_names(table.meta.features[key].get("names")) if isinstance(table, LeRobotEpisode) else []
    short = key.replace("/", ".").rsplit(".", 1)[-1]
    return said if len(said) == width else [short] if width == 1 else [f"{short}_{index}" for index in range(width)]


def feature_names(described: object) -> list[str]:
    """LeRobot's names of a feature's numbers, given as a list, a nested list, or a dict of lists."""
    if isinstance(described, dict):
        described = list(described.values())
    if not isinstance(described, list):
        return []
    return [name for item in described for name in (feature_names(item) if isinstance(item, list) else [str(item)])]


def _actions(
    table: Table, action: ActionMapping | None
) -> tuple[Float[np.ndarray, "T A"], Bool[np.ndarray, " T"], ActionConvention]:
    """Actions, a mask of the valid ones, and their convention."""
    if action is None:
        return np.zeros((table.length, 0), np.float32), np.zeros(table.length, bool), NO_ACTIONS
    values, names = _side_by_side(table, action.parts)
    mask = np.ones(table.length, bool)
    if action.shift:
        values, mask[-1] = np.concatenate([values[1:], np.zeros_like(values[:1])]), False
    return values, mask, action.meaning(names)


def _texts(table: Table, key: str) -> list[str]:
    """The texts of a key; numbers are those of LeRobot's tasks, or the characters of a text."""
    if isinstance(table, LeRobotEpisode):
        if key == TASKS:
            return table.tasks()
        if table.meta.features[key].get("dtype") == "string":
            return table.texts(key)
        return [table.meta.tasks.get(int(index), "") for index in table.array(key).reshape(-1)]
    if table.features[key].kind == "text":
        return table.texts(key)
    rows = table.array(key).reshape(table.length if key.startswith("steps/") else 1, -1)
    try:
        return [bytes(row.astype(np.uint8)).rstrip(b"\0").decode() for row in rows]
    except UnicodeDecodeError as error:
        raise BadEpisode("bad_language", f"{table.ref.name}: {key} is not UTF-8 text") from error


def _success(table: Table, mapping: DatasetMapping) -> bool | None:
    told = mapping.success
    if told is None:
        return None
    if told.above is not None:
        return bool(table.array(told.key).reshape(-1)[-1] > told.above)
    return str(told.contains) in _texts(table, told.key)[-1]


def _notes(table: Table, mapping: DatasetMapping) -> dict[str, str]:
    notes = {}
    for key in mapping.notes:
        if table.has(key):
            notes[key.rsplit("/", 1)[-1]] = _texts(table, key)[0]
    if isinstance(table, LeRobotEpisode) and table.meta.fps != mapping.fps:
        notes["fps"] = f"labelled {table.meta.fps:g}, {mapping.fps:g} by the mapping"
    return notes
