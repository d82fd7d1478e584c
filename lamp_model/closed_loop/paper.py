"""What the paper reports (LaMP, arXiv 2603.25399), in per cent of episodes, and the cells of its tables.

Known here are the average and the suites of LIBERO, and the averages of LIBERO-Plus and SimplerEnv-WidowX, each with
the row without motion. Other cells are None: they are shown as unknown and never guessed.
"""

from dataclasses import dataclass

AVERAGE = "average"


@dataclass(frozen=True)
class PaperTable:
    """One table or figure of the paper.

    Attributes:
        name: as ``lamp-policy table`` calls it.
        title: what it shows.
        columns: groups of suites (``Suite.group`` or ``Suite.name``) with their short titles, in order.
        rows: cells of policies (``PolicyIdentity.cell``) with their titles, in order.
        published: by row and column; ``average`` is the mean over the columns.
    """

    name: str
    title: str
    columns: dict[str, str]
    rows: dict[str, str]
    published: dict[str, dict[str, float]]


LIBERO = {"libero_spatial": "Spatial", "libero_object": "Object", "libero_goal": "Goal", "libero_10": "Long"}
PLUS = {
    f"libero_plus:{short}": short.capitalize()
    for short in ("camera", "robot", "language", "light", "background", "noise", "layout")
}
WIDOWX = {
    "simpler_widowx_spoon_on_towel": "Spoon",
    "simpler_widowx_carrot_on_plate": "Carrot",
    "simpler_widowx_stack_cube": "Stack",
    "simpler_widowx_put_eggplant_in_basket": "Eggplant",
}
MOTION = {"lamp": "LaMP", "no_motion": "without motion"}
TABLES = (
    PaperTable(
        "libero",
        "LIBERO, success in %",
        LIBERO,
        MOTION,
        {
            "lamp": {
                "libero_spatial": 99.4, "libero_object": 99.8, "libero_goal": 97.4, "libero_10": 96.7, AVERAGE: 98.3
            },
            "no_motion": {AVERAGE: 92.4},
        },
    ),
    PaperTable(
        "libero_plus",
        "LIBERO-Plus by perturbation, success in %",
        PLUS,
        MOTION,
        {"lamp": {AVERAGE: 79.3}, "no_motion": {AVERAGE: 71.6}},
    ),
    PaperTable(
        "simpler_widowx",
        "SimplerEnv-WidowX, success in %",
        WIDOWX,
        MOTION,
        {"lamp": {AVERAGE: 79.2}, "no_motion": {AVERAGE: 56.3}},
    ),
    PaperTable(
        "motion",
        "Ablation of the motion prior: LIBERO, success in %",
        LIBERO,
        {"no_motion": "no motion", "motion_2d": "2D motion", "lamp": "3D motion (LaMP)"},
        {"no_motion": {AVERAGE: 92.4}, "lamp": {AVERAGE: 98.3}},
    ),
    PaperTable(
        "fusion",
        "Ablation of the fusion: LIBERO, success in %",
        LIBERO,
        {"fusion_add": "addition", "fusion_concat": "concatenation, MLP", "lamp": "gated cross-attention (LaMP)"},
        {"lamp": {AVERAGE: 98.3}},
    ),
)  # fmt: skip
CELLS = tuple(dict.fromkeys(row for table in TABLES for row in table.rows))
"""Names of policies in the paper's tables."""


def published(suite_or_group: str, cell: str = "lamp") -> float | None:
    """The paper's figure for a suite or a whole benchmark (``libero``), in per cent; None where it is unknown here."""
    for table in TABLES:
        row = table.published.get(cell, {})
        if suite_or_group == table.name:
            return row.get(AVERAGE)
        if suite_or_group in row:
            return row[suite_or_group]
    return None
