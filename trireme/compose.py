"""From named configs and overrides to typed configurations: a component's `Config` dataclass is the schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from inspect import Parameter, signature
from typing import Any, cast, get_origin, get_type_hints

from trireme import config
from trireme.errors import TriremeError, UsageError, unknown_name
from trireme.registry import BENCHMARKS, ENCODERS, METHODS, PAIR_SETS, RANKERS, Registry
from trireme.types import Benchmark, PairSet, inner_fields, without_effect

_RENAMED = {"name", "validation"}


@dataclass(frozen=True, slots=True)
class Component:
    """A named part with its resolved configuration.

    Attributes:
        label: the name shown in tables; `reco(k=16)` where the command line changed something.
        target: its registry name (methods, encoders, rankers) or pair set (memories).
        config: an instance of the schema.
        customise: of an encoder that a method makes, how (`trireme.customised`); else empty.
        shots: of a memory `NAME@N`, how many pairs a class are drawn; 0 for all pairs.
        inner: of a method whose configuration holds other methods, those by their fields.
    """

    kind: str
    name: str
    label: str
    target: str
    schema: type[Any]
    config: Any
    customise: Mapping[str, Any] = field(default_factory=dict)
    shots: int = 0
    inner: Mapping[str, Component] = field(default_factory=dict)

    def resolved(self) -> dict[str, Any]:
        """The configuration as plain JSON-able values."""
        plain: dict[str, Any] = asdict(self.config)
        return plain


def method(name: str, overrides: Mapping[str, Any], within: tuple[str, ...] = ()) -> tuple[Component, Any]:
    """The method's component and its class, methods that its configuration holds opened by name too.

    Args:
        within: the method configs that hold this one.

    Raises:
        UsageError: an unknown name or key, or a config that holds itself.
    """
    if name in within:
        raise UsageError(
            f"method config '{within[0]}' holds itself ({' > '.join((*within, name))}); name another method"
        )
    component, cls = _with_class(METHODS, "method", name, overrides, {})
    inner = {}
    for key in inner_fields(component.schema):
        if given := dict(getattr(component.config, key)):
            if not isinstance(of := given.pop("method", None), str):
                raise UsageError(f"method.{name}: {key} names no method; write {key}: {{method: NAME}}")
            inner[key], _ = method(of, given, (*within, name))
    held = {key: {"method": one.label, "registry": one.target, "config": one.config} for key, one in inner.items()}
    return replace(component, config=replace(component.config, **held) if held else component.config, inner=inner), cls


def encoder(name: str, overrides: Mapping[str, Any], device: str | None, dtype: str | None) -> tuple[Component, Any]:
    """The encoder's component and its class; `device` and `dtype` apply where its config has such fields."""
    return _with_class(ENCODERS, "encoder", name, overrides, {"device": device, "dtype": dtype})


def ranker(name: str, overrides: Mapping[str, Any], device: str | None) -> tuple[Component, Any]:
    """The ranker's component and its class; `device` applies where its config has such a field."""
    return _with_class(RANKERS, "ranker", name, overrides, {"device": device})


def benchmark(name: str, overrides: Mapping[str, Any]) -> Benchmark:
    """The benchmark, opened with the options of its config and of the command line.

    One with a config is called by the name of its config, and one with options of the command line says them, as in
    `pets(label=breed)`: a table never shows two different sets under one name.

    Raises:
        UsageError: an option that it does not take; the nearest is named.
    """
    found = config.find("benchmark", name)
    opened = cast(Benchmark, _opened(BENCHMARKS, found.target, {**found.fields, **_plain(overrides)}))
    if found.target == name and not overrides:
        return opened
    if isinstance(opened, type) or not is_dataclass(opened) or not {one.name for one in fields(opened)} >= _RENAMED:
        raise TriremeError(f"benchmark '{found.target}' is no dataclass with a name, so it takes no options here")
    shown = ", ".join(f"{key}={overrides[key]}" for key in sorted(overrides))
    own = name if opened.validation == found.target else opened.validation
    return cast(Benchmark, replace(opened, name=f"{name}({shown})" if shown else name, validation=own))


def pairs(name: str, options: Mapping[str, Any]) -> PairSet:
    """The pair set, opened with options.

    Raises:
        UsageError: an option that it does not take; the nearest is named.
    """
    return cast(PairSet, _opened(PAIR_SETS, name, _plain(options)))


