"""The files that an episode's ref names, in a folder of this machine or in a store."""

from pathlib import Path

from schemas.episode import EpisodeRef
from schemas.locations import StorePath, freeze, locate


def path_of(ref: EpisodeRef) -> Path:
    """The file that the ref names. Its dataset is taken as unchanging, so a store is asked for each name once."""
    path = locate(ref.path)
    if isinstance(path, StorePath):
        freeze(path.parents[ref.source.count("/")])
    return path


def root_of(ref: EpisodeRef) -> Path:
    """The dataset's folder, to which the ref's source is relative."""
    return path_of(ref).parents[ref.source.count("/")]
