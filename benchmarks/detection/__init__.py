"""Detection: boxes of LVIS, COCO, V3Det and of the world's scenes, with average precision by `faster-coco-eval`."""

from trireme.benchmarks.detection.benchmark import DetectionBenchmark, write_results
from trireme.benchmarks.detection.sets import open_benchmark

__all__ = ["DetectionBenchmark", "open_benchmark", "write_results"]
