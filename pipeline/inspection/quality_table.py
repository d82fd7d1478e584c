"""A table of the values that the build's checks measured, beside their thresholds."""

from collections.abc import Mapping

from pipeline.inspection.summary import ShardSummary
from pipeline.inspection.table import Table
from pipeline.inspection.text import percent
from pipeline.windows.quality import CHECKS
from schemas.manifest import Manifest


def quality_table(summary: ShardSummary) -> Table | None:
    """What each check measured over the samples, and the build's threshold; None if the samples do not record it."""
    manifest, rows = summary.collection.manifest, []
    thresholds = thresholds_of(manifest)
    for check in CHECKS:
        if check.measure not in summary.quality:
            continue
        share = check.measure.endswith("share")
        found = [percent(v) if share else f"{v:g}" for v in summary.quality[check.measure].values()]
        limit = thresholds.get(check.threshold)
        words = "" if limit is None else f"{'>=' if check.least else '<='} {percent(limit) if share else f'{limit:g}'}"
        rows.append([check.means, *found, words])
    return Table("what the checks measured", ["", "min", "p50", "max", "wanted"], rows) if rows else None


def thresholds_of(manifest: Manifest | None) -> dict[str, float]:
    """The build's thresholds by name. Values that are not numbers are left out: the file may have been edited."""
    found = manifest.recipe.get("quality") if manifest else None
    if not isinstance(found, Mapping):
        return {}
    return {str(k): float(v) for k, v in found.items() if isinstance(v, int | float) and not isinstance(v, bool)}
