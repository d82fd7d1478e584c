"""Qwen3-VL as the backbone: uint8 images and a text in, last-layer hidden states out (paper, section 3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, UInt8
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, Qwen3VLForConditionalGeneration
from transformers.initialization import no_init_weights
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from lamp_model.backbones import _qwen3_vl_random as random_weights
from lamp_model.backbones._frozen import (
    AUTO,
    FrozenBackbone,
    first_attention,
    likeliest_words,
    loading,
    plain_weights,
)
from lamp_model.backbones._prompt_safety import plain_words, special_tokens
from lamp_model.backbones._qwen3_vl_flops import language_flops, vision_flops
from lamp_model.backbones._qwen3_vl_forward import check_attention, is_flash, last_hidden_states, unattended_state
from lamp_model.backbones._qwen3_vl_layout import Grid, lay_out
from lamp_model.features import PROMPT, Features, check_prompt, prompt
from lamp_model.model_config import check_sizes
from lamp_model.networks.image_resize import resize

IMAGE_TOKEN = "<|image_pad|>"
RANDOM = "random:"


@dataclass(frozen=True)
class Config:
    """Which weights, and how large the images are; the defaults are the paper's.

    Attributes:
        weights: a name on the Hugging Face hub, a folder that ``save`` wrote, or ``random:tiny``, ``random:2b`` or
            ``random:4b``.
        revision: of the hub's repository, pinned; a folder has none and ignores it.
        image_size: side in pixels to which images are first resized.
        min_pixels: Qwen's processor enlarges images of fewer pixels: with its own 65,536 an image of 224 x 224 becomes
            256 x 256.
        max_pixels: and shrinks those of more.
        seed: of random weights.
        attention: ``sdpa``, ``eager``, ``flash_attention_2`` (or a later one), or ``auto``: flash attention on a GPU
            where it is installed, else sdpa.
        prompt: the text, with ``{instruction}`` in it.
        tidy: strip an instruction's spaces and full stop first; see ``lamp_model.features.prompt``.
        features: the last layer's hidden states ``after-norm`` or ``before-norm``, the model's final norm. What
            transformers calls ``hidden_states[-1]`` is the first from 5.0 on and was the second in 4.57; the authors'
            release allows both.
        padding: what a padded token's features are: ``own`` lets it attend to itself; ``unattended`` gives it no
            attention at all, as transformers' masks do. Only a model that uses padding like tokens sees the difference.
        blind: black takes the place of every picture: a control that tells what a policy can do that sees nothing.
        architecture_only: leave the weights as they come: a checkpoint that holds them is loaded next.
    """

    weights: str = "Qwen/Qwen3-VL-4B-Instruct"
    revision: str = "ebb281ec70b05090aa6165b016eac8ec08e71b17"
    image_size: int = 224
    min_pixels: int = 65_536
    max_pixels: int = 16_777_216
    seed: int = 0
    attention: str = AUTO
    prompt: str = PROMPT
    tidy: bool = True
    features: Literal["after-norm", "before-norm"] = "after-norm"
    padding: Literal["own", "unattended"] = "own"
    blind: bool = False
    architecture_only: bool = False

    def __post_init__(self) -> None:
        check_attention(first_attention(self.attention))
        check_prompt(self.prompt)
        check_sizes(self, ("image_size",), counts=())
        if not 0 <= self.min_pixels <= self.max_pixels or not self.max_pixels:
            raise ValueError(
                f"min_pixels must be at least 0 and max_pixels no less, found {self.min_pixels} and {self.max_pixels}"
            )
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, found {self.seed}")


def feature_width(config: Config) -> int:
    """D of the features, without loading weights.

    Raises:
        MissingDependency: there is no such model.
    """
    if config.weights.startswith(RANDOM):
        return random_weights.sizes(config.weights.removeprefix(RANDOM))["text"]["hidden_size"]
    with loading(config.weights):
        return _sizes(config).text_config.hidden_size


def build(config: Config) -> "Qwen3VL":
    """Load the model and its tokenizer.

    Raises:
        MissingDependency: there are no such weights, or they cannot be downloaded.
    """
    if config.weights.startswith(RANDOM):
        size, attention = config.weights.removeprefix(RANDOM), first_attention(config.attention)
        return Qwen3VL(config, random_weights.model(size, config.seed, attention), random_weights.tokenizer())
    with loading(config.weights):
        tokenizer = AutoTokenizer.from_pretrained(config.weights, revision=config.revision)
        model = _architecture(config) if config.architecture_only else _pretrained(config)
    return Qwen3VL(config, model, tokenizer)


def _sizes(config: Config) -> Any:
    return AutoConfig.from_pretrained(config.weights, revision=config.revision)


def _pretrained(config: Config) -> Qwen3VLForConditionalGeneration:
    return Qwen3VLForConditionalGeneration.from_pretrained(
        config.weights, revision=config.revision, dtype="auto", attn_implementation=first_attention(config.attention)
    )


def _architecture(config: Config) -> Qwen3VLForConditionalGeneration:
    sizes = _sizes(config)
    sizes._attn_implementation = first_attention(config.attention)
    with no_init_weights():  # random initialisation takes minutes and would be overwritten
        model = Qwen3VLForConditionalGeneration(sizes)
    model.tie_weights()
    return model


class Qwen3VL(FrozenBackbone):
    """A frozen Qwen3-VL. Its weights are under ``model``, as in the published checkpoints."""

    def __init__(self, config: Config, model: Qwen3VLForConditionalGeneration, tokenizer):
        super().__init__(config.attention)
        self.config, self.tokenizer = config, tokenizer
        self.tokenizer.padding_side = "left"
        self._special = special_tokens(tokenizer, IMAGE_TOKEN)
        self.model = model.requires_grad_(False).eval()
        vision: Any = model.config.vision_config
        self._patch, self._merge = int(vision.patch_size), vision.spatial_merge_size
        self._steps = int(vision.temporal_patch_size)
        size = config.image_size
        self.input_size = smart_resize(size, size, self._patch * self._merge, config.min_pixels, config.max_pixels)
        self.image_grid = Grid(*self._grid(), self.model.model.visual)
        self._forward, self._compiled = last_hidden_states, False

    @property
    def width(self) -> int:
        """See ``lamp_model.features.Backbone``."""
        text: Any = self.model.config.text_config
        return text.hidden_size

    @property
    def language_model(self) -> PreTrainedModel:
        """See ``FrozenBackbone``."""
        return self.model.model.language_model

    def forward_flops(self, tokens: int, cameras: int) -> dict[str, int]:
        """See ``lamp_model.features.Backbone``; matrix products and attention are counted exactly."""
        config: Any = self.model.config
        rows, columns = self._grid()
        return {
            "vision": cameras * vision_flops(config.vision_config, rows * columns),
            "language": language_flops(config.text_config, tokens),
        }

    def _unused(self) -> tuple[str, ...]:
        return ("lm_head", *(("language_model.norm",) if self.config.features == "before-norm" else ()))

    def length(self, instruction: str, cameras: int) -> int:
        """See ``lamp_model.features.Backbone``."""
        return self._tokens([instruction], cameras)["input_ids"].shape[1]

    def save(self, folder: str) -> None:
        """See ``lamp_model.features.Backbone``."""
        self.model.save_pretrained(folder, state_dict=plain_weights(self.model))
        self.tokenizer.save_pretrained(folder)

    def encode(self, images: Sequence[UInt8[torch.Tensor, "B _ _ 3"]], instructions: Sequence[str]) -> Features:
        """See ``lamp_model.features.Backbone``. Shorter texts of a batch are padded on the left."""
        if self.config.blind:
            images = [torch.zeros_like(image) for image in images]
        told, model = self._tokens(instructions, len(images)), self.model.model
        rows, columns = self._grid()
        layout = lay_out(
            told["input_ids"],
            told["attention_mask"].bool(),
            self.model.config.image_token_id,
            (rows // self._merge, columns // self._merge),
            pack=is_flash(model),
        ).to(images[0].device)
        normed = self.config.features == "after-norm"
        states = self._forward(model, self._patches(images), self.image_grid.tables(), layout, normed)
        if self.config.padding == "unattended" and not told["attention_mask"].all():
            padding = unattended_state(model, int(self.tokenizer.pad_token_id), normed)
            states = torch.where(layout.own[..., None], states, padding)
        elif self._compiled:  # the next replay of a CUDA graph overwrites this result
            states = states.clone()
        return Features(states, layout.own)

    def compile_forward(self, mode: str) -> None:
        """See ``FrozenBackbone``."""
        if self.config.attention == AUTO:
            # flash-attn's custom functions may break the graph; torch's attention does not.
            self.model.set_attn_implementation("sdpa")
        self._forward, self._compiled = torch.compile(last_hidden_states, mode=mode, fullgraph=True), True

    def generate(
        self, images: Sequence[UInt8[torch.Tensor, "B _ _ 3"]], questions: Sequence[str], most_tokens: int
    ) -> list[str]:
        """See ``lamp_model.features.Writer``."""
        inputs = self._inputs(images, self._chat(questions, len(images)))
        return likeliest_words(self.model, self.tokenizer, inputs, most_tokens)

    def patches(self, pixels: Float[torch.Tensor, "N 3 H W"]) -> Float[torch.Tensor, "P C"]:
        """Normalised flat patches of images with values 0..255, in the order of Qwen's processor.

        A still image is repeated over all frames of a temporal patch, and the patches that are merged into one token
        are adjacent.
        """
        count, _, height, width = pixels.shape
        patch, merge = self._patch, self._merge
        scaled = (pixels / 255 - 0.5) / 0.5
        blocks = scaled.reshape(count, 3, height // patch // merge, merge, patch, width // patch // merge, merge, patch)
        blocks = blocks.permute(0, 2, 5, 3, 6, 1, 4, 7)  # image, block row, block column, row, column, colour, y, x
        blocks = blocks[:, :, :, :, :, :, None].expand(*blocks.shape[:6], self._steps, patch, patch)
        return blocks.reshape(count * (height // patch) * (width // patch), -1)

    def _inputs(self, images: Sequence[torch.Tensor], tokens: Any) -> dict[str, torch.Tensor]:
        tokens = tokens.to(images[0].device)
        count = len(images) * len(images[0])
        return {
            "input_ids": tokens["input_ids"],
            "attention_mask": tokens["attention_mask"],
            "mm_token_type_ids": (tokens["input_ids"] == self.model.config.image_token_id).int(),
            "pixel_values": self._patches(images),
            "image_grid_thw": torch.tensor([[1, *self._grid()]], device=images[0].device).expand(count, 3),
        }

    def _patches(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        return self.patches(torch.stack([self._resized(camera) for camera in images], dim=1).flatten(0, 1))

    def _resized(self, images: torch.Tensor) -> torch.Tensor:
        size = self.config.image_size
        return resize(resize(images.permute(0, 3, 1, 2).float(), (size, size)), self.input_size)

    def _grid(self) -> tuple[int, int]:
        return self.input_size[0] // self._patch, self.input_size[1] // self._patch

    def _prompt(self, instruction: str) -> str:
        return prompt(instruction, self.config.prompt, self.config.tidy)

    def _tokens(self, instructions: Sequence[str], cameras: int):
        return self._chat([self._prompt(instruction) for instruction in instructions], cameras)

    def _chat(self, texts: Sequence[str], cameras: int):
        rows, columns = self._grid()
        image = IMAGE_TOKEN * (rows * columns // self._merge**2)
        turns = []
        for text in texts:
            content = [{"type": "image"}] * cameras + [{"type": "text", "text": plain_words(text, self._special)}]
            turn = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
            turns.append(turn.replace(IMAGE_TOKEN, image))
        return self.tokenizer(turns, padding=True, return_tensors="pt", return_token_type_ids=False)
