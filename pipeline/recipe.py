"""The recipe: everything that decides the bytes of the samples, and nothing else."""

import math
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from types import ModuleType
from typing import Any, Literal

from pipeline.actions import STANDARD, standard_of
from pipeline.episodes.camera_choice import PRIMARY, checked_cameras
from pipeline.errors import BuildError
from pipeline.readers import dataset_info
from schemas.devices import choose_device
from schemas.episode import DatasetInfo
from schemas.files import digest_of
from schemas.generated_instructions import GeneratedFile
from schemas.plugins import PluginChoice, load_plugin, recorded_options
from schemas.scene_flow import GRID, HORIZON, MOVES

STRIDE, STRIDE_WITHOUT_FLOW = 5, 1
"""Default strides: neighbouring windows of flow are nearly the same, but a policy should see every observation."""
PARTS = {"tracker": "trackers", "depth": "depth", "camera": "cameras"}
"""The parts that a flow source may use, and their plug-in folders."""


def measures_flow(source: str) -> bool:
    """Whether a flow source, by its name, measures flow.

    Raises:
        UnknownPlugin: no flow source has this name.
    """
    return getattr(load_plugin("pipeline.flow_sources", source), "MEASURES", True)


@dataclass(frozen=True)
class WindowConfig:
    """Which reference frames are taken and how far each is followed.

    Without flow only ``stride`` and ``action_horizon`` have a meaning.

    Attributes:
        stride: frames from one reference frame to the next.
        horizon: steps that each is followed, T.
        horizon_seconds: that those steps cover, whatever the frames per second; None for a frame a step
            (``pipeline.windows.resampling``).
        grid: keypoints along each side of the image; K is its square.
        action_horizon: actions kept with each sample; training takes chunks up to this long.
        keypoints: ``regular``, the grid; ``adaptive`` adds as many points that are denser where things move
            (``pipeline.windows.adaptive_points``).
    """

    stride: int = STRIDE
    horizon: int = HORIZON
    grid: int = GRID
    action_horizon: int = 32
    horizon_seconds: float | None = None
    keypoints: Literal["regular", "adaptive"] = "regular"

    def __post_init__(self) -> None:
        if self.horizon_seconds is not None and not 0 < self.horizon_seconds < math.inf:
            raise ValueError(f"horizon_seconds must be above 0, found {self.horizon_seconds}")
        for name in ("stride", "horizon", "grid", "action_horizon"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, found {getattr(self, name)}")


@dataclass(frozen=True)
class QualityConfig:
    """Thresholds. Distances are in metres; with relative depth, in medians of the depth over the episode.

    Attributes:
        min_steps: steps that the episode must still have after the reference frame (too_short).
        min_valid: share of keypoints and steps that must be valid, of those within the episode (too_few_visible).
        max_holes: share of visible keypoints and steps that may lack depth (depth_holes).
        max_edges: share of visible keypoints and steps that may lie on depth edges (depth_edges).
        max_jumps: share of keypoints that may have jumped (jumps).
        min_moving_points: keypoints that must move farther than ``moving_distance`` (no_motion); 0 keeps still windows.
        moving_distance: from the start, in 3D.
        depth_edge: bend of inverse depth from one pixel to the next, as a share of it, that counts as an edge.
        max_speed: per second; a point that comes farther than this allows since it was last trusted has jumped.
        static_px: a point that stays within this many pixels of its start ...
        static_distance: ... and whose depth stays within this distance of the start is static.
    """

    min_steps: int = 8
    min_valid: float = 0.5
    max_holes: float = 0.3
    max_edges: float = 0.5
    max_jumps: float = 0.2
    min_moving_points: int = 1
    moving_distance: float = MOVES
    depth_edge: float = 0.05
    max_speed: float = 1.0
    static_px: float = 0.5
    static_distance: float = 0.005

    def __post_init__(self) -> None:
        for name in ("min_valid", "max_holes", "max_edges", "max_jumps"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"quality.{name} is a share between 0 and 1, found {getattr(self, name)}")
        for name in ("depth_edge", "max_speed"):
            if getattr(self, name) <= 0:
                raise ValueError(f"quality.{name} must be above 0, found {getattr(self, name)}")
        for name in ("min_steps", "min_moving_points", "moving_distance", "static_px", "static_distance"):
            if getattr(self, name) < 0:
                raise ValueError(f"quality.{name} must be 0 or more, found {getattr(self, name)}")


@dataclass(frozen=True)
class Recipe:
    """How episodes become triplets.

    Attributes:
        dataset: the reader, a plug-in of ``pipeline.readers``.
        flow: where flow comes from, a plug-in of ``pipeline.flow_sources``.
        tracker, depth, camera: plug-ins of ``pipeline.trackers``, ``depth`` and ``cameras``, for flow sources that use
            them.
        windows: reference frames and horizon.
        actions: the standard form that is made of actions, a plug-in of ``pipeline.actions``; ``standard`` is the
            dataset's own.
        cameras: whose windows are made: ``primary``, ``all``, or the dataset's own names.
        quality: thresholds.
        language: ``required`` leaves episodes without an instruction out, ``optional`` keeps them.
        jpeg_quality: of the pictures, 1 to 100.
        generated_instructions: texts that a model wrote, which samples carry tagged beside the people's own.
    """

    dataset: PluginChoice
    flow: PluginChoice = PluginChoice("tracked")
    tracker: PluginChoice = PluginChoice("lk")
    depth: PluginChoice = PluginChoice("recorded")
    camera: PluginChoice = PluginChoice("static")
    windows: WindowConfig = WindowConfig()
    actions: PluginChoice = PluginChoice(STANDARD)
    cameras: tuple[str, ...] = (PRIMARY,)
    quality: QualityConfig = field(default_factory=QualityConfig)
    language: Literal["required", "optional"] = "required"
    jpeg_quality: int = 95
    generated_instructions: GeneratedFile | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality lies between 1 and 100, found {self.jpeg_quality}")
        object.__setattr__(self, "cameras", checked_cameras(self.cameras))

    def configs(self) -> dict[str, Any]:
        """The plug-ins' configs by the folder's name: of the reader, the flow source and the parts that it uses.

        Raises:
            ValueError: an unknown plug-in, option or value.
        """
        parts = self._parts()
        return {
            "readers": self.dataset.configure("pipeline.readers"),
            "actions": self.chosen_actions.configure("pipeline.actions"),
            "flow_sources": self.chosen_flow.configure("pipeline.flow_sources"),
            **{folder: choice.configure(f"pipeline.{folder}") for folder, choice in parts.values()},
        }

    @property
    def chosen_flow(self) -> PluginChoice:
        """The flow source with the tracker, depth and camera that it uses among its options."""
        parts = {name: choice for name, (_, choice) in self._parts().items()}
        return PluginChoice(self.flow.name, {**self.flow.options, **parts})

    @property
    def has_flow(self) -> bool:
        """Whether the flow source measures flow. Without, nothing is followed and no quality is checked."""
        return measures_flow(self.flow.name)

    @property
    def chosen_actions(self) -> PluginChoice:
        """The plug-in that ``actions`` stands for."""
        if self.actions.name != STANDARD:
            return self.actions
        named = getattr(self.dataset.configure("pipeline.readers"), "action_convention", None)
        return PluginChoice(standard_of(self.dataset.name, named), self.actions.options)

    @property
    def device(self) -> str | None:
        """The device of the plug-ins that run models: the one that is named, if one is; None if there is no model."""
        names = [config.device for _, _, config in self.plugins() if hasattr(config, "device")]
        named = [name for name in names if name not in ("auto", "cpu")]
        return next(iter([*named, *(name for name in ("auto", "cpu") if name in names)]), None)

    def check(self, own_devices: bool = True) -> None:
        """Fetch what the plug-ins need, before any work (``schemas.plugins``).

        Args:
            own_devices: check that this machine has the devices; not where others do the work.

        Raises:
            BuildError: something is unavailable: weights, a library, the device.
        """
        try:
            for _, module, config in self.plugins():
                if own_devices and hasattr(config, "device"):
                    choose_device(config.device, "depth" if module.__name__.startswith("pipeline.depth.") else None)
                if hasattr(module, "check"):
                    module.check(config)
        except ValueError as error:
            raise BuildError(str(error)) from error

    @cached_property
    def libraries(self) -> tuple[str, ...]:
        """Installed packages whose versions decide what the plug-ins compute."""
        return tuple(sorted({name for _, module, _ in self.plugins() for name in getattr(module, "LIBRARIES", ())}))

    @property
    def thread_safe(self) -> bool:
        """Whether several threads may use the built plug-ins at once (``schemas.plugins``)."""
        modules = [module for _, module, _ in self.plugins()]
        return all(getattr(m, "THREAD_SAFE", m.__name__.startswith("pipeline.")) for m in modules)

    def plugins(self) -> list[tuple[str, ModuleType, Any]]:
        """The plug-ins that are used, each with its kind and name (``tracker lk``) and its config: the reader, the
        actions, the flow source and its parts.
        """
        names = {
            "readers": self.dataset.name,
            "actions": self.chosen_actions.name,
            "flow_sources": self.flow.name,
            **{folder: choice.name for folder, choice in self._parts().values()},
        }
        configs, found = self.configs(), []
        for folder, name in names.items():
            module = load_plugin(f"pipeline.{folder}", name)
            own = module.__name__.startswith("pipeline.")  # else a user's own module, named as given
            kind = folder.removesuffix("s").replace("_", " ")
            found.append((f"{kind} {name.replace('_', '-') if own else name}", module, configs[folder]))
        return found

    def _parts(self) -> dict[str, tuple[str, PluginChoice]]:
        """Folder and choice of each part for which the flow source's config has a field."""
        wanted = {f.name for f in fields(load_plugin("pipeline.flow_sources", self.flow.name).Config)}
        return {name: (folder, getattr(self, name)) for name, folder in PARTS.items() if name in wanted}

    def as_dict(self) -> dict[str, Any]:
        """The recipe with every option spelled out, for the manifest; parts that the flow source does not use are left
        out.
        """
        configs, parts = self.configs(), self._parts()
        own = {k: v for k, v in recorded_options(configs["flow_sources"]).items() if k not in parts}
        return {
            "dataset": {"name": self.dataset.name, "options": recorded_options(configs["readers"])},
            "flow": {"name": self.flow.name, "options": own},
            **{
                name: {"name": choice.name, "options": recorded_options(configs[folder])}
                for name, (folder, choice) in parts.items()
            },
            "windows": self._windows() if self.has_flow else self._windows_without_flow(),
            "actions": {"name": self.chosen_actions.name, "options": recorded_options(configs["actions"])},
            "cameras": list(self.cameras),
            **({"quality": asdict(self.quality)} if self.has_flow else {}),
            "language": self.language,
            "jpeg_quality": self.jpeg_quality,
            "generated_instructions": self.generated_instructions and self.generated_instructions.as_dict(),
        }

    def _windows(self) -> dict[str, Any]:
        """The windows; the choice of keypoints only where it is not the grid alone, as in recipes of before it."""
        said = asdict(self.windows)
        return said if said["keypoints"] != "regular" else {k: v for k, v in said.items() if k != "keypoints"}

    def _windows_without_flow(self) -> dict[str, int]:
        return {name: getattr(self.windows, name) for name in ("stride", "action_horizon")}

    @cached_property
    def info(self) -> DatasetInfo:
        """Who made the dataset and under which terms."""
        return dataset_info(self.dataset.name, self.dataset.configure("pipeline.readers"))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the recipe; it does not depend on how the options were written."""
        return digest_of(self.as_dict())
