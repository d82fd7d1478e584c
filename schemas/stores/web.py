"""Folders of a web server. A folder is listed by its index page, as nginx, Apache and ``python -m http.server`` make
them; files that are named elsewhere, such as the shards in a manifest, need no listing.
"""

import html.parser
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from schemas.errors import StoreFailed
from schemas.stores import Entry
from schemas.stores.objects import ObjectStore, client_options, imported
from schemas.stores.trying import Passing, timeout_s, trying

LARGEST_PAGE = 64 << 20


def open_store(scheme: str, root: str) -> "WebStore":
    """The files of a host.

    Raises:
        MissingDependency: obstore is not installed.
    """
    options = {**client_options(), "allow_http": scheme == "http"}
    url = f"{scheme}://{root}"
    made = imported().store.HTTPStore.from_url(url, client_options=options, retry_config={"max_retries": 0})
    return WebStore(url, made)


class WebStore(ObjectStore):
    """Files of a web server, which cannot be written."""

    def entries(self, prefix: str) -> Iterator[Entry]:
        """See ``Store.entries``; one request a folder, and one a file for its size."""
        folders, files = self.children(prefix)
        yield from files
        for folder in folders:
            yield from self.entries(folder)

    def children(self, prefix: str) -> tuple[list[str], list[Entry]]:
        """See ``Store.children``."""
        url = f"{self.url}/{urllib.parse.quote(prefix)}".rstrip("/") + "/"
        try:
            page = trying(f"listing {url}", lambda _: _page(url))
        except FileNotFoundError:
            return [], []
        folders, files = [], []
        for link in sorted(_links(page)):
            target = urllib.parse.urlsplit(urllib.parse.urljoin(url, link))
            whole = f"{target.scheme}://{target.netloc}{target.path}"
            name = whole.removeprefix(url)
            if target.query or whole == name or not name or name.startswith("/") or "/" in name.rstrip("/"):
                continue  # the parent, another place, or a link that sorts the page
            said = "/".join(filter(None, [prefix, urllib.parse.unquote(name.rstrip("/"))]))
            if name.endswith("/"):
                folders.append(said)
            else:
                files.append(self.stat(said))
        return folders, files

    def put(self, name: str, data: bytes | Path) -> NoReturn:
        """Refuse.

        Raises:
            StoreFailed: a web server is only read.
        """
        raise StoreFailed(f"{self.url}/{name} cannot be written: a web server is only read")

    def put_if_absent(self, name: str, data: bytes) -> NoReturn:
        """Refuse, as ``put``."""
        self.put(name, data)

    def delete(self, names: Sequence[str]) -> NoReturn:
        """Refuse, as ``put``."""
        self.put(names[0], b"")


class _Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _links(page: str) -> list[str]:
    parser = _Links()
    parser.feed(page)
    return list(dict.fromkeys(parser.found))


def _page(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=timeout_s()) as answer:
            return answer.read(LARGEST_PAGE).decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        if error.code in (403, 404, 405):  # there is no such folder, or the server does not list it
            raise FileNotFoundError(2, "there is no such folder, or the server does not list it", url) from error
        if error.code < 500 and error.code != 429:
            raise StoreFailed(f"{url} cannot be listed: the server answered {error.code} {error.reason}") from error
        raise Passing(str(error)) from error
    except OSError as error:
        raise Passing(str(error)) from error
