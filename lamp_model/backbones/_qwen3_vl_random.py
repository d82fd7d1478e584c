"""Qwen3-VL without downloads: the same architecture with random weights, and a tokenizer that is trained here."""

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from lamp_model.features import PROMPT

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
VOCABULARY = 1024

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

SENTENCES = (
    PROMPT,
    "user assistant system",
    "pick up the black bowl between the plate and the ramekin and place it on the plate",
    "pick up the black bowl next to the cookie box and place it on the plate",
    "pick up the alphabet soup and the tomato sauce and place it in the basket",
    "open the middle drawer of the cabinet and put the wine bottle on top of it",
    "turn on the stove and put the moka pot on the left burner, then close the microwave",
    "put both the cream cheese, the butter, the milk, the ketchup and the orange juice in the basket",
    "push the red cup to the front of the blue block on the table with the robot arm gripper",
    "move the yellow towel from the right side of the sink into the green pot, fold the cloth, stack the spoon",
)
"""Text from which the tokenizer's merges are learnt. It is byte level, so other text uses shorter tokens."""


def _published(text: dict[str, int]) -> dict[str, dict[str, Any]]:
    """The sizes of a published model: its own of the language model, and what all of them share."""
    return {
        "text": {
            "vocab_size": 151_936,
            **text,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 262_144,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5_000_000.0,
                "mrope_section": [24, 20, 20],
                "mrope_interleaved": True,
            },
        },
        "vision": {
            "depth": 24,
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_heads": 16,
            "out_hidden_size": text["hidden_size"],
            "deepstack_visual_indexes": [5, 11, 17],
        },
    }


SIZES = {
    "tiny": {
        "text": {
            "vocab_size": VOCABULARY,
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5_000_000.0,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
        },
        "vision": {
            "depth": 3,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_heads": 4,
            "out_hidden_size": 192,
            "num_position_embeddings": 256,
            "deepstack_visual_indexes": [0, 1],
        },
    },
    "2b": _published(
        text={"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16},
    ),
    "4b": _published(
        text={"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32},
    ),
}


def sizes(size: str) -> dict[str, dict[str, Any]]:
    """Sizes by name.

    Raises:
        ValueError: no such size.
    """
    if size not in SIZES:
        raise ValueError(f"random weights come in the sizes {', '.join(SIZES)}, found {size!r}")
    return SIZES[size]


def model(size: str, seed: int, attention: str) -> Qwen3VLForConditionalGeneration:
    """A randomly initialised model.

    Raises:
        ValueError: no such size.
    """
    chosen = sizes(size)
    ids = tokenizer().get_vocab()
    config = Qwen3VLConfig(
        text_config=chosen["text"],
        vision_config=chosen["vision"],
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    config._attn_implementation = attention
    with torch.random.fork_rng():  # the initial weights of trained modules must not depend on the backbone
        torch.manual_seed(seed)
        return Qwen3VLForConditionalGeneration(config)


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with Qwen's special tokens, the same on every machine."""
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words.train_from_iterator(SENTENCES, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=words, pad_token=SPECIAL[0], eos_token=SPECIAL[2])
    fast.chat_template = CHAT_TEMPLATE
    return fast
