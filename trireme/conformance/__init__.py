"""What authors check a method, a benchmark, an encoder or a ranker with, on the command line and in their own tests.

    from trireme.conformance import check_method

    def test_it_conforms():
        report = check_method("mine")
        assert report.passed, report

The mock tasks, encoder and ranker are registered too: `trireme run suite=mock` needs no download. See
docs/add-a-method.md.
"""

from trireme.conformance.check import (
    BENCHMARK_RULES,
    CHECKS,
    ENCODER_RULES,
    METHOD_RULES,
    RANKER_RULES,
    check_benchmark,
    check_encoder,
    check_method,
    check_ranker,
)
from trireme.conformance.report import Outcome, Report

__all__ = [
    "BENCHMARK_RULES",
    "CHECKS",
    "ENCODER_RULES",
    "METHOD_RULES",
    "RANKER_RULES",
    "Outcome",
    "Report",
    "check_benchmark",
    "check_encoder",
    "check_method",
    "check_ranker",
]
