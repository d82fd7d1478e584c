"""Data sets of the Hugging Face hub: ``hf://datasets/OWNER/NAME[@REVISION]/folder``.

Credentials are those of huggingface_hub: ``HF_TOKEN``, or what ``hf auth login`` has stored.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from schemas.errors import StoreFailed, first_line
from schemas.optional import missing_package
from schemas.stores import Entry
from schemas.stores.trying import Passing, trying

T = TypeVar("T")
PIECE = 16 << 20
HTTP_LIBRARIES = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")
"""Packages whose errors mean that a request failed; huggingface_hub has used several of them."""


def open_store(scheme: str, root: str) -> "HubStore":
    """The files of a data set.

    Raises:
        MissingDependency: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import HfFileSystem
    except ModuleNotFoundError as error:
        raise missing_package(error) or error from error
    return HubStore(root, HfFileSystem(endpoint=os.environ.get("HF_ENDPOINT"), skip_instance_cache=True))


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"))


class HubStore:
    """A data set of the hub, which is read by name; ``lamp-data push`` writes one."""

    def __init__(self, root: str, files: Any):
        self.root, self.url, self._files = root, f"hf://{root}", files

    def stat(self, name: str) -> Entry:
        """See ``Store.stat``."""
        entry = self._tried("looking at", name, lambda: self._files.info(self._place(name)))
        if entry["type"] != "file":
            raise FileNotFoundError(2, "there is no such file", f"{self.url}/{name}")
        return self._entry(entry)

    def entries(self, prefix: str) -> Iterator[Entry]:
        """See ``Store.entries``."""
        try:
            found = self._tried("listing", prefix, lambda: self._files.find(self._place(prefix), detail=True))
        except FileNotFoundError:  # a store of objects has no empty folders either
            return
        yield from (self._entry(found[name]) for name in sorted(found))

    def children(self, prefix: str) -> tuple[list[str], list[Entry]]:
        """See ``Store.children``."""
        try:
            found = self._tried("listing", prefix, lambda: self._files.ls(self._place(prefix), detail=True))
        except FileNotFoundError:
            return [], []
        folders = [self._name(entry) for entry in found if entry["type"] == "directory"]
        return folders, [self._entry(entry) for entry in found if entry["type"] == "file"]

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """See ``Store.read``."""
        if stop is None:
            stop = self.stat(name).size
        pieces = []
        for at in range(start, stop, PIECE):
            end = min(at + PIECE, stop)
            pieces.append(self._piece(name, at, end))
        return b"".join(pieces)

    def _piece(self, name: str, start: int, stop: int) -> bytes:
        def read() -> bytes:
            data = self._files.cat_file(self._place(name), start=start, end=stop)
            if len(data) != stop - start:
                raise Passing(f"{len(data)} bytes came, {stop - start} were asked for")
            return data

        return self._tried("reading", name, read)

    def put(self, name: str, data: bytes | Path) -> NoReturn:
        """Refuse.

        Raises:
            StoreFailed: each write would be a commit of its own.
        """
        raise StoreFailed(
            f"{self.url}/{name} cannot be written file by file: build into a folder or bucket, and use lamp-data push"
        )

    def create(self, private: bool) -> None:
        """Make the data set, if there is none.

        Raises:
            StoreFailed: it may not be made.
        """
        api, name = _api(), self._repository()
        self._tried("making", "", lambda: api.create_repo(name, private=private, repo_type="dataset", exist_ok=True))

    def commit(self, files: Mapping[str, bytes | Path], message: str) -> None:
        """Add or replace files by one commit, by their names; a ``Path`` is a file of this machine.

        Raises:
            StoreFailed: they may not be written, or the hub does not answer.
        """
        from huggingface_hub import CommitOperationAdd

        added = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=data) for name, data in files.items()]
        api, name = _api(), self._repository()
        self._tried("writing", "", lambda: api.create_commit(name, added, commit_message=message, repo_type="dataset"))
        self._files.invalidate_cache()

    def _repository(self) -> str:
        return self.root.removeprefix("datasets/")

    def put_if_absent(self, name: str, data: bytes) -> NoReturn:
        """Refuse, as ``put``."""
        self.put(name, data)

    def delete(self, names: Sequence[str]) -> NoReturn:
        """Refuse, as ``put``."""
        self.put(names[0], b"")

    def _place(self, name: str) -> str:
        return f"{self.root}/{name}".rstrip("/")

    def _name(self, entry: dict[str, Any]) -> str:
        """An entry's name within the data set; the library leaves the revision in."""
        pieces = entry["name"].split("/")
        return "/".join(pieces[3:])

    def _entry(self, entry: dict[str, Any]) -> Entry:
        said = entry.get("last_commit")
        date = getattr(said, "date", None) if said is not None else None
        modified = int(date.timestamp()) * 10**9 if isinstance(date, datetime) else 0
        lfs = entry.get("lfs") or {}
        content = (
            (lfs.get("sha256") if isinstance(lfs, dict) else getattr(lfs, "sha256", "")) or entry.get("blob_id") or ""
        )
        return Entry(self._name(entry), int(entry["size"]), modified, content)

    def _tried(self, doing: str, name: str, operation: Callable[[], T]) -> T:
        url = f"{self.url}/{name}".rstrip("/")

        def once(_: int) -> T:
            from huggingface_hub.errors import HfHubHTTPError

            try:
                return operation()
            except FileNotFoundError as error:
                raise FileNotFoundError(2, "there is no such file or data set", url) from error
            except HfHubHTTPError as error:
                code = getattr(error.response, "status_code", 0)
                if code in (401, 403):
                    raise StoreFailed(
                        f"{url} may not be read ({first_line(error, 200)}): log in with hf auth login, and accept the "
                        "data set's terms on its page"
                    ) from error
                raise Passing(str(error)) from error
            except OSError as error:
                raise Passing(str(error)) from error
            except Exception as error:
                if type(error).__module__.split(".")[0] in HTTP_LIBRARIES:
                    raise Passing(str(error)) from error
                raise

        return trying(f"{doing} {url}", once)
