"""Operators that a program adds: Python functions that models call by domain, name and version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from linnet import _core, _errors

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class TensorInfo:
    """What is known of an operator's input or output before it is there.

    Args:
        dtype: the elements' type, as numpy takes it (``"float32"``, ``np.int64``, ``str``); None: not known.
        shape: a size for each dimension; None: the rank is not known. Sizes that are not known when the model is loaded
            are objects that print as the model calls them (``batch``): they add, subtract, multiply and divide (``//``)
            with each other and with numbers. None in an output's shape is a size that depends on the inputs' values.
        value: the elements of an input that is known already, else None.
        sequence: a list of tensors of that dtype instead of one tensor.
    """

    dtype: npt.DTypeLike | None
    shape: tuple[Any, ...] | None = None
    value: np.ndarray[Any, Any] | None = None
    sequence: bool = False


def register_operator(
    domain: str,
    name: str,
    since_version: int = 1,
    *,
    infer: Callable[..., Any] | None = None,
    run: Callable[..., Any] | None = None,
) -> Any:
    """Makes a Python function the operator `name` of `domain`, for models that are loaded from now on.

    Without `run` it is a decorator::

        @linnet.register_operator("my.domain", "Clamp", infer=lambda x, **_: x)
        def clamp(x, *, low=0.0, high=1.0):
            return np.clip(x, low, high)

    Args:
        domain: the node's domain; a name that Linnet has in that domain already is refused.
        name: the node's op_type.
        since_version: the first version of the domain's opset in which the operator is this one. Of several the newest
            is taken that the model's opset import allows; all, where the model imports no opset of the domain.
        infer: called with a `TensorInfo` for each input (None where an optional one is left out) and the attributes by
            name; gives a `TensorInfo` for the output, or a tuple of them. It runs when a model is loaded and for each
            new signature of input shapes. Without it nothing is known of the outputs before they are there, which is
            right but slower: what follows cannot be planned.
        run: called with an array for each input (None where one is left out; a list of arrays for a sequence) and the
            attributes by name: int, float, str, a tuple of those, or an array. The arrays are read-only views of
            Linnet's memory, valid during the call only: keep copies. Gives an array for the output, a list of arrays
            for a sequence, or a tuple for several outputs, each of the dtype and shape that `infer` has said. It is
            called from whatever thread runs the model, by several at once where several run it.

    Raises:
        InvalidArgument: the operator is one of Linnet's own, or registered already in this version.

    An exception in one of the functions becomes a Linnet error that names model and node, with the exception as its
    ``__cause__``.
    """
    for what, function in (("infer", infer), ("run", run)):
        if function is not None and not callable(function):
            raise _errors.InvalidArgument(f"{what} must be a function, not {function!r}")
    if run is not None:
        _core.register_operator(domain, name, since_version, infer, run)
        return run

    def decorate(function: Function) -> Function:
        register_operator(domain, name, since_version, infer=infer, run=function)
        return function

    return decorate


def unregister_operator(domain: str, name: str, since_version: int = 1) -> None:
    """Takes an operator back. Models that are loaded keep it.

    Raises:
        InvalidArgument: it is not registered in this version.
    """
    _core.unregister_operator(domain, name, since_version)


def registered_operators() -> list[tuple[str, str, int]]:
    """(domain, name, since_version) of each registered operator; the domain ai.onnx is an empty text."""
    return _core.registered_operators()
