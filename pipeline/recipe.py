"""The recipe: everything that decides the bytes of the samples, and nothing else."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from pipeline.quality import QualityConfig
from schemas.files import digest_of
from schemas.plugins import configure
from schemas.scene_flow import GRID, HORIZON


@dataclass(frozen=True)
class PluginChoice:
    """A plug-in by name with its options; workers build it from this and never receive a live object."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WindowConfig:
    """Which reference frames are taken and how far each is followed.

    Attributes:
        stride: frames from one reference frame to the next.
        horizon: steps that each is followed, T.
        grid: keypoints along each side of the image; K is its square.
        action_horizon: actions kept with each sample; training takes chunks up to this long.
    """

    stride: int = 5
    horizon: int = HORIZON
    grid: int = GRID
    action_horizon: int = 32

    def __post_init__(self) -> None:
        for name in ("stride", "horizon", "grid", "action_horizon"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, found {getattr(self, name)}")


@dataclass(frozen=True)
class Recipe:
    """How episodes become triplets.

    Attributes:
        dataset: reader, tracker, depth, camera: plug-ins of ``pipeline.readers``, ``trackers``, ``depth`` and ``cameras``.
        windows: reference frames and horizon.
        quality: thresholds.
        language: ``required`` quarantines episodes without an instruction, ``optional`` keeps them.
        jpeg_quality: of the pictures, 1 to 100.
    """

    dataset: PluginChoice
    tracker: PluginChoice = PluginChoice("lk")
    depth: PluginChoice = PluginChoice("recorded")
    camera: PluginChoice = PluginChoice("static")
    windows: WindowConfig = WindowConfig()
    quality: QualityConfig = field(default_factory=QualityConfig)
    language: Literal["required", "optional"] = "required"
    jpeg_quality: int = 95

    def __post_init__(self) -> None:
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality lies between 1 and 100, found {self.jpeg_quality}")

    def configs(self) -> dict[str, Any]:
        """The plug-ins' configs by the folder's name.

        Raises:
            ValueError: an unknown plug-in, option or value.
        """
        return {
            folder: configure(f"pipeline.{folder}", choice.name, choice.options)
            for folder, choice in (
                ("readers", self.dataset),
                ("trackers", self.tracker),
                ("depth", self.depth),
                ("cameras", self.camera),
            )
        }

    def as_dict(self) -> dict[str, Any]:
        """The recipe with every option spelled out, for the manifest."""
        configs = self.configs()
        spelled = {
            name: {"name": choice.name, "options": asdict(configs[folder])}
            for name, folder, choice in (
                ("dataset", "readers", self.dataset),
                ("tracker", "trackers", self.tracker),
                ("depth", "depth", self.depth),
                ("camera", "cameras", self.camera),
            )
        }
        return {
            **spelled,
            "windows": asdict(self.windows),
            "quality": asdict(self.quality),
            "language": self.language,
            "jpeg_quality": self.jpeg_quality,
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the recipe, the same however its options were written."""
        return digest_of(self.as_dict())
