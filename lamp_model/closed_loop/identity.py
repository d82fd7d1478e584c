"""Which policy acted, by the content of its weights."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from lamp_model.closed_loop.results import PolicyIdentity
from lamp_model.published.files import fetched, find, is_published
from lamp_model.storage.run_folder import BACKBONE, MODEL, MOTION, STATISTICS, finished_run
from schemas.files import sha256_of


def identify(source: str | Path, cell: str = "", options: dict[str, object] | None = None) -> PolicyIdentity:
    """The identity of a run or a published checkpoint.

    Args:
        options: with which it is loaded, such as the key of its statistics; they decide what it does.

    Raises:
        BadRun: there is no such run, or it has not finished.
        BadCheckpoint: a published checkpoint's files are missing or damaged.
    """
    parts: dict[str, object] = {"options": options or {}}
    if is_published(source):
        files = fetched(find(source))
        parts |= {path.name: sha256_of(path) for path in (files.weights, files.config, files.statistics)}
    else:
        run = Path(source)
        parts["model"] = asdict(finished_run(run, 2).model)
        kept = [run / MODEL, run / MOTION, run / STATISTICS, *sorted((run / BACKBONE).glob("*"))]
        parts |= {str(path.relative_to(run)): sha256_of(path) for path in kept if path.is_file()}
    whole = json.dumps(parts, sort_keys=True, default=str)
    return PolicyIdentity(str(source), hashlib.sha256(whole.encode()).hexdigest()[:16], cell)
