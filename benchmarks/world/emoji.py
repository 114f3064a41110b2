"""Which emoji exist, what they are called and which icon of a family draws which one.

Five families give code points. The others give names alone, of whichever year's standard they followed: those are
looked up among today's CLDR names, then among the names and aliases that the five use. A name that means two emoji at
its level means neither. Chat shortcodes are left out: there "japan" is a map, in one family a flag.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trireme.benchmarks.world.families import FAMILIES, NAMES, Family, read

GROUPS: Mapping[int, str] = {
    0: "faces", 1: "people", 3: "animals", 4: "food", 5: "travel", 6: "activities", 7: "objects", 8: "symbols",
}  # fmt: skip
MATCHING = "1"  # raise it when an emoji finds another icon

_FLAGS = 9


@dataclass(frozen=True, slots=True)
class Emoji:
    """One emoji of the standard, skin tones aside.

    Attributes:
        hexcode: code points joined by "-", as emojibase writes them ("1F98A").
        label: CLDR short name. `keywords`: CLDR keywords.
        group: one of `GROUPS`. `subgroup`: the standard's own ("animal-mammal").
    """

    hexcode: str
    label: str
    keywords: tuple[str, ...]
    group: str
    subgroup: str


@dataclass(frozen=True, slots=True)
class Icon:
    """A drawing inside a family's package: the icon that holds it and how an alias turns it."""

    name: str
    parent: str
    flip_h: bool = False
    flip_v: bool = False
    rotate: int = 0

    @property
    def drawing(self) -> tuple[str, bool, bool, int]:
        """What is seen, whatever it is called."""
        return self.parent, self.flip_h, self.flip_v, self.rotate


@dataclass(frozen=True, slots=True)
class Standard:
    """The emoji that can become classes, in the standard's order, and how many flags were left out."""

    emoji: tuple[Emoji, ...]
    flags: int
    skin_tones: int


def read_standard() -> Standard:
    """Emoji with their English names, keywords and groups; flags and skin-tone variants only counted."""
    rows = json.loads(read(NAMES, "en/data.json"))
    subgroups = json.loads(read(NAMES, "meta/groups.json"))["subgroups"]
    kept, flags, tones = [], 0, 0
    for row in sorted(rows, key=lambda row: row.get("order", 0)):
        group = row.get("group")
        if group == _FLAGS:
            flags += 1
        if group not in GROUPS:
            continue
        tones += len(row.get("skins", ()))
        subgroup = subgroups[str(row["subgroup"])]
        kept.append(Emoji(row["hexcode"], row["label"], tuple(row.get("tags", ())), GROUPS[group], subgroup))
    return Standard(tuple(kept), flags, tones)


def match(standard: Standard) -> dict[str, dict[str, Icon]]:
    """For every family, the icon of each emoji that it draws: {family: {hexcode: icon}}."""
    sets = {family.name: _IconSet(family) for family in FAMILIES}
    names = _Names(standard, sets.values())
    return {name: icons.by_emoji(names) for name, icons in sets.items()}


def slug(text: str) -> str:
    """A name as icon sets write it: ASCII words joined by hyphens."""
    plain = unicodedata.normalize("NFKD", text.lower().replace("’", "").replace("'", ""))
    plain = plain.encode("ascii", "ignore").decode().replace("&", " and ").replace(".", "")
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def _bare(hexcode: str) -> str:
    """Code points without the variation selector, which data sets write or leave out as they like."""
    return "-".join(part for part in hexcode.upper().split("-") if part != "FE0F")


class _IconSet:
    """What a package says about its own icons: their names, aliases and (sometimes) code points."""

    def __init__(self, family: Family) -> None:
        data = json.loads(read(family.package, "icons.json"))
        self.icons: Mapping[str, Any] = data["icons"]
        self.aliases: Mapping[str, Any] = data.get("aliases", {})
        self.codes: Mapping[str, str] = json.loads(read(family.package, "chars.json"))

    def by_emoji(self, names: _Names) -> dict[str, Icon]:
        """The best-named icon of each emoji. Where two emoji claim one icon, its own name decides, not an alias."""
        claims: dict[str, tuple[int, Icon]] = {}
        for level, name, hexcode in self._claims(names):
            icon = self._resolve(name)
            if icon is not None and (hexcode not in claims or level < claims[hexcode][0]):
                claims[hexcode] = (level, icon)
        icons = {hexcode: icon for hexcode, (_, icon) in claims.items()}
        claimed = Counter(icon.drawing for icon in icons.values())
        own = Counter(icon.drawing for icon in icons.values() if icon.name == icon.parent)
        return {
            hexcode: icon
            for hexcode, icon in icons.items()
            if claimed[icon.drawing] == 1 or (icon.name == icon.parent and own[icon.drawing] == 1)
        }

    def _claims(self, names: _Names) -> Iterator[tuple[int, str, str]]:
        for code, name in self.codes.items():
            if _bare(code) in names.by_code:
                yield -1, name, names.by_code[_bare(code)]
        for name in [*self.icons, *self.aliases]:
            level, hexcode = names.find(name)
            if hexcode is None and name.endswith("-1"):  # "doughnut-1", "doughnut-2": one emoji, drawn more than once
                level, hexcode = names.find(name.removesuffix("-1"))
            if hexcode is not None:
                yield level, name, hexcode

    def _resolve(self, name: str) -> Icon | None:
        flip_h, flip_v, rotate = False, False, 0
        parent = name
        for _ in range(8):  # aliases of aliases; a longer chain is a loop
            if parent in self.icons:
                return Icon(name, parent, flip_h, flip_v, rotate % 4)
            alias = self.aliases.get(parent)
            if alias is None:
                return None
            flip_h, flip_v = flip_h ^ bool(alias.get("hFlip")), flip_v ^ bool(alias.get("vFlip"))
            rotate += int(alias.get("rotate", 0))
            parent = alias["parent"]
        return None


class _Names:
    """Every name that an emoji goes by. Earlier levels win; ambiguous names are dropped level by level."""

    def __init__(self, standard: Standard, sets: Iterable[_IconSet]) -> None:
        self.by_code = {_bare(emoji.hexcode): emoji.hexcode for emoji in standard.emoji}
        sets = list(sets)
        self._levels = [
            _unambiguous((slug(emoji.label), emoji.hexcode) for emoji in standard.emoji),
            _unambiguous(self._icon_names(sets)),
            _unambiguous(self._aliases(sets)),
        ]

    def find(self, name: str) -> tuple[int, str | None]:
        """The emoji of a name and the level that knows it, 0 the most trusted."""
        for number, level in enumerate(self._levels):
            if name in level:
                return number, level[name]
        return len(self._levels), None

    def _icon_names(self, sets: list[_IconSet]) -> Iterable[tuple[str, str]]:
        for icons in sets:
            for code, name in icons.codes.items():
                if _bare(code) in self.by_code:
                    yield name, self.by_code[_bare(code)]

    def _aliases(self, sets: list[_IconSet]) -> Iterable[tuple[str, str]]:
        for icons in sets:
            codes = {name: self.by_code.get(_bare(code)) for code, name in icons.codes.items()}
            for alias, entry in icons.aliases.items():
                hexcode = codes.get(entry["parent"])
                if hexcode is not None and set(entry) == {"parent"}:
                    yield alias, hexcode


def _unambiguous(entries: Iterable[tuple[str, str]]) -> dict[str, str | None]:
    level: dict[str, str | None] = {}
    for name, hexcode in entries:
        level[name] = hexcode if level.get(name, hexcode) == hexcode else None
    level.pop("", None)
    return level
