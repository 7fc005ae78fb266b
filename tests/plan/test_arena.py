"""Where the arena puts intermediates: the places that a plain search finds, without its work."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from linnet import _core

Lifetimes = list[tuple[int, int, int]]  # first step, last step, bytes
place_lifetimes: Callable[[Lifetimes], tuple[list[int], int, int]] = _core.testing.place_lifetimes


def aligned(size: int) -> int:
    return -(-size // 64) * 64


def plain(lifetimes: Lifetimes, order: list[int]) -> tuple[list[int], int]:
    """First fit in that order, by looking at everything that was placed before."""
    offsets, total = [0] * len(lifetimes), 0
    placed: list[int] = []
    for i in order:
        first, last, size = lifetimes[i]
        at = 0
        for j in sorted(placed, key=lambda j: offsets[j]):
            if lifetimes[j][1] < first or last < lifetimes[j][0]:
                continue
            if offsets[j] >= at + aligned(size):
                break
            at = max(at, offsets[j] + aligned(lifetimes[j][2]))
        offsets[i] = at
        total = max(total, at + aligned(size))
        placed.append(i)
    return offsets, total


def chain(count: int) -> Lifetimes:
    return [(i, i + 1, 1000 + i % 7 * 640) for i in range(count)]


def together(count: int) -> Lifetimes:
    """All are made one after the other and live to the end."""
    return [(i, count, 64 + i % 100 * 64) for i in range(count)]


def nested(count: int) -> Lifetimes:
    """The first made is the last used."""
    return [(i, 2 * count - i, 64 * (1 + i * 7919 % 50)) for i in range(count)]


def some(count: int, seed: int = 0) -> Lifetimes:
    source = np.random.default_rng(seed)
    first = source.integers(0, count, count)
    length = np.where(source.random(count) < 0.1, source.integers(0, count, count), source.integers(0, 6, count))
    size = source.integers(1, 1 << 16, count) >> source.integers(0, 12, count)
    return [(int(f), int(f + n), int(s)) for f, n, s in zip(first, length, size, strict=True)]


@pytest.mark.parametrize("seed", range(20))
def test_the_places_of_a_plain_search(seed: int) -> None:
    cases = [some(int(1.6**seed) % 300 + 1, seed), *(make(seed + 1) for make in (chain, together, nested))]
    for lifetimes in cases:
        by_size = sorted(range(len(lifetimes)), key=lambda i: -lifetimes[i][2])
        by_use = sorted(by_size, key=lambda i: lifetimes[i][0])
        want, total = min((plain(lifetimes, order) for order in (by_size, by_use)), key=lambda found: found[1])
        offsets, size, _ = place_lifetimes(lifetimes)
        assert size == total
        assert offsets == want


@pytest.mark.parametrize("make", [chain, together, nested, some])
def test_what_lives_together_shares_nothing(make: Callable[[int], Lifetimes]) -> None:
    lifetimes = make(500)
    offsets, size, _ = place_lifetimes(lifetimes)
    for i, (first, last, mine) in enumerate(lifetimes):
        assert offsets[i] % 64 == 0 and offsets[i] + mine <= size
        for j in range(i):
            begin, end, other = lifetimes[j]
            if begin <= last and first <= end:
                assert offsets[i] + mine <= offsets[j] or offsets[j] + other <= offsets[i]


@pytest.mark.parametrize(("make", "most"), [(chain, 6), (together, 20), (nested, 150)])
def test_the_work_grows_with_the_number_of_buffers(make: Callable[[int], Lifetimes], most: int) -> None:
    """Not with its square: `most` ranges are looked at for each level of a tree over the steps, in both orders."""
    for count in (1000, 4000, 16_000):
        _, _, visits = place_lifetimes(make(count))
        assert visits <= most * count * math.log2(count), (count, visits)


def test_no_buffers() -> None:
    assert place_lifetimes([]) == ([], 0, 0)
    offsets, size, _ = place_lifetimes([(0, 0, 0), (0, 3, 1), (1, 1, 0)])
    assert (offsets, size) == ([0, 0, 0], 64)
