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
from linnet._info import (
    disable_telemetry_events,
    enable_telemetry_events,
    get_all_providers,
    get_available_providers,
    get_build_info,
    get_device,
    get_version_string,
    set_default_logger_severity,
    set_default_logger_verbosity,
    set_seed,
)
from linnet._options import ExecutionMode, ExecutionOrder, GraphOptimizationLevel, RunOptions, SessionOptions
from linnet._session import InferenceSession, ModelMetadata, NodeArg
from linnet._values import IOBinding as SessionIOBinding
from linnet._values import OrtDevice, OrtValue, OrtValueVector


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
    "InferenceSession",
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
    "OrtValueVector",
    "RunOptions",
    "RuntimeException",
    "SessionIOBinding",
    "SessionOptions",
    "disable_telemetry_events",
    "enable_telemetry_events",
    "get_all_providers",
    "get_available_providers",
    "get_build_info",
    "get_device",
    "get_version_string",
    "set_default_logger_severity",
    "set_default_logger_verbosity",
    "set_seed",
]
