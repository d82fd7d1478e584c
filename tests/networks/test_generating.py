"""Answers of a backbone: the likeliest words, found in a second way, whoever else is in the batch and whatever the
model's own taste.
"""

import pytest
import torch
from fixtures.vlm import FAMILIES, write_model
from transformers import GenerationConfig

from lamp_model.backbones import qwen3_vl, transformers_vlm
from lamp_model.features import Writer

QUESTIONS = ["What does the robot do?", "open the middle drawer of the cabinet, then what?"]
MOST = 6


@pytest.fixture(scope="module")
def qwen():
    torch.set_num_threads(1)
    return qwen3_vl.build(qwen3_vl.Config(weights="random:tiny"))


def pictures(seed: int = 0, batch: int = 2, cameras: int = 2) -> list[torch.Tensor]:
    dice = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 256, (batch, 48, 64, 3), dtype=torch.uint8, generator=dice) for _ in range(cameras)]


@torch.no_grad()
def by_hand(backbone, images, question: str) -> str:
    """One token after the other, each from a whole pass over everything before it."""
    inputs = backbone._inputs(images, backbone._chat([question], len(images)))
    first = inputs["input_ids"].shape[1]
    for _ in range(MOST):
        token = backbone.model(**inputs).logits[:, -1].argmax(-1, keepdim=True)
        if token.item() == backbone.tokenizer.eos_token_id:
            break
        one = torch.ones_like(token)
        inputs["input_ids"] = torch.cat([inputs["input_ids"], token], 1)
        inputs["attention_mask"] = torch.cat([inputs["attention_mask"], one], 1)
        inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], 0 * one.int()], 1)
    return backbone.tokenizer.decode(inputs["input_ids"][0, first:], skip_special_tokens=True)


def test_the_answer_is_the_likeliest_words_one_after_the_other(qwen):
    images = pictures()
    answers = qwen.generate(images, QUESTIONS, MOST)
    expected = [by_hand(qwen, [i[n : n + 1] for i in images], q) for n, q in enumerate(QUESTIONS)]
    assert answers == expected and all(answers)


def test_a_model_that_likes_to_gamble_is_not_let(qwen):
    before = qwen.generate(pictures(), QUESTIONS, MOST)
    taste, qwen.model.generation_config = (
        qwen.model.generation_config,
        GenerationConfig(do_sample=True, temperature=9.0),
    )
    try:
        assert qwen.generate(pictures(), QUESTIONS, MOST) == before
    finally:
        qwen.model.generation_config = taste


@pytest.mark.parametrize("family", FAMILIES)
def test_any_model_of_transformers_answers_too(tmp_path, family):
    folder = write_model(family, tmp_path)
    backbone = transformers_vlm.build(transformers_vlm.Config(weights=str(folder), image_size=40))
    assert isinstance(backbone, Writer)
    images, last = pictures(), []
    backbone.model.register_forward_hook(lambda model, given, made: last.append(made))
    said = backbone.generate(images, QUESTIONS, 1)
    likeliest = last[-1].logits[:, -1].argmax(-1, keepdim=True)
    assert said == backbone.processor.tokenizer.batch_decode(likeliest, skip_special_tokens=True)
    assert said == backbone.generate(images, QUESTIONS, 1)
