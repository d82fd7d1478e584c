"""The layout of motion: golden places and the way back."""

import pytest
import torch

from lamp_model.networks.motion_layout import denormalise, normalise, pack, unpack


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_unpacking_undoes_packing(steps):
    motion = torch.randn(2, 25, 8, 3)
    assert torch.equal(unpack(pack(motion, steps), steps), motion)


def test_the_published_shape():
    assert pack(torch.zeros(1, 400, 32, 3)).shape == (1, 16, 6, 20, 20)


def test_where_an_increment_lands():
    """Component-major: channel = 2 * component + step within the pair; keypoints row by row."""
    motion = torch.zeros(1, 400, 32, 3)
    row, column, step, component = 3, 7, 11, 2
    motion[0, row * 20 + column, step, component] = 1
    found = pack(motion).nonzero().tolist()
    assert found == [[0, step // 2, 2 * component + step % 2, row, column]]


def test_normalisation_is_the_published_one():
    torch.testing.assert_close(normalise(torch.tensor([0.05, -0.05, 0.04])), torch.tensor([1.0, -1.0, 1.0]))
    motion = torch.randn(4, 3)
    torch.testing.assert_close(denormalise(normalise(motion)), motion)


@pytest.mark.parametrize("shape", [(1, 24, 8, 3), (1, 25, 7, 3)])
def test_what_cannot_be_packed_is_refused(shape):
    with pytest.raises(ValueError, match="square number of keypoints"):
        pack(torch.zeros(shape))
