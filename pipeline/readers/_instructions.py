"""The instructions of an episode, and of each frame if the texts change within the episode."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.readers._camera_views import spoken


@dataclass(frozen=True)
class Instructions:
    """The instructions of an episode.

    Attributes:
        every: all texts, each once, in the order of their columns and frames; none is blank.
        by_frame: the texts of each frame (T entries) if they change within the episode; None if all texts belong
            to all frames.
    """

    every: tuple[str, ...]
    by_frame: tuple[tuple[str, ...], ...] | None


def instructions_of(columns: Iterable[Sequence[str]], length: int) -> Instructions:
    """The instructions in some columns of texts.

    A column whose texts are all the same or blank holds one instruction for the whole episode; some datasets write it
    at the first step only. In a column with several texts each belongs to its own frames, and blank ones are ignored.

    Args:
        columns: each with a text for each frame, or with the texts of the whole episode.
        length: T, the number of frames.
    """
    columns = list(columns)
    own = [spoken(column) for column in columns]
    every = spoken(text for texts in own for text in texts)
    changing = [len(texts) > 1 and len(column) == length for column, texts in zip(columns, own, strict=True)]
    if not any(changing):
        return Instructions(every, None)
    by_frame = []
    for frame in range(length):
        told = [
            [column[frame]] if changes else texts for column, texts, changes in zip(columns, own, changing, strict=True)
        ]
        by_frame.append(spoken(text for texts in told for text in texts))
    return Instructions(every, tuple(by_frame))
