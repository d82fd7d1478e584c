"""Looking at shards: what they hold, whether they are whole, and how their flow looks over the image.

``inspect`` is the entry; ``CannotInspect`` is what it raises for a person's mistake.
"""

from pipeline.inspection.collection import CannotInspect
from pipeline.inspection.command import inspect

__all__ = ["CannotInspect", "inspect"]
