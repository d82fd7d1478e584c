"""Depth models of the transformers library: choosing, downloading and checking weights, and inference of inverse
depth.
"""

import contextlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, UInt8

from pipeline.vision.auto_batch import ShrinkingBatches
from schemas.devices import choose_device
from schemas.errors import LONGEST, first_line
from schemas.files import contents_digest
from schemas.hub import hub_at_hand
from schemas.plugins import MissingDependency, MissingWeights

LIBRARIES = ("torch", "transformers")
INSTALL = "pip install 'lamp-robotics[depth]' brings what depth models need"
FILES = ("*.safetensors", "*.bin")
PROCESSOR = "preprocessor_config.json"
UNUSED = "fusion_stage.layers.0.residual_layer1."
"""Weights that the architectures declare and never use, so that some published files lack them."""

Precision = Literal["auto", "float32", "float16", "bfloat16"]


@dataclass(frozen=True)
class Family:
    """A kind of model.

    Attributes:
        name: its usual name.
        model_type: transformers' name, as in the weights' ``config.json``.
        depth_model: the class in that file; the same architecture also comes for other tasks.
        processor: module and class of its image processor.
        corners: how pictures are resized for it; see ``Preparation``.
    """

    name: str
    model_type: str
    depth_model: str
    processor: tuple[str, str]
    corners: bool = False


@dataclass(frozen=True)
class Weights:
    """The weights of a model and where to find them.

    Attributes:
        name: on the Hugging Face hub, or a folder that ``save_pretrained`` wrote.
        revision: of the hub's repository; a folder has none.
        metric: whether the weights must give depth in metres; None where the family does not offer both.
    """

    family: Family
    name: str
    revision: str | None
    metric: bool | None = None

    def check(self) -> None:
        """Download the weights if they are not on this machine, and check that their configuration fits the family.

        Raises:
            MissingWeights: they cannot be found or downloaded, or belong to another model.
        """
        try:
            import torch  # noqa: F401
            import transformers  # noqa: F401
        except ImportError as error:
            raise MissingDependency(
                f"{self.family.name} needs {error.name}, which is not installed: {INSTALL}"
            ) from error
        folder = self.folder()
        try:
            config = json.loads((folder / "config.json").read_bytes())
        except (OSError, ValueError) as error:
            raise MissingWeights(
                f"{self.said}: its config.json cannot be read: {first_line(error, LONGEST)}"
            ) from error
        self._check_kind(config if isinstance(config, dict) else {})
        if not (folder / PROCESSOR).is_file() or not any(p for kind in FILES for p in folder.glob(kind)):
            raise MissingWeights(f"{self.said}: {folder} must hold config.json, {PROCESSOR} and model.safetensors")

    @property
    def identity(self) -> str:
        """The identity recorded in a sample; it does not depend on where the files are."""
        if Path(self.name).is_dir():
            return f"local weights {contents_digest(Path(self.name))[:16]}"
        return f"{self.name} at {self.folder().name[:12]}"

    def folder(self) -> Path:
        """The local folder of the weights; downloads them if needed.

        Raises:
            MissingWeights: there is no such folder, or they cannot be downloaded.
        """
        folder = Path(self.name)
        if folder.is_dir():
            return folder
        if folder.exists() or folder.is_absolute() or self.name.startswith("."):
            raise MissingWeights(
                f"{self.said}: there is no such folder; weights is a folder or a name on the Hugging Face hub"
            )
        from huggingface_hub.errors import HFValidationError

        try:
            with hub_at_hand():
                return self._download()
        except (OSError, HFValidationError) as error:
            raise MissingWeights(
                f"{self.said} are not on this machine and cannot be downloaded ({first_line(error, LONGEST)}); with "
                "a network run the same "
                f"command again, without one give weights=FOLDER, a folder with a copy of {self.name}"
            ) from error

    def _download(self) -> Path:
        from huggingface_hub import snapshot_download

        for kind in FILES:  # the pickles only where a repository has nothing better
            folder = Path(snapshot_download(self.name, revision=self.revision, allow_patterns=["*.json", kind]))
            if any(folder.glob(kind)):
                break
        return folder

    def _check_kind(self, config: dict[str, Any]) -> None:
        family, found = self.family, config.get("model_type")
        classes = config.get("architectures") or [family.depth_model]
        if found != family.model_type or family.depth_model not in classes:
            raise MissingWeights(
                f"{self.said} are those of another model: expected {family.depth_model}, found "
                f"{', '.join(map(str, classes))} "
                f"(model_type {found})"
            )
        metric = is_metric(config)
        if self.metric is not None and metric != self.metric:
            has, wants = ("metric", "relative") if metric else ("relative", "metric")
            choice = "kind=metric-indoor or kind=metric-outdoor" if metric else "kind=relative"
            raise MissingWeights(f"{self.said} give {has} depth, {wants} depth was asked for: choose {choice}")

    @property
    def said(self) -> str:
        """The name used in messages."""
        return f"the weights {self.name} of {self.family.name}"


