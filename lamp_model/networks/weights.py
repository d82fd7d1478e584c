"""Loads weights by name, after checking names and shapes."""

from collections.abc import Mapping

import torch

from lamp_model.errors import BadCheckpoint


def load_weights(model: torch.nn.Module, tensors: Mapping[str, torch.Tensor], names: set[str], where: str) -> None:
    """Copy tensors into exactly the named entries of a model's state.

    Raises:
        BadCheckpoint: an entry is missing, unexpected or of another shape.
    """
    state = model.state_dict()
    missing, left_over = sorted(names - set(tensors)), sorted(set(tensors) - names)
    if missing or left_over:
        raise BadCheckpoint(
            f"{where} is of another model: {len(missing)} entries are missing and {len(left_over)} are left over, "
            f"e.g. {(missing + left_over)[0]}"
        )
    for name, tensor in tensors.items():
        if state[name].shape != tensor.shape:
            raise BadCheckpoint(
                f"{where} is of another size: {name} is {list(tensor.shape)}, the model has {list(state[name].shape)}"
            )
        if state[name].is_floating_point() and not tensor.is_floating_point():  # a copy would silently convert it
            raise BadCheckpoint(
                f"{where} is damaged: {name} holds {str(tensor.dtype).removeprefix('torch.')}, no weights"
            )
    with torch.no_grad():
        for name, tensor in tensors.items():
            state[name].copy_(tensor)


def check_state(expected: torch.nn.Module, tensors: Mapping[str, torch.Tensor], where: str) -> None:
    """Check names and shapes against a model's.

    Raises:
        BadCheckpoint: a name is missing or unexpected, or a shape differs; the message lists the first few.
    """
    shapes = {name: tensor.shape for name, tensor in expected.state_dict().items()}
    missing, left_over = sorted(set(shapes) - set(tensors)), sorted(set(tensors) - set(shapes))
    if missing or left_over:
        lists = [f"{word} {', '.join(names[:3])}" for word, names in (("lacks", missing), ("has", left_over)) if names]
        count = len(missing) + len(left_over)
        raise BadCheckpoint(f"{where} is of another model, {count} names differ: it {' and '.join(lists)}")
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise BadCheckpoint(
                f"{where} is of another size than its config: {name} is {list(tensors[name].shape)}, "
                f"{list(shape)} was expected"
            )
