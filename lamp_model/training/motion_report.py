"""Report on a Motion Expert: its errors in pixels, compared with "nothing moves" and the linear probe."""

from collections.abc import Mapping

GROUPS = ("moving", "all")
SHOWN = {
    "first": "first step",
    "rollout": "rollout",
    "mean": "mean of 8",
    "best": "best of 8",
}
BASELINES = {"still": "nothing moves", "probe": "linear probe"}


def validation_line(metrics: Mapping[str, float]) -> str | None:
    """One line of metrics on held-out episodes; None where there are no motion metrics."""
    groups = [text for group in GROUPS if (text := _group(metrics, group))]
    return "; ".join(groups) or None


def verdict(metrics: Mapping[str, float]) -> str | None:
    """Whether the first-step estimate, with which guidance begins, is better on moving points than the linear probe;
    None where one of them is not known."""
    first, probe, still = (metrics.get(f"{name}_px_moving") for name in ("first", "probe", "still"))
    if first is None or probe is None or still is None:
        return None
    figures = (
        f"moving points are off by {first:.3g} px, by the linear probe {probe:.3g} px, nothing moves {still:.3g} px"
    )
    if first < probe:
        return f"the Motion Expert beats the linear probe: {figures}"
    return (
        f"the Motion Expert does NOT beat the linear probe on the same features, so it does not help yet: {figures}; "
        "train more steps (--steps) or on more episodes (docs/learning.md)"
    )


def _group(metrics: Mapping[str, float], group: str) -> str | None:
    def told(names: Mapping[str, str]) -> str:
        found = {label: metrics.get(f"{name}_px_{group}") for name, label in names.items()}
        return ", ".join(f"{label} {value:.3g}" for label, value in found.items() if value is not None)

    if f"rollout_px_{group}" not in metrics:
        return None
    return f"{group} points off by px: {told(SHOWN)} ({told(BASELINES)})"
