"""How often each value occurs over the samples of a set."""

from collections import Counter
from dataclasses import dataclass, field

from schemas.triplet import NONE, Triplet


@dataclass
class SampleCounters:
    """How many samples have each value, with values as they are displayed.

    Attributes:
        blank: samples without any instruction.
    """

    instructions: Counter[str] = field(default_factory=Counter)
    blank: int = 0
    fps: Counter[str] = field(default_factory=Counter)
    cameras: Counter[str] = field(default_factory=Counter)
    intrinsics: Counter[str] = field(default_factory=Counter)
    poses: Counter[str] = field(default_factory=Counter)
    depth: Counter[str] = field(default_factory=Counter)
    flow: Counter[str] = field(default_factory=Counter)
    grid: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    state: Counter[str] = field(default_factory=Counter)
    success: Counter[str] = field(default_factory=Counter)
    standard_actions: Counter[str] = field(default_factory=Counter)
    depth_alignment: Counter[str] = field(default_factory=Counter)
    generated_instructions: Counter[str] = field(default_factory=Counter)

    def add(self, t: Triplet) -> None:
        """Count one sample."""
        texts = [text for text in t.instructions if text.strip()]
        self.instructions.update(set(texts))
        self.blank += not texts
        width, height = t.camera.size
        self.fps[f"{t.fps:g}"] += 1
        self.cameras[f"{t.source.camera}, {width} x {height}"] += 1
        self.intrinsics[t.camera.intrinsics_source] += 1
        still = "still" if len(t.camera.world_from_camera) == 1 else "one for each step"
        self.poses[f"{t.camera.pose_source} ({still})"] += 1
        self.depth[f"{t.depth_unit}, {t.depth_source}" if t.has_flow else NONE] += 1
        self.flow[t.flow_source] += 1
        more = "" if t.adaptive is None else f" and {len(t.adaptive.flow.uvz)} adaptive"
        self.grid[f"{t.flow.uvz.shape[0]} points{more}, {t.flow.horizon} steps" if t.has_flow else NONE] += 1
        self.steps[f"{t.step_seconds:.4g} s ({t.resampling})" if t.has_flow else NONE] += 1
        self.actions[f"{t.action_convention.name}, {len(t.actions)} x {t.actions.shape[1]}"] += 1
        self.state[", ".join(t.state_names)] += 1
        self.success[{True: "yes", False: "no", None: "not said"}[t.success]] += 1
        self.standard_actions[t.standard_actions.convention.name if t.standard_actions else "none"] += 1
        self.depth_alignment[f"by {t.depth_alignment.method}" if t.depth_alignment else "not needed or not done"] += 1
        self.generated_instructions.update({f"{g.style}, by {g.model}" for g in t.generated_instructions})