class DepthModel:
    """A loaded model.

    Args:
        weights: checked ones.
        device: ``auto`` takes a GPU when there is one; else cpu, cuda or cuda:N.
        precision: ``auto`` is float16 on a GPU and float32 on a CPU. bfloat16 has steps of 0.4% of depth.
        batch_size: frames at a time.
        resolution: height that pictures are scaled to; None for what the weights' image processor says.

    Raises:
        MissingWeights: the files do not hold what the model needs.
        ValueError: there is no such device, or it does not go with the precision.
    """

    def __init__(
        self, weights: Weights, device: str, precision: Precision, batch_size: int, resolution: int | None = None
    ):
        import torch

        from pipeline.depth._preprocess import Preparation

        self.weights, self.device = weights, choose_device(device, "depth")
        if self.device.type == "cpu":
            torch.set_num_threads(1)  # one core per worker; more threads would also sum in another order
        default = "float16" if self.device.type == "cuda" else "float32"
        self.precision = default if precision == "auto" else precision
        with _quiet():
            model, processor = _load(weights)
        try:
            self.preparation = Preparation.of_processor(processor, weights.family.corners)
        except ValueError as error:
            raise MissingWeights(f"{weights.said}: {error}") from error
        if resolution is not None:
            self.preparation = self.preparation.at_height(resolution)
        self.model = model.requires_grad_(False).eval().to(self.device)
        self.metric = is_metric(model.config.to_dict())
        self.name = f"{weights.family.name}, {weights.identity}"
        if self.precision != "float32":
            self.name += f" in {self.precision}"
        remedy = "use a smaller size, precision=float16 or device=cpu"
        self.batches = ShrinkingBatches(batch_size, f"{weights.family.name}: {remedy}")

    def inverse_depth(self, frames: UInt8[np.ndarray, "T H W 3"]) -> Float[np.ndarray, "T H W"]:
        """Inverse depth at every pixel of every frame: in 1/m for a metric model, else up to scale and shift. Each
        frame is read once.

        Raises:
            BuildError: a single frame does not fit into the GPU's memory.
        """
        inverse = np.empty(frames.shape[:3], np.float32)
        for start, found in self.batches.run(self._predict, frames):
            inverse[start : start + len(found)] = found
        return inverse

    def _predict(self, frames: UInt8[np.ndarray, "N H W 3"]) -> Float[np.ndarray, "N H W"]:
        import torch

        half = self.precision != "float32"
        with torch.inference_mode():
            pictures = self.preparation.prepare(torch.from_numpy(np.ascontiguousarray(frames)).to(self.device))
            with torch.autocast(self.device.type, dtype=getattr(torch, self.precision) if half else None, enabled=half):
                prediction = self.model(pixel_values=pictures).predicted_depth.float()
            inverse = 1 / prediction if self.metric else prediction
            return self.preparation.restore(inverse, *frames.shape[1:3]).cpu().numpy()


def is_metric(config: dict[str, Any]) -> bool:
    """Whether a model gives depth in metres, by its ``config.json``; the others give inverse depth up to scale and
    shift.
    """
    return config.get("model_type") == "zoedepth" or config.get("depth_estimation_type") == "metric"


def _load(weights: Weights) -> tuple[Any, Any]:
    """Model and image processor.

    Raises:
        MissingWeights: a file is missing, damaged or of another model.
    """
    import importlib
    import pickle

    import transformers
    from safetensors import SafetensorError

    folder = str(weights.folder())
    module, name = weights.family.processor
    try:
        processor = getattr(importlib.import_module(module), name).from_pretrained(folder)
        model, report = getattr(transformers, weights.family.depth_model).from_pretrained(
            folder, dtype="float32", output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError, pickle.UnpicklingError) as error:
        raise MissingWeights(f"{weights.said} cannot be loaded: {first_line(error, LONGEST)}") from error
    learned = {name for name, _ in model.named_parameters()}
    missing = sorted(name for name in set(report["missing_keys"]) & learned if UNUSED not in name)
    if missing:
        raise MissingWeights(
            f"{weights.said} lack {len(missing)} of the model's {len(learned)} tensors (the first is {missing[0]}): "
            "they are those of another model"
        )
    return model, processor


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Turn off progress bars and load reports; errors are reported as one sentence."""
    from transformers.utils import logging as talk

    shown, level = talk.is_progress_bar_enabled(), talk.get_verbosity()
    talk.disable_progress_bar()
    talk.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        talk.set_verbosity(level)
        if shown:
            talk.enable_progress_bar()
