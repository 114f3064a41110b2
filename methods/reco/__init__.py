"""reco: refine image and text embeddings with what a memory retrieves. Given captions; labels are never read."""

from trireme.methods.reco.config import RecoConfig
from trireme.methods.reco.method import Reco

__all__ = ["Reco", "RecoConfig"]
