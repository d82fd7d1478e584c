"""Buckets of S3, Google Cloud Storage and Azure, by obstore.

Credentials are those that obstore takes: the variables ``AWS_*``, ``GOOGLE_*`` and ``AZURE_*``, the machine's own role,
and for S3 also ``~/.aws`` where boto3 is installed. ``LAMP_STORE_ANONYMOUS=1`` reads public buckets without any.
``AWS_ENDPOINT_URL`` names another server that speaks S3.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from schemas.errors import MissingDependency, StoreFailed, first_line
from schemas.optional import missing_package
from schemas.stores import Entry
from schemas.stores.trying import Passing, timeout_s, trying

T = TypeVar("T")
ONE_PUT = 256 << 20
"""Larger files are sent in several requests; the object still appears by the last one."""
PIECE = 16 << 20
CONNECT = timedelta(seconds=5)
METADATA = ("169.254.169.254", "metadata.google.internal")
"""Servers that give a machine in the cloud its credentials; they are asked last, and not there elsewhere."""
NO_BUCKET = ("NoSuchBucket", "The specified bucket does not exist", "ContainerNotFound")
"""What S3, Google and Azure answer where a bucket, or container, does not exist; no try will change it."""
MOST_REMOVED = 1000
"""Objects that are removed by one request."""


def open_store(scheme: str, root: str) -> "ObjectStore":
    """The store of a bucket or container.

    Raises:
        MissingDependency: obstore is not installed.
        ValueError: the configuration is refused.
    """
    stores = imported().store
    options: dict[str, Any] = {"client_options": client_options(), "retry_config": {"max_retries": 0}}
    if os.environ.get("LAMP_STORE_ANONYMOUS", "") not in ("", "0"):
        options["skip_signature"] = True
    try:
        if scheme == "s3":
            return ObjectStore(f"s3://{root}", stores.S3Store(root, **options, **_s3_options(options)))
        kind = stores.GCSStore if scheme == "gs" else stores.AzureStore
        return ObjectStore(f"{scheme}://{root}", kind(root, **options))
    except imported().exceptions.BaseError as error:
        raise ValueError(f"{scheme}://{root} cannot be opened: {first_line(error, 300)}") from error


def imported() -> Any:
    """The package obstore.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import obstore
        import obstore.exceptions
        import obstore.store
    except ModuleNotFoundError as error:
        raise missing_package(error) or error from error
    return obstore


def client_options() -> dict[str, Any]:
    """Time limits of requests; plain HTTP where the environment names such a server."""
    endpoints = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT")
    plain = any(os.environ.get(name, "").startswith("http://") for name in endpoints)
    limit = timedelta(seconds=timeout_s())
    options = {"timeout": limit * 10, "read_timeout": limit, "connect_timeout": min(limit, CONNECT)}
    return {**options, "allow_http": True} if plain else options


def _s3_options(options: dict[str, Any]) -> dict[str, Any]:
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    found: dict[str, Any] = {} if region else {"region": "us-east-1"}
    named = os.environ.get("AWS_PROFILE") or (Path.home() / ".aws" / "credentials").is_file()
    if named and "AWS_ACCESS_KEY_ID" not in os.environ and "skip_signature" not in options:
        try:
            import boto3
            from obstore.auth.boto3 import Boto3CredentialProvider
        except ModuleNotFoundError:
            raise MissingDependency(
                "the credentials are in ~/.aws, which needs boto3: pip install boto3, or set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY"
            ) from None
        session = boto3.Session()
        found = {"credential_provider": Boto3CredentialProvider(session), "region": session.region_name or "us-east-1"}
    return found


