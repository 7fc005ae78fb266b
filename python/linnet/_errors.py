"""The exceptions of Linnet, named as onnxruntime names its own.

LinnetError
├── Fail
├── InvalidArgument   (also a ValueError)
├── NoSuchFile        (also a FileNotFoundError)
├── InvalidProtobuf
├── InvalidGraph
├── NotImplementedOp  (also a NotImplementedError; onnxruntime calls it NotImplemented)
├── RuntimeException  (also a RuntimeError)
│   └── Cancelled     (also a Fail, which onnxruntime raises)
└── ServeError        (what a server answers with)
"""


class LinnetError(Exception):
    """Whatever Linnet raises."""


class Fail(LinnetError):
    """Something that has no better name."""


class InvalidArgument(LinnetError, ValueError):
    """An input, option or shape that does not fit."""


class NoSuchFile(LinnetError, FileNotFoundError):
    """A file that cannot be opened."""


class InvalidProtobuf(LinnetError):
    """Bytes that are not an ONNX model."""


class InvalidGraph(LinnetError):
    """A model that breaks the ONNX specification."""


class NotImplementedOp(LinnetError, NotImplementedError):
    """An operator, opset or element type that Linnet does not have."""


class RuntimeException(LinnetError, RuntimeError):
    """A step that failed while the model ran."""


class Cancelled(RuntimeException, Fail):
    """The run was stopped by its caller or by its time limit."""


class ServeError(LinnetError):
    """What a request to a server came to: ``code`` is a gRPC status code's number, ``str(error)`` its message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
