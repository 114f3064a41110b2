"""`memory=@N`: N pictures a class of each benchmark's own memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from trireme.errors import UsageError
from trireme.plan import _settings, default_memory
from trireme.request import parse, parse_parts


def test_each_benchmark_draws_from_its_own_memory() -> None:
    request = parse(["benchmark=coop/dtd,world/food", "method=knn", "memory=@4,@8", "memory.draw=first"])
    assert [(benchmark, memory) for _, benchmark, memory in _settings(request, request.benchmarks)] == [
        ("coop/dtd", "coop/dtd@4"),
        ("coop/dtd", "coop/dtd@8"),
        ("world/food", "world@4"),
        ("world/food", "world@8"),
    ]
    assert request.overrides == {("memory", ""): {"draw": "first"}}, "of whatever is opened"


def test_the_suite_of_rars_table_draws_four_and_eight() -> None:
    request = parse(["suite=few_shot"])
    settings = list(_settings(request, request.benchmarks))
    assert len(settings) == 22
    assert {memory for _, benchmark, memory in settings if benchmark == "rafdb"} == {"rafdb@4", "rafdb@8"}
    assert all(default_memory(name) == name for name in (*request.benchmarks, *parse(["suite=elevater"]).benchmarks))


def test_your_own_pictures_have_no_memory_to_draw_from(tmp_path: Path) -> None:
    request = parse([f"benchmark=folder:{tmp_path}", "method=knn", "memory=@4"])
    with pytest.raises(UsageError, match=r"memory=@4 draws from a benchmark's own memory, and folder:.* has none"):
        list(_settings(request, request.benchmarks))


@pytest.mark.parametrize("memory", ["@0", "@", "@four", "@-1"])
def test_what_is_no_number_of_pictures_is_no_memory(memory: str) -> None:
    with pytest.raises(UsageError, match="memory"):
        parse(["benchmark=coop/dtd", "method=knn", f"memory={memory}"])


def test_a_memory_alone_has_no_benchmark() -> None:
    with pytest.raises(UsageError, match="memory '@4'"):
        parse_parts(["memory=@4"])
