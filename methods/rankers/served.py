"""What a server says of its model, and the files of that model where the server runs on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from trireme.errors import unknown_name
from trireme.methods.rankers.checkpoint import ADAPTER_FILE, RECORD, folder_identity, training_record
from trireme.methods.rankers.endpoint import Endpoint


@dataclass
class Served:
    """One model of an endpoint, "" for the first that it lists. The server is asked once, when something is needed.

    Raises (from every property):
        NoReplyError: no list of models after every retry. UsageError: the server refuses, or lists no such model.
    """

    endpoint: Endpoint
    model: str

    @cached_property
    def card(self) -> Mapping[str, Any]:
        """What the list of models says of ours: `id`, and with vLLM `root`, `parent`, `max_model_len`."""
        wanted = self.model or next(iter(self._cards))
        if wanted not in self._cards:
            raise unknown_name("model", wanted, self._cards)
        return self._cards[wanted]

    @cached_property
    def identities(self) -> list[str]:
        """Hashes of the files of the model, and of its base where it is an adapter; empty where they are elsewhere."""
        return [folder_identity(folder, needs) for folder, needs in self._folders]

    @cached_property
    def records(self) -> list[Mapping[str, Any]]:
        """What `trireme train ranker` wrote beside those files."""
        return [training_record(folder / RECORD) for folder, _ in self._folders]

    @cached_property
    def _folders(self) -> list[tuple[Path, str]]:
        """The folders of the model and of its base, each with the file that shows what it is.

        Empty unless the server is on loopback and all of them are here by the absolute paths that it names.
        """
        if not self.endpoint.loopback:
            return []
        places = [self.card.get("root")]
        if parent := self.card.get("parent"):  # the base's name, which may be its path
            places.append(self._cards.get(str(parent), {}).get("root") or parent)
        folders = [Path(str(place or "")) for place in places]
        needs = [ADAPTER_FILE if (folder / ADAPTER_FILE).is_file() else "config.json" for folder in folders]
        found = list(zip(folders, needs, strict=True))
        return found if all(folder.is_absolute() and (folder / file).is_file() for folder, file in found) else []

    @cached_property
    def _cards(self) -> dict[str, Mapping[str, Any]]:
        found: dict[str, Mapping[str, Any]] = {}
        for card in self.endpoint.get("models", _cards):
            found.setdefault(card["id"], card)
        return found


def _cards(reply: Any) -> list[dict[str, Any]]:
    cards = [dict(card) for card in reply["data"]]
    if not cards or not all(isinstance(card["id"], str) for card in cards):
        raise ValueError("no models")
    return cards
