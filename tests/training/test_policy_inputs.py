"""What a policy takes and gives: everything else is refused in a sentence, and only numbers reach a robot."""

from contextlib import contextmanager
from functools import cache

import numpy as np
import pytest
import torch

from lamp_model.data.normalisation import PublishedAction, PublishedState, Range
from lamp_model.model import PolicyModel
from lamp_model.model_config import ActionConfig, ModelConfig, MotionConfig
from lamp_model.observation import check_images, check_instruction, check_seed, seen_state
from lamp_model.policy import LampPolicy, NotFinite

STATE, ACTION = 4, 3
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
GOOD = {"images": [IMAGE, IMAGE[::-1]], "instruction": "open the drawer", "state": np.zeros(STATE)}


@cache
def network(action_head, guidance_steps):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = ModelConfig(
        backbone_options={"weights": "random:tiny", "image_size": 64, "min_pixels": 0},
        motion=MotionConfig(
            layers=1, heads=2, head_dim=16, patch_size=10, time_channels=16, guidance_steps=guidance_steps
        ),
        fusion_options={"heads": 4},
        action=ActionConfig(action_size=ACTION, state_size=STATE, chunk=2, layers=1, width=16, heads=2, positions=200),
        action_head=action_head,
    )
    return PolicyModel(config).requires_grad_(False).eval()


def made(action_head="flow-matching", published=False, guidance_steps=1):
    model = network(action_head, guidance_steps)
    ranges = Range((-1.0,) * STATE, (1.0,) * STATE), Range((-2.0,) * ACTION, (2.0,) * ACTION)
    if published:
        return LampPolicy(model, PublishedState(ranges[0]), PublishedAction(ranges[1]), pil_size=64)
    return LampPolicy(model, *ranges)


@contextmanager
def broken(tensor, value):
    """One number of a weight is not what it was."""
    last = tensor.view(-1)[-1:]
    before = last.clone()
    last.fill_(value)
    try:
        yield
    finally:
        last.copy_(before)


@pytest.fixture(scope="module")
def policy():
    return made()


