"""Finds which forms of a dataset lie below a folder, by the files that are there."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pipeline.formats.archives import is_archive
from pipeline.formats.lfs import CODE, is_lfs_pointer, lfs_words
from pipeline.formats.rlds import is_rlds_folder
from pipeline.formats.video_clips import SUFFIXES as VIDEO_SUFFIXES
from pipeline.readers import SeveralForms, UnknownForm, UnreadableSource
from schemas.episode import EpisodeRef

Lister = Callable[[Path, Path], Iterator[EpisodeRef | UnreadableSource]]
"""Lists the episodes of one folder of a form: (the dataset's folder, the form's folder)."""

LEROBOT_INFO = "meta/info.json"

RAW = {"bridge-raw": "obs_dict.pkl", "droid-raw": "trajectory.h5"}
"""The file by which the folder of one recording is known."""


def find_forms(root: Path) -> Iterator[tuple[str, Path]]:
    """Form and folder of every dataset below a folder, in the order of their paths.

    ``rlds`` and ``lerobot`` folders and recordings are not searched further; a folder of ``*.hdf5`` files is ``hdf5``,
    and one of video files that is none of these ``video``. Of archives the file is given: ``tar.gz``.
    """
    for where, folders, files in os.walk(root):
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=_by_number)
        here = Path(where)
        if is_rlds_folder(files):
            folders.clear()
            yield "rlds", here
            continue
        for name in sorted(filter(is_archive, files), key=_by_number):
            yield "tar.gz", here / name
        if (here / LEROBOT_INFO).is_file():
            folders.clear()
            yield "lerobot", here
        elif (raw := next((form for form, name in RAW.items() if name in files), None)) is not None:
            folders.clear()
            yield raw, here
        elif any(name.endswith(".hdf5") and not name.startswith(".") for name in files):
            yield "hdf5", here
        elif any(name.lower().endswith(VIDEO_SUFFIXES) and not name.startswith(".") for name in files):
            yield "video", here


def _by_number(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """``traj10`` after ``traj2``."""
    parts = re.split(r"([0-9]{1,18})", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], name


def list_forms(
    root: Path, listers: Mapping[str, Lister], what: str, put: str, form: str | None = None
) -> Iterator[EpisodeRef | UnreadableSource]:
    """The episodes of every folder whose form has a lister.

    Args:
        root: the dataset's folder.
        listers: by form.
        what: what is looked for, and
        put: what to put there, for the message.
        form: look at this form only.

    Raises:
        FileNotFoundError: the folder is missing or holds none of these forms.
        SeveralForms: episodes come from more than one form. They may be the same ones twice, and a form has its own
            signs.
        UnknownForm: there is no lister for the form asked for.
    """
    if form is not None and form not in listers:
        raise UnknownForm(f"--form must be one of {', '.join(listers)} for this dataset, found {form!r}")
    advice = f"put {put} below it, or name their folder with --input"
    if not root.is_dir():
        raise FileNotFoundError(f"{root} does not exist; {advice}")
    found = [(kind, folder) for kind, folder in find_forms(root) if kind in listers and form in (None, kind)]
    if not found:
        chosen = f" in the form {form}, which --form asks for" if form else ""
        raise FileNotFoundError(f"{root} holds no {what}{chosen}; {advice}")
    unprintable: set[str] = set()
    first: tuple[str, Path] | None = None
    for kind, folder in found:
        for listed in _without_pointers(root, listers[kind](root, folder)):
            if isinstance(listed, EpisodeRef):
                first = first or (kind, folder)
                if first[0] != kind:
                    raise SeveralForms(
                        f"{root} holds the dataset in several forms, {first[0]} in {first[1].relative_to(root)} and "
                        f"{kind} in "
                        f"{folder.relative_to(root)}, which may be the same episodes; choose with --form {first[0]} "
                        f"or --form {kind}"
                    )
            if is_printable(listed.source):
                yield listed
            elif listed.source not in unprintable:
                unprintable.add(listed.source)
                yield bad_name(listed.source)


def _without_pointers(
    root: Path, items: Iterator[EpisodeRef | UnreadableSource]
) -> Iterator[EpisodeRef | UnreadableSource]:
    """The same, with each file that is a Git LFS pointer named once, whatever its lister made of it."""
    pointers: dict[Path, bool] = {}
    for item in items:
        path = Path(item.path) if isinstance(item, EpisodeRef) else root / item.source
        if path not in pointers:
            pointers[path] = is_lfs_pointer(path)
            if pointers[path]:
                yield UnreadableSource(item.source, CODE, lfs_words(item.source))
        if not pointers[path]:
            yield item


def root_of(ref: EpisodeRef) -> Path:
    """The dataset's folder, to which the ref's source is relative."""
    return Path(ref.path).parents[ref.source.count("/")]


def is_printable(source: str) -> bool:
    """Whether a file's name can stand in messages and manifests."""
    return source.isprintable() and _is_utf8(source)


def bad_name(source: str) -> UnreadableSource:
    """The refusal of a file whose name is not printable."""
    said = ascii(source)[1:-1]
    return UnreadableSource(said, "bad_name", f"{said} has a name that is not printable UTF-8; rename it")


def _is_utf8(text: str) -> bool:
    """Whether a file's name was UTF-8; Python keeps other bytes as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
