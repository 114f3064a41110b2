"""cascade: a cheap method answers where it is sure, an expensive one where it is not."""

from trireme.methods.cascade.config import CascadeConfig
from trireme.methods.cascade.method import Cascade

__all__ = ["Cascade", "CascadeConfig"]
