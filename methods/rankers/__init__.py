"""Multimodal models that put candidate names in order for a picture; any method may use them (RAR does)."""
