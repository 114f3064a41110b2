"""rar: retrieve candidate classes, let a multimodal model rank them (RAR, arXiv 2403.13805)."""

from trireme.methods.rar.config import RarConfig
from trireme.methods.rar.method import Rar

__all__ = ["Rar", "RarConfig"]