class ObjectStore:
    """A bucket; see ``schemas.stores.Store``. Reads are split into pieces, so that a cut one costs little."""

    def __init__(self, url: str, store: Any):
        self.url, self._store, self._obstore = url, store, imported()

    def stat(self, name: str) -> Entry:
        """See ``Store.stat``."""
        return _entry(self._tried("looking at", name, lambda _: self._obstore.head(self._store, name)))

    def entries(self, prefix: str) -> Iterator[Entry]:
        """See ``Store.entries``."""
        found = self._tried(
            "listing",
            prefix,
            lambda _: [meta for some in self._obstore.list(self._store, prefix or None) for meta in some],
        )
        yield from sorted(map(_entry, found), key=lambda entry: entry.name)

    def children(self, prefix: str) -> tuple[list[str], list[Entry]]:
        """See ``Store.children``."""
        found = self._tried("listing", prefix, lambda _: self._obstore.list_with_delimiter(self._store, prefix or None))
        return [folder.strip("/") for folder in found["common_prefixes"]], [_entry(meta) for meta in found["objects"]]

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """See ``Store.read``."""
        if stop is None:
            whole, stop = self._tried("reading", name, lambda _: self._if_small(name))
            if whole is not None:
                return whole[start:]
        pieces = [self._piece(name, at, min(at + PIECE, stop)) for at in range(start, stop, PIECE)]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _if_small(self, name: str) -> tuple[bytes | None, int]:
        """An object of one piece by one request, and its size; None in place of a larger one."""
        found = self._obstore.get(self._store, name)
        size = found.meta["size"]
        if size > PIECE:
            return None, size
        data = bytes(found.bytes())
        if len(data) != size:
            raise Passing(f"{len(data)} bytes came of {size}")
        return data, size

    def _piece(self, name: str, start: int, stop: int) -> bytes:
        def read(_: int) -> bytes:
            data = bytes(self._obstore.get_range(self._store, name, start=start, end=stop))
            if len(data) != stop - start:
                raise Passing(f"{len(data)} bytes came, {stop - start} were asked for")
            return data

        return self._tried("reading", name, read)

    def put(self, name: str, data: bytes | Path) -> None:
        """See ``Store.put``."""
        several = isinstance(data, Path) and data.stat().st_size > ONE_PUT
        self._tried(
            "writing",
            name,
            lambda _: self._obstore.put(
                self._store, name, data, use_multipart=several, chunk_size=PIECE, max_concurrency=4
            ),
        )

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """See ``Store.put_if_absent``.

        Raises:
            StoreFailed: also where the server does not know such writes.
        """

        def put(number: int) -> bool:
            try:
                self._obstore.put(self._store, name, data, mode="create", use_multipart=False)
            except self._obstore.exceptions.AlreadyExistsError:
                # the answer to an earlier try may have been lost after it was done
                return number > 0 and self.read(name) == data
            except (self._obstore.exceptions.NotSupportedError, NotImplementedError) as error:
                raise StoreFailed(
                    f"{self.url} does not know conditional writes, which keep two builds apart"
                ) from error
            return True

        return self._tried("writing", name, put)

    def delete(self, names: Sequence[str]) -> None:
        """See ``Store.delete``."""
        for first in range(0, len(names), MOST_REMOVED):
            some = list(names[first : first + MOST_REMOVED])
            with suppress(FileNotFoundError):
                self._tried("removing", some[0], lambda _, some=some: self._obstore.delete(self._store, some))

    def _tried(self, doing: str, name: str, operation: Callable[[int], T]) -> T:
        url = f"{self.url}/{name}"

        def once(number: int) -> T:
            with self._errors(url):
                return operation(number)

        return trying(f"{doing} {url}", once)

    @contextmanager
    def _errors(self, url: str) -> Iterator[None]:
        """Errors of obstore as those of the system, or as ``Passing``."""
        known = self._obstore.exceptions
        try:
            yield
        except (known.NotFoundError, FileNotFoundError) as error:
            self._check_bucket(error)
            raise FileNotFoundError(2, "there is no such object", url) from error
        except (known.PermissionDeniedError, known.UnauthenticatedError, PermissionError) as error:
            raise StoreFailed(
                f"{url} may not be used with these credentials ({first_line(error, 200)}); see docs/object-stores.md"
            ) from error
        except (known.InvalidPathError, known.UnknownConfigurationKeyError) as error:
            raise StoreFailed(f"{url} cannot be used: {first_line(error, 300)}") from error
        except (known.BaseError, OSError) as error:
            if any(host in str(error) for host in METADATA):
                raise StoreFailed(
                    f"there are no credentials for {url}; LAMP_STORE_ANONYMOUS=1 reads public buckets without any, and "
                    "docs/object-stores.md says what else to set"
                ) from error
            self._check_bucket(error)
            raise Passing(first_line(error, 300)) from error

    def _check_bucket(self, error: Exception) -> None:
        if any(answer in str(error) for answer in NO_BUCKET):
            raise StoreFailed(f"there is no bucket {self.url}: make it first, or correct its name") from error


def _entry(meta: Any) -> Entry:
    modified = int(meta["last_modified"].timestamp()) * 10**9
    return Entry(meta["path"], meta["size"], modified, meta.get("e_tag") or "")
