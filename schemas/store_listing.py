"""What is known of the names in stores, so that one listing answers all questions about them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from schemas.stores import Entry


@dataclass
class _Root:
    """What is known below a URL that does not change; ``whole`` if everything below it was listed."""

    whole: bool = False
    entries: dict[str, Entry | None] = field(default_factory=dict)
    children: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)
    below: dict[str, list[str]] = field(default_factory=dict)


class Listings:
    """Names below URLs that were declared unchanging; questions about others are passed on every time."""

    def __init__(self) -> None:
        self._roots: dict[str, _Root] = {}

    def freeze(self, root: str) -> None:
        """Declare that what lies below a URL does not change."""
        if self._of(root) is None:
            self._roots[root] = _Root()

    def keep(self, root: str, name: str, entries: Iterable[Entry]) -> None:
        """Declare so, and keep the listing of all that lies there.

        Args:
            name: the root's name within its store, which the entries' names begin with.
        """
        made = _Root(whole=True)
        made.children[root] = ([], [])
        for entry in entries:
            within = entry.name[len(name) :].strip("/") if name else entry.name
            if not within:  # the root itself is an object, or marks a folder
                continue
            made.entries[f"{root}/{within}"] = entry
            folder, _, file = within.rpartition("/")
            self._folders(made, root, folder)
            made.children[f"{root}/{folder}" if folder else root][1].append(file)
        self._roots[root] = made

    @staticmethod
    def _folders(made: _Root, root: str, folder: str) -> None:
        while folder and f"{root}/{folder}" not in made.children:
            made.children[f"{root}/{folder}"] = ([], [])
            above, _, name = folder.rpartition("/")
            parent = f"{root}/{above}" if above else root
            if parent not in made.children:
                Listings._folders(made, root, above)
            made.children[parent][0].append(name)
            folder = above

    def _of(self, url: str) -> tuple[str, _Root] | None:
        at = url
        while True:
            if at in self._roots:
                return at, self._roots[at]
            at, _, last = at.rpartition("/")
            if not last or at.endswith(":/") or not at:
                return None

    def known(self, url: str) -> Entry | None:
        """An entry that is known without asking."""
        found = self._of(url)
        return found[1].entries.get(url) if found else None

    def entry(self, url: str, ask: Callable[[], Entry | None]) -> Entry | None:
        """The entry of a name, or None where there is no such object."""
        found = self._of(url)
        if found is None:
            return ask()
        root = found[1]
        if not root.whole and url not in root.entries:
            root.entries[url] = ask()
        return root.entries.get(url)

    def children(self, url: str, ask: Callable[[], tuple[list[str], list[Entry]]]) -> tuple[list[str], list[str]]:
        """Names right below a URL: folders and files."""
        found = self._of(url)
        root = found[1] if found else None
        if root is not None and (root.whole or url in root.children):
            return root.children.get(url, ([], []))
        folders, entries = ask()
        named = [name.rpartition("/")[2] for name in folders], [entry.name.rpartition("/")[2] for entry in entries]
        if root is not None:
            root.children[url] = named
            root.entries |= {f"{url}/{entry.name.rpartition('/')[2]}": entry for entry in entries}
        return named

    def is_folder(self, url: str) -> bool | None:
        """Whether there is something below a URL; None if that has to be asked."""
        found = self._of(url)
        return any(found[1].children.get(url, ())) if found and found[1].whole else None

    def below(self, url: str, name: str, ask: Callable[[], Iterable[Entry]]) -> list[str]:
        """Names of all objects below a URL, relative to it.

        Args:
            name: of the URL within its store.
        """
        found = self._of(url)
        root = found[1] if found else None
        if root is not None and root.whole:
            return [entry[len(url) + 1 :] for entry in root.entries if entry.startswith(f"{url}/")]
        if root is not None and url in root.below:
            return root.below[url]
        entries = {entry.name[len(name) :].strip("/"): entry for entry in ask()}
        names = [within for within in entries if within]
        if root is not None:
            root.below[url] = names
            root.entries |= {f"{url}/{within}": entries[within] for within in names}
        return names
