"""A model's graph as the tools of this package edit it: simplified by Linnet, held as onnx protobufs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from linnet import _core, _errors

if TYPE_CHECKING:
    import onnx

Array = np.ndarray[Any, Any]


def need_onnx() -> None:
    """Raises ImportError with what to install where the onnx package is absent."""
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "linnet.compress edits models with the onnx package: pip install 'linnet[compress]'"
        ) from error


def read(model: Any, weights: bool = True) -> tuple[onnx.ModelProto, str]:
    """The model, and what to call it in messages; ``model`` is a path, bytes or a ModelProto.

    Without ``weights``, those in files of their own are not read.
    """
    need_onnx()
    import onnx

    if isinstance(model, onnx.ModelProto):
        return model, "the model"
    if isinstance(model, (bytes, bytearray, memoryview)):
        try:
            return onnx.load_from_string(bytes(model)), "the model"
        except Exception as error:  # protobuf's own kinds
            raise _errors.InvalidProtobuf(f"the model's bytes are not an ONNX model: {error}") from error
    path = Path(model)
    if not path.is_file():
        raise _errors.NoSuchFile(f"{path}: no such file")
    try:
        return onnx.load(path, load_external_data=weights), str(path)
    except Exception as error:
        raise _errors.InvalidProtobuf(f"{path} is not an ONNX model: {error}") from error


def simplified(model: Any) -> tuple[onnx.ModelProto, str]:
    """The model as Linnet's simplifying passes leave it (constants folded, batch normalisation inside convolutions).

    Names of values stay those of the file. Every node has a name of its own.
    """
    import onnx

    from linnet.compress import _unpack

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "simplified.onnx"
        options = _core.SessionOptions()
        options.optimization = 1
        options.optimized_model = out
        if isinstance(model, (str, os.PathLike)):
            name = str(model)
            need_onnx()
            _core.Session(Path(model), options)
        else:
            proto, name = read(model)
            _core.Session.from_bytes(proto.SerializeToString(), options)
        result = onnx.load(out)
    if result.ByteSize() >= 2**31 - 2**20:
        raise _errors.InvalidArgument(f"{name} has 2 GiB of weights or more, which onnx's protobufs cannot hold")
    if _unpack.unpack_weights(
        result
    ):  # the passes leave codes as they are, and what could move into weights beside them
        return simplified(result)[0], name
    used: set[str] = set()
    for i, node in enumerate(result.graph.node):
        base = node.name or f"{node.op_type}_{i}"
        node.name = base if base not in used else f"{base}_{i}"
        used.add(node.name)
    return result, name


class Graph:
    """Look-ups over a ModelProto's main graph, and edits that keep names unique."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.proto = model.graph
        self.initializers = {t.name: t for t in self.proto.initializer}
        self.producer: dict[str, onnx.NodeProto] = {}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        self.outputs = {o.name for o in self.proto.output}
        self.captured: set[str] = set()
        for node in self.proto.node:
            for name in filter(None, node.output):
                self.producer[name] = node
            for name in dict.fromkeys(filter(None, node.input)):
                self.consumers.setdefault(name, []).append(node)
            for attribute in node.attribute:
                for body in _bodies(attribute):
                    self.captured |= _names_in(body)
        self._names = set(self.initializers) | set(self.producer) | {i.name for i in self.proto.input} | self.captured
        self._values: dict[str, Array] = {}

    def is_constant(self, name: str) -> bool:
        """Whether it is an initializer."""
        return name in self.initializers

    def constant(self, name: str) -> Array | None:
        """The initializer's elements (not to be written to), None for what is computed or absent."""
        from onnx import numpy_helper

        if name not in self.initializers:
            return None
        if name not in self._values:
            self._values[name] = numpy_helper.to_array(self.initializers[name])
        return self._values[name]

    def used_once(self, name: str) -> bool:
        """Whether one node, once, is all that sees the value."""
        nodes = self.consumers.get(name, [])
        single = len(nodes) == 1 and list(nodes[0].input).count(name) == 1
        return single and name not in self.outputs and name not in self.captured

    def unique(self, base: str) -> str:
        """A name that no value has, taken from now on."""
        name, number = base, 2
        while name in self._names:
            name, number = f"{base}_{number}", number + 1
        self._names.add(name)
        return name

    def add_initializer(self, base: str, value: Array) -> str:
        """A new constant; its name. numpy's and ml_dtypes' element types are taken."""
        from onnx import numpy_helper

        return self.add_tensor(numpy_helper.from_array(np.asarray(value, order="C"), self.unique(base)))

    def add_tensor(self, tensor: onnx.TensorProto) -> str:
        """A new constant whose name is taken already (see `unique`)."""
        self.proto.initializer.append(tensor)
        self.initializers[tensor.name] = self.proto.initializer[-1]
        return tensor.name

    def set_constant(self, name: str, value: Array) -> None:
        """Other elements, and maybe another shape, for an initializer."""
        from onnx import numpy_helper

        self.initializers[name].CopyFrom(numpy_helper.from_array(np.asarray(value, order="C"), name))
        self._values.pop(name, None)

    def drop_unused(self) -> None:
        """Removes initializers that nothing uses."""
        used = {name for node in self.proto.node for name in node.input} | {o.name for o in self.proto.output}
        for node in self.proto.node:
            for attribute in node.attribute:
                for body in _bodies(attribute):
                    used |= _names_in(body)
        for i in reversed(range(len(self.proto.initializer))):  # what stays is not copied
            if self.proto.initializer[i].name not in used:
                del self.proto.initializer[i]


