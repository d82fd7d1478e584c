"""Sizes of both gated fusions, and their checks."""

import math
from dataclasses import dataclass

from lamp_model.model_config import check_dropout, check_sizes


@dataclass(frozen=True)
class GatedConfig:
    """Sizes of gated cross-attention; the defaults are the paper's.

    Attributes:
        heads: of the attention.
        dropout: of the attention's weights.
        gate: initial value of the gate before the sigmoid.
    """

    feature_width: int = 2560
    motion_width: int = 1024
    heads: int = 40
    dropout: float = 0.1
    gate: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(self, ("feature_width", "motion_width", "heads"), counts=())
        check_dropout(self.dropout)
        if not math.isfinite(self.gate):
            raise ValueError(f"gate must be a finite number, found {self.gate}")
        if self.feature_width % self.heads:
            fitting = max(heads for heads in range(1, self.heads) if self.feature_width % heads == 0)
            raise ValueError(
                f"a gated fusion needs a number of heads that divides the feature width {self.feature_width}, found "
                f"{self.heads}: "
                f"give --fusion with heads={fitting}, as in gated:heads={fitting}"
            )
