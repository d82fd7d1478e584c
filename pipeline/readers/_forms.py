"""The forms in which a dataset is published: how each is listed and read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.formats.discovery import Lister
from pipeline.readers import EpisodeTexts
from schemas.episode import Episode, EpisodeRef

Config = TypeVar("Config")


@dataclass(frozen=True)
class Form(Generic[Config]):
    """One form.

    Attributes:
        suffix: how the paths of its episodes end; empty for the form of all other paths.
        list: lists the episodes of a folder of this form.
        read: reads one episode, with the reader's config.
        words: reads the texts of one episode, without a picture.
    """

    suffix: str
    list: Lister
    read: Callable[[EpisodeRef, Config], Episode]
    words: Callable[[EpisodeRef], EpisodeTexts]


def form_of(ref: EpisodeRef, forms: Mapping[str, Form[Config]]) -> Form[Config]:
    """The form in which an episode is stored."""
    return max((form for form in forms.values() if ref.path.endswith(form.suffix)), key=lambda form: len(form.suffix))


def listers(forms: Mapping[str, Form[Config]]) -> dict[str, Lister]:
    """The lister of each form."""
    return {name: form.list for name, form in forms.items()}
