"""Where the disturbed builds write to, and how an output is read back."""

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from schemas.shard_formats import open_shard

WORK = ".lamp"


def digests_of(folder: Path) -> tuple[dict[str, str], Counter[str]]:
    """SHA-256 of every file of a build by its name, and how often each sample's key stands in its shards."""
    digests, keys = {}, Counter[str]()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and WORK not in name.parts:
            digests[name.as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(folder.glob("*.tar")):
        shard = open_shard(path)
        keys.update(row["key"].decode() for row in shard.index)
        shard.close()
    return digests, keys


class Place:
    """A folder of this machine.

    Attributes:
        name: in results.
        output: as given to ``--output``.
        environment: variables that a driver needs.
    """

    name = "local"

    def __init__(self, folder: Path, moto: str | None):
        self.folder = folder / "out"
        self.output = str(self.folder)
        self.environment: dict[str, str] = {}

    def __enter__(self) -> "Place":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def begin(self) -> None:
        """Begin with nothing."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def stage(self) -> str | None:
        """What the build says that it is doing."""
        return self._state().get("stage")

    def finished_tasks(self) -> int:
        """Episodes and shards that are finished."""
        work = self.folder / WORK
        return len(list(work.glob("episodes/??/*.json"))) + len(list(work.glob("records/*.json")))

    def half_written(self, ended_well: bool) -> list[str]:
        """Files that are there and should not be: after a good end what a writer left aside, before it a manifest."""
        if ended_well:
            return [str(path) for path in self.folder.rglob("*.partial")]
        return [str(path) for path in self.folder.glob("manifest.json")]

    def digests(self) -> dict[str, str]:
        """See ``digests_of``."""
        return digests_of(self.folder)[0]

    def keys(self) -> Counter[str]:
        """See ``digests_of``."""
        return digests_of(self.folder)[1]

    def _state(self) -> dict[str, Any]:
        try:
            return json.loads((self.folder / WORK / "state.json").read_bytes())
        except (OSError, ValueError):
            return {}


PLACES: dict[str, type[Place]] = {"local": Place}
