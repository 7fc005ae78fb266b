"""OrtValue and IOBinding: values and buffers under onnxruntime's names. All memory is the CPU's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from linnet import _errors

if TYPE_CHECKING:
    from linnet._session import InferenceSession

Array = npt.NDArray[Any]

# numpy name -> the name in "tensor(...)"
_ONNX_NAMES = {
    "float32": "float",
    "float64": "double",
    "str": "string",
    "object": "string",
    "float8_e4m3fn": "float8e4m3fn",
    "float8_e4m3fnuz": "float8e4m3fnuz",
    "float8_e5m2": "float8e5m2",
    "float8_e5m2fnuz": "float8e5m2fnuz",
    "float8_e8m0fnu": "float8e8m0",
    "float4_e2m1fn": "float4e2m1",
}
# TensorProto.DataType of each numpy name
_ELEMENT_TYPES = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "object": 8, "bool": 9,
    "float16": 10, "float64": 11, "uint32": 12, "uint64": 13, "complex64": 14, "complex128": 15, "bfloat16": 16,
    "float8_e4m3fn": 17, "float8_e4m3fnuz": 18, "float8_e5m2": 19, "float8_e5m2fnuz": 20, "uint4": 21, "int4": 22,
    "float4_e2m1fn": 23, "float8_e8m0fnu": 24, "uint2": 25, "int2": 26,
}  # fmt: skip


def onnx_type(array: Array) -> str:
    """``"tensor(float)"`` for a float32 array, and so on."""
    name = "str" if array.dtype.kind in "USO" else array.dtype.name
    return f"tensor({_ONNX_NAMES.get(name, name)})"


def _type_of(value: Any) -> str:
    if isinstance(value, list):
        return f"seq({_type_of(value[0]) if value else 'tensor(float)'})"
    if isinstance(value, dict):
        keys, values = np.asarray(list(value)), np.asarray(list(value.values()))
        number = "float" if values.dtype.kind == "f" else onnx_type(values)[7:-1]
        return f"map({onnx_type(keys)[7:-1]},tensor({number}))"
    return onnx_type(np.asarray(value))


def _dtype(element_type: Any) -> np.dtype[Any]:
    if isinstance(element_type, int):
        for name, number in _ELEMENT_TYPES.items():
            if number == element_type:
                return dtype_named(name)
        raise _errors.InvalidArgument(f"no element type has the number {element_type}")
    dtype: np.dtype[Any] = np.dtype(element_type)
    return dtype


def dtype_named(name: str) -> np.dtype[Any]:
    """numpy's dtype for the name inside ``"tensor(...)"``; narrow types need ml_dtypes."""
    plain = {onnx: own for own, onnx in _ONNX_NAMES.items() if own != "str"}.get(name, name)
    if plain not in np.sctypeDict and plain in _ELEMENT_TYPES:
        try:
            import ml_dtypes
        except ImportError:
            raise _errors.NotImplementedOp(f"numpy has no {plain}: pip install ml_dtypes") from None
        plain = getattr(ml_dtypes, plain)
    dtype: np.dtype[Any] = np.dtype(plain)
    return dtype


def _cpu_only(device_type: str | OrtDevice) -> None:
    if isinstance(device_type, str) and device_type.lower() not in ("cpu", "cuda_pinned"):
        raise _errors.InvalidArgument(f"device {device_type!r} is not available; Linnet runs on the CPU")


class OrtDevice:
    """A device; only ``cpu`` exists."""

    def __init__(self, device: Any = 0, memory: int = 0, device_id: int = 0) -> None:
        if not isinstance(device, OrtDevice) and device != 0:
            raise _errors.InvalidArgument(f"device {device!r} is not available; Linnet runs on the CPU")

    @staticmethod
    def make(ort_device_name: str, device_id: int = 0, vendor_id: int = -1) -> OrtDevice:
        """The device of that name; raises for anything but the CPU."""
        _cpu_only(ort_device_name)
        return OrtDevice()

    @staticmethod
    def cpu() -> int:
        """0, the number of the CPU."""
        return 0

    @staticmethod
    def default_memory() -> int:
        """0, the number of its memory."""
        return 0

    def device_type(self) -> int:
        """Always 0, the number of the CPU."""
        return 0

    def device_id(self) -> int:
        """Always 0."""
        return 0

    def device_mem_type(self) -> int:
        """Always 0, the default memory."""
        return 0

    def device_vendor_id(self) -> int:
        """Always 0."""
        return 0


