"""Captions of the world's pictures: what the artist called the thing, and a few of its keywords."""

from __future__ import annotations

import hashlib
import re

from trireme.benchmarks.world.emoji import Emoji, slug

CAPTIONS = "1"  # raise it when a caption changes
_KEYWORDS = 3


def caption(emoji: Emoji, family: str, icon: str) -> str:
    """A caption such as "fox: animal, face"; the same for the same picture always, different from family to family.

    Args:
        icon: the family's own name of the drawing. Artists often keep names that the standard has dropped, so the
            memory says "reversed hand with middle finger extended" as well as "middle finger".
    """
    name = _own_name(emoji, icon)
    words = set(_words(name))
    fresh = [keyword for keyword in emoji.keywords if not set(_words(keyword)) <= words]
    picked = sorted(fresh, key=lambda keyword: _order(family, emoji.hexcode, keyword))[:_KEYWORDS]
    return f"{name}: {', '.join(picked)}" if picked else name


def _own_name(emoji: Emoji, icon: str) -> str:
    numbered = re.fullmatch(r"(.*[a-z]{3})-1", icon)  # "doughnut-1": the first of two drawings; but "keycap-1" is a key
    plain = numbered[1] if numbered and "keycap" not in icon else icon
    return emoji.label if slug(emoji.label) in (icon, plain) else plain.replace("-", " ")


def _words(text: str) -> list[str]:
    return slug(text).split("-")


def _order(family: str, hexcode: str, keyword: str) -> bytes:
    return hashlib.sha256(f"{family}/{hexcode}/{keyword}".encode()).digest()
