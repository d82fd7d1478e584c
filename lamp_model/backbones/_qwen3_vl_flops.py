"""Floating-point operations of Qwen3-VL's forward pass: matrix products and attention; [m, k] by [k, n] is 2 m k n."""

from typing import Any


def vision_flops(sizes: Any, patches: int) -> int:
    """The vision transformer on one image.

    Args:
        sizes: transformers' ``vision_config``.
        patches: of the image.
    """
    width, hidden, merged = sizes.hidden_size, sizes.intermediate_size, sizes.spatial_merge_size**2
    pixels = sizes.in_channels * sizes.temporal_patch_size * sizes.patch_size**2
    block = patches * (2 * width * (4 * width) + 4 * width * hidden) + 4 * patches**2 * width
    merger = patches // merged * 2 * (merged * width) * (merged * width + sizes.out_hidden_size)
    mergers = 1 + len(sizes.deepstack_visual_indexes)
    return 2 * pixels * width * patches + sizes.depth * block + mergers * merger


def language_flops(sizes: Any, tokens: int) -> int:
    """The language model on a text of so many tokens, without the head that predicts words.

    Args:
        sizes: transformers' ``text_config``.
    """
    width, heads = sizes.hidden_size, sizes.num_attention_heads * sizes.head_dim
    keys = sizes.num_key_value_heads * sizes.head_dim
    layer = tokens * 2 * width * (2 * heads + 2 * keys + 3 * sizes.intermediate_size) + 4 * tokens**2 * heads
    return sizes.num_hidden_layers * layer
