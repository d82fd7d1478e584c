"""The content of a page, before it is written."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.inspection.rejections import RejectedWindow, Rejections
from pipeline.inspection.sample import Found
from pipeline.inspection.summary import ShardSummary
from schemas.triplet import Triplet


@dataclass(frozen=True)
class RejectedPicture:
    """A rejected window with the dataset's own frames.

    Attributes:
        frames: the reference frame and the last, encoded.
        flow: the window that the build rejected, with its flow computed again; None if that is not possible.
    """

    window: RejectedWindow
    frames: tuple[bytes, bytes]
    flow: Triplet | None = None


@dataclass(frozen=True)
class Contents:
    """The content of a page.

    Attributes:
        summaries: of each set of shards; none for a page of one sample.
        samples: samples shown in full; the first of them is at the top of the page.
        worst, best: by score.
        videos: encoded frames of steps 0..T by the sample's key.
        rejections: of each set.
        pictures: of rejected windows.
        notes: what could not be shown, in sentences.
        retargeted: whether the samples shown in full also show their flow in even steps of distance.
    """

    summaries: Sequence[ShardSummary] = ()
    samples: Sequence[Found] = ()
    worst: Sequence[Found] = ()
    best: Sequence[Found] = ()
    videos: dict[str, list[bytes]] = field(default_factory=dict)
    rejections: Sequence[Rejections] = ()
    pictures: Sequence[RejectedPicture] = ()
    notes: Sequence[str] = ()
    retargeted: bool = False

    def triplets(self) -> list[Triplet]:
        """Every window whose flow is shown."""
        shown = [found.triplet for found in (*self.samples, *self.worst, *self.best) if found.triplet.has_flow]
        return shown + [picture.flow for picture in self.pictures if picture.flow is not None]
