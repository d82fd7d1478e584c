"""``lamp-data push``: publish a build as a data set of the Hugging Face hub."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from jobs.cli.exit_codes import Failed, UsageError
from schemas.file_cache import DEFAULT_GIGABYTES
from schemas.locations import locate

if TYPE_CHECKING:
    from schemas.manifest import Manifest
    from schemas.stores.hub import HubStore

SHARDS_A_COMMIT = 16
CARD, PICTURE = "README.md", "samples.png"


@dataclass(frozen=True)
class Push:
    """Publish a build as a data set of the Hugging Face hub, with a card: counts, terms, a picture, how to load it.
    Shards that are there already are not sent again; the manifest comes last."""

    URLS = ("source", "target")
    source: tyro.conf.Positional[Path]
    """Folder or URL of a finished build in the webdataset format."""
    target: tyro.conf.Positional[Path]
    """hf://datasets/OWNER/NAME, which is made if there is none."""
    private: bool = False
    """Make a private one."""
    overwrite: bool = False
    """Replace another build that the data set holds."""
    card: Path | None = None
    """Only write the card to this file, and send nothing."""
    cache: float = DEFAULT_GIGABYTES
    """GB of this machine's disk for the shards of a URL."""


def push_command(args: Push) -> int:
    """Publish a build; or write its card."""
    from schemas.file_cache import limit_cache
    from schemas.manifest import BadManifest, read_manifest
    from schemas.stores import split_url

    limit_cache(args.cache)
    source, target = locate(args.source), locate(args.target)
    scheme, root, within = split_url(str(target)) if str(target).startswith("hf://") else ("", "", "")
    if scheme != "hf" or within:
        raise UsageError(f"{target} is no data set of the hub: expected hf://datasets/OWNER/NAME")
    try:
        manifest = read_manifest(source)
    except BadManifest as error:
        raise Failed(str(error)) from error
    if manifest.format != "webdataset":
        raise UsageError(f"{source} has shards of the format {manifest.format}: build it with --format webdataset")
    repository = root.removeprefix("datasets/")
    if args.card is not None:
        from pipeline.inspection.card import card
        from schemas.files import write_whole

        write_whole(args.card, card(manifest, repository, None).encode())
        print(f"{args.card}: written")
        return 0
    _send(args, source, manifest, repository)
    print(f"{target}: {manifest.samples} samples in {len(manifest.shards)} shards")
    return 0


def _send(args: Push, source: Path, manifest: "Manifest", repository: str) -> None:
    from pipeline.inspection.card import card
    from schemas.manifest import NAME
    from schemas.stores.hub import open_store

    hub: HubStore = open_store("hf", f"datasets/{repository}")
    hub.create(args.private)
    there = {entry.name: entry for entry in hub.entries("")}
    own = (source / NAME).read_bytes()
    if NAME in there and not args.overwrite and hub.read(NAME) != own:
        raise UsageError(f"{hub.url} holds another build: add --overwrite to replace it, or choose another name")
    for some in _batches(source, manifest, {name: entry.etag for name, entry in there.items()}):
        hub.commit(some, f"Add {len(some)} files of {manifest.dataset.get('name', 'a build')}")
    files: dict[str, bytes] = {name: (source / name).read_bytes() for name in sorted(manifest.files)}
    picture = _picture(source)
    if picture is not None:
        files[PICTURE] = picture
    files[CARD] = card(manifest, repository, PICTURE if picture is not None else None).encode()
    hub.commit({**files, NAME: own}, "Add the card and the manifest")


def _batches(source: Path, manifest: "Manifest", there: dict[str, str]) -> Iterator[dict[str, Path]]:
    """Shards with their indexes, verified, some at a time, without those whose content is there.

    Raises:
        Failed: a file is not the one that was written.
    """
    from contextlib import ExitStack

    from schemas.file_cache import local_file
    from schemas.files import sha256_of
    from schemas.shard_formats.webdataset import index_path

    wanted = []
    for shard in manifest.shards:
        wanted += [(shard.name, shard.sha256), (index_path(Path(shard.name)).name, shard.index_sha256)]
    missing = [(name, sha256) for name, sha256 in wanted if there.get(name) != sha256]
    for first in range(0, len(missing), 2 * SHARDS_A_COMMIT):
        with ExitStack() as held:
            files = {}
            for name, sha256 in missing[first : first + 2 * SHARDS_A_COMMIT]:
                files[name] = held.enter_context(local_file(source / name))
                if sha256_of(files[name]) != sha256:
                    raise Failed(f"{source / name} is not the file that was written: its SHA-256 differs")
            yield files


def _picture(source: Path) -> bytes | None:
    """A sheet of samples."""
    from pipeline.inspection.pictures import write_picture
    from schemas.shard_set import ShardSet

    shards = ShardSet(source)
    try:
        count = min(6, len(shards))
        triplets = [shards.read(number * len(shards) // count) for number in range(count)]
    finally:
        shards.close()
    if not triplets:
        return None
    with tempfile.TemporaryDirectory(prefix="lamp-") as folder:
        path = Path(folder) / PICTURE
        write_picture(path, triplets)
        return path.read_bytes()
