"""The Motion Expert: agreement with diffusers' own transformer, the one-step process, conditioning."""

import pytest
import torch
from diffusers import CogVideoXTransformer3DModel

from lamp_model.features import Features
from lamp_model.model_config import MotionConfig
from lamp_model.networks.motion_expert import MotionExpert

SMALL = MotionConfig(
    layers=2, heads=2, head_dim=16, time_channels=32, patch_size=2, grid=4, horizon=8, conditioning_tokens=12
)


@pytest.fixture(scope="module")
def expert():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = MotionExpert(SMALL, feature_width=10).eval()
    torch.nn.init.normal_(module.decoder.cogvideox.proj_out.weight, std=0.2)
    return module.requires_grad_(False)


def features(batch=2, length=5, mask=None):
    return Features(torch.randn(batch, length, 10, generator=torch.Generator().manual_seed(1)), mask)


def test_it_equals_diffusers_transformer_with_the_same_weights(expert):
    """Independent reference: the library's whole model; its positions, patches and norms must be ours."""
    c = SMALL
    reference = CogVideoXTransformer3DModel(
        num_attention_heads=c.heads,
        attention_head_dim=c.head_dim,
        in_channels=c.channels,
        out_channels=c.channels,
        time_embed_dim=c.width,
        text_embed_dim=c.width,
        num_layers=c.layers,
        sample_width=c.grid,
        sample_height=c.grid,
        sample_frames=c.frames,
        patch_size=c.patch_size,
        patch_size_t=1,
        temporal_compression_ratio=4,
        max_text_seq_length=c.conditioning_tokens,
    ).eval()
    reference.load_state_dict(expert.decoder.cogvideox.state_dict())
    reference.patch_embed.text_proj = torch.nn.Identity()  # ours projects the conditioning once, before
    noise = torch.randn(expert.noise_shape(2))
    conditioning = expert.condition(features())
    timestep = torch.tensor([100.0, 700.0])
    expected = reference(noise, conditioning.tokens, timestep).sample
    torch.testing.assert_close(expert.velocity(noise, timestep, conditioning), expected, rtol=1e-5, atol=1e-6)


def test_guidance_is_one_euler_step_and_a_second_look(expert):
    noise, seen = torch.randn(expert.noise_shape(2)), features()
    conditioning = expert.condition(seen)
    network = expert.decoder.cogvideox
    begun = noise + 0.1 * network(noise, torch.zeros(2), conditioning)[0]
    expected = network(begun, torch.full((2,), 100.0), conditioning)[1]
    calls = []
    handle = network.register_forward_hook(lambda *_: calls.append(1))
    found = expert.guidance_state(seen, noise)
    handle.remove()
    assert len(calls) == 2
    assert torch.equal(found, expected) and found.shape == (2, SMALL.tokens, SMALL.width)


def test_the_hidden_state_is_the_last_blocks_before_the_final_norm(expert):
    blocks, outputs = expert.decoder.cogvideox.transformer_blocks, []
    handle = blocks[-1].register_forward_hook(lambda module, inputs, output: outputs.append(output[0]))
    found = expert.guidance_state(features(), torch.randn(expert.noise_shape(2)))
    handle.remove()
    assert torch.equal(found, outputs[-1])


def test_padding_is_attended_to_by_nobody(expert):
    noise = torch.randn(expert.noise_shape(1))
    alone = features(1, 5, torch.ones(1, 5, dtype=torch.bool))
    padded = Features(torch.cat([torch.randn(1, 3, 10), alone.tokens], dim=1), torch.tensor([[False] * 3 + [True] * 5]))
    torch.testing.assert_close(expert.rollout(padded, noise), expert.rollout(alone, noise), rtol=1e-4, atol=1e-5)


def test_without_a_mask_the_sequence_is_repeated_and_filled_up(expert):
    """floor(12 / 5) = 2 repetitions and 2 learned tokens; longer ones keep their first 12."""
    found = expert.condition(features()).tokens
    own = expert.vlm_proj(features().tokens)
    filler = expert.decoder.learnable_padding_tokens[:, :2].expand(2, -1, -1)
    project = expert.decoder.cogvideox.patch_embed.text_proj
    assert torch.equal(found, project(torch.cat([own, own, filler], dim=1)))
    longer = features(length=15)
    assert torch.equal(expert.condition(longer).tokens, project(expert.vlm_proj(longer.tokens)[:, :12]))


def test_the_conditioning_is_projected_once_however_many_evaluations_follow(expert):
    calls = []
    handles = [
        module.register_forward_hook(lambda _, inputs, __: calls.append(inputs[0].shape[1]))
        for module in (expert.vlm_proj, expert.decoder.cogvideox.patch_embed.text_proj)
    ]
    expert.rollout(features(), torch.randn(expert.noise_shape(2)))
    for handle in handles:
        handle.remove()
    assert [tokens for tokens in calls if tokens] == [5, 12]


def test_from_scratch_it_begins_with_no_velocity():
    fresh = MotionExpert(SMALL, feature_width=10).eval()
    noise = torch.randn(fresh.noise_shape(1))
    with torch.no_grad():
        assert not fresh.velocity(noise, torch.zeros(1), fresh.condition(features(1))).any()


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"patch_size": 3}, "multiple of patch_size"),
        ({"heads": 3, "head_dim": 5}, "multiple of 16"),
        ({"guidance_steps": 11}, "guidance_steps"),
        ({"horizon": 5}, "the horizon of steps_per_frame"),
        ({"motion_input": "gain"}, "belong to the target data"),
        ({"motion_output": "sigma"}, "belong to the target data"),
        ({"feature_summary": -1}, "feature-summary must lie between"),
    ],
)
def test_nonsense_is_refused(sizes, says):
    with pytest.raises(ValueError, match=says):
        MotionConfig(**sizes)
