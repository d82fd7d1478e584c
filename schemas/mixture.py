"""A mixture: several finished builds that are trained on together, each with its sampling weight.

``mixture.json`` names the builds' folders, which lie beside or below it, and holds the SHA-256 of each manifest.
If a build is made again, the mixture cannot be read until it is written again too. It is the last file that building
a mixture writes.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from schemas.files import digest_of, inside, sha256_of
from schemas.manifest import NAME as MANIFEST
from schemas.manifest import BadManifest, folder_of, is_folder, read_sealed, told, write_sealed

NAME = "mixture.json"
VERSION = 1


@dataclass(frozen=True)
class Member:
    """One build of a mixture.

    Attributes:
        name: its name in messages and statistics.
        folder: where its manifest lies, relative to the mixture's folder.
        weight: its share of the samples that are drawn, relative to the other members'. If None in all members, in
            proportion to their samples.
        manifest_sha256: of the manifest's file.
        dataset: name, version, licence and credit.
    """

    name: str
    folder: str
    weight: float | None
    manifest_sha256: str
    samples: int
    episodes: int
    dataset: dict[str, str]


@dataclass(frozen=True)
class Mixture:
    """The contents of ``mixture.json``."""

    name: str
    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError("a mixture needs at least one member")
        names = [member.name for member in self.members]
        if len(set(names)) < len(names):
            raise ValueError(f"the members of a mixture need names of their own, found {', '.join(names)}")
        check_weights([member.weight for member in self.members])

    @property
    def digest(self) -> str:
        """SHA-256 of the contents."""
        return digest_of(self._values())

    def write(self, folder: Path) -> None:
        """Write ``mixture.json`` atomically."""
        write_sealed(folder / NAME, self._values())

    def _values(self) -> dict[str, Any]:
        return {"version": VERSION, "name": self.name, "members": [asdict(member) for member in self.members]}


def check_weights(weights: list[float | None]) -> None:
    """Refuse unusable weights: only some given, not above zero, or not finite.

    Raises:
        ValueError: the weights are unusable.
    """
    given = [weight for weight in weights if weight is not None]
    if given and len(given) < len(weights):
        raise ValueError(
            "either every dataset of a mixture has a weight, or none has: then each is drawn as often as it has samples"
        )
    if any(not math.isfinite(weight) or weight <= 0 for weight in given):
        raise ValueError(f"a weight must be a number above 0, found {', '.join(map(str, given))}")


def is_mixture(path: Path) -> bool:
    """Whether a path is that of a mixture: the file, or a folder that holds one and is no build itself."""
    if is_folder(path):
        return (path / NAME).is_file() and not (path / MANIFEST).is_file()
    return path.name == NAME


def read_mixture(path: Path) -> Mixture:
    """The mixture of a folder or file.

    Raises:
        BadManifest: it is missing, damaged, of a later version or names a folder outside its own.
    """
    path = path / NAME if is_folder(path) else path
    with told(path, "mixture", "the mixture has not been built to its end"):
        values = read_sealed(path, VERSION)
        mixture = Mixture(values["name"], tuple(Member(**member) for member in values["members"]))
        for member in mixture.members:
            inside(path.parent, member.folder)
    return mixture


def member_folder(path: Path, member: Member) -> Path:
    """The folder of a member's build, after checking its manifest against the mixture's digest.

    Raises:
        BadManifest: the build is missing or was made again since.
    """
    base = folder_of(path)
    folder = inside(base, member.folder)
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise BadManifest(
            f"{manifest} does not exist: the build of {member.name} has not finished; build the mixture again"
        )
    if sha256_of(manifest) != member.manifest_sha256:
        raise BadManifest(f"{folder} was built again after {base / NAME} was written; build the mixture again")
    return folder
