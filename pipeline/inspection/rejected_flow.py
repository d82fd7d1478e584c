"""Computes the flow of rejected windows again, with the build's own recipe and no thresholds."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from pipeline.episodes.camera_choice import chosen_cameras, seen_by
from pipeline.inspection.rejections import RejectedWindow
from pipeline.recipe import QualityConfig, Recipe, WindowConfig, measures_flow
from pipeline.windows.maker import TripletMaker
from schemas.episode import Episode
from schemas.plugins import PluginChoice
from schemas.structured import structure
from schemas.triplet import Triplet

OPEN = {"min_steps": 0, "min_valid": 0.0, "max_holes": 1.0, "max_edges": 1.0, "max_jumps": 1.0, "min_moving_points": 0}
"""Thresholds that keep every window; settings that affect the positions stay those of the build."""
WHERE = "the recipe in the manifest"
Config = TypeVar("Config")


def rejected_flow(
    episode: Episode, windows: Iterable[RejectedWindow], recipe: Mapping[str, Any]
) -> dict[RejectedWindow, Triplet]:
    """The rejected windows of one episode as samples; those that cannot be made (blank pictures) are left out.

    Args:
        episode: as the build read it, without the frames that its filters removed.
        recipe: as the manifest records it.

    Raises:
        ValueError: the recipe is not of this version, or names something not available here (weights, a library).
        BadEpisode: a camera is missing, or its flow cannot be computed.
    """
    source = recipe.get("flow")
    if isinstance(source, Mapping) and not measures_flow(str(source.get("name"))):
        return {}
    wanted = {(w.source.camera, w.source.frame): w for w in windows}
    episode = replace(episode, standard_actions=None)  # they would reject windows before flow is computed
    found: dict[RejectedWindow, Triplet] = {}
    for camera in chosen_cameras(episode, sorted({camera for camera, _ in wanted})):
        left = {frame for of, frame in wanted if of == camera}
        for made in TripletMaker(open_recipe(recipe, camera)).windows(seen_by(episode, camera)):
            if isinstance(made, Triplet) and made.source.frame in left:
                left.remove(made.source.frame)
                found[wanted[camera, made.source.frame]] = made
            if not left:
                break
    return found


def open_recipe(recorded: Mapping[str, Any], camera: str) -> Recipe:
    """The recipe of a manifest, for one camera and with thresholds that keep every window.

    Raises:
        ValueError: the recipe is not of this version.
    """
    try:
        choices: dict[str, Any] = {
            name: PluginChoice(said["name"], said.get("options") or {})
            for name in ("dataset", "flow", "tracker", "depth", "camera")
            if (said := recorded.get(name))
        }
        return Recipe(
            **choices,
            windows=_known(WindowConfig, recorded["windows"]),
            actions=PluginChoice("raw"),
            cameras=(camera,),
            quality=replace(_known(QualityConfig, recorded["quality"]), **OPEN),
            language="optional",
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{WHERE} is not one that this version writes") from error


def _known(kind: type[Config], recorded: Mapping[str, Any]) -> Config:
    """A config from the recorded options that this version knows; another version may have recorded more."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return structure(kind, {name: value for name, value in recorded.items() if name in names}, WHERE)
