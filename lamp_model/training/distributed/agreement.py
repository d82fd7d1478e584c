"""Checks before the first step that all ranks train the same run on the same data."""

import socket
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from lamp_model.config import RunConfig
from lamp_model.errors import BadRun
from lamp_model.training.distributed.ranks import Ranks
from schemas.files import digest_of
from schemas.version import VERSION


def check_batch(batch_size: int, ranks: Ranks) -> None:
    """Refuse a number of ranks that does not divide the batch.

    Raises:
        BadRun: some ranks would get more samples than others.
    """
    left = batch_size % ranks.world
    if left:
        below, above = batch_size - left, batch_size - left + ranks.world
        choices = f"{below} or {above}" if below else str(above)
        raise BadRun(
            f"a batch of {batch_size} samples does not divide among {ranks.world} ranks: give --batch-size {choices}, "
            "or start another number of ranks"
        )


def check_same(config: RunConfig, stored: RunConfig | None, how: Mapping[str, Any], ranks: Ranks) -> None:
    """Refuse ranks with different options, data or software. Only digests travel, unless they differ.

    Args:
        stored: the run in the output folder that this rank sees.
        how: other values that must be equal, by their names for the user.

    Raises:
        BadRun: two ranks differ; the message names them and the first difference.
    """
    mine = {**_described(config, stored), **how}
    digests = ranks.gather(digest_of(mine))
    if len(set(digests)) == 1:
        return
    all_of_them = ranks.gather([socket.gethostname(), mine])
    host, first = all_of_them[0]
    for rank, (other_host, other) in enumerate(all_of_them):
        for name in first.keys() | other.keys():
            a, b = first.get(name), other.get(name)
            if a != b:
                raise BadRun(
                    f"the ranks differ in {name}: it is {a} on rank 0 ({host}) and {b} on rank {rank} ({other_host}); "
                    "start all of them with the same command on the same data and software, and with an --output that "
                    "all nodes share"
                )


def _described(config: RunConfig, stored: RunConfig | None) -> dict[str, Any]:
    """What must be equal, by names that a user knows. The data's folder may differ from node to node."""
    values = asdict(config)
    values["data"].pop("path")
    found = {name: value for group in ("model", "training", "data") for name, value in _flat(values[group]).items()}
    return {
        **found,
        "preset": config.preset,
        "the Motion Expert's run": config.motion_run,
        "the run in the output folder": None if stored is None else digest_of(asdict(stored))[:12],
        "the version of LaMP": VERSION,
        "the version of torch": torch.__version__,
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value
    return found
