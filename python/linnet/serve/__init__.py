"""Serving models over gRPC and HTTP (``pip install linnet[serve]``).

``Server`` serves a file or a repository of models to clients of the Open Inference Protocol (Triton's) and of
TensorFlow Serving; ``Client`` is a small client for any server of the former.
"""

try:
    import grpc as _grpc_package
except ImportError as error:
    raise ImportError("linnet.serve needs grpcio: pip install 'linnet[serve]'") from error

from linnet._errors import ServeError
from linnet.serve._client import Client, Port, ServedModel
from linnet.serve._config import ConfigError, Configuration, ModelConfig, ServerConfig, Tls
from linnet.serve._drift import record_reference, save_reference
from linnet.serve._server import Server

del _grpc_package

__all__ = [
    "Client",
    "ConfigError",
    "Configuration",
    "ModelConfig",
    "Port",
    "ServeError",
    "ServedModel",
    "Server",
    "ServerConfig",
    "Tls",
    "record_reference",
    "save_reference",
]
