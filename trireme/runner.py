"""Running a comparison: each run resumes where a killed one stopped, and a finished one is not computed again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from trireme import environment
from trireme.answers import answered, check_repeated
from trireme.contexts import Phases, make_context
from trireme.customised import customised_file
from trireme.errors import BrokenRuleError, TriremeError
from trireme.faults import describe
from trireme.files import locked
from trireme.guard import Check, guarded
from trireme.methods.base import Method
from trireme.methods.both_ways import BothWays, retrieves
from trireme.partial import Gathered, Partial, as_table, check_answered, unanswered
from trireme.plan import Failure, Run, make_plan
from trireme.progress import progress, say
from trireme.readable import Readable
from trireme.record import assemble, lacking, without_reply
from trireme.request import Request
from trireme.results.migrations import NewerSchemaError
from trireme.results.records import RunRecord, read_run, settle, write_run
from trireme.scoring import all_scores, scored_table
from trireme.types import Predictions, Role, Sample
from trireme.workbench import Workbench


@dataclass
class Outcome:
    """What became of a plan: runs computed and found, why others failed, what went through a model.

    `runs` are the hashes of all that was asked for.
    """

    computed: int = 0
    found: int = 0
    benchmarks: set[str] = field(default_factory=set)
    failures: list[Failure] = field(default_factory=list)
    forwards: int = 0
    runs: set[str] = field(default_factory=set)


def run_plan(request: Request, command: Sequence[str]) -> Outcome:
    """Compute every run asked for that is not finished. A run that fails does not stop the others.

    Args:
        command: the command line, for the records.

    Raises:
        TriremeError: nothing can be planned at all.
    """
    with closing(Workbench(request, customised_file)) as bench:
        return _run_plan(request, command, bench)


def _run_plan(request: Request, command: Sequence[str], bench: Workbench) -> Outcome:
    runs, failures = make_plan(request, bench)
    _say_failures(failures)
    found = {run.hash: find_finished(request, run, bench) for run in runs}
    waiting = [run for run in runs if found[run.hash] is None]
    outcome = Outcome(found=len(runs) - len(waiting), failures=list(failures), runs={run.hash for run in runs})
    # a found record may call the same pictures by another path: the table shows its name
    outcome.benchmarks = {bench.benchmark(run.benchmark).name for run in waiting}
    outcome.benchmarks |= {record.benchmark for record in found.values() if record is not None}
    for position, run in enumerate(waiting, 1):
        say(f"[{position}/{len(waiting)}] {run}")
        try:
            if execute(run, bench, command):
                outcome.computed += 1
            else:
                outcome.found += 1
        except (Exception, SystemExit) as error:  # a plugin may raise anything; the other runs go on
            reason, _ = describe(error)
            outcome.failures.append(Failure(str(run), reason))
            say(f"failed: {f'{run}: ' if run.plugins else ''}{reason}")
    outcome.forwards = bench.forwards
    return outcome


def _say_failures(failures: Sequence[Failure]) -> None:
    """One line a reason: what cannot be planned fails alike for every method and seed."""
    by_reason: dict[str, list[str]] = {}
    for failure in failures:
        by_reason.setdefault(failure.reason, []).append(failure.what)
    for reason, runs in by_reason.items():
        more = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
        say(f"failed: {runs[0]}{more}: {reason}")


def fit_plan(request: Request) -> Iterator[tuple[Run, Method]]:
    """Fit every method asked for, predict nothing; the fitted methods.

    Raises:
        TriremeError: one of them cannot be planned or fitted.
    """
    with closing(Workbench(request, customised_file)) as bench:
        runs, failures = make_plan(request, bench)
        if failures:
            raise TriremeError(failures[0].reason)
        for run in runs:
            method: Method = run.method_class(deepcopy(run.method.config))
            method.fit(make_context(run, bench, bench.benchmark(run.benchmark), Phases()))
            yield run, method


def find_finished(request: Request, run: Run, bench: Workbench) -> RunRecord | None:
    """The record of this run, whatever its method was called when it was computed; None where one is to be made.

    A record that lacks pictures which can be read by now, or replies of a ranker, is made again.
    """
    record = _stored(request, run)
    if record is None or _why_again(record, run, bench):
        return None
    if record.method != run.method.label:
        say(f"note: {run.method.label} is the same run as {record.method}; the table shows the latter")
    return record


def _stored(request: Request, run: Run) -> RunRecord | None:
    """The record that is there. A damaged one is named."""
    for folder in sorted((request.out / "runs").glob(f"*--{run.hash}")):
        if folder.name.startswith("."):
            continue
        try:
            record = read_run(folder)
        except NewerSchemaError:
            raise  # it is whole; computing it again would end in the same refusal
        except TriremeError as error:
            say(f"warning: {error}")
            continue
        if record.run == run.hash:
            return record
    return None


def _why_again(record: RunRecord, run: Run, bench: Workbench) -> str:
    """Why a record should be made again; "" for a finished one."""
    if _repaired(record, run, bench):
        return "pictures that could not be read before can be read now; computing it again"
    lost = without_reply(record.data)
    return f"{lost} samples got no reply before; asking for them again" if lost else ""


def _repaired(record: RunRecord, run: Run, bench: Workbench) -> bool:
    """Whether fewer pictures fail today than the record says. Pictures with a manifest hash keep their fingerprint."""
    data = record.data
    lacking = {(run.benchmark, run.role): {one["id"] for one in data["samples"]["failures"]}}
    if run.validation is not None and data.get("validation"):
        lacking[run.validation, Role.VALIDATION] = {one["id"] for one in data["validation"]["failures"]}
    store = bench.encoder(run.encoder).store
    for (name, role), ids in lacking.items():
        refs = [sample.image for sample in bench.samples(name, role) if sample.id in ids] if ids else []
        if len(store.prepare(refs)) < len(refs):
            return True
    unreadable = (data["memory"] or {}).get("manifest", {}).get("counts", {}).get("unreadable", 0)
    if not unreadable or run.memory is None:
        return False
    # builds itself anew where its pictures are back
    memory = bench.memory(run.memory, run.encoder, run.benchmark, run.seed)
    return bool(memory.manifest["counts"]["unreadable"] < unreadable)


def execute(run: Run, bench: Workbench, command: Sequence[str]) -> bool:
    """Compute one run and store its record; another process that computes the same run is waited for.

    A record that lacks something stays as it is until one that lacks less is complete.

    Returns:
        False where the other process finished it, or where the record that is there stays.

    Raises:
        TriremeError: it cannot be computed; nothing that looks finished is left.
    """
    request = bench.request
    partial = Partial(request.out, run.hash)
    with locked(partial.folder):
        settle(request.out, run.hash)
        before = _stored(request, run)
        if before is not None:
            why = _why_again(before, run, bench)
            if not why:
                partial.remove()
                return False
            say(f"{run}: {why}")
        try:
            record, predictions = _compute(run, bench, command, partial)
        except BrokenRuleError:
            if run.by_plugin:  # what it answered before is not to be believed either
                partial.remove(finished=False)
            raise
        if before is not None:
            record |= {"name": before.folder.name, "method": {**record["method"], "name": before.method}}
        better = before is None or lacking(record) < lacking(before.data)
        if better:
            write_run(request.out, record, predictions, replace=True)
        else:
            say(f"{run}: it would still lack as much; its record stays as it is")
        partial.remove(finished=not without_reply(record))
    return better


def _compute(run: Run, bench: Workbench, command: Sequence[str], partial: Partial) -> tuple[dict[str, Any], pa.Table]:
    """The record of one run and its table of predictions.

    Raises:
        TriremeError: it cannot be computed.
    """
    environment.reset_peak_memory()
    phases = Phases()
    benchmark = bench.benchmark(run.benchmark)
    with phases("encode"):
        readable = bench.readable(run.benchmark, run.role, run.encoder)
    context = make_context(run, bench, benchmark, phases)
    config = deepcopy(run.method.config)
    with guarded(run, bench, config) as check:
        method: Method = run.method_class(config)
        with phases("fit"):
            method.fit(context)
            check()
        with phases("predict"):
            gallery_of = getattr(benchmark, "gallery_of", None)
            answers = BothWays(method, readable.samples, context.keep, gallery_of) if retrieves(benchmark) else method
        storing = _Storing(partial, check, bench.request.batch_size)
        table, predicted = _predict(run, answers, len(benchmark.class_ids), readable, storing, phases)
    with phases("score"):
        predictions = scored_table(benchmark, readable, table)
        scored = all_scores(benchmark, run.role, predictions)
    record = assemble(run, bench, context, method, readable, predictions, phases.seconds, predicted)
    return record | scored | {"command": shlex.join(command)}, predictions


@dataclass(frozen=True, slots=True)
class _Storing:
    """Where batches of answers go, what is called before, and how large they are."""

    partial: Partial
    check: Check
    batch_size: int


def _predict(
    run: Run,
    method: Method | BothWays,
    classes: int,
    readable: Readable,
    storing: _Storing,
    phases: Phases,
) -> tuple[pa.Table | None, int]:
    """All predictions, those of earlier processes included, and how many were computed now.

    Raises:
        BrokenRuleError: the method gives what cannot be scored.
        DataError: a ranker gave no reply for more than 1 % of the samples; told as soon as it is certain.
    """
    partial, batch_size = storing.partial, storing.batch_size
    with phases("predict"):
        stored = method.still_true(partial.load()) if isinstance(method, BothWays) else partial.load()
        done = set(stored["sample_id"].to_pylist()) if stored is not None else set()
        left = [sample for sample in readable.samples if sample.id not in done]
        if done and left:
            say(f"going on after {len(done)} of {len(readable.samples)} samples")
        gathered = Gathered(stored)
        lost: list[tuple[str, str]] = []
        first: tuple[Sequence[Sample], Predictions] | None = None
        with progress(f"predict {run.method.label}", len(left), "samples") as bar:
            for start in range(0, len(left), batch_size):
                batch = left[start : start + batch_size]
                asked, repeats = [sample.unlabelled() for sample in batch], isinstance(method, BothWays)
                predictions = answered(method, asked, classes, run.method.label, repeats)
                first = first or (asked, predictions)
                table = as_table(batch, predictions, run.method.label)
                storing.check()
                partial.add(table)
                gathered.add(table)
                lost += unanswered(table)
                check_answered(lost, len(done) + start + len(batch), len(readable.asked))
                bar.advance(len(batch))
        if first and run.by_plugin and not isinstance(method, BothWays):
            check_repeated(method, *first, run.method.label)
        if lost:
            say(f"warning: no reply for {len(lost)} samples, which keep the order of retrieval; run again to ask again")
    return gathered.take(), len(left)
