"""From what a model wrote to an order of the candidates.

The script of RAR's authors takes the first bracket, cuts it at commas and quotes, and drops the whole answer for one
unknown name; names with an apostrophe or a comma are lost to it, and a reply without brackets takes the answer of the
picture before. Here a reply is read in several ways, as a list first and as prose last, and only by its own candidates.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice

from trireme.methods.rankers.base import Status

_Spots = tuple[int, ...]
"""The positions of the candidates that an item names; () where it names none."""

_SINGLE, _DOUBLE, _DASH = "`´‘’‚‛′‹›", "“”„‟″«»「」『』", "‐‑‒–—―−"
_INVISIBLE = "".join(map(chr, [0xAD, *range(0x200B, 0x2010), *range(0x2060, 0x2065), *range(0xFE00, 0xFE10), 0xFEFF]))
_ALIKE = str.maketrans(
    {
        **dict.fromkeys(_SINGLE, "'"),
        **dict.fromkeys(_DOUBLE, '"'),
        **dict.fromkeys(_DASH, "-"),
        **dict.fromkeys(_INVISIBLE, ""),
        "_": " ",
    }
)

_READ = 50_000
"""Characters of a reply that are read at least; a ranked list of names takes a few hundred."""

_MARKS = 32
"""Combining marks that are kept in a row: sorting them takes the square of their number."""

_GROUPS = 64
"""Bracket groups that are looked into."""

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "/": "/", "'": "'", '"': '"', "\\": "\\"}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U(00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4})|(.))", re.DOTALL)
_LITERAL = re.compile(r"""'((?:[^'\\\n]|\\.)*+)'|"((?:[^"\\\n]|\\.)*+)\"""")
_OPEN, _BETWEEN, _CLOSED = re.compile(r"[\s\[]*"), re.compile(r"[\s\]]*,[\s\[]*"), re.compile(r"\s*(?:\]|\Z)")

_MARKER = r"(?:[#(\[]?\d{1,3}[.):\]](?!\d)|[(\[]?[a-zA-Z][.):\]](?=\s)|[-*•·](?=\s))"
_MARKED = re.compile(rf"\s*(?:\*\*)?{_MARKER}\s*(.*)", re.DOTALL)
_LEAD = re.compile(rf"[ (]*(?:{_MARKER} *)?(?:(?:and|then|&) +)?[ (*]*(['\"]*) *")
_AND = re.compile(r" (?:and|then|&) ")
_EXPLAINED = re.compile(r"['\"*]*(?: ?:(?= )| [-=] | ?\()")
_STRIP = " \t'\"*.,;:!?()[]"

_BORDER = re.compile(r"(['-]?\w)| (\w+)")
_FUNCTION_WORDS = (
    "a an the this that these those it its he she they i we you is are was were be been being as of in on at to and or "
    "nor not no but with without then than so by for from which who because since while if most more less very quite "
    "rather likely probably possibly maybe perhaps might may could would should can will also has have there here "
    "first second third last finally followed after before under over like called named category class label answer "
    "image picture photo shows show depicts looks appears seems best matches"
)
_SMALL = frozenset(_FUNCTION_WORDS.split())
"""Words that may stand beside a name in a sentence and are no part of it."""

_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) (?:so |very |really )?sorry|^sorry\b|i apologi[sz]e|as an ai\b|as a language model|unable to"
    r"|(?:i|we)(?: can't| cannot| can not| won't| will not| could not| couldn't)\b|not able to|decline to)"
)


