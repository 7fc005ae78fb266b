"""A small client: numpy arrays over the Open Inference Protocol, to Linnet or any other server that speaks it."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc
import numpy as np
from numpy.typing import ArrayLike, NDArray

from linnet._errors import ServeError
from linnet.serve import _dtypes, _wire

_SERVICE = "/inference.GRPCInferenceService/"


@dataclass(frozen=True)
class Port:
    """An input or output of a served model. ``shape`` has -1 where a dimension is free."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ServedModel:
    """What a server says of one model."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


class Client:
    """A connection to a server; safe to use from several threads.

    Args:
        address: ``host:port``, or ``unix:/path/of/socket``.
        timeout: seconds that a call may take unless it says otherwise; None waits for ever.
        root_certificates: PEM bytes; given, the connection is encrypted and the server must show a certificate of
            theirs. With ``private_key`` and ``certificate_chain`` the client shows its own (mTLS).
        compression: "gzip" or "deflate" compress requests.
        metadata: pairs sent with every call, as an API key.

    Calls raise :class:`linnet.serve.ServeError` with a gRPC status code and the server's message.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:8001",
        *,
        timeout: float | None = 60.0,
        root_certificates: bytes | None = None,
        private_key: bytes | None = None,
        certificate_chain: bytes | None = None,
        compression: str | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> None:
        options = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
        kinds = {None: None, "gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
        if compression not in kinds:
            raise ValueError(f"compression is {compression!r}; it can be 'gzip' or 'deflate'")
        if root_certificates is None:
            self._channel = grpc.insecure_channel(address, options=options, compression=kinds[compression])
        else:
            credentials = grpc.ssl_channel_credentials(root_certificates, private_key, certificate_chain)
            self._channel = grpc.secure_channel(address, credentials, options=options, compression=kinds[compression])
        self._timeout = timeout
        self._metadata = tuple(metadata)
        self._methods: dict[str, Any] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def infer(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        *,
        outputs: Sequence[str] = (),
        version: str = "",
        timeout: float | None = None,
        priority: int = 0,
        request_id: str = "",
    ) -> dict[str, NDArray[Any]]:
        """Runs a model on the server.

        Args:
            model: its name.
            inputs: an array for each input, of the input's dtype. Text and bytes become BYTES.
            outputs: names of those wanted; empty for all.
            version: a version's number or label; empty lets the server choose.
            timeout: seconds for this call; None takes the client's.
            priority: 1 is the highest; 0 the server's default.
            request_id: comes back with the answer and stands in the server's log.

        Returns:
            The outputs by name. Their memory is the answer's own and cannot be written to.
        """
        answer = self._call("ModelInfer", _request(model, inputs, outputs, version, priority, request_id), timeout)
        return _outputs(answer)

    def model(self, name: str, version: str = "") -> ServedModel:
        """A model's inputs and outputs."""
        answer = self._call("ModelMetadata", _wire.text(1, name) + _wire.text(2, version))
        texts: dict[int, list[str]] = {1: [], 2: [], 3: []}
        ports: dict[int, list[Port]] = {4: [], 5: []}
        for field, value in _wire.fields(answer):
            if field in texts and not isinstance(value, int):
                texts[field].append(bytes(value).decode())
            elif field in ports and not isinstance(value, int):
                ports[field].append(_port(value))
        return ServedModel("".join(texts[1]), tuple(texts[2]), "".join(texts[3]), tuple(ports[4]), tuple(ports[5]))

    def is_ready(self, model: str = "", version: str = "") -> bool:
        """Whether the server, or one of its models, takes requests."""
        if model:
            answer = self._call("ModelReady", _wire.text(1, model) + _wire.text(2, version))
        else:
            answer = self._call("ServerReady", b"")
        return any(field == 1 and value == 1 for field, value in _wire.fields(answer))

    def models(self) -> list[tuple[str, str, str, str]]:
        """(name, version, state, reason) of every version that the server knows."""
        rows = []
        for field, value in _wire.fields(self._call("RepositoryIndex", b"")):
            if field == 1 and not isinstance(value, int):
                texts = {f: bytes(v).decode() for f, v in _wire.fields(value) if not isinstance(v, int)}
                rows.append((texts.get(1, ""), texts.get(2, ""), texts.get(3, ""), texts.get(4, "")))
        return rows

    def load(self, model: str, timeout: float | None = None) -> None:
        """Has the server load the model, or what is new of it; returns when it is ready."""
        self._call("RepositoryModelLoad", _wire.text(2, model), timeout)

    def rollback(self, model: str, timeout: float | None = None) -> None:
        """Has a Linnet server return to the versions that it served before the last update."""
        parameter = _wire.text(1, "rollback") + _wire.data(2, _wire.number(1, 1))
        self._call("RepositoryModelLoad", _wire.text(2, model) + _wire.data(3, parameter), timeout)

    def unload(self, model: str, timeout: float | None = None) -> None:
        """Has the server let the model go."""
        self._call("RepositoryModelUnload", _wire.text(2, model), timeout)

    def _call(self, method: str, request: bytes, timeout: float | None = None) -> bytes:
        call = self._methods.get(method)
        if call is None:
            call = self._methods[method] = self._channel.unary_unary(_SERVICE + method)
        try:
            answer: bytes = call(
                request, timeout=self._timeout if timeout is None else timeout, metadata=self._metadata
            )
        except grpc.RpcError as error:
            raise ServeError(error.code().value[0], error.details()) from None
        return answer


def _request(
    model: str,
    inputs: Mapping[str, ArrayLike],
    outputs: Sequence[str],
    version: str,
    priority: int,
    request_id: str,
) -> bytes:
    """A ModelInferRequest; see protos/inference.proto."""
    parts = [_wire.text(1, model), _wire.text(2, version), _wire.text(3, request_id)]
    if priority:
        parts.append(_wire.data(4, _wire.text(1, "priority") + _wire.data(2, _wire.number(5, priority))))
    contents = []
    for name, given in inputs.items():
        array = np.asarray(given)
        datatype, raw = _to_raw(name, array)
        shape = b"".join(map(_wire.varint, array.shape))
        parts.append(_wire.data(5, _wire.text(1, name) + _wire.text(2, datatype) + _wire.data(3, shape)))
        contents.append(_wire.data(7, raw))
    parts += [_wire.data(6, _wire.text(1, name)) for name in outputs]
    return b"".join(parts + contents)


def _to_raw(name: str, array: NDArray[Any]) -> tuple[str, bytes]:
    if array.dtype.kind in "USO":
        items = (item if isinstance(item, bytes) else str(item).encode() for item in array.ravel().tolist())
        return "BYTES", b"".join(struct.pack("<I", len(item)) + item for item in items)
    datatype = _dtypes.oip_name(array.dtype.name)
    if not _dtypes.from_oip(datatype):
        raise ValueError(f"input '{name}' is of dtype {array.dtype}, which the protocol cannot express")
    return datatype, array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _outputs(answer: bytes) -> dict[str, NDArray[Any]]:
    ports: list[Port] = []
    raw: list[memoryview] = []
    for field, value in _wire.fields(answer):
        if field == 5 and not isinstance(value, int):
            ports.append(_port(value))
        elif field == 6 and not isinstance(value, int):
            raw.append(value)
    if len(raw) != len(ports):
        raise ServeError(13, f"the server answered {len(ports)} outputs with {len(raw)} contents")
    return {port.name: _from_raw(port, data) for port, data in zip(ports, raw, strict=True)}


def _from_raw(port: Port, raw: memoryview) -> NDArray[Any]:
    if port.datatype == "BYTES":
        items, at = [], 0
        while at + 4 <= len(raw):
            (size,) = struct.unpack_from("<I", raw, at)
            items.append(bytes(raw[at + 4 : at + 4 + size]))
            at += 4 + size
        array = np.empty(len(items), object)
        array[:] = items
        return array.reshape(port.shape)
    if port.datatype == "BF16":
        import ml_dtypes  # pip install linnet[narrow]

        return np.frombuffer(raw, ml_dtypes.bfloat16).reshape(port.shape)
    return np.frombuffer(raw, np.dtype(_dtypes.from_oip(port.datatype)).newbyteorder("<")).reshape(port.shape)


def _port(message: memoryview) -> Port:
    """A tensor's description: name = 1, datatype = 2, shape = 3 in every message that has one."""
    name = datatype = ""
    shape: list[int] = []
    for field, value in _wire.fields(message):
        if field == 1 and not isinstance(value, int):
            name = bytes(value).decode()
        elif field == 2 and not isinstance(value, int):
            datatype = bytes(value).decode()
        elif field == 3:
            shape += _wire.varints(value)
    return Port(name, datatype, tuple(shape))
