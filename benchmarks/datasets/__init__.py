"""Published data sets from their own files, in the layouts that CoOp and torchvision users have. No torch here."""

from trireme.benchmarks.datasets.opening import open_benchmark, open_pairs

__all__ = ["open_benchmark", "open_pairs"]