def read_list(reply: str, candidates: Sequence[str]) -> tuple[tuple[int, ...], Status]:
    """Every position of the candidates, in the order in which the reply names them.

    An item counts when the whole of it is a candidate's name; of two candidates that begin alike it is the longer.
    Case, spaces and underscores, forms of quotes and dashes, and the forms that NFKC unites make no difference. Where
    candidates repeat a name, each mention brings the next of its positions. Names outside of the candidates are
    dropped, and what the reply does not name follows in retrieval order.

    Returns:
        The order, and OK when the reply lists all candidates, each once, and nothing else (sentences around the list
        are no part of it); REPAIRED when something was dropped or filled in, or was read out of a sentence; REFUSED or
        UNREADABLE, with the order of retrieval, where no candidate is named.
    """
    names = _Names(candidates)
    text = reply[: max(_READ, 12 * sum(len(name) + 4 for name in candidates))]
    reading, status = _choose(text, names)
    if status is not None:
        return tuple(range(len(candidates))), status
    named = set(reading.hits)
    rest = (i for i in range(len(candidates)) if i not in named)
    return (*reading.hits, *rest), Status.OK if reading.whole else Status.REPAIRED


def read_choice(reply: str, candidates: Sequence[str]) -> tuple[tuple[int, ...], Status]:
    """The chosen candidate, then the others in retrieval order.

    OK when the reply is a candidate's name as it is, which constrained decoding sees to; otherwise as `read_list` reads
    it, where a name that is spelled otherwise is REPAIRED.
    """
    for text in (reply, reply.strip()):
        if text in candidates:
            chosen = list(candidates).index(text)
            return (chosen, *(i for i in range(len(candidates)) if i != chosen)), Status.OK
    order, status = read_list(reply, candidates)
    return order, Status.REPAIRED if status is Status.OK else status


def fold(text: str) -> str:
    """The text without what makes no difference between names: case, spacing, forms of quotes, dashes and letters."""
    if not text.isascii():
        runs = groupby(text, key=lambda letter: unicodedata.combining(letter) > 0)
        text = "".join("".join(islice(run, _MARKS if marks else None)) for marks, run in runs)
    composed = unicodedata.normalize("NFKC", text.translate(_ALIKE)).casefold()
    return " ".join(unicodedata.normalize("NFKC", composed).translate(_ALIKE).split())


@dataclass(frozen=True, slots=True)
class _Reading:
    """One way to read a reply: the positions it names, and whether it names all of them and nothing else."""

    hits: tuple[int, ...]
    whole: bool


class _Names:
    """The candidates by what they may be called."""

    def __init__(self, candidates: Sequence[str]) -> None:
        exact: dict[str, list[int]] = defaultdict(list)
        folded: dict[str, list[int]] = defaultdict(list)
        for i, name in enumerate(candidates):
            exact[name].append(i)
            folded[fold(name)].append(i)
        folded.pop("", None)
        self.count = len(candidates)
        self._longest = 8 * max(map(len, candidates), default=0) + 100
        self._exact = {name: tuple(spots) for name, spots in exact.items()}
        self._folded = {name: tuple(spots) for name, spots in folded.items()}
        self._starts: dict[str, list[str]] = defaultdict(list)
        for name in sorted(self._folded, key=len, reverse=True):
            self._starts[name[0]].append(name)
        self._letters = re.compile("|".join(map(re.escape, sorted(self._starts))) or r"(?!)")

    def item(self, text: str) -> _Spots:
        """What an item of a list names, as a whole."""
        if text in self._exact:
            return self._exact[text]
        plain = fold(text) if len(text) <= self._longest else ""
        marked = _MARKED.fullmatch(plain)
        for form in (plain, plain.strip(_STRIP), marked[1].strip(_STRIP) if marked else ""):
            if form in self._folded:
                return self._folded[form]
        return ()

    def explained(self, text: str) -> _Spots:
        """What an item with an explanation behind it names ("cat - it has whiskers")."""
        plain = fold(text[: self._longest]).lstrip(_STRIP)
        return next((spots for end, spots in self.at(plain, 0) if _EXPLAINED.match(plain, end)), ())

    def at(self, folded: str, start: int) -> Iterator[tuple[int, _Spots]]:
        """The candidates that stand in the folded text from `start` on, longest first, with their ends."""
        for name in self._starts.get(folded[start : start + 1], ()):
            if folded.startswith(name, start):
                yield start + len(name), self._folded[name]

    def next(self, folded: str, start: int) -> int:
        """The next place from `start` on where a candidate may begin; the length of the text where there is none."""
        match = self._letters.search(folded, start)
        return match.start() if match else len(folded)

    def read(self, items: Iterable[_Spots]) -> _Reading:
        """The reading of a list."""
        hits: dict[int, None] = {}
        clean = True
        for spots in items:
            free = next((spot for spot in spots if spot not in hits), None)
            if free is None:
                clean = False
            else:
                hits[free] = None
        return _Reading(tuple(hits), clean and len(hits) == self.count)


