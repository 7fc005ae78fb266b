"""Where code written for onnxruntime looks for its classes."""

from linnet._session import InferenceSession
from linnet._session import InferenceSession as Session
from linnet._values import IOBinding, OrtDevice, OrtValue

__all__ = ["IOBinding", "InferenceSession", "OrtDevice", "OrtValue", "Session"]
