"""Linnet's exceptions under the names and at the place that onnxruntime has them."""

from linnet._errors import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    LinnetError,
    NoSuchFile,
    RuntimeException,
)
from linnet._errors import NotImplementedOp as NotImplemented
from linnet._info import get_all_providers, get_available_providers, get_build_info, get_device, get_version_string
from linnet._options import ExecutionMode, ExecutionOrder, GraphOptimizationLevel, RunOptions, SessionOptions
from linnet._session import ModelMetadata, NodeArg
from linnet._values import OrtDevice, OrtValue


# Never raised here; they exist so that an `except` clause that names them can be read.
class EngineError(LinnetError):
    """onnxruntime's; never raised by Linnet."""


class EPFail(LinnetError):
    """onnxruntime's; never raised by Linnet."""


class DeviceReset(LinnetError):
    """onnxruntime's; never raised by Linnet."""


class ModelLoaded(LinnetError):
    """onnxruntime's; never raised by Linnet."""


class ModelLoadCanceled(LinnetError):
    """onnxruntime's; never raised by Linnet."""


class ModelRequiresCompilation(LinnetError):
    """onnxruntime's; never raised by Linnet."""


class NoModel(LinnetError):
    """onnxruntime's; never raised by Linnet."""


class NotFound(LinnetError):
    """onnxruntime's; never raised by Linnet."""


__all__ = [
    "DeviceReset",
    "EPFail",
    "EngineError",
    "ExecutionMode",
    "ExecutionOrder",
    "Fail",
    "GraphOptimizationLevel",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "ModelLoadCanceled",
    "ModelLoaded",
    "ModelMetadata",
    "ModelRequiresCompilation",
    "NoModel",
    "NoSuchFile",
    "NodeArg",
    "NotFound",
    "NotImplemented",
    "OrtDevice",
    "OrtValue",
    "RunOptions",
    "RuntimeException",
    "SessionOptions",
    "get_all_providers",
    "get_available_providers",
    "get_build_info",
    "get_device",
    "get_version_string",
]
