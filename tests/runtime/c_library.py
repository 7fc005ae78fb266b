"""The shared library through ctypes."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_uint64, c_void_p
from pathlib import Path

import numpy as np

OK, INVALID_ARGUMENT, NO_SUCH_FILE, INVALID_PROTOBUF, INVALID_GRAPH, NOT_IMPLEMENTED = 0, 2, 3, 4, 5, 6
RUNTIME_ERROR, CANCELLED = 7, 8
FLOAT32, STRING, BOOL = 1, 8, 9
TENSOR, SEQUENCE = 1, 2


class Port(ctypes.Structure):
    _fields_ = [
        ("name", c_char_p),
        ("kind", c_int),
        ("dtype", c_int),
        ("rank", c_int64),
        ("dims", POINTER(c_int64)),
        ("dim_names", POINTER(c_char_p)),
    ]


def open_library(path: Path) -> ctypes.CDLL:
    """The shared library, with the types of its functions."""
    library = ctypes.CDLL(str(path))
    for name in ("linnet_version", "linnet_last_error", "linnet_status_text", "linnet_isa", "linnet_dtype_name"):
        getattr(library, name).restype = c_char_p
    library.linnet_session_metadata.restype = c_char_p
    library.linnet_session_input_count.restype = c_size_t
    library.linnet_session_output_count.restype = c_size_t
    library.linnet_dtype_size.restype = c_size_t
    for name in ("session_destroy", "value_destroy", "options_destroy", "flag_destroy", "text_destroy"):
        getattr(library, f"linnet_{name}").argtypes = [c_void_p]
    library.linnet_session_metadata.argtypes = [c_void_p, c_char_p]
    library.linnet_session_input_count.argtypes = [c_void_p]
    library.linnet_session_output_count.argtypes = [c_void_p]
    library.linnet_session_input.argtypes = [c_void_p, c_size_t, POINTER(Port)]
    library.linnet_session_output.argtypes = [c_void_p, c_size_t, POINTER(Port)]
    library.linnet_session_open.argtypes = [c_char_p, c_void_p, POINTER(c_void_p)]
    library.linnet_session_create.argtypes = [c_char_p, c_size_t, c_void_p, POINTER(c_void_p)]
    library.linnet_options_set.argtypes = [c_void_p, c_char_p, c_char_p]
    library.linnet_tensor_view.argtypes = [c_int, POINTER(c_int64), c_size_t, c_void_p, c_size_t, POINTER(c_void_p)]
    library.linnet_tensor_create.argtypes = [c_int, POINTER(c_int64), c_size_t, POINTER(c_void_p)]
    library.linnet_tensor_create_strings.argtypes = [
        POINTER(c_char_p), POINTER(c_size_t), POINTER(c_int64), c_size_t, POINTER(c_void_p),
    ]  # fmt: skip
    library.linnet_tensor_data.argtypes = [c_void_p, POINTER(c_void_p), POINTER(c_size_t)]
    library.linnet_tensor_info.argtypes = [
        c_void_p, POINTER(c_int), POINTER(POINTER(c_int64)), POINTER(c_size_t), POINTER(c_size_t),
    ]  # fmt: skip
    library.linnet_tensor_string.argtypes = [c_void_p, c_size_t, POINTER(c_char_p), POINTER(c_size_t)]
    library.linnet_value_kind.argtypes = [c_void_p]
    library.linnet_value_size.argtypes = [c_void_p, POINTER(c_size_t)]
    library.linnet_value_item.argtypes = [c_void_p, c_size_t, POINTER(c_void_p)]
    run = [
        c_void_p, POINTER(c_char_p), POINTER(c_void_p), c_size_t, POINTER(c_char_p), POINTER(c_void_p), c_size_t,
    ]  # fmt: skip
    library.linnet_session_run.argtypes = run
    library.linnet_session_run_limited.argtypes = [*run, c_void_p, c_uint64]
    library.linnet_flag_set.argtypes = [c_void_p, c_int]
    for name in ("linnet_node_input_count", "linnet_node_output_count"):
        getattr(library, name).restype = c_size_t
        getattr(library, name).argtypes = [c_void_p]
    library.linnet_node_input.argtypes = [c_void_p, c_size_t, POINTER(c_void_p)]
    library.linnet_node_input_type.argtypes = [
        c_void_p, c_size_t, POINTER(c_int), POINTER(POINTER(c_int64)), POINTER(c_int64),
    ]  # fmt: skip
    library.linnet_node_infer.argtypes = [c_void_p, c_size_t, c_int, POINTER(c_int64), c_int64]
    library.linnet_node_allocate.argtypes = [
        c_void_p, c_size_t, c_int, POINTER(c_int64), c_size_t, POINTER(c_void_p),
    ]  # fmt: skip
    library.linnet_node_put.argtypes = [c_void_p, c_size_t, c_void_p]
    library.linnet_node_fail.argtypes = [c_void_p, c_char_p]
    return library


class Library:
    """The calls as a C program would write them, with asserts."""

    def __init__(self, lib: ctypes.CDLL) -> None:
        self.lib = lib

    def error(self) -> str:
        return self.lib.linnet_last_error().decode()

    def ok(self, status: int) -> None:
        assert status == OK, self.error()

    def open(self, path: Path, **options: str) -> c_void_p:
        handle, session = c_void_p(), c_void_p()
        self.ok(self.lib.linnet_options_create(byref(handle)))
        for key, value in options.items():
            self.ok(self.lib.linnet_options_set(handle, key.encode(), value.encode()))
        self.ok(self.lib.linnet_session_open(str(path).encode(), handle, byref(session)))
        self.lib.linnet_options_destroy(handle)
        return session

    def view(self, array: np.ndarray, dtype: int = FLOAT32) -> c_void_p:
        value = c_void_p()
        dims = (c_int64 * array.ndim)(*array.shape)
        self.ok(self.lib.linnet_tensor_view(dtype, dims, array.ndim, array.ctypes.data, array.nbytes, byref(value)))
        return value

    def array(self, value: c_void_p) -> np.ndarray:
        data, dims, rank = c_void_p(), POINTER(c_int64)(), c_size_t()
        self.ok(self.lib.linnet_tensor_info(value, None, byref(dims), byref(rank), None))
        self.ok(self.lib.linnet_tensor_data(value, byref(data), None))
        shape = tuple(dims[i] for i in range(rank.value))
        count = int(np.prod(shape))
        return np.array((ctypes.c_float * count).from_address(data.value)).reshape(shape)

    def run(self, session: c_void_p, feeds: dict[str, c_void_p], names: list[str], outputs: list) -> int:
        keys = (c_char_p * len(feeds))(*[k.encode() for k in feeds])
        values = (c_void_p * len(feeds))(*[v.value for v in feeds.values()])
        wanted = (c_char_p * len(names))(*[n.encode() for n in names]) if names else None
        results = (c_void_p * len(outputs))(*outputs)
        status = self.lib.linnet_session_run(session, keys, values, len(feeds), wanted, results, len(outputs))
        outputs[:] = list(results)
        return status
