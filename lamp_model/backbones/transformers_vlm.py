"""Any vision-language model of transformers as the backbone, by name, with its own processor, prompt format and last
hidden states.

Images pass through the model's own processor on the CPU, which is general but slow. For a backbone that is used often,
write a separate module, such as ``qwen3_vl``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, PreTrainedModel
from transformers.initialization import no_init_weights

from lamp_model.backbones._frozen import (
    AUTO,
    FrozenBackbone,
    first_attention,
    likeliest_words,
    loading,
    plain_weights,
)
from lamp_model.backbones._prompt_safety import plain_words, special_tokens
from lamp_model.features import PROMPT, Features, check_prompt, prompt
from lamp_model.model_config import check_sizes


@dataclass(frozen=True)
class Config:
    """Which model.

    Attributes:
        weights: a name on the Hugging Face hub, or a folder that ``save`` or transformers wrote.
        revision: the commit of the hub's repository, so that the weights do not change; a folder has none.
        image_size: side in pixels to which images are first resized; the model's processor does the rest.
        attention: transformers' attention implementation; ``auto``: see ``lamp_model.backbones._frozen``.
        prompt: the text, with ``{instruction}`` in it.
        tidy: strip an instruction's spaces and full stop first; see ``lamp_model.features.prompt``.
        architecture_only: leave the weights as they come: a checkpoint that holds them is loaded next.
    """

    weights: str = ""
    revision: str | None = None
    image_size: int = 224
    attention: str = AUTO
    prompt: str = PROMPT
    tidy: bool = True
    architecture_only: bool = False

    def __post_init__(self) -> None:
        check_prompt(self.prompt)
        check_sizes(self, ("image_size",), counts=())
        if not self.weights:
            raise ValueError("transformers-vlm needs a model: weights=FOLDER, or weights=OWNER/NAME,revision=COMMIT")
        if not Path(self.weights).is_dir() and not self.revision:
            raise ValueError(
                f"transformers-vlm: {self.weights} is no folder here, and a name on the Hugging Face hub needs "
                "revision=COMMIT"
            )


def feature_width(config: Config) -> int:
    """D of the features, from the model's config alone."""
    with loading(config.weights):
        return _sizes(config).get_text_config().hidden_size


def build(config: Config) -> "TransformersVLM":
    """Load the model and its processor. No code that comes with the weights is run.

    Raises:
        MissingDependency: there are no such weights, or they cannot be downloaded.
    """
    with loading(config.weights):
        sizes = _sizes(config)
        processor = AutoProcessor.from_pretrained(config.weights, revision=config.revision, trust_remote_code=False)
        if config.architecture_only:
            sizes._attn_implementation = first_attention(config.attention)
            with no_init_weights():
                model = AutoModelForImageTextToText.from_config(sizes, trust_remote_code=False)
        else:
            model = AutoModelForImageTextToText.from_pretrained(
                config.weights,
                revision=config.revision,
                dtype="auto",
                attn_implementation=first_attention(config.attention),
                trust_remote_code=False,
            )
    return TransformersVLM(config, model, processor)


def _sizes(config: Config) -> Any:
    return AutoConfig.from_pretrained(config.weights, revision=config.revision, trust_remote_code=False)


class TransformersVLM(FrozenBackbone):
    """A frozen vision-language model of transformers."""

    def __init__(self, config: Config, model: PreTrainedModel, processor: Any):
        super().__init__(config.attention)
        self.config, self.processor = config, processor
        self.processor.tokenizer.padding_side = "left"
        self._special = special_tokens(processor.tokenizer, getattr(processor, "image_token", None))
        if self.processor.tokenizer.pad_token is None:
            self.processor.tokenizer.pad_token = self.processor.tokenizer.eos_token
        self.model = model.requires_grad_(False).eval()

    @property
    def width(self) -> int:
        """See ``lamp_model.features.Backbone``."""
        sizes: Any = self.model.config
        return sizes.get_text_config().hidden_size

    @property
    def language_model(self) -> PreTrainedModel:
        """See ``FrozenBackbone``."""
        return self.model.get_decoder()

    def length(self, instruction: str, cameras: int) -> int:
        """See ``lamp_model.features.Backbone``."""
        blank = np.zeros((self.config.image_size, self.config.image_size, 3), np.uint8)
        return self._inputs([[Image.fromarray(blank)] * cameras], [instruction])["input_ids"].shape[1]

    def save(self, folder: str) -> None:
        """See ``lamp_model.features.Backbone``."""
        self.model.save_pretrained(folder, state_dict=plain_weights(self.model))
        self.processor.save_pretrained(folder)

    def encode(self, images: Sequence[UInt8[torch.Tensor, "B _ _ 3"]], instructions: Sequence[str]) -> Features:
        """See ``lamp_model.features.Backbone``. Shorter texts of a batch are padded on the left."""
        inputs = self._inputs(self._pictures(images), instructions).to(self.model.device)
        base: Any = self.model.base_model
        # The model computes positions itself: each family does it differently, and all of them use relative positions.
        states = base(**inputs, use_cache=False).last_hidden_state
        return Features(states, inputs["attention_mask"].bool())

    def generate(
        self, images: Sequence[UInt8[torch.Tensor, "B _ _ 3"]], questions: Sequence[str], most_tokens: int
    ) -> list[str]:
        """See ``lamp_model.features.Writer``."""
        turns = [self._turn(question, len(images)) for question in questions]
        inputs = self.processor(images=self._pictures(images), text=turns, padding=True, return_tensors="pt")
        inputs = inputs.to(self.model.device)
        return likeliest_words(self.model, self.processor.tokenizer, inputs, most_tokens)

    def _pictures(self, images: Sequence[torch.Tensor]) -> list[list[Image.Image]]:
        """The images of each sample, resized to ``image_size``."""
        size = (self.config.image_size, self.config.image_size)
        cameras = [camera.cpu().numpy() for camera in images]
        return [[Image.fromarray(image).resize(size) for image in sample] for sample in zip(*cameras, strict=True)]

    def _inputs(self, pictures: list[list[Image.Image]], instructions: Sequence[str]):
        texts = [self._text(instruction, len(pictures[0])) for instruction in instructions]
        return self.processor(images=pictures, text=texts, padding=True, return_tensors="pt")

    def _text(self, instruction: str, cameras: int) -> str:
        return self._turn(prompt(instruction, self.config.prompt, self.config.tidy), cameras)

    def _turn(self, told: str, cameras: int) -> str:
        told = plain_words(told, self._special)
        if not self.processor.chat_template:  # models without conversations, such as PaliGemma
            return self.processor.image_token * cameras + told
        content = [{"type": "image"}] * cameras + [{"type": "text", "text": told}]
        return self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
