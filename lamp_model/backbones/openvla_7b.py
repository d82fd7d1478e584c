"""OpenVLA-7B as the backbone (arXiv 2406.09246): DINOv2 and SigLIP, a projector and Llama-2, from its published
weights.

transformers has no class for it, and the code that comes with the weights is not run: the architecture is implemented
in ``_prismatic``, with the parameter names of the weights. OpenVLA takes one image; the patches of several cameras are
concatenated in camera order, as in arXiv 2502.19645.
"""

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from jaxtyping import UInt8
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, PreTrainedModel, PreTrainedTokenizerFast

from lamp_model.backbones import _qwen3_vl_random as random_words
from lamp_model.backbones._frozen import AUTO, FrozenBackbone, first_attention, loading, plain_weights
from lamp_model.backbones._prismatic import DINO, SIGLIP, Prismatic, VisionSizes
from lamp_model.backbones._prompt_safety import plain_words, special_tokens
from lamp_model.features import Features, check_prompt, prompt
from lamp_model.networks.image_resize import resize
from lamp_model.networks.weights import check_state

PROMPT = "In: What action should the robot take to {instruction}?\nOut:"
"""The prompt of OpenVLA's training."""
LAST_WORD = "▁"
"""The empty token after the colon, as in OpenVLA's training."""
NORMALISATION = (((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
"""Mean and standard deviation of each colour, for DINOv2 and for SigLIP."""
RANDOM = "random:tiny"
TINY = (
    VisionSizes(32, 3, 2, 64, image=28, registers=4, scaled=True),
    VisionSizes(48, 3, 2, 80, image=28, pooled=True),
    LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=random_words.VOCABULARY,
    ),
)
SIZES = "lamp_vision_sizes"
"""In a config that ``save`` wrote: sizes of the vision transformers. The published one names its instead."""
PUBLISHED = {
    "vision_backbone_id": "dinosiglip-vit-so-224px",
    "image_resize_strategy": "resize-naive",
}


@dataclass(frozen=True)
class Config:
    """Weights and prompt.

    Attributes:
        weights: a name on the Hugging Face hub, a folder with the same files or one that ``save`` wrote; or
            ``random:tiny``.
        revision: of the hub's repository, pinned; a folder has none.
        seed: of random weights.
        attention: of the language model; see ``lamp_model.backbones._frozen``.
        prompt: the text, with ``{instruction}`` in it.
        tidy: an instruction loses spaces around it and its full stop, and is put into lower case, as in OpenVLA's
            training.
        architecture_only: leave the weights as they come: a checkpoint that holds them is loaded next.
    """

    weights: str = "openvla/openvla-7b"
    revision: str = "47a0ec7fc4ec123775a391911046cf33cf9ed83f"
    seed: int = 0
    attention: str = AUTO
    prompt: str = PROMPT
    tidy: bool = True
    architecture_only: bool = False

    def __post_init__(self) -> None:
        check_prompt(self.prompt)
        if self.weights.startswith("random:") and self.weights != RANDOM:
            raise ValueError(f"random weights of openvla-7b come as {RANDOM}, found {self.weights!r}")


def feature_width(config: Config) -> int:
    """D of the features, from the config alone.

    Raises:
        MissingDependency: there is no such model.
    """
    if config.weights == RANDOM:
        return TINY[2].hidden_size
    with loading(config.weights):
        return _sizes(_folder(config, weights=False))[2].hidden_size


def build(config: Config) -> "OpenVLA":
    """Load the model and its tokenizer. No code that comes with the weights is run.

    Raises:
        MissingDependency: there are no such weights, or they cannot be downloaded.
        BadCheckpoint: the weights are of another model.
    """
    if config.weights == RANDOM:
        return _random(config)
    with loading(config.weights):
        folder = _folder(config, weights=not config.architecture_only)
        dino, siglip, text = _sizes(folder)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        text._attn_implementation = first_attention(config.attention)
        with init_empty_weights(include_buffers=False):
            model = Prismatic(dino, siglip, text)
        if not config.architecture_only:
            _load(model, folder)
    return OpenVLA(config, model, tokenizer)


def _random(config: Config) -> "OpenVLA":
    dino, siglip, text = TINY
    words = random_words.tokenizer()
    words.bos_token = "<|im_start|>"
    text = copy.deepcopy(text)
    text._attn_implementation = first_attention(config.attention)
    with torch.random.fork_rng():  # the initial weights of trained modules must not depend on the backbone
        torch.manual_seed(config.seed)
        return OpenVLA(config, Prismatic(dino, siglip, text), words)


def _folder(config: Config, weights: bool) -> Path:
    if Path(config.weights).is_dir():
        return Path(config.weights)
    patterns = ["*.json", "*.safetensors"] if weights else ["*.json"]
    try:
        return Path(snapshot_download(config.weights, revision=config.revision, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError) as error:
        raise OSError(str(error)) from error


def _sizes(folder: Path) -> tuple[VisionSizes, VisionSizes, LlamaConfig]:
    values = json.loads((folder / "config.json").read_bytes())
    if SIZES in values:
        dino, siglip = (VisionSizes(**sizes) for sizes in values[SIZES])
    else:
        for key, expected in PUBLISHED.items():
            if values.get(key) != expected:
                raise ValueError(f"its config.json must say {key} {expected}, found {values.get(key)}")
        dino, siglip = DINO, SIGLIP
    return dino, siglip, LlamaConfig(**values["text_config"])


def _load(model: Prismatic, folder: Path) -> None:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise OSError("the folder has no *.safetensors")
    tensors = {name: tensor for file in files for name, tensor in load_file(file).items()}
    check_state(model, tensors, str(folder))
    model.load_state_dict(tensors, assign=True)


class OpenVLA(FrozenBackbone):
    """A frozen OpenVLA. Its weights are under ``model``, with their published names."""

    def __init__(self, config: Config, model: Prismatic, tokenizer: PreTrainedTokenizerFast):
        super().__init__(config.attention)
        self.config, self.tokenizer = config, tokenizer
        self.model = model.requires_grad_(False).eval()
        self.sizes = model.vision_backbone.featurizer.sizes
        self._special = special_tokens(tokenizer)
        last = tokenizer.get_vocab().get(LAST_WORD)
        self._last = [] if last is None else [last]

    @property
    def width(self) -> int:
        """See ``lamp_model.features.Backbone``."""
        return self.model.language_model.config.hidden_size

    @property
    def language_model(self) -> PreTrainedModel:
        """See ``FrozenBackbone``."""
        return self.model.language_model.model

    def _unused(self) -> tuple[str, ...]:
        vision = self.model.vision_backbone
        names = (("featurizer", vision.featurizer), ("fused_featurizer", vision.fused_featurizer))
        last = [f"{name}.blocks.{part.sizes.layers - 1}" for name, part in names]
        return ("lm_head", "attn_pool", *last, *(f"{name}.norm" for name, _ in names))

    def length(self, instruction: str, cameras: int) -> int:
        """See ``lamp_model.features.Backbone``."""
        return 1 + cameras * self.sizes.tokens + len(self._words(instruction))

    def save(self, folder: str) -> None:
        """See ``lamp_model.features.Backbone``."""
        Path(folder).mkdir(parents=True)
        vision = self.model.vision_backbone
        sizes = [asdict(part.sizes) for part in (vision.featurizer, vision.fused_featurizer)]
        text: Any = self.model.language_model.config
        values = {"model_type": "openvla", "text_config": text.to_diff_dict(), SIZES: sizes}
        (Path(folder) / "config.json").write_text(json.dumps(values, indent=1) + "\n")
        weights = {name: tensor.contiguous() for name, tensor in plain_weights(self.model).items()}
        save_file(weights, Path(folder) / "model.safetensors")
        self.tokenizer.save_pretrained(folder)

    def encode(self, images: Sequence[UInt8[torch.Tensor, "B _ _ 3"]], instructions: Sequence[str]) -> Features:
        """See ``lamp_model.features.Backbone``. [first token ; patches of all cameras ; text], padded on the left."""
        patches = torch.cat([self._patches(camera) for camera in images], dim=1)
        device, seen = patches.device, patches.shape[1]
        words = [self._words(instruction) for instruction in instructions]
        longest = max(map(len, words))
        start = torch.tensor([longest - len(w) for w in words], device=device)[:, None]
        place = torch.arange(1 + seen + longest, device=device)[None] - start  # 0 is a sample's own first token
        mask, shown = place >= 0, (place >= 1) & (place <= seen)
        first: Any = self.tokenizer.bos_token_id
        ids = torch.tensor([[first] * (longest - len(w) + 1 + seen) + w for w in words], device=device)
        embeddings = self.model.language_model.get_input_embeddings()(ids)
        embeddings = embeddings.masked_scatter(shown[..., None], patches.to(embeddings.dtype))
        states = self.language_model(
            inputs_embeds=embeddings, attention_mask=mask.long(), position_ids=place.clamp(min=0), use_cache=False
        ).last_hidden_state
        return Features(states, mask)

    def _patches(self, images: torch.Tensor) -> torch.Tensor:
        pixels = resize(images.permute(0, 3, 1, 2).float(), (self.sizes.image, self.sizes.image)) / 255
        precision = self.model.projector.fc1.weight.dtype
        views = []
        for mean, deviation in NORMALISATION:
            mean, deviation = pixels.new_tensor(mean)[:, None, None], pixels.new_tensor(deviation)[:, None, None]
            views.append(((pixels - mean) / deviation).to(precision))
        return self.model.projector(self.model.vision_backbone(*views))

    def _words(self, instruction: str) -> list[int]:
        told = instruction.lower() if self.config.tidy else instruction
        text = plain_words(prompt(told, self.config.prompt, self.config.tidy), self._special)
        return [*self.tokenizer(text, add_special_tokens=False)["input_ids"], *self._last]
