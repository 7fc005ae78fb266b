"""Another place where code written for onnxruntime looks for the same names."""

from linnet.capi.onnxruntime_pybind11_state import *  # noqa: F403
from linnet.capi.onnxruntime_pybind11_state import __all__ as __all__
