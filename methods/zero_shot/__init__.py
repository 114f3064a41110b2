"""zero_shot: the bare encoder, compared with prompts. Given nothing."""

from trireme.methods.zero_shot.method import ZeroShot, ZeroShotConfig

__all__ = ["ZeroShot", "ZeroShotConfig"]
