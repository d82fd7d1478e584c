"""Choice of the torch device, for builds and for training."""

from typing import Any

from schemas.optional import missing_package


def is_cuda(name: str) -> bool:
    """Whether a device's name asks for a GPU."""
    return name.partition(":")[0] == "cuda"


def kind_of_device(device: Any) -> str:
    """The kind of a torch device: ``cpu``, or the GPU's model. On one kind the same input gives the same bytes."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def choose_device(name: str, extra: str | None = None) -> Any:
    """A torch device by name; ``auto`` takes a GPU when there is one.

    Args:
        extra: the extra of ``lamp-robotics`` that installs torch for this; None for the training extra.

    Raises:
        ValueError: this machine has no such device.
        MissingDependency: torch is not installed.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise missing_package(error, extra) or error from error
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, found {name!r}") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name} was asked for, but {torch.cuda.device_count()} GPUs can be used here")
    return device
