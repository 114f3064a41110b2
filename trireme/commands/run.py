"""`trireme run`: compute what is missing, then print the leaderboard of the output folder."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from trireme.commands.leaderboard import Choice, leaderboard
from trireme.progress import say
from trireme.request import parse


def run(arguments: Sequence[str]) -> int:
    """Run the comparison asked for; 1 where a run failed, which was told as it happened."""
    request = parse(arguments)  # wrong names are told before anything heavy is imported
    start = time.monotonic()
    from trireme.runner import run_plan

    outcome = run_plan(request, ["trireme", "run", *arguments])
    if outcome.computed or outcome.found:
        leaderboard(request.out, choice=Choice(str(request.role), outcome.benchmarks))
    sys.stdout.flush()
    say(
        f"{outcome.computed} runs computed, {outcome.found} already there, {len(outcome.failures)} failed; "
        f"{outcome.forwards} pictures and texts encoded; {time.monotonic() - start:.1f} s; "
        f"records in {request.out / 'runs'}"
    )
    return 1 if outcome.failures else 0
