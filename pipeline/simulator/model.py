"""Loads a recorded simulator model (MuJoCo XML) with this machine's paths of meshes and textures."""

import importlib
import importlib.util
import os
import re
from ctypes.util import find_library
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from schemas.episode import BadEpisode
from schemas.errors import MissingDependency

FILE = re.compile(r'file="([^"]*)"')
ROOTS = (("robosuite/models/assets/", "robosuite"), ("assets/", "libero_assets"))
"""What the paths in recorded models have in common from there on, whoever recorded them, and the folder that holds it.
"""


@dataclass(frozen=True)
class AssetFolders:
    """Folders of meshes and textures.

    Attributes:
        robosuite: folder of the package robosuite 1.4.0, which contains ``models/assets``; None for the installed one.
        libero_assets: LIBERO's folder ``assets``, which contains ``stable_scanned_objects``; None for the installed
            package's.
        options: how the user sets these folders, for the message about a missing file.
    """

    robosuite: Path | None = None
    libero_assets: Path | None = None
    options: str = "robosuite=DIR and libero-assets=DIR"

    def find(self, recorded: str) -> Path | None:
        """The path on this machine of a file that a model names; None if it does not exist."""
        for marker, kind in ROOTS:
            _, found, rest = recorded.rpartition(marker)
            folder = self._folder(kind)
            if found and folder is not None:
                path = folder / rest
                return path if path.is_file() else None
        return Path(recorded) if Path(recorded).is_file() else None

    def _folder(self, kind: str) -> Path | None:
        if kind == "robosuite":
            package = self.robosuite or _package("robosuite")
            return package / "models" / "assets" if package else None
        package = _package("libero")
        return self.libero_assets or (package / "libero" / "assets" if package else None)


def _choose_renderer() -> None:
    """Set ``MUJOCO_GL``, which mujoco reads when it is first imported, unless somebody has: OSMesa, which draws in
    software, or EGL where only that is installed."""
    if "MUJOCO_GL" not in os.environ:
        only_egl = find_library("EGL") and not find_library("OSMesa")
        os.environ["MUJOCO_GL"] = "egl" if only_egl else "osmesa"


def physics_library(what: str) -> Any:
    """The package mujoco, for work that draws nothing.

    Args:
        what: needs it, in words.

    Raises:
        MissingDependency: it is not installed.
    """
    if importlib.util.find_spec("mujoco") is None:
        raise MissingDependency(f"{what} needs mujoco: pip install 'lamp-robotics[sim]'")
    _choose_renderer()
    try:
        return importlib.import_module("mujoco")
    except (ImportError, AttributeError, OSError, RuntimeError):  # it cannot draw here
        os.environ["MUJOCO_GL"] = "disable"
        return importlib.import_module("mujoco")


@cache
def simulator_library() -> Any:
    """The package mujoco, which renders in software unless ``MUJOCO_GL`` says otherwise.

    Raises:
        BadEpisode: it is not installed, or cannot render on this machine.
    """
    if importlib.util.find_spec("mujoco") is None:
        raise BadEpisode(
            "no_simulator", "the simulator is not installed: pip install 'lamp-robotics[sim]' (docs/simulator.md)"
        )
    _choose_renderer()
    try:
        mujoco = importlib.import_module("mujoco")
        context = mujoco.GLContext(8, 8)
        if not getattr(context, "_context", True):  # glfw without a screen; drawing would end the process
            raise RuntimeError("there is no screen")
        context.free()
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        said = " ".join(str(error).split())
        raise BadEpisode(
            "no_simulator",
            f"mujoco cannot draw here with MUJOCO_GL={os.environ['MUJOCO_GL']} ({said}); for software rendering "
            "install libosmesa6, or libegl1 and libgl1-mesa-dri (docs/simulator.md)",
        ) from error
    return mujoco


def load_model(episode: str, xml: str, folders: AssetFolders) -> Any:
    """An ``mujoco.MjModel`` of a recorded model.

    Raises:
        BadEpisode: mujoco is not installed, a file that the model names is not here, or the model cannot be compiled.
    """
    mujoco = simulator_library()
    missing = []

    def mapped(match: re.Match[str]) -> str:
        path = folders.find(match[1])
        if path is None:
            missing.append(match[1])
        return f'file="{path.resolve() if path else match[1]}"'

    xml = FILE.sub(mapped, xml)
    if missing:
        raise BadEpisode(
            "missing_assets",
            f"{episode}: {len(missing)} of the files that its model names are not on this machine, the first "
            f"{missing[0]!r}; "
            f"name their folders with {folders.options} (docs/simulator.md)",
        )
    try:
        return mujoco.MjModel.from_xml_string(xml)
    except (ValueError, mujoco.FatalError) as error:
        said = " ".join(str(error).split())
        raise BadEpisode("bad_model", f"{episode}: the simulator cannot load its model: {said}") from error


def _package(name: str) -> Path | None:
    """The folder of an installed package, found without importing it."""
    found = importlib.util.find_spec(name)
    return Path(found.origin).parent if found is not None and found.origin else None