def _choose(text: str, names: _Names) -> tuple[_Reading, Status | None]:
    """The best reading, or why there is none.

    Of several lists the one that names most candidates is taken, the first of those that name as many. A list without
    brackets or marks must consist of candidates for the most part, else it is prose.
    """
    lines = "\n".join(map(fold, text.replace("\\'", "'").replace('\\"', '"').splitlines()))
    literals = [names.read(map(names.item, found)) for found in _literals(text)]
    marked = names.read(_marked(text, names))
    groups = [_cut_up(group, names, _INSIDE) for group in _brackets(lines)]
    readings = [*literals, marked, names.read([names.item(text.strip())])]
    if not any(reading.hits for reading in literals):
        readings += map(names.read, [*groups, [spots for group in groups for spots in group]])
    items = _cut_up(lines, names, _ALONE)
    hits = [i for i, spots in enumerate(items) if spots]
    alone = names.read(items[hits[0] : hits[-1] + 1] if hits else ())
    if alone.whole and not literals and not marked.hits:
        readings.append(alone)
    best = max(readings, key=lambda reading: (len(reading.hits), reading.whole))
    if not best.hits and 2 * len(hits) >= len(items):
        best = alone
    if best.hits:
        return best, None
    first, mentioned = (len(lines), ()) if literals else _mentions(lines, names, frozenset() if groups else _SMALL)
    refusal = _REFUSAL.search(lines)
    if refusal and refusal.start() < first:
        return best, Status.REFUSED
    return _Reading(mentioned, False), None if mentioned else Status.UNREADABLE


def _literals(text: str) -> Iterator[list[str]]:
    """The bracketed lists of quoted strings, as Python and JSON write them; nested ones count as one list, and the end
    of the text closes one too."""
    start = text.find("[")
    for _ in range(_GROUPS):
        if start < 0:
            return
        items, at = [], _end(_OPEN, text, start)
        while literal := _LITERAL.match(text, at):
            items.append(_unescaped(literal[literal.lastindex or 0]))
            at = _end(_BETWEEN, text, literal.end())
            if at == literal.end():
                break
        if items and _CLOSED.match(text, at):
            yield items
        start = text.find("[", at)


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    """Where the match at `start` ends; `start` itself where there is none."""
    match = pattern.match(text, start)
    return match.end() if match else start


def _unescaped(text: str) -> str:
    """What the inside of a literal means; two escapes of JSON may make one character."""

    def one(match: re.Match[str]) -> str:
        code = match[1] or match[2] or match[3]
        return chr(int(code, 16)) if code else _ESCAPES.get(match[4], match[0])

    return _ESCAPE.sub(one, text).encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _marked(text: str, names: _Names) -> Iterator[_Spots]:
    """The items of lines that begin with a number, a letter or a bullet; an explanation counts as a foreign item."""
    for line in text.splitlines():
        match = _MARKED.fullmatch(line)
        if match and match[1].strip():
            spots = names.item(match[1])
            yield spots or names.explained(match[1])
            if not spots:
                yield ()


def _brackets(lines: str) -> Iterator[str]:
    """What stands in each outermost pair of brackets; the last may be unclosed."""
    depth = start = found = 0
    for bracket in re.finditer(r"[\[\]]", lines):
        if bracket[0] == "[":
            start = start if depth else bracket.end()
            depth += 1
        elif depth:
            depth -= 1
            if not depth:
                yield lines[start : bracket.start()]
                found += 1
                if found == _GROUPS:
                    return
    if depth:
        yield lines[start:]


