"""The outcome of a build: counts for the user and the manifest."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.build.episode_store import EpisodeReport, Quarantined
from pipeline.build.selection import counted
from schemas.manifest import Manifest
from schemas.shard_formats import ShardFile

OUTCOMES = {True: "successful", False: "not successful", None: "unknown"}
"""Outcome names by an episode's ``success``. An episode without success may not have failed: it may have been cut."""
COUNTED = (
    "episodes",
    "frames",
    "kept",
    "no_language",
    "relative_depth",
    "outcomes",
    "left_out",
    "skipped_cameras",
    "notes",
    "rejected",
)
"""Fields of the summary in the manifest's counts, besides the quarantined."""


@dataclass
class BuildSummary:
    """The outcome of a build.

    Attributes:
        kept: triplets in the shards.
        no_language: episodes without an instruction that were kept.
        relative_depth: triplets whose depth has no known scale.
        outcomes: numbers of episodes that the data mark as a success, as no success, and not at all.
        left_out: episodes excluded by the selection, by reason.
        skipped_cameras: by reason, where all cameras were chosen.
        notes: readers' notes, and the number of episodes of each (``kind_of_note``).
        rejected: windows by reason.
        quarantined: episodes and files that could not be used.
        devices: episodes by the kind of device that ran models; empty where there are none.
        made: episodes made in this run.
        seconds: worker time of those episodes by stage.
    """

    output: Path
    episodes: int = 0
    frames: int = 0
    kept: int = 0
    no_language: int = 0
    relative_depth: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    skipped_cameras: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    quarantined: list[Quarantined] = field(default_factory=list)
    shards: int = 0
    bytes: int = 0
    devices: dict[str, int] = field(default_factory=dict)
    made: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    already_complete: bool = False

    @property
    def quarantined_share(self) -> float:
        """Share of all episodes and unreadable files."""
        return len(self.quarantined) / max(self.episodes + len(self.quarantined), 1)

    @classmethod
    def of_manifest(cls, output: Path, manifest: Manifest) -> "BuildSummary":
        """The summary of an existing build."""
        return cls(
            output=output,
            shards=len(manifest.shards),
            bytes=sum(s.bytes for s in manifest.shards),
            already_complete=True,
            **{name: manifest.counts[name] for name in (*COUNTED, "devices") if name in manifest.counts},
        )

    def count(self, reports: Sequence[EpisodeReport]) -> None:
        """Count the outcomes of the built episodes."""
        rejected, skipped, notes = Counter[str](), Counter[str](), Counter[str]()
        for report in reports:
            rejected.update(report.rejected)
            skipped.update(report.skipped_cameras.values())
            notes.update({kind for name, said in report.notes.items() if (kind := kind_of_note(name, said))})
        self.episodes, self.frames = len(reports), sum(r.frames for r in reports)
        self.no_language = sum(not r.instructions for r in reports)
        self.relative_depth = sum(r.relative_depth for r in reports)
        self.outcomes = dict(sorted(Counter(OUTCOMES[r.success] for r in reports).items()))
        self.rejected, self.skipped_cameras = dict(sorted(rejected.items())), dict(sorted(skipped.items()))
        self.notes = dict(sorted(notes.items()))
        self.devices = dict(sorted(Counter(r.device for r in reports if r.device is not None).items()))

    def count_shards(self, shards: Sequence[ShardFile]) -> None:
        """Count the shards that were written."""
        self.shards, self.kept = len(shards), sum(shard.samples for shard in shards)
        self.bytes = sum(shard.bytes for shard in shards)

    def counts(self) -> dict[str, Any]:
        """Counts for the manifest."""
        return {
            **{name: getattr(self, name) for name in COUNTED},
            **({"devices": self.devices} if self.devices else {}),
            "left_out": dict(sorted(self.left_out.items())),
            "quarantined": dict(sorted(Counter(q.code for q in self.quarantined).items())),
        }

    def quarantined_codes(self) -> list[tuple[str, int]]:
        """Number by code; codes of existing files come before those of missing ones."""
        counts = Counter((q.absent, q.code) for q in self.quarantined)
        return [(code, count) for (_, code), count in sorted(counts.items())]

    def why_nothing(self) -> str:
        """The reason why there is no triplet."""
        if self.quarantined:
            first = min(self.quarantined, key=lambda q: q.absent)
            codes = self.quarantined_codes()
            counts = f" ({', '.join(f'{count} {code}' for code, count in codes)})" if len(codes) > 1 else ""
            return f"{len(self.quarantined)} quarantined{counts}, the first because {first.message}"
        if not self.episodes:
            return (
                f"every episode was left out ({counted(self.left_out) or 'there is none'}); --language optional "
                "keeps those without an instruction"
            )
        return f"every window was rejected: {counted(self.rejected)}"


def kind_of_note(name: str, said: str) -> str | None:
    """A note without numbers and without details after a colon, so that equal notes of episodes are counted together.
    None for a path, which differs in every episode."""
    if name.endswith("path"):
        return None
    return f"{name}: {re.sub(r'[0-9]+([.][0-9]+)?', 'N', said.split(':')[0])}"
