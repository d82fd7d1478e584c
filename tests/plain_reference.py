"""The published model written down once more, in the plainest way: sums, loops and indices, nothing of this project or of diffusers.

Every function takes ``w``, a dictionary of float64 weights under the published names, and float64 tensors. The conventions are
those of the published code at commit 8264894, read there; each is said where it is used.
"""

import math

import numpy as np
import torch


def linear(w, name, x):
    y = x @ w[f"{name}.weight"].T
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def layer_norm(w, name, x, eps):
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def silu(x):
    return x / (1 + torch.exp(-x))


def gelu_tanh(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def attend(q, k, v):
    """Softmax attention of one head; no mask."""
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    weights = torch.exp(scores - scores.max(-1, keepdim=True).values)
    return weights / weights.sum(-1, keepdim=True) @ v


def heads_of(x, count):
    return x.reshape(*x.shape[:-1], count, -1).unbind(-2)


def waves(position, channels):
    """Sines, then cosines, of one position at frequencies 10000^(-i / half)."""
    half = channels // 2
    angles = [position * 10000 ** (-i / half) for i in range(half)]
    return [*map(math.sin, angles), *map(math.cos, angles)]


# Motion Expert


def conditioning(w, features, length):
    """Project; repeat floor(length / L) times; fill up with learned tokens; of a longer sequence the first ``length``."""
    tokens = linear(w, "vlm_proj", features)
    if tokens.shape[1] >= length:
        return tokens[:, :length]
    rows = [token for _ in range(length // tokens.shape[1]) for token in tokens.unbind(1)]
    padding = w["decoder.learnable_padding_tokens"][0]
    rows += [padding[i].expand(len(tokens), -1) for i in range(length - len(rows))]
    return torch.stack(rows, dim=1)


def positions(frames, side, width):
    """A quarter of the channels for time, then three eighths for the column, then for the row; space is divided by 1.875."""
    table = [
        waves(frame, width // 4) + waves(column / 1.875, width * 3 // 8) + waves(row / 1.875, width * 3 // 8)
        for frame in range(frames)
        for row in range(side)
        for column in range(side)
    ]
    return torch.tensor(table, dtype=torch.float64)


def patches(x, size):
    """Tokens by frame, row, column; in a token: channel, row, column."""
    side = x.shape[-1] // size
    rows = [
        x[:, frame, :, r * size : (r + 1) * size, c * size : (c + 1) * size].flatten(1)
        for frame in range(x.shape[1])
        for r in range(side)
        for c in range(side)
    ]
    return torch.stack(rows, dim=1)


def motion_network(w, x, timestep, words, sizes):
    """Velocity, and the last block's motion tokens before the final norm (the hidden state of guidance)."""
    root, half = "decoder.cogvideox", sizes["time_channels"] // 2
    angles = [timestep * 10000 ** (-i / half) for i in range(half)]
    time = torch.tensor([*map(math.cos, angles), *map(math.sin, angles)], dtype=torch.float64)  # cosines first
    time = linear(w, f"{root}.time_embedding.linear_1", time)
    time = linear(w, f"{root}.time_embedding.linear_2", silu(time))
    words = linear(w, f"{root}.patch_embed.text_proj", words)  # conditioning tokens have no position
    motion = linear(w, f"{root}.patch_embed.proj", patches(x, sizes["patch"]))
    motion = motion + positions(x.shape[1], x.shape[-1] // sizes["patch"], motion.shape[-1])
    for index in range(sizes["layers"]):
        words, motion = motion_block(w, f"{root}.transformer_blocks.{index}", words, motion, time, sizes["heads"])
    out = layer_norm(w, f"{root}.norm_final", motion, 1e-5)
    shift, scale = linear(w, f"{root}.norm_out.linear", silu(time)).chunk(2)
    out = linear(w, f"{root}.proj_out", layer_norm(w, f"{root}.norm_out.norm", out, 1e-5) * (1 + scale) + shift)
    velocity, size = torch.zeros_like(x), sizes["patch"]
    side, token = x.shape[-1] // size, 0
    for frame in range(x.shape[1]):
        for r in range(side):
            for c in range(side):
                patch = out[:, token].reshape(len(x), x.shape[2], size, size)
                velocity[:, frame, :, r * size : (r + 1) * size, c * size : (c + 1) * size] = patch
                token += 1
    return velocity, motion


def motion_block(w, name, words, motion, time, heads):
    count = words.shape[1]

    def modulated(norm):
        # In this order: motion's shift, scale, gate, then the words'.
        parts = linear(w, f"{name}.{norm}.linear", silu(time)).chunk(6)
        seen = layer_norm(w, f"{name}.{norm}.norm", motion, 1e-5) * (1 + parts[1]) + parts[0]
        told = layer_norm(w, f"{name}.{norm}.norm", words, 1e-5) * (1 + parts[4]) + parts[3]
        return torch.cat([told, seen], dim=1), parts[2], parts[5]

    joint, gate, words_gate = modulated("norm1")
    q, k, v = (heads_of(linear(w, f"{name}.attn1.to_{p}", joint), heads) for p in "qkv")
    q = [layer_norm(w, f"{name}.attn1.norm_q", head, 1e-6) for head in q]
    k = [layer_norm(w, f"{name}.attn1.norm_k", head, 1e-6) for head in k]
    looked = torch.cat([attend(*head) for head in zip(q, k, v, strict=True)], dim=-1)
    looked = linear(w, f"{name}.attn1.to_out.0", looked)
    motion, words = motion + gate * looked[:, count:], words + words_gate * looked[:, :count]
    joint, gate, words_gate = modulated("norm2")
    thought = linear(w, f"{name}.ff.net.2", gelu_tanh(linear(w, f"{name}.ff.net.0.proj", joint)))
    return words + words_gate * thought[:, :count], motion + gate * thought[:, count:]


def one_step_hidden(w, features, noise, sizes):
    """From noise one Euler step of 0.1 at timestep 0, then a second look at timestep 100."""
    words = conditioning(w, features, sizes["words"])
    begun = noise + 0.1 * motion_network(w, noise, 0, words, sizes)[0]
    return motion_network(w, begun, 100, words, sizes)[1]


def rollout(w, features, noise, sizes):
    """Ten Euler steps of 0.1 at timesteps 0, 100, ..., 900; increments still normalised."""
    words, x = conditioning(w, features, sizes["words"]), noise
    for step in range(10):
        x = x + 0.1 * motion_network(w, x, 100 * step, words, sizes)[0]
    return unpacked(x)


def unpacked(x):
    """Channel 2 * component + step of the pair: so in all three places of the published code (see ``motion_tokens``)."""
    batch, frames, _, grid, _ = x.shape
    motion = torch.zeros(batch, grid * grid, 2 * frames, 3, dtype=x.dtype)
    for frame in range(frames):
        for step in range(2):
            for component in range(3):
                for row in range(grid):
                    for column in range(grid):
                        value = x[:, frame, 2 * component + step, row, column]
                        motion[:, row * grid + column, 2 * frame + step, component] = value
    return motion


# Motion Guidance


def guidance(w, features, hidden, heads):
    """h + sigmoid(g) CrossAttn(LN(h), LN(W m)); eps 1e-5; the projections of query, key, value stand in one matrix."""
    motion = layer_norm(w, "norm_motion", linear(w, "motion_proj", hidden), 1e-5)
    seen = layer_norm(w, "norm_vl", features, 1e-5)
    matrices, biases = w["cross_attn.in_proj_weight"].chunk(3), w["cross_attn.in_proj_bias"].chunk(3)
    q, k, v = (heads_of(x @ matrices[i].T + biases[i], heads) for i, x in enumerate((seen, motion, motion)))
    looked = torch.cat([attend(*head) for head in zip(q, k, v, strict=True)], dim=-1)
    return features + linear(w, "cross_attn.out_proj", looked) / (1 + torch.exp(-w["gate"]))


# Action Expert


def action_velocity(w, guided, noisy, state, time, layers, heads):
    """Action tokens first, then the features; positions over the whole sequence; pre-norm blocks."""
    angles = [time * 100 ** (-i / 16) for i in range(16)]
    wave = torch.tensor([*map(math.cos, angles), *map(math.sin, angles)], dtype=torch.float64)
    rows = []
    for action in noisy.unbind(1):
        told = torch.cat([action, wave.expand(len(action), -1), state], dim=-1)  # action, time, proprioception
        rows.append(linear(w, "action_encoder", told))
    x = torch.cat([torch.stack(rows, dim=1), linear(w, "vlm_proj", guided)], dim=1)
    x = x + w["pos_emb"][:, : x.shape[1]]
    for index in range(layers):
        name = f"blocks.{index}"
        q, k, v = linear(w, f"{name}.attn.qkv", layer_norm(w, f"{name}.norm1", x, 1e-5)).chunk(3, dim=-1)
        per_head = zip(heads_of(q, heads), heads_of(k, heads), heads_of(v, heads), strict=True)
        x = x + linear(w, f"{name}.attn.proj", torch.cat([attend(*head) for head in per_head], dim=-1))
        thought = gelu_tanh(linear(w, f"{name}.mlp.fc1", layer_norm(w, f"{name}.norm2", x, 1e-5)))
        x = x + linear(w, f"{name}.mlp.fc2", thought)
    return linear(w, "action_decoder", layer_norm(w, "norm", x[:, : noisy.shape[1]], 1e-5))


def action_chunk(w, guided, noise, state, layers, heads):
    """Ten Euler steps from t = 1 to 0."""
    x = noise
    for step in range(10):
        x = x - 0.1 * action_velocity(w, guided, x, state, 1 - 0.1 * step, layers, heads)
    return x


# Statistics, in float32 as published


def published_state(values, low, high, mask_z):
    seen = np.zeros_like(values)
    for i in range(values.shape[-1] - 1):
        span = high[i] - low[i]
        if span != 0:
            seen[..., i] = 2 * (values[..., i] - low[i]) / span - 1
    seen[..., -1] = values[..., -1] > 0.5
    if mask_z:
        seen[..., 2] = 0
    return seen


def published_action(normalised, low, high):
    actions = np.zeros_like(normalised)
    for i in range(normalised.shape[-1] - 1):
        actions[..., i] = (np.clip(normalised[..., i], -1, 1) + 1) / 2 * (high[i] - low[i]) + low[i]
    actions[..., -1] = normalised[..., -1] > 0.5
    return actions
