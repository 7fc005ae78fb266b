"""Linnet: fast inference of ONNX models on CPUs.

The short way::

    model = linnet.load("model.onnx")
    y = model(x)

Code written for onnxruntime's Python API runs with ``import linnet as onnxruntime``.
"""

from linnet import _image as _image  # registers ImageDecoder
from linnet import capi
from linnet._errors import (
    Cancelled,
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    LinnetError,
    NoSuchFile,
    NotImplementedOp,
    RuntimeException,
)
from linnet._info import (
    disable_telemetry_events,
    enable_telemetry_events,
    get_all_providers,
    get_available_providers,
    get_build_info,
    get_device,
    get_version_string,
    preload_dlls,
    print_debug_info,
    set_default_logger_severity,
    set_default_logger_verbosity,
    set_seed,
)
from linnet._operators import TensorInfo, register_operator, registered_operators, unregister_operator
from linnet._options import ExecutionMode, ExecutionOrder, GraphOptimizationLevel, RunOptions, SessionOptions
from linnet._session import InferenceSession, Model, ModelMetadata, NodeArg, load
from linnet._values import IOBinding, OrtDevice, OrtValue
from linnet._values import IOBinding as SessionIOBinding

__version__ = get_version_string()

_ABSENT = {
    "SparseTensor": "sparse tensors are not available; give dense arrays (sparse initializers in a model are read)",
    "LoraAdapter": "adapters are not available; merge them into the model",
    "AdapterFormat": "adapters are not available; merge them into the model",
    "ModelCompiler": "nothing needs to be compiled ahead of time: load the model as it is",
    "create_and_register_allocator": "Linnet plans its memory by itself",
    "create_and_register_allocator_v2": "Linnet plans its memory by itself",
    "register_execution_provider_library": "there is one execution provider, the CPU",
}


def __getattr__(name: str) -> object:
    if name in _ABSENT:
        raise AttributeError(f"linnet has no {name} as onnxruntime does: {_ABSENT[name]}")
    raise AttributeError(f"module 'linnet' has no attribute {name!r}")


__all__ = [
    "Cancelled",
    "ExecutionMode",
    "ExecutionOrder",
    "Fail",
    "GraphOptimizationLevel",
    "IOBinding",
    "InferenceSession",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "LinnetError",
    "Model",
    "ModelMetadata",
    "NoSuchFile",
    "NodeArg",
    "NotImplementedOp",
    "OrtDevice",
    "OrtValue",
    "RunOptions",
    "RuntimeException",
    "SessionIOBinding",
    "SessionOptions",
    "TensorInfo",
    "__version__",
    "capi",
    "disable_telemetry_events",
    "enable_telemetry_events",
    "get_all_providers",
    "get_available_providers",
    "get_build_info",
    "get_device",
    "get_version_string",
    "load",
    "preload_dlls",
    "print_debug_info",
    "register_operator",
    "registered_operators",
    "set_default_logger_severity",
    "set_default_logger_verbosity",
    "set_seed",
    "unregister_operator",
]
