"""How durations are said to a person."""


def duration(seconds: float) -> str:
    """Seconds as ``40 s``, ``12 min``, ``5.2 h`` or ``3.1 days``; negative ones as ``0 s``."""
    for size, unit in ((86400, "days"), (3600, "h")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{max(seconds, 0):.0f} s"
