"""The Prismatic architecture of OpenVLA (arXiv 2402.07865, 2406.09246): two vision transformers, a projector, Llama-2.

Names are those of the published weights, whose vision transformers are timm's. The weights include the last block, the
last norm and SigLIP's pooling, which are not used: the features are the output of the block before the last.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

EPSILON = 1e-6
"""Epsilon of timm's layer norms."""


@dataclass(frozen=True)
class VisionSizes:
    """Sizes of a vision transformer.

    Attributes:
        registers: tokens after the class token; with any, there is a class token too. Neither has a position.
        scaled: each block scales its residual branches (LayerScale, DINOv2).
        pooled: attention pooling at the end (SigLIP), stored and not used.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    patch: int = 14
    image: int = 224
    registers: int = 0
    scaled: bool = False
    pooled: bool = False

    @property
    def tokens(self) -> int:
        """Number of patches of an image."""
        return (self.image // self.patch) ** 2


DINO = VisionSizes(1024, 24, 16, 4096, registers=4, scaled=True)
SIGLIP = VisionSizes(1152, 27, 16, 4304, pooled=True)
"""``vit_large_patch14_reg4_dinov2`` and ``vit_so400m_patch14_siglip_224``, as OpenVLA-7B has them."""


class Attention(nn.Module):
    """Self-attention of all tokens."""

    def __init__(self, sizes: VisionSizes):
        super().__init__()
        self.heads = sizes.heads
        self.qkv = nn.Linear(sizes.width, 3 * sizes.width)
        self.proj = nn.Linear(sizes.width, sizes.width)

    def forward(self, x: Float[torch.Tensor, "N T W"]) -> Float[torch.Tensor, "N T W"]:
        """The attention output of each token."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two layers with exact GELU."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class Scale(nn.Module):
    """A factor for each channel."""

    def __init__(self, width: int):
        super().__init__()
        self.scale_factor = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale_factor


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, sizes: VisionSizes):
        super().__init__()
        self.norm1 = nn.LayerNorm(sizes.width, EPSILON)
        self.attn = Attention(sizes)
        self.ls1 = Scale(sizes.width) if sizes.scaled else nn.Identity()
        self.norm2 = nn.LayerNorm(sizes.width, EPSILON)
        self.mlp = FeedForward(sizes.width, sizes.hidden)
        self.ls2 = Scale(sizes.width) if sizes.scaled else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Pooling(nn.Module):
    """Weights of SigLIP's attention pooling; never run."""

    def __init__(self, sizes: VisionSizes):
        super().__init__()
        width = sizes.width
        self.latent = nn.Parameter(torch.zeros(1, 1, width))
        self.q, self.kv, self.proj = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, EPSILON)
        self.mlp = FeedForward(width, sizes.hidden)


class PatchEmbedding(nn.Module):
    """Embeds pixel patches as tokens."""

    def __init__(self, sizes: VisionSizes):
        super().__init__()
        self.proj = nn.Conv2d(3, sizes.width, sizes.patch, sizes.patch)

    def forward(self, pixels: Float[torch.Tensor, "N 3 S S"]) -> Float[torch.Tensor, "N T W"]:
        """Embedded patches, row by row."""
        return self.proj(pixels).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """DINOv2 or SigLIP, up to the block before the last."""

    def __init__(self, sizes: VisionSizes):
        super().__init__()
        self.sizes = sizes
        self.patch_embed = PatchEmbedding(sizes)
        self.pos_embed = nn.Parameter(torch.randn(1, sizes.tokens, sizes.width) * 0.02)
        if sizes.registers:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, sizes.width))
            self.reg_token = nn.Parameter(torch.zeros(1, sizes.registers, sizes.width))
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width, EPSILON)
        if sizes.pooled:
            self.attn_pool = Pooling(sizes)

    def forward(self, pixels: Float[torch.Tensor, "N 3 S S"]) -> Float[torch.Tensor, "N T W"]:
        """Patch tokens of normalised pixels."""
        x = self.patch_embed(pixels) + self.pos_embed
        if self.sizes.registers:
            first = [token.expand(len(x), -1, -1).to(x.dtype) for token in (self.cls_token, self.reg_token)]
            x = torch.cat([*first, x], dim=1)
        for block in list(self.blocks)[:-1]:
            x = block(x)
        return x[:, -self.sizes.tokens :]


class VisionBackbone(nn.Module):
    """Both transformers on the same image, each with its own normalisation; channels side by side."""

    def __init__(self, dino: VisionSizes, siglip: VisionSizes):
        super().__init__()
        self.featurizer, self.fused_featurizer = VisionTransformer(dino), VisionTransformer(siglip)

    def forward(
        self, dino: Float[torch.Tensor, "N 3 S S"], siglip: Float[torch.Tensor, "N 3 S S"]
    ) -> Float[torch.Tensor, "N T W"]:
        """Patch features."""
        return torch.cat([self.featurizer(dino), self.fused_featurizer(siglip)], dim=-1)


class Projector(nn.Module):
    """Patch features to the language model's width."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = (
            nn.Linear(inputs, 4 * inputs),
            nn.Linear(4 * inputs, width),
            nn.Linear(width, width),
        )

    def forward(self, x: Float[torch.Tensor, "N T I"]) -> Float[torch.Tensor, "N T W"]:
        """Tokens in the embedding space of the language model."""
        return self.fc3(functional.gelu(self.fc2(functional.gelu(self.fc1(x)))))


class Prismatic(nn.Module):
    """The whole model: vision backbone, projector and language model."""

    def __init__(self, dino: VisionSizes, siglip: VisionSizes, text: LlamaConfig):
        super().__init__()
        self.vision_backbone = VisionBackbone(dino, siglip)
        self.projector = Projector(dino.width + siglip.width, text.hidden_size)
        self.language_model = LlamaForCausalLM(text)
