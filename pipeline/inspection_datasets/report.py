"""Reports the content of a robot dataset's folder before a build: form, cameras, instructions, numbers, faults."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import SeveralForms, UnknownForm, UnreadableSource
from pipeline.formats.discovery import find_forms
from pipeline.inspection.shard_paths import CannotInspect, shard_suffixes
from pipeline.inspection.terminal import printable
from pipeline.readers import dataset_info, make_reader
from schemas.episode import BadEpisode, CameraView, Episode, EpisodeRef
from schemas.manifest import NAME as MANIFEST_NAME
from schemas.plugins import PluginChoice, plugin_names

LABEL = 14
SHOWN_TEXTS, SHOWN_FAULTS = 6, 8
GENERAL = ("robosuite", "video")
"""General readers, used only if no specific reader knows the files: LIBERO's files are robosuite files, and a dataset
may keep videos beside its files."""


class UnknownDataset(CannotInspect):
    """No reader knows the files; a mapping file can say what they are."""


@dataclass(frozen=True)
class DatasetReport:
    """The content of a dataset's folder.

    Attributes:
        forms: form and folder of each place that holds episodes.
        episodes: how many are listed.
        looked_at: episodes that were read, evenly spread over the list.
        faults: code and sentence of each fault of the files and of the episodes that were read.
    """

    folder: Path
    info: dict[str, str]
    forms: list[tuple[str, str]]
    episodes: int
    looked_at: list[Episode]
    faults: list[tuple[str, str]] = field(default_factory=list)


def is_dataset_folder(path: Path) -> bool:
    """Whether a folder holds robot episodes in a known form, and no shards."""
    if not path.is_dir():
        return False
    suffixes = shard_suffixes()
    if any(child.name == MANIFEST_NAME or child.name.endswith(suffixes) for child in path.iterdir()):
        return False
    return next(find_forms(path), None) is not None


def report_dataset(
    folder: Path, looked_at: int, dataset: PluginChoice | None = None, form: str | None = None
) -> DatasetReport:
    """Read some episodes of a folder and report on them.

    Args:
        looked_at: how many episodes to read.
        dataset: the reader; by default the one that knows the files.
        form: look at this form only.

    Raises:
        UnknownDataset: no reader knows the files.
        CannotInspect: several readers know them, or the chosen one finds nothing.
    """
    folder = folder.resolve()
    if dataset is not None:
        try:
            listed = list(make_reader(dataset).list_episodes(folder, form))
        except (FileNotFoundError, SeveralForms, UnknownForm) as error:
            raise CannotInspect(str(error)) from error
        return _look(dataset, folder, listed, looked_at)
    name, listed = _only_reader(folder, form)
    return _look(PluginChoice(name), folder, listed, looked_at)


def _only_reader(folder: Path, form: str | None) -> tuple[str, list[EpisodeRef | UnreadableSource]]:
    """The one reader that knows the files, and the episodes that it lists.

    Raises:
        UnknownDataset: no reader knows them.
        CannotInspect: several readers know them.
    """
    found, refused = _readers_of(folder, form)
    if not found:
        raise UnknownDataset(f"{folder} holds no dataset that a reader knows: {'; '.join(refused)}", 1)
    for general in GENERAL:
        if len(found) > 1:
            found.pop(general, None)
    if len(found) > 1:
        known = ", ".join(found)
        raise CannotInspect(
            f"{folder} holds several datasets ({known}); choose with --dataset, or name the folder of one"
        )
    return next(iter(found.items()))


def _readers_of(folder: Path, form: str | None) -> tuple[dict[str, list[EpisodeRef | UnreadableSource]], list[str]]:
    """The list of each reader that finds an episode, and the reasons why others refuse the files that they find."""
    found: dict[str, list[EpisodeRef | UnreadableSource]] = {}
    refused: list[str] = []
    for name in plugin_names("pipeline.readers"):
        try:
            listed = list(make_reader(PluginChoice(name)).list_episodes(folder, form))
        except (FileNotFoundError, UnknownForm):
            continue
        except SeveralForms as error:
            raise CannotInspect(f"{name}: {error}") from error
        if any(isinstance(item, EpisodeRef) for item in listed):
            found[name] = listed
        else:
            refused += [f"{name}: {str(item).split(', so it is not')[0]}" for item in listed[:1]]
    return found, refused


def _look(
    dataset: PluginChoice, folder: Path, listed: list[EpisodeRef | UnreadableSource], count: int
) -> DatasetReport:
    refs = [item for item in listed if isinstance(item, EpisodeRef)]
    faults = [(item.code, str(item)) for item in listed if isinstance(item, UnreadableSource)]
    chosen = sorted(set(np.linspace(0, len(refs) - 1, min(count, len(refs))).round().astype(int).tolist()))
    reader, episodes = make_reader(dataset), []
    for number in chosen:
        try:
            episodes.append(reader.read(refs[number]))
        except BadEpisode as error:
            faults.append((error.code, str(error)))
    info = dataset_info(dataset.name, dataset.configure("pipeline.readers"))
    return DatasetReport(
        folder=folder,
        info={"name": info.name, "version": info.version, "licence": info.licence, "credit": info.credit},
        forms=[(form, place.relative_to(folder).as_posix()) for form, place in find_forms(folder)],
        episodes=len(refs),
        looked_at=episodes,
        faults=faults,
    )


def report_values(report: DatasetReport) -> dict[str, Any]:
    """The report as JSON values."""
    episodes = report.looked_at
    outcomes = [e.success for e in episodes if e.success is not None]
    return {
        "folder": str(report.folder),
        "dataset": report.info,
        "forms": [{"form": form, "folder": folder} for form, folder in report.forms],
        "episodes": report.episodes,
        "looked_at": len(episodes),
        "frames": [e.length for e in episodes],
        "fps": sorted({e.fps for e in episodes}),
        "cameras": _distinct([_camera(e, name, view) for e in episodes for name, view in e.views.items()]),
        "instructions": dict(Counter(text for e in episodes for text in e.instructions).most_common()),
        "without_instruction": sum(not e.instructions for e in episodes),
        "states": _distinct([{"dimensions": list(e.state_names)} for e in episodes]),
        "actions": _distinct(
            [
                {
                    "convention": e.action_convention.name,
                    "dimensions": list(e.action_convention.dimensions),
                    "description": e.action_convention.description,
                }
                for e in episodes
            ]
        ),
        "success": {"known": len(outcomes), "succeeded": sum(outcomes)},
        "notes": dict(Counter(f"{k}: {v}" for e in episodes for k, v in e.notes.items() if "path" not in k)),
        "faults": [{"code": code, "message": message} for code, message in report.faults],
    }


def _camera(episode: Episode, name: str, view: CameraView) -> dict[str, Any]:
    k, pose = view.intrinsics, view.world_from_camera
    role = "primary" if name == episode.primary else "wrist" if name == episode.wrist else ""
    return {
        "name": name,
        "role": role,
        "size": list(view.size),
        "moves": "stands still" if view.fixed else "may move",
        "intrinsics": None if k is None else [round(float(v), 1) for v in (k[0, 0], k[1, 1], k[0, 2], k[1, 2])],
        "intrinsics_source": view.intrinsics_source,
        "pose": None if pose is None else view.pose_source,
        "depth": _depth(view),
    }


def _depth(view: CameraView) -> str | None:
    """The source of metric depth, if there is one."""
    if view.depth is not None:
        return view.depth.description
    return None if view.stereo is None else f"two eyes {view.stereo.baseline_m:g} m apart (--depth stereo)"


def _distinct(values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each value once, with the number of episodes that have it."""
    counted: list[dict[str, Any]] = []
    for value in values:
        same = next((c for c in counted if {k: v for k, v in c.items() if k != "episodes"} == value), None)
        if same is None:
            counted.append({**value, "episodes": 1})
        else:
            same["episodes"] += 1
    return counted


