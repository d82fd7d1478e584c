"""Converts ``config.yaml`` of a published checkpoint to a ``ModelConfig`` and back.

Exported runs of this project store settings that the published layout does not have under ``lamp``.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lamp_model.backbones.qwen3_vl import Config as Qwen3VLConfig
from lamp_model.errors import BadCheckpoint
from lamp_model.features import check_prompt
from lamp_model.model_config import ActionConfig, ModelConfig, MotionConfig
from lamp_model.networks.action_transformer import TIME_CHANNELS
from lamp_model.published import OWN
from schemas.errors import first_line
from schemas.scene_flow import MOTION_SCALE
from schemas.structured import read_structured, structure

MOTION = {
    "layers": ("num_layers", 12),
    "heads": ("num_attention_heads", 16),
    "head_dim": ("attention_head_dim", 64),
    "patch_size": ("patch_size", 2),
    "steps_per_frame": ("put_frames_in_channels", 2),
    "grid": ("spatial_size", 20),
    "horizon": ("num_motion_frames", 32),
    "conditioning_tokens": ("max_text_seq_length", 256),
    "denoising_steps": ("motion_infer_steps", 10),
}
ACTION = {
    "action_size": ("action_dim", 7),
    "state_size": ("state_dim", 8),
    "layers": ("depth", 24),
    "width": ("hidden_size", 1024),
    "heads": ("num_heads", 16),
    "mlp_ratio": ("mlp_ratio", 4),
    "positions": ("max_len_seq", 512),
    "denoising_steps": ("num_inference_timesteps", 10),
}
"""Field of our config: (key of theirs, their default)."""
FIXED_MOTION = {
    "motion_dim": 3,
    "patch_size_t": 1,
    "use_rotary_embeddings": False,
    "enabled": True,
    "use_guidance": True,
    "action_min": [-scale for scale in MOTION_SCALE],
    "action_max": list(MOTION_SCALE),
}
FIXED_ACTION = {"dim_time": TIME_CHANNELS, "use_adaln": False, "use_proprio": True, "past_action_window_size": 0}
"""Settings of the published code for which only one value is supported here."""


@dataclass(frozen=True)
class PublishedConfig:
    """The content of a ``config.yaml``.

    Attributes:
        mask_z: the state's z is masked in the network's input.
        own_normalisation: the checkpoint is an exported run of this project, which normalises all dimensions alike.
        feature_width: of the backbone, where the config has it.
    """

    model: ModelConfig
    mask_z: bool
    own_normalisation: bool
    feature_width: int | None


def read_config(path: Path) -> PublishedConfig:
    """Read the config of a published checkpoint, in compatibility mode: padding is repeated, not masked, and the prompt
    is unchanged.

    Raises:
        BadCheckpoint: it is no such config, or needs something that is not supported here.
    """
    try:
        values = read_structured(path)
        if OWN in values:
            if not isinstance(values[OWN], dict):
                raise ValueError(f"its section {OWN} must hold names with values, found {values[OWN]!r}")
            model = _own_model(values[OWN]["model"], path.parent)
            return PublishedConfig(model, False, True, _feature_width(values.get("framework", {}).get("qwenvl", {})))
        return _published(values, str(path))
    except BadCheckpoint:
        raise
    except KeyError as error:
        raise BadCheckpoint(f"{path} is no config of a published checkpoint: it lacks {error}") from error
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise BadCheckpoint(f"{path} is no config of a published checkpoint: {first_line(error)}") from error


def _published(values: Mapping[str, Any], where: str) -> PublishedConfig:
    framework = values["framework"]
    if framework.get("name") != "LaMP":
        raise BadCheckpoint(f"{where} is of a model called {framework.get('name')!r}, LaMP was expected")
    qwen, motion, action = framework["qwenvl"], framework["motion_expert"], framework["action_model"]
    data = values["datasets"]["vla_data"]
    _check_fixed(motion, FIXED_MOTION, f"{where}: framework.motion_expert")
    _check_fixed(action, FIXED_ACTION, f"{where}: framework.action_model")
    prompt = data.get("CoT_prompt", "{instruction}")
    check_prompt(prompt)
    model = ModelConfig(
        backbone="qwen3-vl",
        backbone_options={
            "weights": _backbone(str(qwen["base_vlm"]), Path(where).parent),
            # Like the released loader, use the pinned revision and ignore the file's.
            "image_size": _image_size(data["image_size"]),
            "prompt": prompt,
            "tidy": False,
            "padding": "unattended",
        },
        motion=_motion(motion),
        fusion="gated",
        fusion_options={
            "heads": _whole(motion, "guidance_heads", 40),
            "dropout": float(motion.get("guidance_dropout", 0.1)),
        },
        action=ActionConfig(
            chunk=_whole(action, "future_action_window_size", 9) + 1,
            **{field: _whole(action, key, default) for field, (key, default) in ACTION.items()},
        ),
        padding="repeat",
        image_orientation="mirrored",  # of LIBERO, in the authors' data and evaluation alike
    )
    return PublishedConfig(model, bool(action.get("use_mask_z", False)), False, _feature_width(qwen))


def _whole(values: Mapping[str, Any], key: str, default: int) -> int:
    """An integer, also if it is written as 4.0."""
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not float(value).is_integer():
        raise ValueError(f"{key} must be a whole number, found {value!r}")
    return int(value)


def _feature_width(qwen: Mapping[str, Any]) -> int | None:
    return _whole(qwen, "vl_hidden_dim", 0) if qwen.get("vl_hidden_dim") is not None else None


def _image_size(size: Any) -> int:
    sides = size if isinstance(size, list) else [size]
    whole = [_whole({"image_size": side}, "image_size", 0) for side in sides]
    if not 1 <= len(whole) <= 2 or len(set(whole)) != 1:
        raise ValueError(f"image_size must be one side of a square or two that are equal, found {size}")
    return whole[0]


def _motion(values: Mapping[str, Any]) -> MotionConfig:
    sizes: dict[str, Any] = {field: _whole(values, key, default) for field, (key, default) in MOTION.items()}
    steps, until = sizes["denoising_steps"], float(values.get("tau_v_infer", 0.1))
    if abs(until * steps - round(until * steps)) > 1e-6:
        raise ValueError(f"tau_v_infer must be a whole number of {steps} steps, found {until}")
    config = MotionConfig(guidance_steps=round(until * steps), **sizes)
    if values.get("latent_dim", config.width) != config.width:
        raise ValueError(f"latent_dim must be heads times head size {config.width}, found {values['latent_dim']}")
    return config


def _backbone(name: str, folder: Path) -> str:
    """The source of the backbone's sizes and tokenizer: the hub, a folder beside the config or one on this machine.

    A path that does not exist on this machine is replaced by the pinned model, as in the released loader.
    """
    if not name.startswith((".", "/")):
        return name
    return next((str(path) for path in (folder / name, Path(name)) if path.is_dir()), Qwen3VLConfig().weights)


def _check_fixed(values: Mapping[str, Any], fixed: Mapping[str, Any], where: str) -> None:
    for key, value in fixed.items():
        if values.get(key, value) != value:
            raise BadCheckpoint(f"{where}.{key} must be {value}, found {values[key]}")


def _own_model(values: Mapping[str, Any], folder: Path) -> ModelConfig:
    model = structure(ModelConfig, values, f"{OWN}.model")
    weights = str(model.backbone_options.get("weights", ""))
    model.backbone_options["weights"] = _backbone(weights, folder) if weights else Qwen3VLConfig().weights
    return model


def to_values(model: ModelConfig, feature_width: int) -> dict[str, Any]:
    """The content of ``config.yaml`` for a model: the published keys, and ours under ``lamp``."""
    backbone = Qwen3VLConfig(**model.backbone_options)
    motion, action = model.motion, model.action
    return {
        "framework": {
            "name": "LaMP",
            "qwenvl": {"base_vlm": backbone.weights, "revision": backbone.revision, "vl_hidden_dim": feature_width},
            "action_model": {
                **{key: getattr(action, field) for field, (key, _) in ACTION.items()},
                **FIXED_ACTION,
                "future_action_window_size": action.chunk - 1,
                "use_mask_z": False,
            },
            "motion_expert": {
                **{key: getattr(motion, field) for field, (key, _) in MOTION.items()},
                MOTION["steps_per_frame"][0]: motion.packed_steps,
                **FIXED_MOTION,
                "latent_dim": motion.width,
                "guidance_heads": model.fusion_options.get("heads", 40),
                "guidance_dropout": model.fusion_options.get("dropout", 0.1),
                "tau_v_infer": motion.guidance_steps / motion.denoising_steps,
            },
        },
        "datasets": {"vla_data": {"image_size": [backbone.image_size] * 2, "CoT_prompt": backbone.prompt}},
        OWN: {"model": _plain(asdict(model))},
    }


def _plain(value: Any) -> Any:
    """Convert tuples to lists, so that the YAML has no Python-specific tags."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
