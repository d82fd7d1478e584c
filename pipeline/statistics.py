"""Statistics of states and actions over a dataset, which training needs to normalise them."""

from typing import Any

import numpy as np

from pipeline.execution import BuildError
from pipeline.parts import STATISTICS_FRAMES, PartReport


def dataset_statistics(reports: list[PartReport]) -> dict[str, Any]:
    """``min``, ``max``, ``mean``, ``std``, ``q01``, ``q99`` of ``state`` and ``action``, in the raw convention.

    All but the quantiles are exact over every frame; quantiles are those of up to 64 evenly spread frames of each episode.

    Raises:
        BuildError: episodes differ in the size of state or action.
    """
    result: dict[str, Any] = {"quantile_frames_per_episode": STATISTICS_FRAMES}
    for name in ("state", "action"):
        moments = [r.moments[name] for r in reports if r.moments[name]["count"]]
        sizes = sorted({len(m["sum"]) for m in moments})
        if len(sizes) > 1:
            raise BuildError(f"episodes differ in the size of {name}: {sizes}; build them into separate folders")
        count = sum(m["count"] for m in moments)
        mean = np.sum([m["sum"] for m in moments], axis=0) / count
        variance = np.sum([m["squares"] for m in moments], axis=0) / count - mean**2
        values = np.concatenate([np.asarray(r.samples_of[name]).reshape(-1, sizes[0]) for r in reports])
        q01, q99 = np.quantile(values, [0.01, 0.99], axis=0)
        result[name] = {
            "count": count,
            "min": np.min([m["min"] for m in moments], axis=0).tolist(),
            "max": np.max([m["max"] for m in moments], axis=0).tolist(),
            "mean": mean.tolist(),
            "std": np.sqrt(np.maximum(variance, 0)).tolist(),
            "q01": q01.tolist(),
            "q99": q99.tolist(),
        }
    return result
