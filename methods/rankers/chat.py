"""From a prompt to what a multimodal model is given: the checkpoint's own chat template, and pictures in memory.

Both local engines use this one path, so that they see the same text and the same pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from trireme.errors import TriremeError, UsageError
from trireme.methods.rankers.base import Prompt
from trireme.retrieval.pictures import open_picture

# The side of a blank picture where the processor takes pictures of any size (Qwen2.5-VL).
_FREE_SIDE = 336


def load_processor(model: str, revision: str = "") -> Any:
    """The processor of a checkpoint: a local folder, or a hub id (at `revision`).

    Raises:
        UsageError: it cannot be loaded, takes no pictures, or has no chat template.
    """
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(model, revision=revision or None)
    except Exception as error:  # the hub, transformers and tokenizers each raise their own kinds
        raise UsageError(f"cannot load the processor of '{model}': {first_line(error)}") from error
    if getattr(processor, "image_processor", None) is None:
        raise UsageError(f"'{model}' takes no pictures; a ranker needs a multimodal checkpoint with its processor")
    if not getattr(processor, "chat_template", None):
        raise UsageError(
            f"the processor of '{model}' has no chat template; save one beside it as chat_template.jinja "
            "(processor.chat_template = ..., processor.save_pretrained(...))"
        )
    return processor


def messages(prompt: Prompt) -> list[dict[str, Any]]:
    """One user turn; texts and pictures in their order, empty texts left out."""
    content: list[dict[str, str]] = []
    for position, text in enumerate(prompt.texts):
        if text:
            content.append({"type": "text", "text": text})
        if position < len(prompt.images):
            content.append({"type": "image"})
    return [{"role": "user", "content": content}]


def render(processor: Any, prompt: Prompt) -> str:
    """The text of a prompt, one placeholder for each picture, up to where the model goes on.

    The template opens the assistant's turn, and `Prompt.answer` follows it letter by letter.

    Raises:
        UsageError: the processor has no chat template, or its template fails on a plain user turn.
    """
    if len(prompt.texts) != len(prompt.images) + 1:
        raise UsageError(f"a prompt of {len(prompt.images)} pictures has {len(prompt.texts)} texts, not one more")
    if not getattr(processor, "chat_template", None):
        raise UsageError(f"{type(processor).__name__} has no chat template; the checkpoint needs one to be asked")
    try:
        text = processor.apply_chat_template(messages(prompt), add_generation_prompt=True, tokenize=False)
    except Exception as error:  # jinja2 and whatever a template raises itself
        raise UsageError(f"the chat template of {type(processor).__name__} fails: {first_line(error)}") from error
    return str(text) + prompt.answer


def adds_special_tokens(processor: Any, text: str) -> bool:
    """Whether the tokeniser has to add its special tokens to a rendered text: not where the template wrote them."""
    bos = getattr(processor.tokenizer, "bos_token", None)
    return not (bos and text.startswith(bos))


def pictures(prompt: Prompt, image_size: int = 0, blank: int = _FREE_SIDE) -> list[Image.Image]:
    """The RGB pictures of a prompt, regions cut out of theirs.

    Args:
        image_size: the longer side of every picture in pixels, aspect ratio kept; 0 leaves them as they are.
        blank: the side of a blank picture (`Prompt.images` holds None) where `image_size` is 0; see `blank_side`.

    Raises:
        DataError: a picture cannot be read.
    """
    return [
        blank_image(image_size or blank) if ref is None else resize(open_picture(ref), image_size)
        for ref in prompt.images
    ]


def blank_image(side: int) -> Image.Image:
    """A white RGB square."""
    return Image.new("RGB", (side, side), (255, 255, 255))


def resize(image: Image.Image, side: int) -> Image.Image:
    """`image` with a longer side of `side` pixels (bicubic, aspect ratio kept); as it is for 0."""
    longest = max(image.size)
    if side <= 0 or longest == side:
        return image
    width, height = (max(1, round(length * side / longest)) for length in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def blank_side(processor: Any) -> int:
    """The side in pixels to which a processor brings every picture; 336 where it has none of its own."""
    images = processor.image_processor
    for name in ("crop_size", "size"):
        size = _mapping(getattr(images, name, None))
        if size.get("height") and size.get("height") == size.get("width"):
            return int(size["height"])
    config = _mapping(getattr(images, "data_config", None))  # the timm wrapper: {"input_size": (3, side, side)}
    shape = config.get("input_size")
    return int(shape[-1]) if isinstance(shape, Sequence) and len(shape) == 3 else _FREE_SIDE


def continuation_ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a continuation, tokenised apart from its prompt; appended to the ids of the prompt.

    Raises:
        UsageError: there are none (an empty text).
    """
    ids = [int(i) for i in tokenizer(text, add_special_tokens=False)["input_ids"]]
    if not ids:
        raise UsageError(f"the continuation {text!r} has no token")
    return ids


def option_ids(tokenizer: Any, options: Sequence[str]) -> list[int]:
    """The one token of each option.

    Raises:
        UsageError: an option is not exactly one token, or two options are the same token.
    """
    ids = []
    for option in options:
        found = continuation_ids(tokenizer, option)
        if len(found) != 1:
            raise UsageError(f"the option {option!r} is {len(found)} tokens of this model, not one; use mode=score")
        ids.append(found[0])
    if len(set(ids)) != len(ids):
        raise UsageError(f"two of the options {list(options)} are the same token of this model")
    return ids


def first_line(error: BaseException) -> str:
    """The first line of an error, at most 200 letters; the kind of error where it has no text."""
    if isinstance(error, TriremeError):
        return str(error)
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]


def _mapping(value: Any) -> Mapping[str, Any]:
    """A size of an image processor, a dict in transformers 4 and a small object in 5."""
    if isinstance(value, Mapping):
        return value
    return vars(value) if hasattr(value, "__dict__") else {}
