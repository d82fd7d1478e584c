"""Selects the episodes of a folder to build: by number or name, split, text, outcome and count.

Numbers, names and splits are decided on the listing, without opening an episode. Texts and outcome are read from the
episodes, without decoding pictures. The selection decides which samples exist, never how a sample is made, so an
episode made under one selection can be used for every other.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipeline.readers import EpisodeTexts
from schemas.episode import EpisodeRef

NUMBERS = re.compile(r"(\d+)(?:-(\d+))?")
FIRST_LOOK = 64
"""Episodes that are read first when only some are wanted; each further batch is twice as large."""
SHOWN = 5


class BadSelection(ValueError):
    """The selection is not possible; the message says what is available."""


@dataclass(frozen=True)
class Selection:
    """The criteria; an episode must meet all of them.

    Attributes:
        episodes: numbers and ranges (``0-9,20``) in the folder's listing, from 0, and names: ``demo_3``, a file, or
            ``file:demo_3``.
        split: as RLDS files and LeRobot's ``info.json`` name it.
        match: text that an instruction or the file's name contains, upper and lower case alike.
        success: ``succeeded`` takes what the data call a success, ``not-failed`` also what they say nothing of.
        limit: the first so many of those.
    """

    episodes: tuple[str, ...] = ()
    split: str | None = None
    match: str | None = None
    success: Literal["any", "succeeded", "not-failed"] = "any"
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"--limit must be 1 or more, found {self.limit}")
        if self.match is not None and not self.match.strip():
            raise ValueError("--match needs a text, found a blank one")

    @property
    def needs_words(self) -> bool:
        """Whether episodes must be opened to select."""
        return self.match is not None or self.success != "any"

    def as_dict(self) -> dict[str, Any]:
        """The criteria that differ from their defaults."""
        return {
            k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items() if v not in (None, (), "any")
        }

    def takes(self, ref: EpisodeRef, words: EpisodeTexts) -> str | None:
        """None when an episode with these texts is taken, else the criterion that excludes it."""
        if self.match is not None:
            text = self.match.casefold()
            if not any(text in said.casefold() for said in (ref.source, *words.instructions)):
                return "match"
        wanted = {"any": (True, False, None), "succeeded": (True,), "not-failed": (True, None)}[self.success]
        return None if words.success in wanted else "success"


EVERYTHING = Selection()


@dataclass(frozen=True)
class Chosen:
    """The episodes taken, in the order of the listing, and the number left out by each criterion."""

    refs: list[EpisodeRef]
    left_out: dict[str, int]


def choose_listed(selection: Selection, refs: Sequence[EpisodeRef]) -> Chosen:
    """Apply what the listing alone decides; the limit too, where no texts are needed.

    Raises:
        BadSelection: a number, name or split does not exist.
    """
    left_out: Counter[str] = Counter()
    taken = list(refs)
    if selection.episodes:
        numbers = _numbers(selection.episodes, refs)
        taken = [ref for number, ref in enumerate(refs) if number in numbers]
        left_out["episodes"] = len(refs) - len(taken)
    if selection.split is not None:
        _check_split(selection.split, refs)
        within = [ref for ref in taken if ref.split == selection.split]
        left_out["split"] = len(taken) - len(within)
        taken = within
    if selection.limit is not None and not selection.needs_words:
        left_out["limit"] = max(len(taken) - selection.limit, 0)
        taken = taken[: selection.limit]
    return Chosen(taken, +left_out)


def choose_by_words(
    selection: Selection,
    refs: Sequence[EpisodeRef],
    look: Callable[[Sequence[EpisodeRef]], Iterable[tuple[EpisodeRef, EpisodeTexts | None]]],
) -> Chosen:
    """Select by texts and outcome, in the order of the listing, until the limit is reached.

    Args:
        refs: the episodes left by the listing.
        look: reads the texts and outcome of some episodes, in any order; None where unreadable. Such episodes are
            not counted.
    """
    taken: list[EpisodeRef] = []
    left_out: Counter[str] = Counter()
    wanted, first, count = selection.limit or len(refs), 0, FIRST_LOOK
    while first < len(refs) and len(taken) < wanted:
        chunk = refs[first : first + count] if selection.limit is not None else refs
        found = {ref.digest: words for ref, words in look(chunk)}
        for number, ref in enumerate(chunk, first):
            if len(taken) == wanted:
                left_out["limit"] += len(refs) - number
                break
            words = found[ref.digest]
            if words is not None and (reason := selection.takes(ref, words)) is None:
                taken.append(ref)
            elif words is not None:
                left_out[str(reason)] += 1
        first, count = first + len(chunk), 2 * count
        if len(taken) == wanted and "limit" not in left_out:
            left_out["limit"] = len(refs) - first
    return Chosen(taken, dict(+left_out))


def _numbers(words: Sequence[str], refs: Sequence[EpisodeRef]) -> set[int]:
    """Positions in the listing."""
    by_name: dict[str, list[int]] = {}
    for number, ref in enumerate(refs):
        for name in {ref.episode, ref.source, ref.name}:
            by_name.setdefault(name, []).append(number)
    found: set[int] = set()
    for word in words:
        for piece in [word] if word in by_name else [p for p in word.split(",") if p]:
            span = NUMBERS.fullmatch(piece)
            if piece in by_name:
                found.update(by_name[piece])
            elif span:
                first, last = int(span[1]), int(span[2] or span[1])
                if not first <= last < len(refs):
                    raise BadSelection(
                        f"--episodes {piece}: the folder lists {len(refs)} episodes, numbered 0 to {len(refs) - 1}"
                    )
                found.update(range(first, last + 1))
            else:
                few = ", ".join([ref.name for ref in refs[:SHOWN]])
                more = " ..." if len(refs) > SHOWN else ""
                raise BadSelection(f"--episodes {piece}: no episode or file has this name; there are {few}{more}")
    return found


def _check_split(split: str, refs: Sequence[EpisodeRef]) -> None:
    there = sorted({ref.split for ref in refs if ref.split is not None})
    if not there:
        raise BadSelection(
            f"--split {split}: these episodes belong to no split, which only RLDS and LeRobot folders name; leave "
            "--split out"
        )
    if split not in there:
        raise BadSelection(f"--split {split}: there is no such split; there are: {', '.join(there)}")


def counted(counts: dict[str, int]) -> str:
    """Counts as text: ``3 limit, 1 match``."""
    return ", ".join(f"{n} {reason}" for reason, n in counts.items())
