"""The folders below a folder. Links are followed, each folder is visited once, and unreadable ones are reported."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import UnreadableSource
from schemas.locations import StorePath


@dataclass
class Visited:
    """A folder. Remove names from ``folders`` to skip them.

    Attributes:
        path: the path from the root, including links.
        folders, files: names in it without hidden ones; numbers in names are sorted as numbers.
    """

    path: Path
    folders: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


class FolderTree:
    """Every folder below a root, in the order of the paths.

    Links to folders are followed, except if that would list a folder twice: a link to a folder that is below the root
    anyway (such as a loop), or to one that was already reached through another link.

    Args:
        opens: whether the caller opens files of this name. The caller then reports broken links among them.

    Attributes:
        faults: folders and links that could not be followed, filled while ``visit`` runs. Codes:
            ``unreadable_folder``, ``broken_link``, ``link_loop``.
    """

    def __init__(self, root: Path, opens: Callable[[str], bool]):
        self.root, self.faults = root, list[UnreadableSource]()
        self._opens = opens
        self._real_root = root.resolve()
        self._linked: set[tuple[int, int]] = set()

    def visit(self) -> Iterator[Visited]:
        """The folders; see ``FolderTree``."""
        yield from self._below(self.root, through_link=False)

    def _below(self, path: Path, through_link: bool) -> Iterator[Visited]:
        here, links = self._look_into(path)
        if here is None:
            return
        yield here
        for name in here.folders:
            linked = through_link or name in links
            if (name not in links or self._is_followed(path / name)) and not (linked and self._is_known(path / name)):
                yield from self._below(path / name, linked)

    def _look_into(self, path: Path) -> tuple[Visited | None, set[str]]:
        """A folder, and which of its subfolders are links; None if it cannot be opened."""
        here, links = Visited(path), set[str]()
        if isinstance(path, StorePath):
            folders, files = path.tree()
            here.folders = sorted((name for name in folders if not name.startswith(".")), key=by_number)
            here.files = sorted((name for name in files if not name.startswith(".")), key=by_number)
            return here, links
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if not entry.name.startswith("."):
                        self._sort_in(entry, here, links)
        except OSError as error:
            self._fault(path, "unreadable_folder", f"cannot be opened: {error.strerror}; make it readable or remove it")
            return None, links
        here.folders.sort(key=by_number)
        here.files.sort(key=by_number)
        return here, links

    def _sort_in(self, entry: "os.DirEntry[str]", here: Visited, links: set[str]) -> None:
        try:
            is_folder = entry.is_dir()
        except OSError:  # a link to itself, or into a folder that cannot be opened
            is_folder = False
        if is_folder:
            here.folders.append(entry.name)
            if entry.is_symlink():
                links.add(entry.name)
        elif entry.is_symlink() and not self._opens(entry.name) and not os.path.exists(entry.path):
            where = ascii(os.readlink(entry.path))
            self._fault(here.path / entry.name, "broken_link", f"is a link to {where}, where nothing can be opened")
        else:
            here.files.append(entry.name)

    def _is_followed(self, link: Path) -> bool:
        """Whether the target of a link has to be visited through the link."""
        target = link.resolve()
        if target.is_relative_to(self._real_root):
            within = target.relative_to(self._real_root).parts
            return any(part.startswith(".") for part in within)  # hidden folders are entered through links only
        if self._real_root.is_relative_to(target):
            self._fault(link, "link_loop", "is a link to a folder that holds the dataset's own; remove it")
            return False
        return True

    def _is_known(self, folder: Path) -> bool:
        """Whether a folder reached through a link was already reached through another link."""
        try:
            stat = folder.stat()
        except OSError:  # reported when it is opened
            return False
        known = (stat.st_dev, stat.st_ino) in self._linked
        self._linked.add((stat.st_dev, stat.st_ino))
        return known

    def _fault(self, path: Path, code: str, said: str) -> None:
        within = path.relative_to(self.root).as_posix() if path != self.root else path.name
        source = printable(within)
        self.faults.append(UnreadableSource(source, code, f"{source} {said}"))


def by_number(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """A key that sorts ``traj10`` after ``traj2``."""
    words = re.split(r"([0-9]{1,18})", name)
    return [(0, int(word), "") if word.isdecimal() else (1, 0, word) for word in words], name


def is_printable(source: str) -> bool:
    """Whether a file's name can be written in messages and manifests."""
    try:  # Python keeps bytes that are not UTF-8 as lone surrogates
        source.encode()
    except UnicodeEncodeError:
        return False
    return source.isprintable()


def printable(source: str) -> str:
    """A file's name as written in messages and manifests."""
    return source if is_printable(source) else ascii(source)[1:-1]
