"""Progress on stderr: a bar with rate and ETA on a terminal, a line now and then elsewhere. stdout stays clean."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


def say(message: str) -> None:
    """One line for a person, on stderr."""
    print(message, file=sys.stderr, flush=True)


class Progress:
    """Counts done units. Call `advance` with how many more are done."""

    def __init__(self, label: str, total: int, unit: str) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = 0
        self._start = time.monotonic()
        self._last_line = self._start

    def advance(self, n: int = 1) -> None:
        """Count n more, and say so every 15 seconds."""
        self.done += n
        now = time.monotonic()
        if now - self._last_line >= 15:
            self._last_line = now
            say(self._line(now))

    def _line(self, now: float) -> str:
        seconds = max(now - self._start, 1e-9)
        rate = self.done / seconds
        left = (self.total - self.done) / rate if rate else float("inf")
        return f"{self.label}: {self.done}/{self.total} {self.unit}, {rate:.1f} {self.unit}/s, {left:.0f} s left"

    def close(self) -> None:
        seconds = time.monotonic() - self._start
        if seconds >= 5:
            say(f"{self.label}: {self.done} {self.unit} in {seconds:.0f} s ({self.done / max(seconds, 1e-9):.1f}/s)")


class _RichProgress(Progress):
    def __init__(self, label: str, total: int, unit: str) -> None:
        super().__init__(label, total, unit)
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        speed = TextColumn("{task.fields[rate]}")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn())
        self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(label, total=total, rate="")
        self._bar.start()

    def advance(self, n: int = 1) -> None:
        """Count n more."""
        self.done += n
        rate = self.done / max(time.monotonic() - self._start, 1e-9)
        self._bar.update(self._task, advance=n, rate=f"{rate:.1f} {self.unit}/s")

    def close(self) -> None:
        self._bar.stop()
        super().close()


@contextmanager
def progress(label: str, total: int, unit: str = "images") -> Iterator[Progress]:
    """`with progress("encode lite", n) as bar: ... bar.advance(len(batch))`."""
    bar = _RichProgress(label, total, unit) if sys.stderr.isatty() else Progress(label, total, unit)
    try:
        yield bar
    finally:
        bar.close()
