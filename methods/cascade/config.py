"""The options of cascade."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from trireme.errors import UsageError, unknown_name
from trireme.methods.cascade.confidence import KINDS
from trireme.types import INNER

CHOICES = ("budget", "score")


@dataclass
class CascadeConfig:
    """Options of cascade.

    Attributes:
        cheap: the method that every sample is asked of, `{method: NAME}` with options of NAME beside it.
        expensive: the method that is asked where the cheap one is not sure, likewise.
        confidence: how sure the cheap one is: "margin", the score of its first class less that of its second, or
            "probability", the softmax of its scores at a temperature that is fitted on validation.
        choose: "budget" spends the budget; "score" takes the best of `shares` within it, both on validation.
        budget: largest share of the validation samples that may be asked of the expensive method, 0 to 1. At 0 and 1
            nothing is chosen: none or all are asked.
        threshold: ask where the confidence is below this; null: chosen on validation.
        shares: points of the cost curve on validation, for the record.
        may_lose: points that a subset may lose against the cheap method on validation, with choose=score.
    """

    cheap: dict[str, Any] = field(default_factory=lambda: {"method": "knn"}, metadata=INNER)
    expensive: dict[str, Any] = field(default_factory=lambda: {"method": "rar"}, metadata=INNER)
    confidence: str = "margin"
    choose: str = "budget"
    budget: float = 0.2
    threshold: float | None = None
    shares: list[float] = field(default_factory=lambda: [0.0, 0.05, 0.1, 0.2, 0.5, 1.0])
    may_lose: dict[str, float] = field(default_factory=dict)

    @property
    def is_extreme(self) -> bool:
        """Whether the budget says by itself whom to ask: nobody, or everybody."""
        return self.threshold is None and self.choose == "budget" and self.budget in (0, 1)


def check(config: CascadeConfig) -> None:
    """Refuse what cannot work.

    Raises:
        UsageError: a part that is missing, an unknown name, or a number out of its range.
    """
    for part in ("cheap", "expensive"):
        if not getattr(config, part):
            raise UsageError(f"cascade needs a method as {part}; write {part}: {{method: NAME}}")
    for option, known in (("confidence", KINDS), ("choose", CHOICES)):
        if getattr(config, option) not in known:
            raise unknown_name(f"{option} of cascade", getattr(config, option), known)
    for option, values in (("budget", [config.budget]), ("shares", config.shares)):
        if not all(0 <= value <= 1 for value in values):
            raise UsageError(f"cascade: {option}={getattr(config, option)}; shares of the samples are from 0 to 1")
    if config.choose == "score" and not any(share <= config.budget for share in config.shares):
        raise UsageError(f"cascade: shares={config.shares} has none within budget={config.budget:g}; list 0")
    if config.threshold is not None and not math.isfinite(config.threshold):
        raise UsageError(f"cascade: threshold={config.threshold}; give a number, or budget=0 (nobody), budget=1 (all)")
    if config.threshold is not None and config.choose == "score":
        raise UsageError("cascade: threshold is given, so choose=score has nothing to choose; leave one of them out")
