"""Finds which forms of a dataset are stored below a folder, from the names of the files."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pipeline.errors import SeveralForms, UnknownForm, UnreadableSource
from pipeline.formats.archives import is_archive
from pipeline.formats.folder_tree import FolderTree, is_printable, printable
from pipeline.formats.lfs import CODE, is_lfs_pointer, lfs_words
from pipeline.formats.rlds import SHARD_NAME, is_rlds_folder
from pipeline.formats.video_clips import is_video
from schemas.episode import EpisodeRef
from schemas.locations import StorePath, list_once, locate

Lister = Callable[[Path, Path], Iterator[EpisodeRef | UnreadableSource]]
"""Lists the episodes of one folder of a form: (the dataset's folder, the form's folder)."""

LEROBOT_INFO = "meta/info.json"

RAW = {"bridge-raw": "obs_dict.pkl", "droid-raw": "trajectory.h5"}
"""The file that identifies the folder of one recording."""


UNFINISHED = re.compile(r"incomplete\..+|.+\.incomplete\w*")
"""The name that tensorflow-datasets gives the folder of an unfinished preparation."""
VERSION = re.compile(r"v?\d+(\.\d+)+")
"""The names of folders of dataset versions."""


class LeftOutSource(UnreadableSource):
    """A folder that is left out on purpose: it is reported, but is not a fault of the dataset."""


class Forms:
    """The datasets below a folder, found in one search.

    Attributes:
        found: form and folder of every dataset, in the order of their paths. ``rlds`` and ``lerobot`` folders and
            recordings are not searched further; a folder of ``*.hdf5`` files is ``hdf5``, and one of video files that
            is none of these ``video``. For archives (``tar.gz``) the path is that of the file.
        faults: folders that were not searched, and why.
    """

    def __init__(self, root: Path):
        self.found: list[tuple[str, Path]] = []
        tree = FolderTree(root, _is_opened)
        self.faults = tree.faults
        for here in tree.visit():
            if is_rlds_folder(here.files):
                here.folders.clear()
                if UNFINISHED.fullmatch(here.path.name) and here.path != root:
                    self._leave_out(root, here.path)
                else:
                    self.found.append(("rlds", here.path))
                continue
            self.found += [("tar.gz", here.path / name) for name in here.files if is_archive(name)]
            form = _form_of(here.path, here.files)
            if form is not None:
                self.found.append((form, here.path))
            if form == "lerobot" or form in RAW:
                here.folders.clear()

    def _leave_out(self, root: Path, folder: Path) -> None:
        source = printable(folder.relative_to(root).as_posix())
        said = f"{source} is left out: it is an unfinished preparation by tensorflow-datasets; remove it"
        self.faults.append(LeftOutSource(source, "unfinished_folder", said))


def _form_of(folder: Path, files: list[str]) -> str | None:
    """The form of a folder with these files, archives aside."""
    if _is_file(folder / LEROBOT_INFO):
        return "lerobot"
    raw = next((form for form, name in RAW.items() if name in files), None)
    if raw is not None:
        return raw
    if any(name.endswith(".hdf5") for name in files):
        return "hdf5"
    return "video" if any(map(is_video, files)) else None


def _is_file(path: Path) -> bool:
    """Whether there is such a file; False if its folder cannot be opened, which is reported."""
    return path.is_file() if isinstance(path, StorePath) else os.path.isfile(path)


def _is_opened(name: str) -> bool:
    """Whether the lister of its form opens a file of this name, and so reports a broken link."""
    return name.endswith(".hdf5") or is_video(name) or is_archive(name) or SHARD_NAME.fullmatch(name) is not None


def find_forms(root: Path) -> Iterator[tuple[str, Path]]:
    """Form and folder of every dataset below a folder; see ``Forms.found``."""
    list_once(root)
    yield from Forms(root).found


def list_forms(
    root: Path, listers: Mapping[str, Lister], what: str, put: str, form: str | None = None
) -> Iterator[EpisodeRef | UnreadableSource]:
    """The episodes of every folder whose form has a lister.

    Args:
        root: the dataset's folder.
        listers: by form.
        what: what is expected, and
        put: what to put there, for the message.
        form: list this form only.

    Raises:
        FileNotFoundError: the folder is missing or holds none of these forms.
        SeveralForms: episodes come from more than one form, or from several versions of a form in neighbouring
            folders. They may be duplicates.
        UnknownForm: there is no lister for the form asked for.
    """
    if form is not None and form not in listers:
        raise UnknownForm(f"--form must be one of {', '.join(listers)} for this dataset, found {form!r}")
    advice = f"put {put} below it, or name their folder with --input"
    list_once(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} does not exist; {advice}")
    forms = Forms(root)
    found = [(kind, folder) for kind, folder in forms.found if kind in listers and form in (None, kind)]
    if not found:
        chosen = f" in the form {form}, which --form asks for" if form else ""
        closed = "".join(f" ({fault})" for fault in forms.faults[:1])
        raise FileNotFoundError(f"{root} holds no {what}{chosen}{closed}; {advice}")
    yield from forms.faults
    unprintable: set[str] = set()
    chosen_one = _OneOfSeveral(root)
    for kind, folder in found:
        for listed in _without_pointers(root, listers[kind](root, folder)):
            if isinstance(listed, EpisodeRef):
                chosen_one.check(kind, folder)
            if is_printable(listed.source):
                yield listed
            elif listed.source not in unprintable:
                unprintable.add(listed.source)
                yield bad_name(listed.source)


def _without_pointers(
    root: Path, items: Iterator[EpisodeRef | UnreadableSource]
) -> Iterator[EpisodeRef | UnreadableSource]:
    """The same list, but each file that is a Git LFS pointer is reported once, whatever its lister yielded for it."""
    pointers: dict[Path, bool] = {}
    for item in items:
        path = locate(item.path) if isinstance(item, EpisodeRef) else root / item.source
        if path not in pointers:
            pointers[path] = is_lfs_pointer(path)
            if pointers[path]:
                yield UnreadableSource(item.source, CODE, lfs_words(item.source))
        if not pointers[path]:
            yield item


class _OneOfSeveral:
    """Refuses episodes that may be duplicates of others."""

    def __init__(self, root: Path):
        self.root = root
        self._first: tuple[str, Path] | None = None
        self._versions: dict[Path, Path] = {}

    def check(self, kind: str, folder: Path) -> None:
        """Record that an episode comes from a folder of a form.

        Raises:
            SeveralForms: others come from another form, or from another version.
        """
        self._first = self._first or (kind, folder)
        first, where = self._first
        if first != kind:
            raise SeveralForms(
                f"{self.root} holds the dataset in several forms, {first} in {where.relative_to(self.root)} and "
                f"{kind} in {folder.relative_to(self.root)}, which may be the same episodes; choose with "
                f"--form {first} or --form {kind}"
            )
        if folder != self.root and VERSION.fullmatch(folder.name):
            other = self._versions.setdefault(folder.parent, folder)
            if other != folder:
                raise SeveralForms(
                    f"{folder.parent} holds the dataset in several versions, {other.name} and {folder.name}, which "
                    f"may be the same episodes; name the folder of one with --input"
                )


def bad_name(source: str) -> UnreadableSource:
    """The refusal of a file whose name is not printable."""
    said = printable(source)
    return UnreadableSource(said, "bad_name", f"{said} has a name that is not printable UTF-8; rename it")
