"""Lists the keys of a LeRobot or RLDS dataset that no reader knows, and drafts a mapping file to read it."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.formats.discovery import find_forms
from pipeline.formats.lerobot_meta import BadMeta, LeRobotMeta, read_meta
from pipeline.formats.rlds import DATASET_INFO, BadFeatures, read_features
from pipeline.inspection.terminal import printable

BOOKKEEPING = {"timestamp", "frame_index", "episode_index", "index", "next.done"}
ON_HAND = re.compile(r"wrist|hand|gripper")
DEPTH = re.compile(r"depth")
WORDS = re.compile(r"instruct|language|task|annotation|text")
STATE = re.compile(r"state|proprio|joint|pose|ee_pos|gripper")
NO_STATE = re.compile(r"embedding|action|reward|image")


@dataclass(frozen=True)
class Key:
    """One key of a dataset.

    Attributes:
        kind: ``camera``, ``depth``, ``numbers``, ``text``, ``absent`` (a video that is described but missing) or
            ``other``.
        shape: of one step.
    """

    key: str
    kind: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class DatasetKeys:
    """The keys of one folder.

    Attributes:
        fps: as labelled; None if the form does not record it.
        words: some of its instructions, if its description contains them.
    """

    form: str
    folder: str
    name: str
    version: str
    fps: float | None
    keys: tuple[Key, ...]
    words: tuple[str, ...] = ()


def dataset_keys(root: Path) -> list[DatasetKeys]:
    """The keys of every LeRobot and RLDS folder below ``root`` that has a description."""
    found = []
    for form, folder in find_forms(root):
        within = folder.relative_to(root).as_posix()
        try:
            if form == "rlds":
                found.append(_rlds(folder, within))
            elif form == "lerobot":
                found.append(_lerobot(read_meta(folder), within))
        except (BadMeta, BadFeatures):
            continue
    return found


def _rlds(folder: Path, within: str) -> DatasetKeys:
    keys = []
    for key, field in sorted(read_features(folder).items()):
        kind = {"tensor": "numbers", "image": "camera"}.get(field.kind, field.kind)
        if DEPTH.search(key) and (kind == "camera" or len(field.shape) >= 2):
            kind = "depth"
        keys.append(Key(key, kind, field.dtype if kind != "text" else "text", field.shape))
    try:
        info = json.loads((folder / DATASET_INFO).read_bytes())
        name, version = str(info["name"]), str(info.get("version", "unknown"))
    except (OSError, ValueError, KeyError, TypeError):
        name, version = folder.parent.name, folder.name
    return DatasetKeys("rlds", within, name, version, None, tuple(keys))


def _lerobot(meta: LeRobotMeta, within: str) -> DatasetKeys:
    keys = []
    there = _cameras_there(meta)
    for key, feature in sorted(meta.features.items()):
        dtype, shape = str(feature.get("dtype")), feature.get("shape") or ()
        kind = {"video": "camera", "image": "camera", "string": "text"}.get(dtype, "numbers")
        if kind == "camera" and (DEPTH.search(key) or 1 in (shape[:1], shape[-1:])):
            kind = "depth"
        if dtype == "video" and key not in there:
            kind = "absent"
        keys.append(Key(key, kind, dtype, tuple(int(size) for size in shape)))
    words = tuple(list(meta.tasks.values())[:6])
    return DatasetKeys("lerobot", within, meta.folder.name, meta.version, meta.fps, tuple(keys), words)


def _cameras_there(meta: LeRobotMeta) -> set[str]:
    """Cameras with a video of at least one episode; in an incomplete download it may be any episode."""
    there: set[str] = set()
    tried: set[Path] = set()
    for row in meta.episodes:
        for key in row.videos.keys() - there:
            path = row.videos[key].path
            if path not in tried and path.is_file():
                there.add(key)
            tried.add(path)
        if there == set(row.videos):
            break
    return there


def keys_values(found: list[DatasetKeys]) -> dict[str, Any]:
    """The keys as JSON values, with the draft."""
    return {"folders": [asdict(keys) for keys in found], "draft": draft_mapping(found[0])}


def keys_text(root: Path, found: list[DatasetKeys], written: Path | None = None) -> str:
    """Text for a terminal: the first folder's keys, the draft and the next step.

    Args:
        written: the file that the draft was written to.
    """
    keys = found[0]
    lines = [f"{root}: a dataset without a reader of its own; a mapping file says how it is read"]
    lines.append(
        f"  form          {keys.form} in {keys.folder}" + (f", and {len(found) - 1} more" if found[1:] else "")
    )
    lines.append(f"  fps           {'not said' if keys.fps is None else f'{keys.fps:g}'}")
    width = max((len(key.key) for key in keys.keys), default=0)
    for number, key in enumerate(keys.keys):
        shape = " x ".join("?" if size is None else str(size) for size in key.shape)
        lines.append(f"  {'' if number else 'keys':<14}{key.key:<{width}}  {key.kind:<8}{key.dtype} {shape}".rstrip())
    lines += [f"  {'' if number else 'words':<14}{text!r}" for number, text in enumerate(keys.words)]
    said = f"written to {written}" if written else "--draft-mapping my.yaml writes it"
    lines += ["", f"A draft to correct ({said}):", "", draft_mapping(keys)]
    file = written or "my.yaml"
    lines.append(
        f"Then: lamp-data inspect {root} --dataset {file}, and lamp-data build --dataset {file} --input {root}"
    )
    return printable("\n".join(lines))


def draft_mapping(keys: DatasetKeys) -> str:
    """A mapping file for the dataset, with guesses from the names of its keys; every guess is marked as one."""
    cameras = [key.key for key in keys.keys if key.kind == "camera"]
    wrist = next((key for key in cameras if ON_HAND.search(key)), None)
    primary = next((key for key in cameras if not ON_HAND.search(key)), cameras[0] if cameras else "none")
    fps = "10 # RLDS does not say: correct it" if keys.fps is None else f"{keys.fps:g} # as labelled"
    lines = [
        f"name: {_quoted(re.sub(r'[^A-Za-z0-9_.-]+', '_', keys.name)[:100].strip('_.-') or 'dataset')}",
        f"version: {_quoted(keys.version)}",
        "licence: unknown # correct it: it goes into every manifest",
        "credit: unknown # who made the data",
        f"fps: {fps}",
        f"primary: {_quoted(primary)} # flow is expressed in this camera",
        *([f"wrist: {_quoted(wrist)}"] if wrist else []),
        "cameras: # orientation: upright, upside-down, mirrored, rotated-90, rotated-180, rotated-270, as they are "
        "stored",
        *[f"  {_quoted(key)}: {{orientation: upright, fixed: false}}" for key in cameras],
        "  # fov_y: DEGREES, or intrinsics: {fx, fy, cx, cy, size: [width, height]} of the upright picture, where "
        "they are known",
        *[f"  # depth: {{key: {key.key}, metres_per_unit: 0.001}}" for key in keys.keys if key.kind == "depth"],
    ]
    return "\n".join([*lines, *_number_lines(keys), *_word_lines(keys)]) + "\n"


def _number_lines(keys: DatasetKeys) -> list[str]:
    """Lines of the mapping for state and action."""
    columns = [key for key in keys.keys if key.kind == "numbers" and key.key not in BOOKKEEPING and len(key.shape) <= 1]
    states = [k.key for k in columns if STATE.search(k.key) and not NO_STATE.search(k.key)]
    best = [key for key in states if re.fullmatch(r"observation\.state|state|steps/observation/state", key)] or states
    actions = [k.key for k in columns if re.match(r"(steps/)?actions?(\b|_|/)", k.key) and k.dtype.startswith("float")]
    plain = [key for key in actions if re.fullmatch(r"(steps/)?actions?", key)] or actions
    lines = ["state: # names: [one word for each number], take: [0, 1, ...] for some of them", *_parts(best, "  ")]
    if not best:
        lines = ["# state: [{key: ...}]"]
    if not plain:
        return [*lines, "# no key looks like an action; without one the data teach motion only"]
    return [
        *lines,
        "action:",
        "  convention: unknown # a short name",
        "  description: unknown # frames, units and signs in a sentence",
        "  # gripper: {open: 1, closed: 0} and its dimension's name, where there is one",
        "  # shift: 1 where observations were recorded after the step",
        "  parts:",
        *_parts(plain, "    "),
    ]


def _parts(keys: list[str], indent: str) -> list[str]:
    return [f"{indent}- key: {_quoted(key)}" for key in keys]


def _word_lines(keys: DatasetKeys) -> list[str]:
    """Lines of the mapping for language, success and notes."""
    texts = [key.key for key in keys.keys if key.kind == "text"]
    said = [key for key in texts if WORDS.search(key)]
    notes = [key for key in texts if key.endswith("file_path")]
    if keys.form == "lerobot":
        said = [*said, "task_index"]
    outcome = next(
        (key.key for key in keys.keys if re.search(r"success|reward", key.key) and key.kind == "numbers"), None
    )
    return [
        f"language: [{', '.join(map(_quoted, said))}]",
        *([f"# success: {{key: {outcome}, above: 0}}"] if outcome else []),
        *([f"notes: [{', '.join(map(_quoted, notes))}]"] if notes else []),
    ]


def _quoted(text: str) -> str:
    """A text as YAML: unquoted if that means the same, else as a JSON string, which YAML accepts."""
    return (
        text
        if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./-]*", text) and text not in ("null", "true", "false")
        else json.dumps(text)
    )
