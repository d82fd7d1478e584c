"""Instructions that a model wrote: a separate file, one line per episode, that a build can include.

The first line names the author and its inputs; then come episodes in the order of their listing, each with up to
three styles. The file holds no human text, and texts taken from it stay tagged as generated.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from schemas.files import canonical_json, sha256_of, write_whole
from schemas.triplet import GeneratedInstruction

STYLES = ("imperative", "stepwise", "request")
FORMAT = "lamp-generated-instructions"
VERSION = 1
DAMAGE = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)
LONGEST = 400
"""Maximum characters of a text; longer ones are cut at a word boundary."""


class BadInstructions(ValueError):
    """A file of generated instructions that cannot be used; the message names it and says why."""


@dataclass(frozen=True)
class Author:
    """The model that wrote the texts, and its inputs.

    Attributes:
        dataset: the dataset of the episodes.
        model: a name with its revision, or what identifies local weights.
        prompt: digest of the prompts and the way they are sent.
    """

    dataset: str
    model: str
    prompt: str


@dataclass(frozen=True)
class GeneratedTexts:
    """The contents of a file.

    Attributes:
        texts: by episode digest and style.
    """

    author: Author
    texts: Mapping[str, Mapping[str, str]]

    def of(self, episode: str) -> tuple[GeneratedInstruction, ...]:
        """An episode's texts, in the order of ``STYLES``."""
        found = self.texts.get(episode, {})
        return tuple(GeneratedInstruction(found[s], s, self.author.model) for s in STYLES if s in found)


@dataclass(frozen=True)
class GeneratedFile:
    """A file of generated instructions as a recipe names it: by its contents. Its path does not matter.

    Attributes:
        sha256: of the file.
    """

    path: str = field(compare=False)
    sha256: str
    model: str

    @classmethod
    def at(cls, path: Path, dataset: str) -> "GeneratedFile":
        """The file at a path, read once to check that it is complete.

        Raises:
            BadInstructions: it cannot be used, or belongs to another dataset.
        """
        author = read_instructions(path).author
        if author.dataset != dataset:
            raise BadInstructions(f"{path} was written for {author.dataset}, and this is a build of {dataset}")
        return cls(str(path.resolve()), sha256_of(path), author.model)

    def load(self) -> GeneratedTexts:
        """Its texts.

        Raises:
            BadInstructions: the file differs from the one that the recipe names.
        """
        if sha256_of(Path(self.path)) != self.sha256:
            raise BadInstructions(f"{self.path} has changed since the build began")
        return read_instructions(Path(self.path))

    def as_dict(self) -> dict[str, str]:
        """The values that a recipe records."""
        return {"sha256": self.sha256, "model": self.model}


def read_instructions(path: Path) -> GeneratedTexts:
    """Read a file.

    Raises:
        BadInstructions: it is missing, truncated or of another kind.
    """
    try:
        lines = path.read_bytes().split(b"\n")
        if lines.pop():
            raise BadInstructions(f"{path} ends within a line")
        return GeneratedTexts(_author(json.loads(lines[0])), dict(_episode(line) for line in lines[1:]))
    except OSError as error:
        raise BadInstructions(f"{path} cannot be read: {error.strerror or error}") from error
    except BadInstructions:
        raise
    except DAMAGE as error:
        raise BadInstructions(
            f"{path} holds no generated instructions as lamp-data instruct writes them: {error}"
        ) from error


class InstructionFile:
    """A file being written. What an interrupted run wrote is kept; the file itself appears when it is complete.

    Lines are appended to a file beside it, ``.<name>.unfinished``. At the end the file is written atomically in the
    requested order, so an interruption does not change its bytes.

    Args:
        path: of the file.
        author: must match that of an existing file.

    Raises:
        BadInstructions: the file, or its unfinished one, is of another author or of another kind.
    """

    def __init__(self, path: Path, author: Author):
        self.path, self.author = path, author
        self.aside = path.with_name(f".{path.name}.unfinished")
        self.texts: dict[str, Mapping[str, str]] = {}
        for found in (self.path, self.aside):
            if found.exists():
                self.texts.update(self._kept(found))

    def add(self, episode: str, texts: Mapping[str, str]) -> None:
        """Append an episode's texts to the unfinished file.

        Raises:
            OSError: they cannot be written.
        """
        self.aside.parent.mkdir(parents=True, exist_ok=True)
        head = b"" if self.aside.exists() else _header(self.author)
        with open(self.aside, "ab") as file:
            file.write(head + _line(episode, texts))
        self.texts[episode] = {style: tidy(text) for style, text in texts.items()}

    def finish(self, episodes: Sequence[str]) -> None:
        """Write the file atomically: episodes in this order, then earlier ones that are not among them.

        Raises:
            OSError: it cannot be written.
        """
        ordered = [*(e for e in episodes if e in self.texts), *sorted(self.texts.keys() - set(episodes))]
        lines = [_header(self.author), *(_line(e, self.texts[e]) for e in ordered)]
        write_whole(self.path, b"".join(lines))
        self.aside.unlink(missing_ok=True)

    def _kept(self, path: Path) -> Mapping[str, Mapping[str, str]]:
        lines = path.read_bytes().split(b"\n")[:-1]  # the last one is empty, or truncated
        try:
            author = _author(json.loads(lines[0])) if lines else self.author
            episodes = dict(_episode(line) for line in lines[1:])
        except DAMAGE as error:
            raise BadInstructions(
                f"{path} holds something else; give another --output or remove it: {error}"
            ) from error
        if author != self.author:
            name = next(n for n in asdict(author) if getattr(author, n) != getattr(self.author, n))
            raise BadInstructions(
                f"{path} was written with another {name} ({getattr(author, name)}, now {getattr(self.author, name)}); "
                "give another --output or remove it"
            )
        return episodes


def tidy(text: str) -> str:
    """One line of printable text without the quotes or markup that models add, cut at a word boundary."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    plain = plain.strip("\"'`*“”«» ")
    if len(plain) <= LONGEST:
        return plain
    return plain[:LONGEST].rsplit(" ", 1)[0]


def _header(author: Author) -> bytes:
    return canonical_json({"format": FORMAT, "version": VERSION, **asdict(author)}) + b"\n"


def _line(episode: str, texts: Mapping[str, str]) -> bytes:
    return canonical_json({"episode": episode, "instructions": dict(texts)}) + b"\n"


def _author(line: Any) -> Author:
    if line["format"] != FORMAT:
        raise ValueError(f"its format is {line['format']!r}")
    if line["version"] > VERSION:
        raise ValueError(f"it has version {line['version']}, this program reads up to {VERSION}")
    values = {name: line[name] for name in ("dataset", "model", "prompt")}
    if not all(isinstance(value, str) for value in values.values()):
        raise ValueError("dataset, model and prompt must be words")
    return Author(**values)


def _episode(line: bytes) -> tuple[str, dict[str, str]]:
    values = json.loads(line)
    texts = values["instructions"]
    if not all(style in STYLES and isinstance(text, str) for style, text in texts.items()):
        raise ValueError(f"the styles are {', '.join(STYLES)}, each a text, found {texts!r}")
    return str(values["episode"]), {style: tidy(text) for style, text in texts.items()}