def _opened(registry: Registry, target: str, options: Mapping[str, Any]) -> Any:
    opener = registry.load(target)
    first, *taken = signature(opener).parameters.values()
    known = [one.name for one in taken if one.kind is not Parameter.VAR_KEYWORD]
    checks_itself = len(known) < len(taken)
    for option in options:
        if option == first.name or (option not in known and not checks_itself):
            raise unknown_name(f"option of {target}", option, known)
    return opener(target, **options)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as typed or as a config holds them, as plain Python."""
    from omegaconf import OmegaConf

    typed = {key: _parsed(value) for key, value in values.items()}
    return {key: OmegaConf.to_container(one) if OmegaConf.is_config(one) else one for key, one in typed.items()}


def _with_class(
    registry: Registry, kind: str, name: str, overrides: Mapping[str, Any], general: Mapping[str, Any]
) -> tuple[Component, Any]:
    found = config.find(kind, name)
    customise = found.fields.get("customise", {}) if kind == "encoder" else {}
    if customise:
        found = replace(found, fields={key: value for key, value in found.fields.items() if key != "customise"})
    cls = registry.load(found.target)
    schema = getattr(cls, "Config", None)
    if not is_dataclass(schema) or not isinstance(schema, type):
        raise TriremeError(f"{kind} '{found.target}' has no `Config` dataclass")
    known = {option.name for option in fields(schema)}
    extra = {key: value for key, value in general.items() if value is not None and key in known}
    return replace(resolve(found, schema, {**extra, **overrides}), customise=customise), cls


def resolve(found: config.Named, schema: type[Any], overrides: Mapping[str, Any]) -> Component:
    """Check a named config and its overrides against a schema.

    Args:
        overrides: dotted key -> value; text is read as YAML: `3`, `1e-4`, `null` and `[a, b]` mean what they look like.

    Raises:
        UsageError: an unknown key (the nearest one is named) or a value of the wrong type, in one line.
    """
    from omegaconf import OmegaConf

    where = f"{found.kind}.{found.name}" if found.kind == "method" else found.kind
    base = _checked(_writable(schema), found.fields, schema, str(found.path))
    typed = {key: _parsed(value) for key, value in overrides.items()}
    changed = _checked(base, typed, schema, where)
    plain, before = OmegaConf.to_container(changed), OmegaConf.to_container(base)
    differing = [key for key in sorted(typed) if _at(plain, key) != _at(before, key)]
    after = {key: _at(plain, key) if not isinstance(typed[key], str) else typed[key] for key in typed}
    idle = without_effect(schema)
    shown = ", ".join(f"{key}={_brief(after[key])}" for key in differing if key not in idle)
    label = f"{found.name}({shown})" if shown else found.name
    made = OmegaConf.to_object(changed)
    return Component(found.kind, found.name, label, found.target, schema, made, shots=found.shots)


def _writable(schema: type[Any]) -> Any:
    """The schema with its defaults; a frozen dataclass inside it is read-only to OmegaConf until told otherwise."""
    from omegaconf import DictConfig, OmegaConf

    base = OmegaConf.structured(schema)
    waiting = [base]
    while waiting:
        node = waiting.pop()
        OmegaConf.set_readonly(node, None)
        waiting += [child for child in (node._get_node(key) for key in node) if isinstance(child, DictConfig)]
    return base


def _parsed(value: Any) -> Any:
    """A value as typed, read as YAML; any other value as it is. UsageError where it cannot be: `[1`, `${x}`, `...`."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        return OmegaConf.from_dotlist([f"value={value}"]).value if isinstance(value, str) else value
    except (YAMLError, OmegaConfBaseException) as error:
        why = str(error).splitlines()[0]
        raise UsageError(f"'{value}' cannot be read as a value ({why}); close its brackets and quotes") from error


def _checked(base: Any, values: Mapping[str, Any], schema: type[Any], where: str) -> Any:
    """A copy of the structured config `base` with `values` merged in; `where` opens the error line.

    A nested configuration takes a bare word for its `kind`: `index=hnsw` is `index.kind=hnsw`; a field that holds a
    method takes its name: `cheap=reco` is `cheap={method: reco}`.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    known, methods = list(_keys(schema)), inner_fields(schema)
    current = OmegaConf.merge(base)
    for key, value in values.items():
        if not _exists(schema, key):
            raise UsageError(f"{where}: {unknown_name('config key', key, known)}")
        nested = is_dataclass(_type_at(schema, key))
        word = "kind" if nested else "method" if key in methods else ""
        update = {word: value} if word and isinstance(value, str) else value
        if nested and isinstance(update, Mapping):
            for part in (f"{key}.{inner}" for inner in update):
                if part not in known:
                    raise UsageError(f"{where}: {unknown_name('config key', part, known)}")
        try:
            OmegaConf.update(current, key, update, merge=nested)
        except OmegaConfBaseException as error:
            raise UsageError(f"{where}: {key}={_brief(value)}: {str(error).splitlines()[0]}") from error
    return current


def _keys(schema: type[Any], prefix: str = "") -> Iterator[str]:
    """Every dotted key of a schema, nested dataclasses included."""
    hints = get_type_hints(schema)
    for option in fields(schema):
        yield f"{prefix}{option.name}"
        if is_dataclass(hints[option.name]):
            yield from _keys(hints[option.name], f"{prefix}{option.name}.")


def _exists(schema: type[Any], key: str) -> bool:
    return _type_at(schema, key) is not None


def _type_at(schema: type[Any], key: str) -> Any:
    """The type of a dotted key, None where there is no such key; below a `dict` field any key is one."""
    kind: Any = schema
    for part in key.split("."):
        if get_origin(kind) is dict:
            return Any
        kind = get_type_hints(kind).get(part) if is_dataclass(kind) else None
    return kind


def _at(container: Any, key: str) -> Any:
    """The value of a dotted key, None where the container lacks it."""
    for part in key.split("."):
        container = container.get(part)
    return container


def _brief(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
