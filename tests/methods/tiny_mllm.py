"""Whole multimodal checkpoints of a few hundred kilobytes, randomly initialised: what users run, without a hub.

Each function writes configuration, weights, tokeniser, processor and chat template into a folder and returns it. The
random weights are large enough that pictures and words change the answers visibly. Every file is the same each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    CLIPImageProcessor,
    CLIPVisionConfig,
    FastVlmConfig,
    FastVlmForConditionalGeneration,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
)

from trireme.methods.rankers import chat
from trireme.methods.rankers.base import Prompt

SIDE = 56  # pixels; every family makes 4 picture tokens or more of it
_WIDTH, _HEADS, _LAYERS = 64, 2, 2  # heads of 32: the smallest that vLLM's attention on a CPU takes
_CONTEXT = 512
_TEXT = (
    "Please play the role of a classification expert, and sort the provided categories from high to low according to "
    "the top 5 similarity with the input image. Here are the optional categories:",
    "Your answer should follow the following format, like:['category A', 'category B', 'category C']",
    "Only choose five categories, and no further information. a photo of a red fruit, a green bird, a colt's foot",
    "USER: ASSISTANT: user assistant system You are a helpful assistant. the A B C D E of and is this what",
)
# LLaVA-1.5's own template: pictures first, then the texts of a turn.
_LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for content in message['content'] if content['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] if content['type'] == 'text' %}{{ content['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
_CHATML_TEMPLATE = (
    "{%% for message in messages %%}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{%% if message['content'] is string %%}{{ message['content'] }}{%% else %%}"
    "{%% for content in message['content'] %%}{%% if content['type'] in ('image', 'image_url') %%}{{ '%s' }}"
    "{%% else %%}{{ content['text'] }}{%% endif %%}{%% endfor %%}{%% endif %%}{{ '<|im_end|>\n' }}{%% endfor %%}"
    "{%% if add_generation_prompt %%}{{ '<|im_start|>assistant\n' }}{%% endif %%}"
)


def tiny_llava(folder: Path) -> Path:
    """LLaVA-1.5: a CLIP tower, a projector and Llama. Tensors have the names of the released checkpoints."""
    tokenizer = _tokenizer(("<s>", "</s>", "<pad>", "<image>"), bos="<s>", eos="</s>", pad="<pad>", starts=True)
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=14,
        projection_dim=32,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=_llama(tokenizer),
        image_token_index=_id(tokenizer, "<image>"),
        image_seq_length=(SIDE // 14) ** 2,
    )
    processor = LlavaProcessor(
        image_processor=_clip_pictures(SIDE),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_LLAVA_TEMPLATE,
        image_token="<image>",
    )
    _write(folder, LlavaForConditionalGeneration, config, processor)
    # vLLM's own LLaVA class knows the tower by the released name only, which transformers 5 no longer writes.
    path = folder / "model.safetensors"
    tower, released = "vision_tower.", "vision_tower.vision_model."
    tensors = {
        name.replace(tower, released) if name.startswith(tower) and not name.startswith(released) else name: tensor
        for name, tensor in load_file(path).items()
    }
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


def tiny_fastvlm(folder: Path) -> Path:
    """FastVLM, as the `lite` ranker is built: a timm network, a projector and Llama."""
    specials = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>")
    tokenizer = _tokenizer(specials, bos="<|im_start|>", eos="<|im_end|>", pad="<|endoftext|>")
    side = 64
    vision = AutoConfig.for_model(
        "timm_wrapper",
        architecture="test_efficientnet",
        hidden_size=256,
        do_pooling=False,
        num_classes=0,
    )
    config = FastVlmConfig(
        vision_config=vision,
        text_config=_llama(tokenizer),
        image_token_index=_id(tokenizer, "<image>"),
        image_seq_length=(side // 32) ** 2,
    )
    processor = LlavaProcessor(
        image_processor=_clip_pictures(side),
        tokenizer=tokenizer,
        patch_size=32,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        chat_template=_CHATML_TEMPLATE % "<image>",
        image_token="<image>",
    )
    return _write(folder, FastVlmForConditionalGeneration, config, processor)


def tiny_qwen(folder: Path) -> Path:
    """Qwen2.5-VL: pictures of any size, 28 pixels a token and side."""
    from transformers import Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    marks = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = _tokenizer(
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *marks), bos=None, eos="<|im_end|>", pad="<|endoftext|>"
    )
    text: dict[str, Any] = {
        **_sizes(tokenizer),
        "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10000.0},
    }
    vision = {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": _WIDTH,
        "fullatt_block_indexes": [1],
        "window_size": 56,
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=_id(tokenizer, "<|image_pad|>"),
        video_token_id=_id(tokenizer, "<|video_pad|>"),
        vision_start_token_id=_id(tokenizer, "<|vision_start|>"),
        vision_end_token_id=_id(tokenizer, "<|vision_end|>"),
    )
    pixels = {"min_pixels": SIDE * SIDE, "max_pixels": 4 * SIDE * SIDE}
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**pixels),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**pixels),
        chat_template=_CHATML_TEMPLATE % "<|vision_start|><|image_pad|><|vision_end|>",
    )
    return _write(folder, Qwen2_5_VLForConditionalGeneration, config, processor)


def _tokenizer(
    specials: Sequence[str], bos: str | None, eos: str, pad: str, starts: bool = False
) -> PreTrainedTokenizerFast:
    """A byte-level BPE: every text has tokens, common words have one. `starts`: it puts `bos` before a text."""
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(_TEXT, trainer)
    if starts and bos:
        model.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, model.token_to_id(bos))]
        )
    names = {"eos_token": eos, "pad_token": pad} | ({"bos_token": bos} if bos else {})
    extra = [token for token in specials if token not in names.values()]
    return PreTrainedTokenizerFast(
        tokenizer_object=model, additional_special_tokens=extra, model_max_length=_CONTEXT, **names
    )


def _id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    return int(tokenizer.convert_tokens_to_ids(token))


def _sizes(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": _WIDTH,
        "intermediate_size": 2 * _WIDTH,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _HEADS,
        "max_position_embeddings": _CONTEXT,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _llama(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(**_sizes(tokenizer))


def _clip_pictures(side: int) -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


def _write(folder: Path, kind: Any, config: Any, processor: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(config).eval()
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "timm_model" not in name:
                torch.nn.init.normal_(parameter, std=1.5 / parameter[0].numel() ** 0.5)
        _calibrate(model)
    tokenizer = processor.tokenizer
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _calibrate(model: torch.nn.Module) -> None:
    """Give batch norms the statistics of noise; with those of the start, a random network forgets its picture."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    if norms:
        for norm in norms:
            norm.momentum = 1.0
            norm.train()
        with torch.no_grad():
            model.get_submodule("model.vision_tower")(torch.randn(8, 3, 64, 64))
        model.eval()


def tiny_adapter(model: Path, folder: Path) -> Path:
    """A LoRA adapter of rank 4 on the language model of a checkpoint, random and strong, in peft's format."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForImageTextToText

    targets = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        base = AutoModelForImageTextToText.from_pretrained(model)
        adapted = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=targets, init_lora_weights=False))
    adapted.save_pretrained(str(folder))
    return folder


@torch.inference_mode()
def continuation_logprobs(model: Any, processor: Any, prompt: Prompt, ids: list[int]) -> list[float]:
    """Log-probability of each token of a continuation, in one pass without any cache."""
    text = chat.render(processor, prompt)
    images = chat.pictures(prompt, 0, chat.blank_side(processor))
    special = chat.adds_special_tokens(processor, text)
    inputs = dict(processor(text=[text], images=[images], add_special_tokens=special, return_tensors="pt"))
    start = inputs["input_ids"].shape[1]
    inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([ids])], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if "mm_token_type_ids" in inputs:
        rest = torch.zeros(1, len(ids), dtype=inputs["mm_token_type_ids"].dtype)
        inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], rest], 1)
    rows = model(**inputs).logits[0].log_softmax(-1)[start - 1 : -1]
    return rows[range(len(ids)), ids].tolist()
