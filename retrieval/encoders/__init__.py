"""Encoders: open_clip, transformers and lite behind one protocol (`trireme.retrieval.encoders.base`)."""
