"""The last step of a mixture: list the finished builds, each with its weight and the digest of its manifest."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.files import sha256_of
from schemas.manifest import NAME as MANIFEST
from schemas.manifest import read_manifest
from schemas.mixture import Member, Mixture


@dataclass(frozen=True)
class MixtureBuild:
    """A build that belongs to a mixture.

    Attributes:
        folder: its folder inside the mixture's folder.
        weight: see ``schemas.mixture.Member``.
    """

    name: str
    folder: str
    weight: float | None


def write_mixture(output: Path, name: str, builds: Sequence[MixtureBuild]) -> Mixture:
    """Write ``mixture.json`` over finished builds; equal builds give the same bytes.

    Raises:
        BadManifest: a build has not finished.
    """
    mixture = Mixture(name, tuple(_member(output, build) for build in builds))
    mixture.write(output)
    return mixture


def _member(output: Path, build: MixtureBuild) -> Member:
    folder = output / build.folder
    manifest = read_manifest(folder)
    return Member(
        name=build.name,
        folder=build.folder,
        weight=build.weight,
        manifest_sha256=sha256_of(folder / MANIFEST),
        samples=manifest.samples,
        episodes=manifest.counts["episodes"],
        dataset=manifest.dataset,
    )
