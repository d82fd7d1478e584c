"""What stands on a page, before it is written."""

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
        flow: the window as the build judged it, with its flow made again; None where that cannot be had.
    """

    window: RejectedWindow
    frames: tuple[bytes, bytes]
    flow: Triplet | None = None


@dataclass(frozen=True)
class Contents:
    """What stands on a page.

    Attributes:
        summaries: of each set of shards; none for a page of one sample.
        samples: shown in full; the first of them stands at the top of the page.
        worst, best: by score.
        videos: frames of steps 0..T by a sample's key, encoded.
        rejections: of each set.
        pictures: of rejected windows.
        notes: what could not be shown, in sentences.
        retargeted: whether the flow of those shown in full is also shown in even steps of distance.
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
        shown = [found.triplet for found in (*self.samples, *self.worst, *self.best)]
        return shown + [picture.flow for picture in self.pictures if picture.flow is not None]
