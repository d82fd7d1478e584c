"""``lamp-data instruct``: have a vision-language model write instructions for a dataset's episodes."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.cli.exit_codes import Failed, UsageError
from jobs.cli.help_text import optional_in_words
from pipeline.build.selection import Selection
from schemas.errors import MissingDependency
from schemas.plugins import configure, load_plugin, parse_options, recorded_options


@dataclass(frozen=True)
@optional_in_words
class Instruct:
    """Have a local vision-language model write instructions for episodes, in up to three styles. lamp-data build takes
    them along with --generated-instructions, tagged as generated. Run again, it goes on where it stopped."""

    dataset: str
    """As for lamp-data build: libero, bridge, droid, interndata-a1, or a mapping file."""
    input: Path | None = None
    """Folder of the dataset's files. [default: data/<dataset>]"""
    dataset_options: tuple[str, ...] = ()
    """Options of the dataset's reader as NAME=VALUE ..."""
    form: str | None = None
    """Read only this form, where the folder holds the dataset in several."""
    output: Path | None = None
    """File to write. [default: instructions/<dataset>.jsonl]"""
    backbone: str = "qwen3-vl"
    """The model: a module of lamp_model/backbones."""
    backbone_options: tuple[str, ...] = ()
    """Its options as NAME=VALUE ..., e.g. weights=/models/Qwen3-VL-4B-Instruct"""
    styles: tuple[str, ...] = ("imperative", "stepwise", "request")
    """One text of each for every episode."""
    frames: int = 3
    """Frames of the primary camera that the model sees, evenly spread, first and last among them."""
    most_tokens: int = 64
    """Of a text."""
    episodes: tuple[str, ...] = ()
    """Only these: numbers, ranges and names, as for lamp-data build."""
    limit: int | None = None
    """Only the first so many of those."""
    blank_only: bool = False
    """Only episodes that have no instruction of their own."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def instruct_command(args: Instruct) -> int:
    """Write the file; 1 if an episode could not be read."""
    from lamp_model.instructions import Asking, InstructionWriter
    from pipeline.build.selection import choose_listed
    from pipeline.errors import SeveralForms, UnknownForm
    from pipeline.readers import dataset_choice, dataset_info, make_reader
    from schemas.devices import choose_device
    from schemas.episode import EpisodeRef
    from schemas.generated_instructions import Author, InstructionFile

    try:
        choice = dataset_choice(args.dataset, parse_options(args.dataset_options))
        reader_config = choice.configure("pipeline.readers")
        info = dataset_info(choice.name, reader_config)
        asking = Asking(args.styles, args.frames, args.most_tokens)
        model_config = configure("lamp_model.backbones", args.backbone, parse_options(args.backbone_options))
        device = choose_device(args.device)
        reader = make_reader(choice)
        source = (args.input or Path("data") / info.name).resolve()
        listed = [ref for ref in reader.list_episodes(source, args.form) if isinstance(ref, EpisodeRef)]
        refs = choose_listed(Selection(episodes=args.episodes, limit=args.limit), listed).refs
        author = Author(info.name, model_name(args.backbone, model_config), asking.digest(_seen_options(model_config)))
        file = InstructionFile(args.output or Path("instructions") / f"{info.name}.jsonl", author)
    except FileNotFoundError as error:
        if error.filename is not None:
            raise
        raise UsageError(str(error)) from error
    except MissingDependency as error:
        raise Failed(str(error)) from error
    except (ValueError, SeveralForms, UnknownForm) as error:
        raise UsageError(str(error)) from error
    missing = [ref for ref in refs if ref.digest not in file.texts]
    faults: list[str] = []
    if missing:
        backbone = _backbone(args, model_config)
        backbone.place(device)
        writer = InstructionWriter(backbone, asking, device)
        faults = list(_write(missing, reader, writer, file, args.blank_only))
    file.finish([ref.digest for ref in refs])
    print(_said(file, [ref.digest for ref in refs]))
    if faults:
        raise Failed(f"{len(faults)} of {len(refs)} episodes could not be read, the first because {faults[0]}")
    return 0


def _said(file: Any, episodes: list[str]) -> str:
    styles = Counter(style for episode in episodes for style in file.texts.get(episode, ()))
    counts = ", ".join(f"{count} {style}" for style, count in styles.items()) or "none"
    with_text = sum(bool(file.texts.get(episode)) for episode in episodes)
    return f"{file.path}: texts for {with_text} of {len(episodes)} episodes ({counts}), by {file.author.model}"


def model_name(backbone: str, config: Any) -> str:
    """Identify the model: its name and revision or, for weights on this machine, the digest of their content."""
    from schemas.files import contents_digest

    if Path(config.weights).exists():
        return f"{backbone}, weights sha256:{contents_digest(Path(config.weights))[:16]}"
    return config.weights if config.weights.startswith("random:") else f"{config.weights} at {config.revision}"


def _seen_options(config: Any) -> dict[str, Any]:
    """Options that decide the model's input. Its weights are named separately, and it gets a different prompt here."""
    aside = ("weights", "revision", "prompt", "tidy", "attention", "architecture_only")
    return {name: value for name, value in recorded_options(config).items() if name not in aside}


def _backbone(args: Instruct, config: Any) -> Any:
    """Build the model.

    Raises:
        Failed: its weights are not available.
        UsageError: it cannot be built with these options, or it cannot generate text.
    """
    from lamp_model.features import Writer

    try:
        backbone: Any = load_plugin("lamp_model.backbones", args.backbone).build(config)
    except MissingDependency as error:
        raise Failed(str(error)) from error
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not isinstance(backbone, Writer):
        raise UsageError(f"--backbone {args.backbone} cannot write; qwen3-vl and transformers-vlm can")
    return backbone


def _write(refs: list[Any], reader: Any, writer: Any, file: Any, blank_only: bool) -> Iterator[str]:
    """Write the texts of each episode into the file; yields the reason for each episode that could not be read."""
    from jobs.cli.progress import progress_bar
    from pipeline.episodes.camera_choice import PRIMARY, chosen_cameras
    from schemas.episode import BadEpisode

    for ref in progress_bar("episodes", len(refs), refs):
        try:
            episode = reader.read(ref)
            if blank_only and episode.instructions:
                continue
            (camera,) = chosen_cameras(episode, (PRIMARY,))
            frames = episode.views[camera].frames
        except BadEpisode as error:
            yield error.message
            continue
        file.add(ref.digest, writer.write(frames, episode.instructions))
