"""Named sizes of model and training: ``paper`` is the published one, ``small`` one for a GPU of 24 GB, ``tiny`` the
same architecture for a CPU, ``laptop`` the same for an experiment on one."""

from dataclasses import dataclass, replace

from lamp_model.config import TrainingConfig
from lamp_model.model_config import ActionConfig, ModelConfig, MotionConfig

QWEN3_VL_2B, QWEN3_VL_2B_REVISION = "Qwen/Qwen3-VL-2B-Instruct", "89644892e4d85e24eaac8bacfd4f463576704203"


@dataclass(frozen=True)
class Preset:
    """A model's sizes (state, action and cameras come from the data) and how each stage is trained."""

    model: ModelConfig
    stage1: TrainingConfig
    stage2: TrainingConfig

    def training(self, stage: int) -> TrainingConfig:
        """Defaults of a stage."""
        return self.stage1 if stage == 1 else self.stage2


def paper() -> Preset:
    """The published sizes, and hyperparameters for a global batch of 512 (paper, section 4.1).

    30 epochs of 1.6 million samples are 93,750 steps of stage 1. Where the paper gives no number (rates of stage 1, the
    minimum rate, clipping) the value is this project's choice.
    """
    return Preset(
        model=ModelConfig(),
        stage1=TrainingConfig(
            stage=1, steps=93_750, batch_size=512, learning_rate=1e-4, minimum_rate=1e-6, weight_decay=0.01
        ),
        stage2=TrainingConfig(
            stage=2, steps=15_000, batch_size=512, learning_rate=1e-4, minimum_rate=1e-6, weight_decay=0.0
        ),
    )


def small() -> Preset:
    """For one GPU of 24 GB: Qwen3-VL-2B-Instruct frozen, a Motion Expert of 6 layers of width 512 and an Action Expert
    of 12 layers of width 512. Memory and rates are counted in docs/training-recipes.md.

    A batch of 128 is a quarter of the published one; steps are the paper's, so a run sees a quarter of the samples.
    """
    model = ModelConfig(
        backbone_options={"weights": QWEN3_VL_2B, "revision": QWEN3_VL_2B_REVISION},
        motion=MotionConfig(layers=6, heads=8, head_dim=64),
        fusion_options={"heads": 32},
        action=ActionConfig(layers=12, width=512, heads=8),
    )
    common = {"batch_size": 128, "learning_rate": 1e-4, "minimum_rate": 1e-6}
    return Preset(
        model=model,
        stage1=TrainingConfig(stage=1, steps=93_750, weight_decay=0.01, **common),
        stage2=TrainingConfig(stage=2, steps=15_000, weight_decay=0.0, **common),
    )


def tiny() -> Preset:
    """Trains on two CPU cores in minutes: a randomly initialised Qwen3-VL of 3.5 million parameters, small experts, and
    motion tokens of 4 x 4 keypoints over all steps in place of 2 x 2 over two.

    Its Motion Expert uses the settings for thousands of samples, not millions (docs/learning.md).
    """
    model = ModelConfig(
        backbone_options={"weights": "random:tiny", "image_size": 128, "min_pixels": 0},
        motion=MotionConfig(
            layers=2,
            heads=4,
            head_dim=32,
            time_channels=64,
            patch_size=4,
            steps_per_frame=0,
            dropout=0.0,
            conditioning_tokens=128,
            motion_target="data",
            motion_input="gain",
            motion_output="sigma",
            feature_norm="index",
            feature_places="learned",
            feature_summary=16,
        ),
        fusion_options={"heads": 6},
        action=ActionConfig(layers=4, width=128, heads=4, positions=512),
    )
    common = {"weight_decay": 0.0, "log_every": 5}
    return Preset(
        model=model,
        stage1=TrainingConfig(
            stage=1,
            steps=600,
            batch_size=16,
            learning_rate=2e-3,
            minimum_rate=1e-4,
            path_weight=0.1,
            checkpoint_every=100,
            validate_every=100,
            **common,
        ),
        stage2=TrainingConfig(
            stage=2,
            steps=200,
            batch_size=4,
            learning_rate=1e-3,
            minimum_rate=5e-5,
            path_weight=0.1,
            checkpoint_every=50,
            validate_every=50,
            **common,
        ),
    )


def laptop() -> Preset:
    """For showing on two CPU cores what a motion prior is worth (docs/evidence.md): ``tiny`` with a prompt of the
    instruction alone, which leaves half of the tokens, no dropout in the Action Expert, which fits too little and not
    too much, and runs long enough to act.
    """
    small = tiny()
    model = replace(
        small.model,
        backbone_options={**small.model.backbone_options, "prompt": "{instruction}"},
        action=replace(small.model.action, dropout=0.0),
    )
    return Preset(
        model=model,
        stage1=replace(small.stage1, steps=3000, checkpoint_every=250, validate_every=250),
        stage2=replace(small.stage2, steps=4000, batch_size=32, checkpoint_every=250, validate_every=250),
    )


PRESETS = {"paper": paper, "small": small, "tiny": tiny, "laptop": laptop}


def preset(name: str) -> Preset:
    """A preset by name.

    Raises:
        ValueError: no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"no preset is called {name!r}; there are: {', '.join(sorted(PRESETS))}")
    return PRESETS[name]()
