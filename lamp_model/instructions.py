"""Instructions for episodes, written by a vision-language model that looks at a few of their frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8

from lamp_model.features import Writer
from schemas.files import digest_of
from schemas.generated_instructions import STYLES, tidy

INTRODUCTION = "These {count} pictures show a robot at its task, from the first moment to the last."
TOLD = " It was told: {told!r}."
QUESTIONS: Mapping[str, str] = {
    "imperative": "Write the instruction for this task as one short command, such as 'open the top drawer'.",
    "stepwise": "Write the instruction for this task as one sentence that names its steps in their order, with "
    "'first' and 'then'.",
    "request": "Write the instruction for this task as a polite request, the way a person would ask for it at home.",
}
ANSWER = "Name things by what they look like and where they are. Answer with the instruction alone."


@dataclass(frozen=True)
class Asking:
    """How a model is asked; decides the texts, together with the model.

    Attributes:
        styles: of ``QUESTIONS``, one text each.
        frames: how many frames it is shown, evenly spread, first and last among them.
        most_tokens: of an answer.
    """

    styles: tuple[str, ...] = STYLES
    frames: int = 3
    most_tokens: int = 64

    def __post_init__(self) -> None:
        unknown = [style for style in self.styles if style not in QUESTIONS]
        if unknown or not self.styles:
            raise ValueError(f"the styles are {', '.join(QUESTIONS)}, found {', '.join(unknown) or 'none'}")
        for name in ("frames", "most_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, found {getattr(self, name)}")

    def digest(self, model_options: Mapping[str, object]) -> str:
        """Identifies the questions, how they are asked, and the options under which the model looks at pictures."""
        words = [INTRODUCTION, TOLD, ANSWER, {style: QUESTIONS[style] for style in self.styles}]
        return digest_of([words, self.frames, self.most_tokens, dict(model_options)])


class InstructionWriter:
    """Writes instructions for one episode after the other."""

    def __init__(self, backbone: Writer, asking: Asking, device: torch.device):
        self.backbone, self.asking, self.device = backbone, asking, device

    def write(self, frames: UInt8[np.ndarray, "T H W 3"], told: Sequence[str]) -> dict[str, str]:
        """One text for each style that the model has something to say for.

        Args:
            frames: of the whole episode, upright RGB.
            told: the people's own instructions; the model sees the first.
        """
        shown = np.linspace(0, len(frames) - 1, self.asking.frames).round().astype(int)
        styles = self.asking.styles
        images = [torch.from_numpy(np.stack([frames[i]] * len(styles))).to(self.device) for i in shown]
        answers = self.backbone.generate(images, [self.question(s, told) for s in styles], self.asking.most_tokens)
        texts = {style: tidy(answer) for style, answer in zip(styles, answers, strict=True)}
        return {style: text for style, text in texts.items() if text}

    def question(self, style: str, told: Sequence[str]) -> str:
        """What the model is asked."""
        introduction = INTRODUCTION.format(count=self.asking.frames)
        told_words = TOLD.format(told=told[0]) if told else ""
        return f"{introduction}{told_words} {QUESTIONS[style]} {ANSWER}"
