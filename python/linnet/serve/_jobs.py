"""What the loader's thread is asked to do, and how those who asked are told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from linnet._errors import ServeError
from linnet.serve._codes import Code
from linnet.serve._config import ConfigError
from linnet.serve._model import Model

log = logging.getLogger("linnet.serve")


def do(job: Callable[[], None], future: Future[None]) -> None:
    """Runs a job; what it raises is its future's."""
    try:
        job()
    except ConfigError as error:
        future.set_exception(ServeError(Code.INVALID_ARGUMENT, str(error)))
    except ServeError as error:
        future.set_exception(error)
    except Exception as error:
        log.exception("the repository failed")
        future.set_exception(ServeError(Code.INTERNAL, f"{type(error).__name__}: {error}"))


def resolve(future: Future[None], model: Model) -> None:
    """Tells whether what the policy wants of a model is loaded."""
    if model.failures:
        text = "; ".join(f"version {version}: {reason}" for version, reason in model.failures.items())
        future.set_exception(ServeError(Code.INVALID_ARGUMENT, f"load failed for model '{model.config.name}': {text}"))
    elif not model.view.active:
        future.set_exception(
            ServeError(Code.INVALID_ARGUMENT, f"load failed for model '{model.config.name}': {_why_empty(model)}")
        )
    else:
        future.set_result(None)


def _why_empty(model: Model) -> str:
    view = model.view
    reasons = [status.error for status in view.statuses.values() if status.error]
    return "; ".join(reasons) or view.problem or "no version is there"


def when_all_done(futures: Sequence[Future[None]], then: Callable[[], None]) -> None:
    """Calls ``then`` after the last of them."""
    left = len(futures)
    if left == 0:
        then()

    def one_done(_: Future[None]) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            then()

    for future in futures:
        future.add_done_callback(one_done)
