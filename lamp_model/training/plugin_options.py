"""Options of plug-ins as a person writes them, ``gated-tokens:layers=2``:
read, and refused where they make no sense.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lamp_model.config import ACTION_HEADS, BACKBONES, FUSIONS
from schemas.plugins import PluginChoice, configure, load_plugin


def fusion_options(fusion: str, preset: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a fusion: the preset's as far as it has them, and those that were given.

    Raises:
        ValueError: the fusion or an option is unknown, or a value makes no sense.
    """
    choice = PluginChoice.parse(fusion)
    names = {f.name for f in dataclasses.fields(load_plugin(FUSIONS, choice.name).Config)}
    given = _given(choice, of_the_model=("feature_width", "motion_width"))
    taken = {key: value for key, value in preset.items() if key in names} | given
    # The width of the features is known when the backbone is there; until then, one that this number of heads divides.
    heads = str(taken.get("heads", ""))
    width = {"feature_width": int(heads)} if heads.isdecimal() and int(heads) else {}
    config = _config(FUSIONS, choice.name, {**taken, **width})
    return {key: getattr(config, key) for key in taken}


def head_options(head: str) -> dict[str, Any]:
    """Options that were given for an action head.

    Raises:
        ValueError: the head or an option is unknown, or a value makes no sense.
    """
    return _configured(ACTION_HEADS, head, of_the_model=("sizes", "feature_width"))


def backbone_options(backbone: str) -> dict[str, Any]:
    """Options that were given for a backbone. No weights are looked for.

    Raises:
        ValueError: the backbone or an option is unknown, or a value makes no sense.
    """
    return _configured(BACKBONES, backbone, of_the_model=("architecture_only",))


def _configured(package: str, text: str, of_the_model: tuple[str, ...]) -> dict[str, Any]:
    choice = PluginChoice.parse(text)
    given = _given(choice, of_the_model)
    config = _config(package, choice.name, choice.options)
    return {key: getattr(config, key) for key in given}


def _config(package: str, name: str, options: Mapping[str, Any]) -> Any:
    try:
        return configure(package, name, options)
    except ValueError as error:  # a part that is also built in code does not say what it is called on the command line
        raise error if name in str(error) else ValueError(f"{name}: {error}") from error


def _given(choice: PluginChoice, of_the_model: tuple[str, ...]) -> dict[str, Any]:
    given = {key.replace("-", "_"): value for key, value in choice.options.items()}
    for key in given:
        if key in of_the_model:
            raise ValueError(f"{choice.name!r} takes {key!r} from the rest of the model: leave it out")
    return given
