"""Plugins in real runs: one that breaks a rule fails by its name while the others go on; plugins are in the record."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.plugins import install_plugin, trireme
from tests.trireme.test_conformance import GOOD

BAD: dict[str, tuple[str, str]] = {
    "import": (
        "",
        "breaks the rule 'import': bad_import:Bad raises ValueError: not today; repair it, or `pip uninstall",
    ),
    "requires": ("", "breaks the rule 'requires': it wants trireme-bench>=9 and this is "),
    "config": ("", "Unexpected type annotation: complex"),
    "shapes": (
        "p.ranked = p.ranked[1:]",
        "breaks the rule 'shapes': asked for 24 samples it answered with ranked (23, 5)",
    ),
    "numbers": ("p.scores[3, 2] = np.nan", "breaks the rule 'numbers': 1 of 120 scores are NaN"),
    "ids": ("p.ranked[2, 0] = 40", "breaks the rule 'ids': ranked holds class 40 of 8 classes"),
    "inputs": ("samples.clear()", "breaks the rule 'inputs': predict changes the list of samples"),
    "crash": ("raise KeyError('m1')", "KeyError: 'm1'"),
    "exit": ("raise SystemExit", "SystemExit"),
}
"""What a plugin does wrong -> its code in `predict`, where it is there, and what is said of it."""
ASKED = ["run", "benchmark=mock/zero-shot", "encoder=mock"]


def install_bad(folder: Path, what: str) -> None:
    predict = f"def predict(self, samples):\n        p = super().predict(samples)\n        {BAD[what][0] or 'pass'}"
    module = f"{GOOD}\n\nclass Bad(Good):\n    {predict}\n        return p\n"
    if what == "import":
        module = "raise ValueError('not today')\n"
    if what == "config":
        module += "    @dataclass\n    class Config:\n        keep: complex = 5\n"
    requires = "trireme-bench>=9" if what == "requires" else ""
    install_plugin(
        folder, f"bad_{what}", f"[trireme.methods]\nbad-{what} = bad_{what}:Bad\n", module, requires=requires
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[subprocess.CompletedProcess[str]]]:
    """Every bad plugin, a good one and knn in one run; then the good one in another version, and knn."""
    folder = tmp_path_factory.mktemp("plugins")
    done = []
    for version in ("1.0", "1.1"):
        plugins = folder / version
        install_plugin(plugins, "good", "[trireme.methods]\ngood = good:Good\n", GOOD, version=version)
        methods = "good,knn"
        if not done:
            for what in BAD:
                install_bad(plugins, what)
            methods = f"{','.join(f'bad-{what}' for what in BAD)},{methods}"
        asked = [*ASKED, f"method={methods}", f"out={folder / 'out'}"]
        done.append(trireme(asked, plugins, TRIREME_HOME=str(folder / "home")))
    return folder / "out" / "runs", done


def records(folder: Path, method: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"{method}--*/run.json"))]


def test_the_other_methods_go_on(runs: tuple[Path, list[subprocess.CompletedProcess[str]]]) -> None:
    folder, [first, _] = runs
    assert first.returncode == 1
    assert f"2 runs computed, 0 already there, {len(BAD)} failed" in first.stderr
    assert "Traceback" not in first.stderr
    assert {path.name.split("--")[0] for path in folder.iterdir() if path.is_dir()} == {"good", "knn"}


@pytest.mark.parametrize("what", list(BAD))
def test_a_bad_plugin_fails_by_its_name(what: str, runs: tuple[Path, list[subprocess.CompletedProcess[str]]]) -> None:
    _, [first, _] = runs
    lines = [line for line in first.stderr.splitlines() if line.startswith("failed: ") and f"bad-{what}" in line]
    assert len(lines) == 1, first.stderr
    assert f"bad-{what} of bad_{what} 1.0" in lines[0]
    assert BAD[what][1] in lines[0]


def test_check_names_plugin_and_rule(runs: tuple[Path, list[subprocess.CompletedProcess[str]]]) -> None:
    """One line a rule, exit code 1; nothing else is looked at where it cannot be imported."""
    plugins = runs[0].parents[1] / "1.0"
    checked = trireme(["check", "method", "bad-numbers", "--rule", "shapes", "--rule", "numbers"], plugins)
    assert checked.returncode == 1
    lines = checked.stdout.splitlines()
    assert lines[0].split()[:3] == ["skip", "bad-numbers", "shapes"]
    assert lines[1].split()[:3] == ["FAIL", "bad-numbers", "numbers"]
    assert "1 of 35 scores are NaN" in lines[1]  # of a batch of seven, five classes each
    assert lines[2] == "method bad-numbers (bad_numbers 1.0): 0 passed, 1 broken, 1 skipped"
    refused = trireme(["check", "method", "bad-requires"], plugins)
    assert refused.returncode == 1
    [line, _] = refused.stdout.splitlines()
    assert line.split()[:3] == ["FAIL", "bad-requires", "requires"]
    assert refused.stderr == checked.stderr == ""


def test_package_and_version_enter_record_hash_and_leaderboard(
    runs: tuple[Path, list[subprocess.CompletedProcess[str]]],
) -> None:
    """Another version of a plugin is another run; a run without plugins says that it has none."""
    folder, [first, second] = runs
    assert "good of good 1.0 on mock/zero-shot" in first.stderr
    assert "1 runs computed, 1 already there" in second.stderr, "knn is the same run, good another one"
    assert "'good' on mock/zero-shot stands for 2 runs that differ" in second.stderr
    told = sorted(record["plugins"][0]["version"] for record in records(folder, "good"))
    assert told == ["1.0", "1.1"]
    expected = [{"kind": "method", "name": "good", "package": "good", "version": "1.0"}]
    assert expected in [record["plugins"] for record in records(folder, "good")]
    [plain] = records(folder, "knn")
    assert plain["plugins"] == []


SLY: dict[str, tuple[str, str]] = {
    "tune": (
        """def fit(self, context):
        encoder = context.encoder
        texts, pixels = encoder.encode_texts, encoder.encode_pixels
        encoder.encode_texts = lambda given: np.roll(texts(given), 1, axis=1)
        encoder.encode_pixels = lambda given: np.roll(pixels(given), 3, axis=1)
        super().fit(context)""",
        "breaks the rule 'inputs': it changes the encoder mock that all runs share",
    ),
    "usage": (
        """def __init__(self, config):
        from trireme.errors import UsageError
        raise UsageError("my own complaint")""",
        "method 'sly-usage' of sly 1.0 refuses: my own complaint",
    ),
    "peek": (
        "def fit(self, context):\n        super().fit(context)\n        context.validation.benchmark.samples()",
        "breaks the rule 'labels': the test pictures of mock/few-shot are asked for",
    ),
    "config": (
        "def fit(self, context):\n        super().fit(context)\n        self.config.keep = 3",
        "breaks the rule 'inputs': it changes its configuration",
    ),
    "learn": (
        """asked = 0
    def predict(self, samples):
        self.asked += 1
        p = super().predict(samples)
        p.ranked = np.roll(p.ranked, self.asked, axis=1)
        return p""",
        "breaks the rule 'determinism': asked again about sample test-00 it answers otherwise",
    ),
}
"""What a plugin does that no single answer shows -> its code, and what is said of it."""


@pytest.fixture(scope="module")
def sly(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """All of them in one run, between two methods of Trireme's own: one picture set holds test and validation."""
    folder = tmp_path_factory.mktemp("sly")
    module = GOOD.replace("Task.ZERO_SHOT", "Task.FEW_SHOT").replace("validation = False", "validation = True")
    names = []
    for what, (code, _) in SLY.items():
        module += f"\n\nclass {what.title()}(Good):\n    {code}\n"
        names.append(f"sly-{what} = sly:{what.title()}")
    install_plugin(folder / "plugins", "sly", "[trireme.methods]\n" + "\n".join(names) + "\n", module)
    methods = ",".join([*(f"sly-{what}" for what in SLY), "zero_shot"])
    asked = ["run", "benchmark=mock/few-shot", "encoder=mock", f"method={methods}", f"out={folder / 'out'}"]
    return folder, trireme(asked, folder / "plugins", TRIREME_HOME=str(folder / "home"))


