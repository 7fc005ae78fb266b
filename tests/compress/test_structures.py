"""The patterns of zeros: how many go, which go, and that they lie where kernels look for them."""

from __future__ import annotations

import numpy as np
import pytest

from linnet import InvalidArgument
from linnet.compress import _structure as patterns

RNG = np.random.default_rng(0)
SHAPES = {
    "conv": ((22, 5, 3, 3), 0, 1),
    "gemm": ((22, 37), 0, 1),
    "matmul": ((37, 22), 1, 0),
    "keras": ((3, 3, 5, 22), 3, 2),
}


def masked(structure: str, sparsity: float, scope: str = "layer") -> dict[str, np.ndarray]:
    arrays = {name: RNG.normal(size=shape).astype(np.float32) for name, (shape, _, _) in SHAPES.items()}
    views = {name: patterns.rows(arrays[name], o, i) for name, (_, o, i) in SHAPES.items()}
    found = patterns.masks(views, patterns.Structure.parse(structure), sparsity, scope)
    out = {}
    for name, (shape, o, i) in SHAPES.items():
        mask = patterns.unrows(found[name], shape, o, i)
        assert mask.shape == shape
        assert np.array_equal(patterns.rows(mask.astype(np.float32), o, i) > 0, found[name])
        out[name] = found[name]
        size = np.abs(views[name])
        if structure == "unstructured" and scope == "layer":
            assert size[~found[name]].max(initial=0) <= size[found[name]].min()
    return out


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("structure", ["unstructured", "4x1"])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.8, 0.95])
def test_share_of_zeros(structure: str, sparsity: float, scope: str) -> None:
    found = masked(structure, sparsity, scope)
    units = {n: m if structure == "unstructured" else m[::4] for n, m in found.items()}
    if scope == "layer":
        for mask in units.values():
            assert mask.size - mask.sum() == round(sparsity * mask.size)
        return
    total = sum(m.size for m in units.values())
    assert total - sum(m.sum() for m in units.values()) == round(sparsity * total)
    assert all(m.any() for m in found.values())  # no layer is cut off


def test_blocks_are_four_outputs_at_multiples_of_four() -> None:
    for mask in masked("4x1", 0.7).values():
        assert len(mask) == 22
        for start in range(0, 22, 4):
            block = mask[start : start + 4]
            assert np.array_equal(block.all(0), block.any(0))


def test_the_weakest_blocks_go() -> None:
    weight = np.ones((8, 1, 3), np.float32)
    weight[4:, 0, 1] = 0.1
    weight[0, 0, 2] = 0.0  # one zero does not make a weak block
    mask = patterns.masks({"w": weight}, patterns.Structure.parse("4x1"), 1 / 6, "layer")["w"]
    assert np.argwhere(~mask).tolist() == [[4, 0, 1], [5, 0, 1], [6, 0, 1], [7, 0, 1]]


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 5)])
def test_n_of_m_along_the_inputs(n: int, m: int) -> None:
    weight = RNG.normal(size=(6, 2, 23)).astype(np.float32)
    mask = patterns.n_of_m(weight, n, m)
    for start in range(0, 23, m):
        part, kept = np.abs(weight[..., start : start + m]), mask[..., start : start + m]
        assert (kept.sum(-1) == min(n, kept.shape[-1])).all()
        assert (np.where(kept, 0, part).max(-1) <= np.where(kept, part, np.inf).min(-1)).all()


def test_global_scores_do_not_depend_on_a_layers_scale() -> None:
    small, large = RNG.normal(size=(16, 1, 16)).astype(np.float32), RNG.normal(size=(16, 1, 16)).astype(np.float32)
    structure = patterns.Structure.parse("unstructured")
    one = patterns.masks({"a": small, "b": large}, structure, 0.6, "global")
    other = patterns.masks({"a": small * 1000, "b": large}, structure, 0.6, "global")
    assert all(np.array_equal(one[name], other[name]) for name in "ab")


def test_schedule_is_cubic() -> None:
    assert [patterns.scheduled(step, 10, 20, 0.8) for step in (0, 9)] == [0, 0]
    assert patterns.scheduled(10, 10, 20, 0.8) == 0
    assert patterns.scheduled(15, 10, 20, 0.8) == pytest.approx(0.8 * (1 - 0.5**3))
    assert patterns.scheduled(20, 10, 20, 0.8) == patterns.scheduled(99, 10, 20, 0.8) == 0.8


@pytest.mark.parametrize("text", ["", "4x4", "4:2", "0:4", "2:", "two"])
def test_unknown_structures_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="structure"):
        patterns.Structure.parse(text)