class _Capsule:
    """A bare DLPack capsule, as numpy wants to be given it."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **more: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


class OrtValue:
    """A value for `InferenceSession.run_with_ort_values`: an array, a list of values (a sequence), a map or None."""

    def __init__(self, value: Any, numpy_obj: Array | None = None, session: Any = None) -> None:
        self._linnet_value: Any = value._linnet_value if isinstance(value, OrtValue) else value

    @property
    def _ortvalue(self) -> OrtValue:
        return self

    @classmethod
    def ortvalue_from_numpy(
        cls, numpy_obj: Array, /, device_type: str | OrtDevice = "cpu", device_id: int = 0, vendor_id: int = -1
    ) -> OrtValue:
        """Wraps the array: both share memory when it is C-contiguous, else it is copied."""
        _cpu_only(device_type)
        return cls(np.asarray(numpy_obj, order="C"))

    @classmethod
    def ortvalue_from_numpy_with_onnx_type(cls, data: Array, /, onnx_element_type: int) -> OrtValue:
        """Wraps the array's memory as elements of another type of the same size: 16 (bfloat16) ..."""
        dtype = _dtype(onnx_element_type)
        if dtype.itemsize != data.dtype.itemsize:
            raise _errors.InvalidArgument(f"elements of {data.dtype} cannot be read as {dtype}: their sizes differ")
        return cls(np.ascontiguousarray(data).view(dtype))

    @classmethod
    def from_dlpack(cls, data: Any, /) -> OrtValue:
        """Wraps the memory of another library's tensor (or of a bare DLPack capsule) on the CPU."""
        array: Array = np.from_dlpack(data if hasattr(data, "__dlpack__") else _Capsule(data))
        return cls(np.asarray(array, order="C"))

    def __dlpack__(self, **more: Any) -> Any:
        return self._linnet_value.__dlpack__(**more)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    @classmethod
    def ortvalue_from_shape_and_type(
        cls,
        shape: Sequence[int],
        element_type: Any = np.float32,
        device_type: str | OrtDevice = "cpu",
        device_id: int = 0,
        vendor_id: int = -1,
        memory_info: Any = None,
    ) -> OrtValue:
        """Wraps new, uninitialised memory; `element_type` is a numpy dtype or a TensorProto number."""
        _cpu_only(device_type)
        return cls(np.empty(tuple(shape), _dtype(element_type)))

    def numpy(self) -> Any:
        """The array (shared with this value), or a list of arrays for a sequence."""
        return self._linnet_value

    def shape(self) -> list[int]:
        """Sizes of a tensor's dimensions."""
        return list(self._linnet_value.shape)

    def data_type(self) -> str:
        """``"tensor(float)"``, ``"seq(tensor(int64))"``, ``"map(string,tensor(float))"`` ..."""
        return _type_of(self._linnet_value)

    def element_type(self) -> int:
        """TensorProto.DataType of a tensor's elements."""
        name = "object" if self._linnet_value.dtype.kind in "USO" else self._linnet_value.dtype.name
        return _ELEMENT_TYPES[name]

    def device_name(self) -> str:
        """Always ``"cpu"``."""
        return "cpu"

    def has_value(self) -> bool:
        """False for an absent optional."""
        return self._linnet_value is not None

    def is_tensor(self) -> bool:
        """Whether it is one array."""
        return isinstance(self._linnet_value, np.ndarray)

    def is_tensor_sequence(self) -> bool:
        """Whether it is a sequence."""
        return isinstance(self._linnet_value, list)

    def is_sparse_tensor(self) -> bool:
        """Always False."""
        return False

    def tensor_size_in_bytes(self) -> int:
        """Bytes of a tensor's elements."""
        return int(self._linnet_value.nbytes)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self._linnet_value, dtype=dtype, copy=copy)

    def data_ptr(self) -> int:
        """Address of the first element."""
        return int(self._linnet_value.ctypes.data)

    def update_inplace(self, data: Array | OrtValue) -> None:
        """Overwrites the elements with those of an array or OrtValue of as many elements of the same dtype."""
        own = self._linnet_value
        given: Array = data._linnet_value if isinstance(data, OrtValue) else data
        if given.size != own.size or given.dtype != own.dtype:
            raise _errors.RuntimeException(f"the value is {own.dtype} {own.shape}, given {given.dtype} {given.shape}")
        np.copyto(own, given.reshape(own.shape))


