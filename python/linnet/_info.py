"""What is installed and where it runs."""

from __future__ import annotations

import platform

from linnet import _core


def get_version_string() -> str:
    """Linnet's version."""
    return str(_core.version)


def get_available_providers() -> list[str]:
    """``["CPUExecutionProvider"]``."""
    return ["CPUExecutionProvider"]


def get_all_providers() -> list[str]:
    """``["CPUExecutionProvider"]``."""
    return ["CPUExecutionProvider"]


def get_device() -> str:
    """``"CPU"``."""
    return "CPU"


def get_build_info() -> str:
    """The version and the kernel table in use."""
    return f"linnet {get_version_string()}, kernels {_core.isa()}, {_core.available_cpus()} CPUs"


def set_default_logger_severity(severity: int) -> None:
    """Accepted for compatibility: Linnet never logs."""


def set_default_logger_verbosity(verbosity: int) -> None:
    """Accepted for compatibility: Linnet never logs."""


def set_seed(seed: int) -> None:
    """Accepted for compatibility: generators of random numbers take the seed of their node."""


def disable_telemetry_events() -> None:
    """Accepted for compatibility: Linnet sends nothing."""


def enable_telemetry_events() -> None:
    """Accepted for compatibility: Linnet sends nothing."""


def preload_dlls(cuda: bool = True, cudnn: bool = True, msvc: bool = True, directory: str | None = None) -> None:
    """Accepted for compatibility: Linnet needs no other library."""


def print_debug_info() -> None:
    """Prints what is installed and where it runs."""
    print(get_build_info())
    print(platform.platform())
    print(f"Python {platform.python_version()}")
