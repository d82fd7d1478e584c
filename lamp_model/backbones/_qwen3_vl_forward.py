"""Qwen3-VL's forward pass without synchronising with the device: it never waits for a GPU, and is one graph for
torch.compile.

transformers' own pass reads lengths, masks and positions back from the device, because its images and texts may have
any size. Here all images have one size and the texts are tokenised on the host, so the host computes these values
(``_qwen3_vl_layout``). The layers, their weights and the adapters in them are transformers' modules; only the code
between them is written here, and a test compares both passes.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch.nn import functional
from transformers import Qwen3VLModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen3_vl.modeling_qwen3_vl import apply_rotary_pos_emb_vision, eager_attention_forward

from lamp_model.backbones._qwen3_vl_layout import Layout

FLASH = "flash_attention"
"""Prefix of the names of all flash attention implementations."""
MASKED = ("sdpa", "eager")
"""The supported attention implementations that take a mask."""


def check_attention(attention: str) -> None:
    """Refuse an attention implementation that this pass does not support.

    Raises:
        ValueError: the attention is not supported.
    """
    if attention not in MASKED and not attention.startswith(FLASH):
        raise ValueError(
            f"the attention of qwen3-vl must be auto, {', '.join(MASKED)} or {FLASH}_2, found {attention!r}"
        )


def is_flash(model: Qwen3VLModel) -> bool:
    """Whether the language model's attention is flash attention, which takes packed samples in place of a mask."""
    return _attention(model.language_model).startswith(FLASH)


def last_hidden_states(
    model: Qwen3VLModel,
    patches: Float[torch.Tensor, "P C"],
    tables: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    layout: Layout,
    normed: bool = True,
) -> Float[torch.Tensor, "B L D"]:
    """Hidden states of the last layer.

    Args:
        model: its weights are on the same device as the other arguments.
        patches: of all images, sample by sample, as ``Qwen3VL.patches`` makes them.
        tables: ``Grid.tables()`` of the images' size.
        layout: of the texts.
        normed: return the states after the model's final norm; else before it.
    """
    seen, deeper = _see(model.visual, patches, tables)
    text: Any = model.language_model
    shape = (*layout.ids.shape, -1)
    hidden = text.embed_tokens(layout.ids)
    hidden = hidden.flatten(0, 1).index_copy(0, layout.images, seen.to(hidden.dtype)).view(shape)
    turn = text.rotary_emb(hidden, layout.positions)
    options = _attention_options(_attention(text), layout, hidden.dtype)
    for number, layer in enumerate(text.layers):
        hidden = layer(hidden, position_embeddings=turn, **options)
        if number < len(deeper):  # DeepStack: features of earlier layers of the vision transformer
            hidden = hidden.flatten(0, 1).index_add(0, layout.images, deeper[number].to(hidden.dtype)).view(shape)
    return _unpacked(text.norm(hidden) if normed else hidden, layout)


def unattended_state(model: Qwen3VLModel, token: int, normed: bool = True) -> Float[torch.Tensor, " D"]:
    """The last layer's hidden state of a token that attends to nothing. It does not depend on the position.

    transformers' masks leave the rows of padding empty, so the attention output is zero there; the token still passes
    through every layer's MLP. The authors' checkpoints, which treat padding like tokens, were trained this way.
    """
    text: Any = model.language_model
    hidden = text.embed_tokens(torch.tensor([[token]], device=text.embed_tokens.weight.device))
    for layer in text.layers:
        out = layer.self_attn.o_proj
        hidden = hidden + out(hidden.new_zeros(1, 1, out.in_features))
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return (text.norm(hidden) if normed else hidden)[0, 0]


def _see(
    visual: Any, patches: Float[torch.Tensor, "P C"], tables: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
) -> tuple[Float[torch.Tensor, "I D"], list[torch.Tensor]]:
    """Tokens of all images, and their DeepStack features from earlier layers. Each image attends only to itself."""
    taps, weights, places = tables
    first = visual.patch_embed.proj  # the stride equals the kernel size, so this convolution is a linear map
    x = functional.linear(patches.to(first.weight.dtype), first.weight.flatten(1), first.bias)
    x = x.unflatten(0, (-1, len(places)))
    x = x + (visual.pos_embed(taps) * weights[..., None]).sum(1).to(x.dtype)
    turn = visual.rotary_pos_emb(x, places)
    levels, deeper = list(visual.deepstack_visual_indexes), []
    for number, block in enumerate(visual.blocks):
        x = x + _look(block.attn, block.norm1(x), turn)
        x = x + block.mlp(block.norm2(x))
        if number in levels:
            deeper.append(visual.deepstack_merger_list[levels.index(number)](x))
    return visual.merger(x), deeper


def _look(
    attention: Any, x: Float[torch.Tensor, "N T W"], turn: tuple[torch.Tensor, torch.Tensor]
) -> Float[torch.Tensor, "N T W"]:
    q, k, v = attention.qkv(x).unflatten(-1, (3, attention.num_heads, -1)).unbind(2)
    q, k = apply_rotary_pos_emb_vision(q, k, *turn)
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(_attention(attention), eager_attention_forward)
    gathered, _ = attend(attention, q, k, v, None, dropout=0.0, scaling=attention.scaling, is_causal=False)
    return attention.proj(gathered.flatten(2))


def _attention(module: Any) -> str:
    return module.config._attn_implementation


def _attention_options(attention: str, layout: Layout, precision: torch.dtype) -> dict[str, Any]:
    """Attention arguments of the language model's layers, so that each token attends to the earlier tokens of its own
    sample and to no padding.
    """
    if layout.packing is not None:
        ends, longest = layout.packing.boundaries, layout.packing.longest
        lengths = {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}
        return {"attention_mask": None, **lengths}
    if attention.startswith(FLASH) or (attention == "sdpa" and not layout.padded):
        return {"attention_mask": None}  # these implementations are causal by default
    mask = _causal_mask(layout.own)
    if attention == "eager":  # eager attention adds the mask to its scores
        mask = torch.zeros((), dtype=precision, device=mask.device).where(mask, torch.finfo(precision).min)
    return {"attention_mask": mask}


def _causal_mask(own: Bool[torch.Tensor, "B L"]) -> Bool[torch.Tensor, "B 1 L L"]:
    """True where a token (row) may attend to another. Padding attends to itself, because the softmax of an empty row
    would be NaN.
    """
    places = torch.arange(own.shape[1], device=own.device)
    earlier, itself = places[None] <= places[:, None], places[None] == places[:, None]
    return (earlier & own[:, None, None]) | itself


def _unpacked(hidden: Shaped[torch.Tensor, "R S D"], layout: Layout) -> Shaped[torch.Tensor, "B L D"]:
    if layout.packing is None:
        return hidden
    batch, length = layout.own.shape
    places = hidden.new_zeros(batch * length, hidden.shape[-1])
    return places.index_copy(0, layout.packing.kept, hidden[0]).view(batch, length, -1)
