"""Small random vision-language models of other families than Qwen, written to a folder as transformers writes them."""

from pathlib import Path

import torch
from transformers import (
    CLIPVisionConfig,
    GemmaConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    SiglipVisionConfig,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava.processing_llava import LlavaProcessor
from transformers.models.paligemma.processing_paligemma import PaliGemmaProcessor
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from lamp_model.backbones._qwen3_vl_random import CHAT_TEMPLATE, tokenizer

VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
VISION |= {"image_size": 28, "patch_size": 14}
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT |= {"num_key_value_heads": 2, "head_dim": 8, "vocab_size": 1100}
TEMPLATE = CHAT_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "<image>")


def llava():
    """CLIP, a projector and Llama; images cut to a square."""
    words = tokenizer()
    words.add_special_tokens({"additional_special_tokens": ["<image>"]})
    pictures = LlavaImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    options = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=LlamaConfig(**TEXT),
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    return LlavaForConditionalGeneration(config), LlavaProcessor(pictures, words, chat_template=TEMPLATE, **options)


def paligemma():
    """SigLIP and Gemma; no conversations, and attention in both directions over the prompt."""
    words = tokenizer()
    words.chat_template, words.bos_token = None, "<|im_start|>"
    pictures = SiglipImageProcessorPil(size={"height": 28, "width": 28})
    pictures.image_seq_length = 4
    processor = PaliGemmaProcessor(pictures, words)
    config = PaliGemmaConfig(
        vision_config=SiglipVisionConfig(**VISION),
        text_config=GemmaConfig(**{**TEXT, "vocab_size": 2400}),
        image_token_index=processor.image_token_id,
        projection_dim=32,
    )
    return PaliGemmaForConditionalGeneration(config), processor


def idefics3():
    """SigLIP with pixel shuffling and Llama; its language model is called otherwise."""
    words = tokenizer()
    pictures = Idefics3ImageProcessorPil(
        size={"longest_edge": 28}, max_image_size={"longest_edge": 28}, do_image_splitting=False
    )
    processor = Idefics3Processor(pictures, words, image_seq_len=1, chat_template=TEMPLATE)
    config = Idefics3Config(
        vision_config=VISION,
        text_config=LlamaConfig(**TEXT),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    return Idefics3ForConditionalGeneration(config), processor


FAMILIES = {"llava": llava, "paligemma": paligemma, "idefics3": idefics3}


def write_model(family: str, folder: Path) -> Path:
    """A small random model of a family, and its processor."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, processor = FAMILIES[family]()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