class _Rules:
    """What separates the items of a list, and what may stand between a name and the next separator."""

    def __init__(self, cut: str) -> None:
        self.cut = re.compile(cut)
        self.bare = re.compile(rf"[ )*]*[.!]? *(?=\Z|{cut})")
        self.quoted = re.compile(rf" ?[.,!]?['\"]+[ )*.]*(?=\Z|['\"]|{cut})| *\Z")
        self.closing = {quote: re.compile(rf"{quote}[ )*.]*(?=\Z|{cut})") for quote in "'\""}


_CUT = r" ?[-=]+>|[,;>|\n\[\]{}→、][\s,;>|\[\]{}→、]*| (?=\d{1,3}[.)] )"
_INSIDE = _Rules(rf"(?:{_CUT})")
_ALONE = _Rules(rf"(?:{_CUT}|[.!?:。]+(?:\s+|\Z))")


def _cut_up(lines: str, names: _Names, rules: _Rules) -> list[_Spots]:
    """The items of a list whose names may themselves hold separators: at each item a candidate is looked for first."""
    items: list[_Spots] = []
    at, unclosed = 0, set[str]()
    while at < len(lines):
        if cut := rules.cut.match(lines, at):
            at = cut.end()
            continue
        lead = _LEAD.match(lines, at)
        inner, quote = (lead.end(), lead[1][:1]) if lead else (at, "")
        plain = _name_at(lines, names, rules, at + (lines[at] == " "), "")
        if found := plain or _name_at(lines, names, rules, inner, quote):
            at, named = found
            items += named
            continue
        closing = rules.closing[quote].search(lines, inner) if quote and quote not in unclosed else None
        if quote and not closing:
            unclosed.add(quote)
        end = closing.end() if closing else _next(rules.cut, lines, inner)
        if lines[at:end].strip(_STRIP):
            items.append(())
        at = end
    return items


def _name_at(lines: str, names: _Names, rules: _Rules, start: int, quote: str) -> tuple[int, list[_Spots]] | None:
    """Where the item that is, or begins by, the longest candidate ends, and what it names."""
    for end, spots in names.at(lines, start):
        if tail := (rules.quoted if quote else rules.bare).match(lines, end):
            return tail.end(), [spots]
        joint = _AND.match(lines, end)
        if joint and any(rules.bare.match(lines, last) for last, _ in names.at(lines, joint.end())):
            return joint.start(), [spots]
        if _EXPLAINED.match(lines, end):
            return _next(rules.cut, lines, end), [spots, ()]
    return None


def _next(pattern: re.Pattern[str], text: str, start: int) -> int:
    match = pattern.search(text, start)
    return match.start() if match else len(text)


def _mentions(lines: str, names: _Names, small: frozenset[str]) -> tuple[int, tuple[int, ...]]:
    """Where a sentence names the first candidate, and the candidates it names, each name once.

    What stands beside a name must be a mark or a small word: "cat" is not read out of "cat face" or "polar cat".
    """
    hits: dict[int, None] = {}
    first, at = len(lines), names.next(lines, 0)
    while at < len(lines):
        for end, spots in names.at(lines, at):
            before, after = lines[max(0, at - 24) : at][::-1], lines[end : end + 24]
            if _borders(after, small) and _borders(before, small, step=-1):
                first, at = min(first, at), end - 1
                hits.setdefault(spots[0])
                break
        at = names.next(lines, at + 1)
    return first, tuple(hits)


def _borders(near: str, small: frozenset[str], step: int = 1) -> bool:
    """Whether the text beside a name leaves it whole; `step` is -1 where that text is written backwards."""
    match = _BORDER.match(near)
    return match is None or (match[2] is not None and match[2][::step] in small)
