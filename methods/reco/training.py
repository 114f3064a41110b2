"""Training the fusion. Neighbours and embeddings are found once, so that an epoch costs matrix products alone.

Shapes: n training pairs, k neighbours, d embedding dimension.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from trireme.errors import DataError, UsageError
from trireme.methods.reco.fusion import Frozen, Fusion
from trireme.methods.reco.loss import reco_loss
from trireme.methods.reco.search import MODALITIES, Plan, Retrieved, gather, neighbours
from trireme.progress import progress, say
from trireme.retrieval.dedup import picture_hashes
from trireme.retrieval.memory import Memory, Side
from trireme.retrieval.store import EmbeddingStore
from trireme.types import Floats, Ints, Pair

_BLOCK = 65536
MOST_FAILED = 0.01


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the fusion trains; see `RecoConfig` for what each field means."""

    epochs: int
    batch: int
    lr: float
    weight_decay: float
    warmup: float
    scale: float
    learn_scale: bool
    rotate: bool
    distinct_captions: bool


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Everything that an epoch reads, computed once.

    Attributes:
        ids: pair ids, n of them.
        embeddings: frozen embeddings (n, d) of the pictures and of the captions.
        rows: (n, k) memory rows retrieved for the pictures and for the captions, -1 padded, the pair itself never
            among them.
        plans: the sides of the memory that pictures and captions use.
        captions: (n,) a number for each distinct caption.
    """

    ids: list[str]
    embeddings: dict[Side, Floats]
    rows: dict[Side, Ints]
    plans: dict[Side, Plan]
    captions: Ints

    def __len__(self) -> int:
        return len(self.ids)


def own_pairs(memory: Memory, pairs: Sequence[Pair]) -> list[set[str]]:
    """For every pair, the memory pairs that are the pair itself: its id, and every id that holds the same picture."""
    pictures = picture_hashes([pair.image for pair in pairs])
    wanted = set(pictures) - {""}
    holders: defaultdict[str, set[str]] = defaultdict(set)
    for start in range(0, len(memory) if wanted else 0, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(memory)))
        for row, ref in zip(rows, memory.refs(rows), strict=True):
            if ref.sha256 in wanted:
                holders[str(ref.sha256)].add(str(memory.ids[row]))
    return [{pair.id} | holders.get(picture, set()) for pair, picture in zip(pairs, pictures, strict=True)]


def unreadable_pairs(store: EmbeddingStore, pairs: Sequence[Pair]) -> dict[str, str]:
    """{pair id: reason} of the pictures that cannot be trained on; each is named.

    Raises:
        DataError: they are more than 1 %.
    """
    failed = store.prepare([pair.image for pair in pairs])
    reasons = {pairs[position].id: reason for position, reason in sorted(failed.items())}
    for pair, reason in reasons.items():
        say(f"warning: training picture {pair}: {reason}")
    if len(reasons) > MOST_FAILED * len(pairs):
        raise DataError(
            f"{len(reasons)} of {len(pairs)} training pictures cannot be read, more than 1 %; "
            "repair or remove them and run again"
        )
    return reasons


def training_set(
    store: EmbeddingStore, memory: Memory | None, pairs: Sequence[Pair], plans: dict[Side, Plan], k: int, encoder: str
) -> TrainingSet:
    """Encode the pairs (from the cache where it has them) and find the neighbours of both sides once.

    Raises:
        DataError: fewer than two pairs are left; a contrastive loss needs negatives.
    """
    unreadable = unreadable_pairs(store, pairs)
    kept = [pair for pair in pairs if pair.id not in unreadable]
    if len(kept) < 2:
        raise DataError(f"only {len(kept)} training pairs are readable; reco needs at least two")
    own = own_pairs(memory, kept) if memory is not None else None
    captions = [pair.caption for pair in kept]
    embeddings: dict[Side, Floats] = {
        "image": store.images([pair.image for pair in kept]),
        "text": store.texts(captions),
    }
    rows = {side: neighbours(memory, embeddings[side], plans[side], k, encoder, own) for side in MODALITIES}
    numbers = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
    kinds = np.array([numbers[caption] for caption in captions], dtype=np.int64)
    return TrainingSet([pair.id for pair in kept], embeddings, rows, plans, kinds)


def batches(captions: Ints, size: int, distinct: bool, generator: np.random.Generator) -> Iterator[Ints]:
    """Shuffled batches of row numbers for one epoch; a batch of one pair is dropped, it has no negatives.

    With `distinct` no batch holds a caption twice: the second picture of a concept would be a negative of the first
    although its caption is the same. The occurrences of a caption are dealt out to rounds, and no batch crosses rounds.
    """
    order = generator.permutation(len(captions))
    rounds = np.zeros(len(captions), dtype=np.int64)
    if distinct:
        by_caption = np.argsort(captions[order], kind="stable")
        sorted_captions = captions[order][by_caption]
        starts = np.flatnonzero(np.r_[True, sorted_captions[1:] != sorted_captions[:-1]])
        lengths = np.diff(np.r_[starts, len(captions)])
        rounds[by_caption] = np.arange(len(captions)) - np.repeat(starts, lengths)
    for number in range(int(rounds.max()) + 1):
        rows = order[rounds == number]
        for start in range(0, len(rows), size):
            if len(chunk := rows[start : start + size]) > 1:
                yield chunk.astype(np.int64)


def train(
    fusions: dict[Side, Fusion], data: TrainingSet, memory: Memory | None, recipe: Recipe, seed: int, device: str
) -> list[float]:
    """Train the fusions in place with AdamW; the mean loss of a pair in every epoch.

    The encoder is frozen: its embeddings come in as they are. The result depends on the seed alone (on one machine).

    Raises:
        UsageError: there is nothing to train.
        DataError: the loss is not finite.
    """
    modules = nn.ModuleList(fusions.values()).to(device).train()
    log_scale = nn.Parameter(torch.tensor(recipe.scale, device=device).log(), requires_grad=recipe.learn_scale)
    trained = [p for p in (*modules.parameters(), log_scale) if p.requires_grad]
    if all(isinstance(module, Frozen) for module in modules):
        raise UsageError("this fusion has no parameters to train; set epochs=0")
    optimiser = torch.optim.AdamW(trained, lr=recipe.lr, weight_decay=recipe.weight_decay)
    generator = np.random.default_rng(seed)
    steps = recipe.epochs * sum(1 for _ in batches(data.captions, recipe.batch, recipe.distinct_captions, generator))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _warmup_cosine(steps, recipe.warmup))
    generator = np.random.default_rng(seed)
    losses = []
    with progress("train reco", recipe.epochs * len(data), "pairs") as bar:
        for _ in range(recipe.epochs):
            total, seen = 0.0, 0
            for rows in batches(data.captions, recipe.batch, recipe.distinct_captions, generator):
                turn = rotation(data.embeddings["image"].shape[1], generator).to(device) if recipe.rotate else None
                loss = _batch_loss(fusions, data, memory, rows, log_scale.exp(), turn, device)
                if not torch.isfinite(loss):
                    raise DataError("reco's training loss is not finite; lower lr, or check the embeddings for NaN")
                optimiser.zero_grad()
                torch.autograd.backward(loss / len(rows))
                optimiser.step()
                schedule.step()
                total, seen = total + float(loss.detach()), seen + len(rows)
                bar.advance(len(rows))
            losses.append(total / max(seen, 1))
    modules.eval()
    return losses


def _batch_loss(
    fusions: dict[Side, Fusion],
    data: TrainingSet,
    memory: Memory | None,
    rows: Ints,
    scale: Tensor,
    turn: Tensor | None,
    device: str,
) -> Tensor:
    frozen: dict[Side, Tensor] = {}
    refined: dict[Side, Tensor] = {}
    for side in MODALITIES:
        query = torch.from_numpy(np.asarray(data.embeddings[side][rows])).to(device)
        retrieved = gather(memory, data.plans[side], data.rows[side][rows], query)
        if turn is not None:
            query, retrieved = query @ turn, Retrieved(retrieved.keys @ turn, retrieved.values @ turn, retrieved.found)
        frozen[side], refined[side] = fusions[side].lift(query), fusions[side](query, retrieved)
    return reco_loss(refined["image"], refined["text"], frozen["image"], frozen["text"], scale)


def rotation(dim: int, generator: np.random.Generator) -> Tensor:
    """A random orthogonal (d, d) matrix.

    Turning the whole shared space keeps every inner product, so a fusion that copies what it attends to is unharmed and
    one that memorises directions is not.
    """
    q, r = np.linalg.qr(generator.standard_normal((dim, dim)))
    return torch.from_numpy((q * np.sign(np.diag(r))).astype(np.float32))


def _warmup_cosine(steps: int, warmup: float) -> Callable[[int], float]:
    ramp = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        if step < ramp:
            return (step + 1) / ramp
        return 0.5 * (1 + float(np.cos(np.pi * (step - ramp) / max(1, steps - ramp))))

    return factor
