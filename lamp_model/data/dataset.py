"""Training data: one build, or a mixture of builds, as one numbered sequence of samples."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from schemas.files import sha256_of
from schemas.manifest import NAME as MANIFEST
from schemas.mixture import is_mixture, member_folder, read_mixture
from schemas.shard_formats import INDEX_DTYPE
from schemas.shard_set import ShardSet
from schemas.triplet import Triplet


@dataclass(frozen=True)
class MemberData:
    """One build.

    Attributes:
        weight: its share of the drawn samples, relative to the other members; None for all members: proportional to
            their numbers of samples.
    """

    name: str
    shards: ShardSet
    weight: float | None = None

    @property
    def has_flow(self) -> bool:
        """Whether its samples have flow; all of a build do, or none (``lamp-data build --flow none``)."""
        return not len(self.shards) or self.shards.read(0).has_flow


@dataclass(frozen=True)
class Embodied:
    """Samples that share the meaning of states and actions: all of a build, or one robot's where it holds several.

    Attributes:
        name: key of its statistics.
        member: number of the build.
        convention: of the raw actions; None where the build has only one.
        statistics: see ``schemas.manifest.read_statistics``.
    """

    name: str
    member: int
    convention: str | None
    statistics: dict[str, Any]


class TrainingData:
    """Random access to the samples of one build or of a mixture; its members' samples are concatenated.

    Attributes:
        path: as given.
        name: of the dataset or mixture.
        digest: of the manifest or the mixture; a run is resumed only with the same digest.
        manifests: SHA-256 of every member's ``manifest.json`` by the member's name.
        members: the builds.
        embodied: the groups of samples that share a convention of states and actions.
        index: one row per sample (``schemas.shard_formats.INDEX_DTYPE``).
    """

    def __init__(self, path: Path):
        """Open a folder of shards, its manifest, or a mixture.

        Raises:
            BadManifest, CorruptShard: a build is not finished, damaged or not the one that the mixture names.
        """
        self.path = path
        if is_mixture(path):
            mixture = read_mixture(path)
            folders = [member_folder(path, member) for member in mixture.members]
            self.name, self.digest = mixture.name, mixture.digest
            self.members = tuple(
                MemberData(member.name, ShardSet(folder), member.weight)
                for member, folder in zip(mixture.members, folders, strict=True)
            )
        else:
            shards = ShardSet(path)
            self.name = str(shards.manifest.dataset.get("name", ""))
            self.digest = sha256_of(shards.folder / MANIFEST)
            self.members = (MemberData(self.name, shards),)
        self.manifests = {member.name: sha256_of(member.shards.folder / MANIFEST) for member in self.members}
        self._starts = np.cumsum([0] + [len(member.shards) for member in self.members])
        self.index = np.concatenate([np.zeros(0, INDEX_DTYPE), *(member.shards.index for member in self.members)])
        self.embodied = tuple(one for number, member in enumerate(self.members) for one in _embodied(number, member))

    def __len__(self) -> int:
        return int(self._starts[-1])

    def member_of(self, numbers: np.ndarray | int) -> np.ndarray:
        """The number of the member that holds each sample."""
        return np.asarray(np.searchsorted(self._starts, numbers, side="right") - 1)

    def embodiment_of(self, number: int, triplet: Triplet) -> int:
        """Index in ``embodied`` of the group that a sample belongs to.

        Raises:
            LookupError: there are no statistics for its actions.
        """
        member = int(self.member_of(number))
        for place, one in enumerate(self.embodied):
            if one.member == member and one.convention in (None, triplet.action_convention.name):
                return place
        raise LookupError(
            f"sample {triplet.key} has the actions {triplet.action_convention.name}, of which "
            f"{self.members[member].shards.folder} has no "
            "statistics: build it again"
        )

    def read(self, number: int, flow: bool = True) -> Triplet:
        """Read a sample and verify its checksum.

        Args:
            flow: see ``schemas.shard_formats.Shard.read``.

        Raises:
            CorruptShard: the sample is damaged; the message names shard and sample.
            IndexError: there is no such sample.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"sample {number} of {len(self)}")
        member = int(self.member_of(number))
        return self.members[member].shards.read(int(number - self._starts[member]), flow)

    def first_samples(self) -> list[Triplet]:
        """The first sample of each member that has any."""
        return [member.shards.read(0) for member in self.members if len(member.shards)]

    def close(self) -> None:
        """Close all shards."""
        for member in self.members:
            member.shards.close()


def _embodied(number: int, member: MemberData) -> list[Embodied]:
    statistics = member.shards.statistics()
    several = statistics.get("embodiments")
    if several is None:
        return [Embodied(member.name, number, None, statistics)]
    return [Embodied(f"{member.name}/{name}", number, name, values) for name, values in several.items()]
