"""react: customise the encoder on retrieved image-caption pairs, then compare pictures with prompts as CLIP does."""

from trireme.methods.react.config import ReactConfig
from trireme.methods.react.method import React

__all__ = ["React", "ReactConfig"]