@pytest.mark.parametrize("what", list(SLY))
def test_a_sly_plugin_fails_by_its_name(what: str, sly: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = sly
    lines = [line for line in done.stderr.splitlines() if line.startswith("failed: ") and f"sly-{what}" in line]
    assert len(lines) == 1, done.stderr
    assert f"sly-{what} of sly 1.0" in lines[0]
    assert SLY[what][1] in lines[0]


def test_a_tuned_encoder_spoils_neither_later_runs_nor_the_cache(
    sly: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """The plugin asks for the texts first, so that only its encoder has seen them; expected is a home without it."""
    folder, _ = sly
    asked = ["run", "benchmark=mock/few-shot", "encoder=mock", "method=zero_shot"]
    trireme([*asked, f"out={tmp_path / 'out'}"], tmp_path, TRIREME_HOME=str(tmp_path / "home"))
    trireme([*asked, f"out={tmp_path / 'later'}"], tmp_path, TRIREME_HOME=str(folder / "home"))
    [alone], [beside], [later] = (
        [record["scores"] for record in records(out / "runs", "zero_shot")]
        for out in (tmp_path / "out", folder / "out", tmp_path / "later")
    )
    assert alone == beside == later
    assert not list((folder / "out" / ".partial").rglob("*.parquet")), "no batch of a broken run is gone on with"
