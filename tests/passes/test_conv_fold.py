"""Scales, shifts and Pads around convolutions and pools go into them."""

from __future__ import annotations

import numpy as np

from test_layout import Net


def left(net: Net, *outputs: str) -> str:
    """Checks the results; gives the operators that the lowered graph still has."""
    lines: list[str] = []
    net.run(*outputs, dumped=lines)
    return "\n".join(lines)


def test_batch_norm_behind() -> None:
    net = Net(1, 3, 8, 8)
    a = net.conv("x", 3, 10)
    variance = net.constant(10)
    net.constants[-1].CopyFrom(net.tensor(variance, np.linspace(0.5, 2, 10, dtype=np.float32)))
    y = net.add("BatchNormalization", a, net.constant(10), net.constant(10), net.constant(10), variance)
    assert "BatchNormalization" not in left(net, y)


def test_scale_and_shift_around() -> None:
    net = Net(1, 3, 8, 8)
    a = net.add("Sub", net.add("Div", "x", net.constant(3, 1, 1)), net.constant(1, 3, 1, 1))
    a = net.add("Conv", a, net.constant(6, 3, 3, 3))
    y = net.add("Add", net.add("Mul", a, net.constant(6, 1, 1)), net.constant(1))
    text = left(net, y)
    assert all(f"= {op}(" not in text for op in ("Sub", "Div", "Mul", "Add"))


def test_a_shift_in_front_of_padding_stays() -> None:
    net = Net(1, 3, 8, 8)
    left(net, net.conv(net.add("Add", "x", net.constant(3, 1, 1)), 3, 6))


def test_conv_transpose_with_groups() -> None:
    net = Net(1, 4, 5, 5)
    a = net.add("ConvTranspose", "x", net.constant(4, 3, 2, 2), strides=[2, 2], group=2)
    assert "= Mul(" not in left(net, net.add("Mul", a, net.constant(6, 1, 1)))


def test_pads() -> None:
    net = Net(1, 3, 8, 8)
    a = net.add("Pad", "x", net.ints(0, 0, 1, 2, 0, 0, 0, 1))
    a = net.add("Conv", a, net.constant(6, 3, 3, 3), pads=[1, 0, 0, 0])
    b = net.add("AveragePool", net.add("Pad", a, net.ints(0, 0, 1, 1, 0, 0, 1, 1)), kernel_shape=[3, 3])
    assert "= Pad(" not in left(net, b)
