"""Statistics of states and actions over a dataset: used by training to normalise them.

Everything is exact and covers every frame of every episode that was used (standard actions that are relative to a
chunk's first frame: every action of every sample). The values are read from files beside the stored episodes, in the
order of the episodes, so the result does not depend on the workers or the order in which they finish.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from pipeline.build.episode_store import EpisodeReport, values_path
from pipeline.build.episode_values import KINDS, read_values
from pipeline.build.quantiles import ExactQuantiles
from pipeline.errors import BuildError
from schemas.locations import StorePath
from schemas.parallel import in_parallel

BATCH = 1 << 16
"""Rows that are processed together."""

NOT_RECORDED: dict[str, Any] = {"count": 0, **{name: [] for name in ("min", "max", "mean", "std", "q01", "q99")}}
"""Statistics of states or actions without dimensions, as in plain video."""


def dataset_statistics(reports: Sequence[EpisodeReport], store: Path) -> dict[str, Any]:
    """``min``, ``max``, ``mean``, ``std``, ``q01``, ``q99`` of ``state``, ``action`` and, where there is one,
    ``standard_action``.

    Robots with different conventions of raw actions have separate statistics, under ``embodiments``, by the name of the
    convention; if there is only one, its statistics are at the top level.

    Args:
        reports: in the order of the episodes.
        store: where the episodes are stored.

    Raises:
        BuildError: episodes differ in state or standard action while their raw actions have the same convention.
    """
    groups: dict[str, list[EpisodeReport]] = {}
    for report in reports:
        groups.setdefault(report.embodiment["action"]["convention"], []).append(report)
    made = {name: _of_embodiment(name, group, store) for name, group in groups.items()}
    if len(made) == 1:
        return next(iter(made.values()))
    return {**_counts(reports), "embodiments": made}


@contextlib.contextmanager
def local_values(reports: Sequence[EpisodeReport], store: Path) -> Iterator[Path]:
    """The folder of stored episodes with the values that ``dataset_statistics`` reads twice: the folder itself,
    or a temporary one with what a store has."""
    if not isinstance(store, StorePath):
        yield store
        return
    with tempfile.TemporaryDirectory(prefix="lamp-") as folder:

        def fetch(report: EpisodeReport) -> None:
            here = values_path(Path(folder), report.key)
            here.parent.mkdir(exist_ok=True)
            here.write_bytes(values_path(store, report.key).read_bytes())

        for _ in in_parallel(fetch, reports, store):
            pass
        yield Path(folder)


def _counts(reports: Sequence[EpisodeReport]) -> dict[str, int]:
    return {
        "num_trajectories": len(reports),
        "num_frames": sum(r.frames for r in reports),
        "num_samples": sum(len(r.rows) for r in reports),
    }


def _of_embodiment(name: str, reports: Sequence[EpisodeReport], store: Path) -> dict[str, Any]:
    first = reports[0].embodiment
    for report in reports:
        for kind in KINDS:
            if report.embodiment.get(kind) != first.get(kind):
                raise BuildError(
                    f"episodes with the actions {name} differ in {kind.replace('_', ' ')}: {_said(first.get(kind))} "
                    "and "
                    f"{_said(report.embodiment.get(kind))}; build them into separate folders"
                )
    kinds = [kind for kind in KINDS if kind in first]
    made = {kind: _Statistics() for kind in kinds if first[kind]["dimensions"]}
    for kind, values in _batches(reports, store, list(made)):
        made[kind].add(values)
    for kind, values in _batches(reports, store, list(made)):
        made[kind].add_again(values)
    of = {kind: made[kind].as_dict() if kind in made else NOT_RECORDED for kind in kinds}
    return {**_counts(reports), **{kind: {**first[kind], **of[kind]} for kind in kinds}}


class _Statistics:
    """Of one kind of values: the same batches are added twice, in the same order."""

    def __init__(self):
        self.count, self.total, self.squares = 0, 0.0, 0.0
        self.low, self.high = np.inf, -np.inf
        self.quantiles = ExactQuantiles((0.01, 0.99))

    def add(self, values: Float32[np.ndarray, "N D"]) -> None:
        self.count += len(values)
        self.total = self.total + values.astype(np.float64).sum(axis=0)
        self.low, self.high = np.minimum(self.low, values.min(axis=0)), np.maximum(self.high, values.max(axis=0))
        self.quantiles.count(values)

    def add_again(self, values: Float32[np.ndarray, "N D"]) -> None:
        self.squares = self.squares + ((values - self.total / self.count) ** 2).sum(axis=0)
        self.quantiles.count_again(values)

    def as_dict(self) -> dict[str, Any]:
        if not self.count:
            return {"count": 0}
        q01, q99 = self.quantiles.quantiles()
        mean, std = self.total / self.count, np.sqrt(self.squares / self.count)
        named = {"min": self.low, "max": self.high, "mean": mean, "std": std, "q01": q01, "q99": q99}
        return {"count": self.count, **{key: np.asarray(v, np.float64).tolist() for key, v in named.items()}}


def _batches(
    reports: Sequence[EpisodeReport], store: Path, kinds: Sequence[str]
) -> Iterator[tuple[str, Float32[np.ndarray, "_ _"]]]:
    """All values of some kinds, some thousand rows of a kind at a time, as episodes are short and every batch has an
    overhead. Each file is read once.
    """
    waiting: dict[str, list[np.ndarray]] = {kind: [] for kind in kinds}
    rows = dict.fromkeys(kinds, 0)
    for report in reports if kinds else ():
        values = read_values(values_path(store, report.key))
        for kind in kinds:
            waiting[kind].append(values[kind])
            rows[kind] += len(values[kind])
            if rows[kind] >= BATCH:
                yield kind, np.concatenate(waiting[kind])
                waiting[kind], rows[kind] = [], 0
    yield from ((kind, np.concatenate(waiting[kind])) for kind in kinds if rows[kind])


def _said(values: dict[str, Any] | None) -> str:
    return "none" if values is None else f"{values.get('convention', '')}({', '.join(values['dimensions'])})"
