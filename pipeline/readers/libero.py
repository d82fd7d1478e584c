"""LIBERO in every published form, 20 Hz; the form is recognised from the files.

* Official HDF5, ``<task>_demo.hdf5``: see ``_libero_hdf5``.
* Modified RLDS (``libero_spatial_no_noops/1.0.0`` and so on): see ``_libero_rlds``.
* LeRobot v2.0, v2.1 and v3.0, two lines of keys: see ``_libero_lerobot``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from pipeline.errors import UnreadableSource
from pipeline.formats.discovery import list_forms
from pipeline.formats.lerobot import read_lerobot
from pipeline.formats.rlds import list_rlds, read_rlds
from pipeline.readers import EpisodeTexts
from pipeline.readers._camera_views import words_of_tasks
from pipeline.readers._libero_hdf5 import Hdf5Options, list_hdf5, read_hdf5
from pipeline.readers._libero_lerobot import OneLine, episode_of_lerobot
from pipeline.readers._libero_pairing import Observed
from pipeline.readers._libero_rlds import NEEDED, episode_of_record, words_of_record
from pipeline.readers._simulator_depth import DepthUnit
from schemas.episode import DatasetInfo, Episode, EpisodeRef

INFO = DatasetInfo(
    name="libero",
    version="2023",
    licence="MIT (code), CC BY 4.0 (data)",
    credit="Liu et al., LIBERO: Benchmarking Knowledge Transfer for Lifelong Robot Learning, 2023",
)


@dataclass(frozen=True)
class Config:
    """What may differ.

    Attributes:
        line: which of the two lines of LeRobot files is read where both are there: ``open`` (gripper 1 = open) or
            ``simulator``.
        depth_unit: of depth recorded in HDF5 files: ``z-buffer`` or ``metres``; None for the z-buffer of LIBERO's own
            tool, with a check whether it can be one.
        observed: whether observations of HDF5 files were recorded ``before`` or ``after`` the action of their row,
            where no states tell; None for after, as LIBERO's own tool does.
    """

    line: Literal["open", "simulator"] | None = None
    depth_unit: DepthUnit | None = None
    observed: Observed | None = None

    @property
    def hdf5(self) -> Hdf5Options:
        """The options of HDF5 files."""
        return Hdf5Options(self.depth_unit, self.observed)


def build(config: Config) -> "LiberoReader":
    """The reader."""
    return LiberoReader(config)


class LiberoReader:
    """See ``pipeline.readers.Reader``."""

    def __init__(self, config: Config = Config()):
        self.config = config

    def list_episodes(self, root: Path, form: str | None = None) -> Iterator[EpisodeRef | UnreadableSource]:
        """Every demo of every file below the folder; files by path, demos by number."""
        listers = {
            "hdf5": list_hdf5,
            "rlds": partial(list_rlds, INFO.name, needed=NEEDED),
            "lerobot": OneLine(self.config.line),
        }
        what = "*.hdf5 file, RLDS folder or LeRobot folder"
        return list_forms(root, listers, what, "LIBERO's <task>_demo.hdf5 files, or its RLDS or LeRobot folders,", form)

    def read(self, ref: EpisodeRef) -> Episode:
        """One demo; its pictures are read on demand."""
        if ref.path.endswith(".hdf5"):
            return read_hdf5(ref, self.config.hdf5)
        if ref.path.endswith(".parquet"):
            return episode_of_lerobot(ref, read_lerobot(ref))
        return episode_of_record(ref, read_rlds(ref))

    def words(self, ref: EpisodeRef) -> EpisodeTexts:
        """See ``pipeline.readers.TellsWords``."""
        if ref.path.endswith(".hdf5"):
            episode = read_hdf5(ref, self.config.hdf5)
            return EpisodeTexts(episode.instructions, episode.success)
        if ref.path.endswith(".parquet"):
            return words_of_tasks(read_lerobot(ref))
        return words_of_record(read_rlds(ref))
