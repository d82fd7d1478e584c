"""The model half: backbone, Motion Expert, guidance, Action Expert, and their training.

From here, without torch until it is used::

    import lamp_model

    shards = lamp_model.open_shards("shards/libero")  # shards[0] is a dict of numpy arrays
    policy = lamp_model.load_policy("runs/stage2")  # policy.predict(images, instruction, state)
    expert = lamp_model.load_motion_expert("runs/stage1")  # expert.imagine(images, instruction)
"""

import importlib
from typing import TYPE_CHECKING, Any

from schemas.optional import missing_package
from schemas.version import VERSION as __version__

if TYPE_CHECKING:
    from lamp_model.imagination import MotionPredictor, load_motion_expert
    from lamp_model.policy import LampPolicy, load_policy
    from lamp_model.shards import Shards, open_shards

HOMES = {
    "LampPolicy": "lamp_model.policy",
    "MotionPredictor": "lamp_model.imagination",
    "Shards": "lamp_model.shards",
    "load_motion_expert": "lamp_model.imagination",
    "load_policy": "lamp_model.policy",
    "open_shards": "lamp_model.shards",
}
__all__ = [
    "LampPolicy",
    "MotionPredictor",
    "Shards",
    "__version__",
    "load_motion_expert",
    "load_policy",
    "open_shards",
]


def __getattr__(name: str) -> Any:
    """Import a name of ``__all__`` on first use.

    Raises:
        MissingDependency: the name needs torch, or another package of an extra, which is not installed.
    """
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(HOMES[name]), name)
    except ModuleNotFoundError as error:
        raise missing_package(error) or error from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
