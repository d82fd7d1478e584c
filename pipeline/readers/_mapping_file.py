"""The mapping file of a dataset that has no reader of its own: which keys are cameras, states, actions and
instructions.

Keys are written as in the dataset: a column of LeRobot (``observation.images.top``), or a flattened feature of
RLDS (``steps/observation/image``). ``lamp-data inspect FOLDER`` shows them and drafts such a file.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from schemas.cameras import intrinsics_from_fov
from schemas.episode import ActionConvention, DatasetInfo, check_dataset_name
from schemas.orientation import Orientation
from schemas.structured import read_structured, structure


@dataclass(frozen=True)
class DepthMapping:
    """Depth that was recorded with a camera, along its optical axis and at the size of its pictures.

    Attributes:
        key: 16-bit pictures, or an array of numbers.
        metres_per_unit: 0.001 where the numbers are millimetres.
    """

    key: str
    metres_per_unit: float

    def __post_init__(self) -> None:
        if not 0 < self.metres_per_unit <= 1000:
            raise ValueError(f"metres_per_unit must be above 0, found {self.metres_per_unit:g}")


@dataclass(frozen=True)
class IntrinsicsMapping:
    """Focal lengths and principal point in pixels of the *upright* picture at the size that they belong to.

    Attributes:
        size: width and height that they belong to; stored pictures of another size scale them.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    size: tuple[int, int]

    def __post_init__(self) -> None:
        if min(self.fx, self.fy, *self.size) <= 0:
            raise ValueError("focal lengths and size must be above 0")


@dataclass(frozen=True)
class CameraMapping:
    """A camera.

    Attributes:
        orientation: how its pictures are stored.
        fixed: it does not move within an episode. False if that is not known.
        fov_y: vertical field of view of the upright picture in degrees, or
        intrinsics: its intrinsics, if they are known.
        depth: recorded depth, if any.
    """

    orientation: Orientation = "upright"
    fixed: bool = False
    fov_y: float | None = None
    intrinsics: IntrinsicsMapping | None = None
    depth: DepthMapping | None = None

    def __post_init__(self) -> None:
        if self.fov_y is not None:
            intrinsics_from_fov(self.fov_y, 2, 2)
            if self.intrinsics is not None:
                raise ValueError("give fov_y or intrinsics, not both")


@dataclass(frozen=True)
class Numbers:
    """A column of numbers.

    Attributes:
        names: one word for each number; the dataset's own, or the key's last word with a number, where there are none.
        take: take only these numbers of each row, counted from 0.
    """

    key: str
    names: tuple[str, ...] = ()
    take: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.take and self.names and len(self.names) != len(self.take):
            raise ValueError(f"{len(self.take)} numbers are taken and {len(self.names)} names given")
        if any(index < 0 for index in self.take):
            raise ValueError("numbers are counted from 0")


@dataclass(frozen=True)
class GripperMapping:
    """Meaning of the gripper's number: its value when open and when closed."""

    open: float
    closed: float
    dimension: str = "gripper"


@dataclass(frozen=True)
class ActionMapping:
    """The actions and what they mean.

    Attributes:
        parts: columns, side by side.
        convention: a short name, e.g. ``cartesian_delta``.
        description: frames and units in a sentence.
        gripper: its sign; None if there is no gripper.
        shift: the action taken after frame t is in row t + ``shift``: 1 if observations were recorded after the
            step.
    """

    parts: tuple[Numbers, ...]
    convention: str
    description: str
    gripper: GripperMapping | None = None
    shift: int = 0

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("parts must name at least one column")
        if self.shift not in (0, 1):
            raise ValueError(f"shift must be 0 or 1, found {self.shift}")

    def meaning(self, names: tuple[str, ...]) -> ActionConvention:
        """The convention of actions with these dimensions."""
        sign = self.gripper
        words = f"; {sign.dimension} {sign.open:g} open, {sign.closed:g} closed" if sign else ""
        return ActionConvention(self.convention, names, self.description + words)


@dataclass(frozen=True)
class SuccessMapping:
    """How success is determined: from the last number of a column, or from a text.

    Attributes:
        above: the episode succeeded if the last number is greater.
        contains: it succeeded if the text contains this.
    """

    key: str
    above: float | None = None
    contains: str | None = None

    def __post_init__(self) -> None:
        if (self.above is None) == (self.contains is None):
            raise ValueError("give above (for a number) or contains (for a text)")


@dataclass(frozen=True)
class DatasetMapping:
    """A whole mapping file.

    Attributes:
        name: of the dataset; shards are called after it.
        fps: frames per second at which the frames were recorded, even if the dataset is labelled otherwise.
        cameras: by key.
        primary: key of the camera in which flow is expressed.
        wrist: key of a camera on the hand.
        state, action: columns of numbers; empty where there are none.
        language: keys of texts; in LeRobot also columns of numbers of tasks, as ``task_index``.
        notes: keys of texts that are kept with each episode, as ``episode_metadata/file_path``.
    """

    name: str
    licence: str
    fps: float
    cameras: dict[str, CameraMapping]
    primary: str
    wrist: str | None = None
    state: tuple[Numbers, ...] = ()
    action: ActionMapping | None = None
    language: tuple[str, ...] = ()
    success: SuccessMapping | None = None
    notes: tuple[str, ...] = ()
    version: str = "unknown"
    credit: str = "unknown"

    def __post_init__(self) -> None:
        check_dataset_name(self.name, "name")
        if not 0 < self.fps < 10_000:
            raise ValueError(f"fps must be above 0, found {self.fps:g}")
        for role, key in (("primary", self.primary), ("wrist", self.wrist)):
            if key is not None and key not in self.cameras:
                raise ValueError(f"{role} must be one of the cameras {', '.join(self.cameras)}, found {key!r}")

    @property
    def info(self) -> DatasetInfo:
        """For the manifest."""
        return DatasetInfo(self.name, self.version, self.licence, self.credit)

    @cached_property
    def names(self) -> dict[str, str]:
        """A camera's name by its key: the last word of an RLDS key, if it is unique."""
        last = {key: key.rsplit("/", 1)[-1] for key in self.cameras}
        count = Counter(last.values())
        return {key: name if count[name] == 1 else key.replace("/", ".") for key, name in last.items()}

    @property
    def keys(self) -> list[str]:
        """Every key that a folder of this dataset must have."""
        found = [*self.cameras, *(c.depth.key for c in self.cameras.values() if c.depth)]
        found += [part.key for part in (*self.state, *(self.action.parts if self.action else ()))]
        return list(dict.fromkeys([*found, *self.language, *([self.success.key] if self.success else [])]))


def load_mapping(path: Path) -> DatasetMapping:
    """Read a mapping file, YAML or TOML.

    Raises:
        BadFile: it cannot be read, or has an unknown entry; the message names the place.
    """
    return structure(DatasetMapping, read_structured(path), str(path))