def _bodies(attribute: onnx.AttributeProto) -> list[onnx.GraphProto]:
    return [attribute.g] if attribute.HasField("g") else list(attribute.graphs)


def _names_in(body: onnx.GraphProto) -> set[str]:
    names = {o.name for o in body.output}
    for node in body.node:
        names |= {*node.input, *node.output}
        for attribute in node.attribute:
            for inner in _bodies(attribute):
                names |= _names_in(inner)
    return names


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """An attribute's value."""
    from onnx import helper

    for a in node.attribute:
        if a.name == name:
            return helper.get_attribute_value(a)
    return default


def opset(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that the model imports."""
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)


def with_opset(model: onnx.ModelProto, least: int, name: str) -> onnx.ModelProto:
    """The model, converted when its opset is lower than ``least``.

    Raises:
        NotImplementedOp: onnx cannot convert it.
    """
    from onnx import helper, version_converter

    if opset(model) < least:
        try:
            model = version_converter.convert_version(model, least)
        except Exception as error:
            raise _errors.NotImplementedOp(
                f"{name}: quantization needs opset {least}, the model has {opset(model)} and onnx cannot convert it: "
                f"{error}. Export the model with opset_version={least}"
            ) from error
    model.ir_version = max(model.ir_version, helper.find_min_ir_version_for(list(model.opset_import)))
    return model


def float_values(model: onnx.ModelProto) -> dict[str, list[int | str | None]]:
    """Names and shapes of all computed and fed values that are float32 tensors, as Linnet infers them."""
    names = [name for node in model.graph.node for name in node.output if name]
    session = open_core(model, [*names, *(i.name for i in model.graph.input)])
    ports = {p["name"]: p for p in session.outputs()}
    return {
        name: list(port["shape"] or [])
        for name, port in ports.items()
        if port["kind"] == "tensor" and port["dtype"] == "float32" and not port["optional"]
    }


def open_core(
    model: onnx.ModelProto, outputs: Iterable[str] = (), threads: int = 0, *, fuse: bool = True
) -> _core.Session:
    """A session of the model that has ``outputs`` among its outputs."""
    options = _core.SessionOptions()
    options.threads = threads
    options.extra_outputs = list(outputs)
    options.optimization = 2 if fuse else 0
    data = model.SerializeToString()
    return _core.Session.from_bytes(data, options)


def save(model: onnx.ModelProto, path: str | os.PathLike[str]) -> None:
    """Writes the model, weights of 2 GiB and more beside it; under a temporary name first.

    Raises:
        Fail: it cannot be written.
    """
    import onnx

    from linnet.compress._report import write_file

    path = Path(path)
    if model.ByteSize() < 2**31 - 2**20:
        write_file(path, model.SerializeToString())
        return
    external = onnx.ModelProto()
    external.CopyFrom(model)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        onnx.save(external, Path(folder) / path.name, save_as_external_data=True, location=path.name + ".data")
        (Path(folder) / (path.name + ".data")).replace(path.with_name(path.name + ".data"))
        (Path(folder) / path.name).replace(path)
