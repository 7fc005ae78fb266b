"""Mixed precision: which layers must stay float so that the user's metric loses no more than allowed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

Measure = Callable[[Collection[str]], float]
"""The metric of a model in which just these layers are quantized."""


@dataclass
class Choice:
    """``kept``: layers that stay float, most sensitive first; ``metric`` of the model without them quantized.

    ``tried`` is what was measured on the way: how many layers stayed float, and the metric.
    """

    kept: list[str]
    metric: float
    tried: list[tuple[int, float]] = field(default_factory=list)


def fewest_kept(
    layers: Sequence[str],
    measure: Measure,
    least: float,
    *,
    refinements: int = 12,
    say: Callable[[str], None] = lambda text: None,
) -> Choice | None:
    """The fewest layers to keep float for a metric of at least ``least``; None when not even one can be quantized.

    Bisects over how many of ``layers`` (most sensitive first) stay float; then layers are given back one by one, the
    least sensitive first, as long as the metric allows, at most ``refinements`` tries.
    """
    tried: list[tuple[int, float]] = []
    known: dict[frozenset[str], float] = {}

    def metric(kept: Sequence[str]) -> float:
        key = frozenset(kept)
        if key not in known:
            say(f"measuring with {len(kept)} of {len(layers)} layers in float")
            known[key] = measure([name for name in layers if name not in key])
            tried.append((len(kept), known[key]))
        return known[key]

    if metric([]) >= least:
        return Choice([], metric([]), tried)
    low, high = 0, len(layers)  # `low` are too few; all of them are enough, but then nothing is quantized
    while high - low > 1:
        middle = (low + high) // 2
        if metric(layers[:middle]) >= least:
            high = middle
        else:
            low = middle
    if high == len(layers):
        return None
    kept = list(layers[:high])
    for name in list(reversed(kept))[:refinements]:
        fewer = [other for other in kept if other != name]
        if metric(fewer) >= least:
            kept = fewer
    return Choice(kept, metric(kept), tried)
