"""What became of a build: counts for the person, the manifest and whoever asks again."""

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
"""By what the data say of an episode. One that does not end in success need not have failed: it may be cut before."""
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
"""Fields of the summary that the manifest counts, beside the quarantined."""


@dataclass
class BuildSummary:
    """What became of a build.

    Attributes:
        kept: triplets in the shards.
        no_language: episodes without an instruction that were kept.
        relative_depth: triplets whose depth has no known scale.
        outcomes: episodes that the data call a success, those that they do not, and those of which they say nothing.
        left_out: episodes that were not wanted, by reason.
        skipped_cameras: by reason, where all were wanted.
        notes: what readers said of episodes, and of how many (``kind_of_note``).
        rejected: windows by reason.
        quarantined: episodes and files that could not be used.
        made: episodes made in this run.
        seconds: worker time by stage, of those.
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
    made: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    already_complete: bool = False

    @property
    def quarantined_share(self) -> float:
        """Of all episodes and unreadable files."""
        return len(self.quarantined) / max(self.episodes + len(self.quarantined), 1)

    @classmethod
    def of_manifest(cls, output: Path, manifest: Manifest) -> "BuildSummary":
        """Of a build that is already there."""
        return cls(
            output=output,
            shards=len(manifest.shards),
            bytes=sum(s.bytes for s in manifest.shards),
            already_complete=True,
            **{name: manifest.counts[name] for name in COUNTED if name in manifest.counts},
        )

    def count(self, reports: Sequence[EpisodeReport]) -> None:
        """Count what became of the episodes that were built."""
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

    def count_shards(self, shards: Sequence[ShardFile]) -> None:
        """Count the shards that were written."""
        self.shards, self.kept = len(shards), sum(shard.samples for shard in shards)
        self.bytes = sum(shard.bytes for shard in shards)

    def counts(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            **{name: getattr(self, name) for name in COUNTED},
            "left_out": dict(sorted(self.left_out.items())),
            "quarantined": dict(sorted(Counter(q.code for q in self.quarantined).items())),
        }

    def quarantined_codes(self) -> list[tuple[str, int]]:
        """How many by their code; reasons of files that are there before files that are not."""
        counts = Counter((q.absent, q.code) for q in self.quarantined)
        return [(code, count) for (_, code), count in sorted(counts.items())]

    def why_nothing(self) -> str:
        """Why there is no triplet."""
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
    """What a note has in common with those of other episodes: no numbers, no details after a colon. None for a path,
    which every episode has to itself."""
    if name.endswith("path"):
        return None
    return f"{name}: {re.sub(r'[0-9]+([.][0-9]+)?', 'N', said.split(':')[0])}"
