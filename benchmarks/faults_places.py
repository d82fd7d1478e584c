"""Where the disturbed builds write to, and how an output is read back."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from schemas.locations import locate
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


class S3Place(Place):
    """A bucket of moto's server, which keeps it in its memory and speaks S3."""

    name = "s3"

    def __init__(self, folder: Path, moto: str | None):
        super().__init__(folder, moto)
        self.python, self.number = moto or sys.executable, 0
        self.copied = folder / "copied"

    def __enter__(self) -> "S3Place":
        code = "from moto.server import ThreadedMotoServer as S; import time; s = S('127.0.0.1', 0, verbose=False); "
        code += "s.start(); print(s.get_host_and_port()[1], flush=True); time.sleep(1e6)"
        # The server is not among the cluster's processes, which are known by this variable.
        clean = {name: value for name, value in os.environ.items() if name != "RAY_TMPDIR"}
        self.server = subprocess.Popen(
            [self.python, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=clean
        )
        assert self.server.stdout is not None
        url = f"http://127.0.0.1:{int(self.server.stdout.readline())}"
        urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT")).read()
        self.environment = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "LAMP_CACHE": str(self.folder.parent / "cache"),
        }
        os.environ.update(self.environment)
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.kill()
        self.server.wait()

    def begin(self) -> None:
        """Begin below another name."""
        self.number += 1
        self.output = f"s3://bucket/out{self.number}"

    def finished_tasks(self) -> int:
        """Episodes and shards that are finished."""
        names = [str(path) for path in self._path(WORK).files_below()]
        return sum(bool(re.search(r"/(episodes/../|records/)[^/]*[.]json$", name)) for name in names)

    def half_written(self, ended_well: bool) -> list[str]:
        """A manifest that is there before a good end; an object is whole or absent."""
        return [] if ended_well or not self._path("manifest.json").is_file() else ["manifest.json"]

    def digests(self) -> dict[str, str]:
        """See ``digests_of``."""
        shutil.rmtree(self.copied, ignore_errors=True)
        for path in self._path().files_below():
            name = str(path).removeprefix(f"{self.output}/")
            if not name.startswith(WORK):
                (self.copied / name).parent.mkdir(parents=True, exist_ok=True)
                (self.copied / name).write_bytes(path.read_bytes())
        return digests_of(self.copied)[0]

    def keys(self) -> Counter[str]:
        """See ``digests_of``; of what ``digests`` has read."""
        return digests_of(self.copied)[1]

    def _path(self, *names: str) -> Any:
        return locate("/".join([self.output, *names]))

    def _state(self) -> dict[str, Any]:
        try:
            return json.loads(self._path(WORK, "state.json").read_bytes())
        except (OSError, ValueError):
            return {}


PLACES: dict[str, type[Place]] = {"local": Place, "s3": S3Place}
