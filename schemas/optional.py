"""Packages that a core install lacks, and the extra of ``lamp-robotics`` that installs each."""

from schemas.errors import MissingDependency

EXTRAS = {
    "torch": "train",
    "transformers": "train",
    "diffusers": "train",
    "safetensors": "train",
    "tokenizers": "train",
    "PIL": "train",
    "huggingface_hub": "train",
    "accelerate": "train",
    "peft": "lora",
    "mujoco": "sim",
    "vla_eval": "serve",
    "websockets": "serve",
    "plotly": "html",
    "small_gicp": "icp",
    "obstore": "stores",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "trackio": "trackio",
}
"""Keyed by import name."""


class MissingPackage(MissingDependency, ImportError):
    """A package of an extra is not installed."""


def missing_package(error: ModuleNotFoundError, extra: str | None = None) -> MissingPackage | None:
    """The error for a package that an extra would install; None for any other module.

    Args:
        extra: the extra to name, where several install the package.
    """
    package = (error.name or "").split(".")[0]
    if package not in EXTRAS:
        return None
    return MissingPackage(
        f"{package} is not installed, which this needs: pip install 'lamp-robotics[{extra or EXTRAS[package]}]'"
    )