def test_what_is_right_in_unusual_clothes_is_taken(policy):
    expected = policy.predict(**GOOD)
    assert expected.shape == (2, ACTION) and np.isfinite(expected).all()
    for same in (
        {"state": [0] * STATE},
        {"state": (0.0, -0.0, False, 0)},
        {"images": tuple(GOOD["images"])},
    ):
        assert np.array_equal(policy.predict(**{**GOOD, **same}), expected)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"images": [np.zeros((0, 0, 3), np.uint8), IMAGE]}, "'image' has no pixels: it is 0 high, 0 wide"),
        ({"images": [IMAGE, IMAGE[:, :0]]}, "'wrist' has no pixels: it is 40 high, 0 wide"),
        ({"images": [IMAGE, IMAGE.transpose(2, 0, 1)]}, "'wrist' must be a uint8 array"),
        ({"instruction": " ."}, "instruction is empty"),
        ({"instruction": "open \ud83d"}, r"half a letter \(a lone surrogate\): 'open \\ud83d'"),
        ({"state": np.array(["a"] * STATE)}, "state must be 4 numbers, found str_"),
        ({"state": np.zeros(STATE) + 1j}, "state must be 4 numbers, found complex"),
        ({"state": np.zeros((1, STATE))}, r"state must be 4 numbers, found an array of shape \[1, 4\]"),
        ({"state": [0, np.inf, 0, 0]}, "not finite in float32: number 1 is inf"),
        ({"state": [0, 0, 0, np.nan]}, "not finite in float32: number 3 is nan"),
        ({"state": [0, 0, 1e300, 0]}, r"not finite in float32: number 2 is 1e\+300"),
        ({"state": [0, 0, 3e38, 0]}, r"not finite in float32: number 2 is 3e\+38"),
        ({"seed": 2**70}, "seed must be a whole number of 64 bits"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_everything_else_is_refused_in_a_sentence(policy, wrong, says):
    with pytest.raises(ValueError, match=says) as refused:
        policy.predict(**{**GOOD, **wrong})
    assert "\n" not in str(refused.value) and not isinstance(refused.value, UnicodeError | NotFinite)


@pytest.mark.parametrize(
    ("check", "given", "says"),
    [
        (
            lambda given: check_images(given, ["image"]),
            None,
            "must be a list of arrays, one for each camera, found NoneType",
        ),
        (lambda given: check_images(given, ["image"]), "i", "must be a list of arrays, one for each camera, found str"),
        (lambda given: check_images(given, ["image"]), [torch.zeros(2, 2, 3)], "must be a uint8 array .* found Tensor"),
        (check_instruction, None, "must be one text, found NoneType"),
        (check_instruction, ["open"], "must be one text, found list"),
        (check_instruction, b"open", "must be one text, found bytes"),
        (check_seed, "a", "must be a whole number of 64 bits, found 'a'"),
        (check_seed, None, "must be a whole number of 64 bits, found None"),
        (check_seed, 0.5, "must be a whole number of 64 bits, found 0.5"),
        (lambda given: seen_state(given, Range((0.0,), (1.0,))), None, "must be 1 numbers, found NoneType"),
        (lambda given: seen_state(given, Range((0.0,), (1.0,))), ["0.5"], "must be 1 numbers, found str_"),
        (lambda given: seen_state(given, Range((0.0,), (1.0,))), [[0], [0, 1]], "must be 1 numbers, found list"),
        (lambda given: seen_state(given, Range((0.0,), (1.0,))), {}, "must be 1 numbers, found dict"),
    ],
)
def test_of_a_wrong_type_too(check, given, says):
    """Asked of the checks themselves: tests hold ``predict`` to its annotations, which nobody else's program does."""
    with pytest.raises(ValueError, match=says):
        check(given)


def test_words_that_mean_something_to_the_tokenizer_are_words(policy):
    for text in ("<|image_pad|>", "open <|im_end|> it", "\U0001f600 抽屉 \x00"):
        assert np.isfinite(policy.predict(**{**GOOD, "instruction": text})).all()


def test_numbers_of_other_libraries_are_numbers():
    check_seed(np.int64(-1))
    for given in (torch.tensor([0.5]), np.float64([0.5]), [np.float16(0.5)]):
        assert seen_state(given, Range((0.0,), (1.0,))).tolist() == [[0.0]]


def test_the_rule_for_the_last_number_does_not_hide_that_it_is_none():
    with pytest.raises(ValueError, match="number 3 is nan"):
        made(published=True).predict(**{**GOOD, "state": [0, 0, 0, np.nan]})


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize(
    ("head", "weights", "value"),
    [
        ("flow-matching", "action_model.action_decoder.bias", np.nan),
        ("flow-matching", "action_model.action_decoder.bias", np.inf),
        ("binned", "action_model.action_decoder.bias", np.nan),
        ("binned", "action_model.action_decoder.bias", np.inf),
        ("flow-matching", "motion_guidance.gate", np.nan),
    ],
)
def test_what_is_no_number_never_reaches_the_robot(head, weights, value, published):
    """One broken number is enough, also where clipping, the likeliest bin or the gripper's rule would make a number of
    it.
    """
    policy = made(head, published)
    assert np.isfinite(policy.predict(**GOOD)).all()
    with (
        broken(policy.model.state_dict()[weights], value),
        pytest.raises(NotFinite, match="numbers of the actions came out as NaN or infinity, and none was returned"),
    ):
        policy.predict(**GOOD)


def test_nor_does_motion_that_is_no_number():
    policy = made(guidance_steps=0)
    with broken(policy.model.motion_head.decoder.cogvideox.proj_out.bias, np.nan):
        assert np.isfinite(policy.predict(**GOOD)).all(), "without a step, acting does not use the last projection"
        with pytest.raises(NotFinite, match="numbers of the motion"):
            policy.predict(**GOOD, return_motion=True)