def report_text(report: DatasetReport) -> str:
    """The report for a terminal."""
    values = report_values(report)
    lines = [f"{values['folder']}: {report.info['name']}, {report.info['version']}"]
    lines += [_line("licence", report.info["licence"]), _line("credit", report.info["credit"])]
    forms = Counter(form for form, _ in report.forms)
    lines += [_line("form", f"{form} in {_folders(report, form)}") for form in forms]
    lines.append(_line("episodes", f"{report.episodes:,}; {len(report.looked_at)} looked at"))
    if report.looked_at:
        lines += _looked_at_lines(values)
    lines += [_line("note", f"{note} ({count} episodes)") for note, count in values["notes"].items()]
    for code, count in Counter(code for code, _ in report.faults).items():
        said = [message for c, message in report.faults if c == code]
        lines.append(_line("fault", f"{count} {code}"))
        lines += [_line("", message) for message in said[:SHOWN_FAULTS]]
        lines += [_line("", f"... and {count - SHOWN_FAULTS} more")] * (count > SHOWN_FAULTS)
    return printable("\n".join(lines))


def _looked_at_lines(values: dict[str, Any]) -> list[str]:
    frames, looked = values["frames"], values["looked_at"]
    fps = " or ".join(f"{fps:g}" for fps in values["fps"])
    lines = [_line("frames", f"{min(frames)} to {max(frames)} an episode, {sum(frames):,} in those; {fps} a second")]
    lines += [_line("camera", _camera_words(camera, looked)) for camera in values["cameras"]]
    texts = list(values["instructions"].items())
    lines.append(_line("instructions", f"{len(texts)} different; {values['without_instruction']} episodes without any"))
    lines += [_line("", f"{count} x {text!r}") for text, count in texts[:SHOWN_TEXTS]]
    lines += [_line("", f"... and {len(texts) - SHOWN_TEXTS} more")] * (len(texts) > SHOWN_TEXTS)
    for state in values["states"]:
        words = f"{len(state['dimensions'])}: {', '.join(state['dimensions'])}" if state["dimensions"] else "none"
        lines.append(_line("state", words))
    for action in values["actions"]:
        said = f", {len(action['dimensions'])}: {', '.join(action['dimensions'])}" if action["dimensions"] else ""
        lines.append(_line("action", action["convention"] + said))
        lines.append(_line("", action["description"]))
    known, succeeded = values["success"]["known"], values["success"]["succeeded"]
    lines.append(_line("success", f"{succeeded} of {known}" if known else "not said"))
    return lines


def _camera_words(camera: dict[str, Any], looked_at: int) -> str:
    role = f" ({camera['role']})" if camera["role"] else ""
    seen = "" if camera["episodes"] == looked_at else f", in {camera['episodes']} of {looked_at}"
    k = camera["intrinsics"]
    known = (
        "none" if k is None else f"fx {k[0]:g}, fy {k[1]:g}, cx {k[2]:g}, cy {k[3]:g} ({camera['intrinsics_source']})"
    )
    return (
        f"{camera['name']}{role} {camera['size'][0]} x {camera['size'][1]}, {camera['moves']}{seen}; "
        f"K {known}; pose {camera['pose'] or 'none'}; depth {camera['depth'] or 'none'}"
    )


def _folders(report: DatasetReport, form: str) -> str:
    folders = [folder for f, folder in report.forms if f == form]
    return folders[0] if len(folders) == 1 else f"{len(folders)} folders, the first {folders[0]}"


def _line(label: str, words: str) -> str:
    return f"  {label:<{LABEL}}{words}"
