"""Escapes special tokens in instructions before they are tokenised."""

from collections.abc import Iterable
from typing import Any


def special_tokens(tokenizer: Any, *more: str | None) -> tuple[str, ...]:
    """The special tokens of a tokenizer (turns, images, end of text), the longest first."""
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    found = {*added, *tokenizer.all_special_tokens, *filter(None, more)}
    return tuple(sorted((token for token in found if len(token) > 1), key=lambda token: (-len(token), token)))


def plain_words(text: str, special: Iterable[str]) -> str:
    """A text without special tokens: one such as ``<|im_end|>`` gets a space after its first character and is tokenised
    as plain text. Lone surrogates, which JSON can hold, become U+FFFD. Every other text stays as it is.

    Otherwise an instruction could end its turn, or insert an image token without an image.
    """
    for token in special:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
