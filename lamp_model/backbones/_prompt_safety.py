"""People's words on their way into a tokenizer: they are words, whatever they look like."""

from collections.abc import Iterable
from typing import Any


def special_tokens(tokenizer: Any, *more: str | None) -> tuple[str, ...]:
    """What a tokenizer takes for something else than words (turns, pictures, ends of texts), the longest first."""
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    found = {*added, *tokenizer.all_special_tokens, *filter(None, more)}
    return tuple(sorted((token for token in found if len(token) > 1), key=lambda token: (-len(token), token)))


def plain_words(text: str, special: Iterable[str]) -> str:
    """A text in which nothing is special: a token such as ``<|im_end|>`` gets a space after its first letter and is
    read as the words that it consists of. Half letters (lone surrogates, which JSON can hold) become U+FFFD. Every
    other text stays as it is.

    Otherwise an instruction from outside could end its turn, or stand for a picture that is not there.
    """
    for token in special:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