class OrtValueVector(list[OrtValue]):
    """A list of `OrtValue`."""

    def push_back(self, value: OrtValue) -> None:
        """Appends a value."""
        self.append(OrtValue(value))


class IOBinding:
    """Inputs and outputs bound to memory, for runs that allocate nothing in Python."""

    def __init__(self, session: InferenceSession) -> None:
        self._session = session
        self._inputs: dict[str, Any] = {}
        self._outputs: dict[str, Array | None] = {}  # None: allocated by the run
        self._results: dict[str, Any] = {}

    def _check_input(self, name: str) -> None:
        known = [arg.name for arg in self._session.get_inputs()]
        if name not in known:
            raise _errors.RuntimeException(f"there is no input {name!r}; the model's inputs are {', '.join(known)}")

    def bind_cpu_input(self, name: str, arr_on_cpu: Array) -> None:
        """Binds an input to an array, which is read at each run."""
        self._check_input(name)
        self._inputs[name] = arr_on_cpu

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        """Binds an input to an OrtValue."""
        self._check_input(name)
        self._inputs[name] = ortvalue.numpy()

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: Any, shape: Sequence[int], buffer_ptr: int
    ) -> None:
        """Binds an input to memory at an address; the caller keeps it alive."""
        _cpu_only(device_type)
        self._check_input(name)
        self._inputs[name] = _array_at(buffer_ptr, shape, _dtype(element_type))

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Asks for an output, in memory at `buffer_ptr` when it is given, else in memory that the run allocates."""
        _cpu_only(device_type)
        if buffer_ptr is None:
            self._outputs[name] = None
        else:
            self._outputs[name] = _array_at(buffer_ptr, shape or (), _dtype(element_type))

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        """Has an output written into an OrtValue's array."""
        self._outputs[name] = ortvalue.numpy()

    def get_outputs(self) -> list[OrtValue]:
        """The outputs of the last run, in the order they were bound."""
        return [OrtValue(self._results[name]) for name in self._outputs if name in self._results]

    def get_outputs_as_ortvaluevector(self) -> OrtValueVector:
        """As `get_outputs`."""
        return OrtValueVector(self.get_outputs())

    @property
    def _iobinding(self) -> IOBinding:
        return self

    def copy_outputs_to_cpu(self) -> list[Any]:
        """The outputs of the last run as arrays."""
        return [self._results[name] for name in self._outputs if name in self._results]

    def clear_binding_inputs(self) -> None:
        """Forgets the inputs."""
        self._inputs.clear()

    def clear_binding_outputs(self) -> None:
        """Forgets the outputs."""
        self._outputs.clear()
        self._results.clear()

    def synchronize_inputs(self) -> None:
        """Nothing to wait for on a CPU."""

    def synchronize_outputs(self) -> None:
        """Nothing to wait for on a CPU."""


def _array_at(address: int, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    import ctypes

    count = int(np.prod(tuple(shape), dtype=np.int64))
    if address == 0 and count:
        raise _errors.InvalidArgument(f"memory for {count} elements is said to be at address 0")
    buffer = (ctypes.c_byte * (count * dtype.itemsize)).from_address(address)
    array: Array = np.frombuffer(memoryview(buffer), dtype=dtype, count=count)
    return array.reshape(tuple(shape))
