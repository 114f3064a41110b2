"""The configuration of anything that has one: a dataclass that survives the command line, YAML and a run record."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any

from trireme.compose import resolve
from trireme.config import Named
from trireme.conformance.report import broken
from trireme.errors import TriremeError, UsageError
from trireme.results.schema import plain


def check_round_trip(kind: str, cls: Any) -> str:
    """The names of the fields.

    Raises:
        BrokenRuleError: no dataclass, a field without a default, or a default that does not come back the same.
    """
    schema = getattr(cls, "Config", None)
    if not isinstance(schema, type) or not is_dataclass(schema):
        raise broken("it has no dataclass `Config`")
    for one in fields(schema):
        if one.default is MISSING and one.default_factory is MISSING:
            raise broken(f"the field '{one.name}' of its Config has no default")
    held: Any = schema()
    named = Named(kind, "checked", "checked", "", {}, None)
    try:
        values = json.loads(json.dumps(plain(asdict(held))))
        typed = {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}
        back = resolve(named, schema, typed).config
    except (TriremeError, TypeError, ValueError) as error:
        raise broken(f"its Config does not come back from text: {error}") from error
    except Exception as error:  # OmegaConf's own, for types that it does not know
        raise broken(f"its Config cannot be read by OmegaConf: {' '.join(str(error).split())[:200]}") from error
    for name, value in asdict(held).items():
        if plain(asdict(back)[name]) != plain(value):
            raise broken(
                f"the field '{name}' of its Config is {value!r}, and {asdict(back)[name]!r} after a round trip"
            )
    with suppress(UsageError):  # defaults may leave out what only a user can name, such as weights
        cls(back)
    return ", ".join(values)[:60]
