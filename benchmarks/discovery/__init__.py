"""Vocabulary-free discovery as FineR evaluates it (Liu et al., arXiv 2401.13837): names are answered that nobody gave.

A benchmark `discovery/NAME` holds the test pictures of a set; its classes are the names that may be answered, and the
true classes are known to its metrics alone. The pair set of that name holds the set's training pictures, each labelled
with a name that was guessed for it; `memory=discovery/NAME@3` draws three pictures of every true class.
"""

from trireme.benchmarks.discovery.opening import open_benchmark, open_pairs

__all__ = ["open_benchmark", "open_pairs"]
