"""Options of every part that loads recorded simulator models: the folders of the files that the models name."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from pipeline.simulator.model import AssetFolders


@dataclass(frozen=True)
class AssetOptions:
    """Folders on this machine.

    Attributes:
        robosuite: folder of the package robosuite 1.4.0; None for the installed one.
        libero_assets: LIBERO's folder ``assets``; None for the installed package's.
    """

    section: ClassVar[str] = "simulator"
    """The name of the options in error messages."""

    robosuite: str | None = field(default=None, metadata={"place": True})
    libero_assets: str | None = field(default=None, metadata={"place": True})

    def __post_init__(self) -> None:
        for name in ("robosuite", "libero_assets"):
            folder = getattr(self, name)
            if folder is not None and not Path(folder).is_dir():
                raise ValueError(f"{self.section}.{name} must be a folder, found {folder!r}")

    def asset_folders(self, part: str) -> AssetFolders:
        """The folders.

        Args:
            part: the part that has these options, in words, for the message about a missing file.
        """
        robosuite, libero = (Path(folder) if folder else None for folder in (self.robosuite, self.libero_assets))
        return AssetFolders(robosuite, libero, f"the options robosuite=DIR and libero-assets=DIR of {part}")
