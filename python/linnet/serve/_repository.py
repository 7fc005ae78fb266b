"""The repository: all models, one thread that loads and switches them, and what others may ask of it.

Everything that changes a model happens in the loader's thread, one thing after another. What readers see (`views`) is
replaced as a whole after each change.
"""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

from linnet import _core
from linnet._errors import ServeError
from linnet.serve import _layouts, _loading, _pbtxt, _priority
from linnet.serve._codes import Code
from linnet.serve._config import ConfigError, Configuration, ModelConfig
from linnet.serve._engine import Engine, MakeServed
from linnet.serve._jobs import do, resolve, when_all_done
from linnet.serve._layouts import VersionFiles
from linnet.serve._loading import Loaded, LoadError
from linnet.serve._messages import Message
from linnet.serve._model import Model
from linnet.serve._states import ModelView

log = logging.getLogger("linnet.serve")

_GOING = "the server is going away"
_DRAIN_POLL = 0.02
_LOOK_AGAIN = 0.05


@dataclasses.dataclass(frozen=True)
class LoadCounts:
    """How loading a model's versions went so far."""

    good: int = 0
    bad: int = 0
    last_good: bool = True


class Repository:
    """The models of a server.

    Args:
        configuration: from `linnet.serve._layouts.open_path`.
        engine: gets the versions that are to be served.
        make_served: the class `linnet._core.serve.Served`.
    """

    def __init__(self, configuration: Configuration, engine: Engine, make_served: MakeServed) -> None:
        self.configuration = configuration
        self.engine = engine
        self.settling = _layouts.Settling(configuration.server.settle_seconds)
        self.allow_absent_labels = configuration.server.allow_labels_for_absent_versions
        self._make_served = make_served
        self._terminate = _core.Flag()
        self._jobs: queue.SimpleQueue[tuple[Callable[[], None], Future[None]] | None] = queue.SimpleQueue()
        self._models: dict[str, Model] = {}
        self._problems: dict[str, str] = {}
        self._load_counts: dict[str, LoadCounts] = {}
        self._retired: dict[int, tuple[Model, Loaded]] = {}
        self._looks: dict[str, float] = {}
        """When files of models may have settled, by model."""
        self._waiters: list[tuple[str, Future[None], float]] = []
        self._warned: set[str] = set()
        self._next_poll = float("inf")
        self._views: Mapping[str, ModelView] = {}
        self._condition = threading.Condition()
        self._changes = 0
        self._first_pass_ends = float("inf")
        self._started = threading.Event()
        self._draining = False
        self._ending = threading.Lock()
        self._ended = False
        self._opened = False
        self._thread = threading.Thread(target=self._run, name="linnet-loader", daemon=True)

    # What any thread may call.

    def open(self) -> None:
        """Reads which models there are; from now on they are known, and not ready.

        Raises:
            ConfigError: a folder of models cannot be read.
        """
        self._scan()
        self._opened = True

    def start(self, wait: bool = True) -> None:
        """Begins to load; opens if that was not done.

        Args:
            wait: until every model is loaded or has failed, or its files are found unfinished.

        Raises:
            ConfigError: a folder of models cannot be read.
        """
        if not self._opened:
            self.open()
        self._first_pass_ends = time.monotonic() + self._patience()
        self._jobs.put((self._begin, Future()))
        self._thread.start()
        if wait:
            self._started.wait()

    def stop(self) -> None:
        """Ends loading. Versions stay as they are."""
        self._terminate.set(True)
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join()

    @property
    def views(self) -> Mapping[str, ModelView]:
        """All models, by name."""
        return self._views

    def view(self, name: str) -> ModelView:
        """One model.

        Raises:
            ServeError: NOT_FOUND.
        """
        view = self._views.get(name)
        if view is None:
            raise ServeError(Code.NOT_FOUND, f"unknown model '{name}'")
        return view

    def load_counts(self, name: str) -> LoadCounts:
        """How loading versions of a model went so far."""
        return self._load_counts.get(name, LoadCounts())

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here: the first pass is over, and (unless readiness is not strict) every
        model that is wanted has a version."""
        if not self._started.is_set() or self._draining:
            return False
        if not self.configuration.server.strict_readiness:
            return True
        return all(view.active for view in self._views.values() if view.wanted)

    @property
    def draining(self) -> bool:
        """Whether the server is going away."""
        return self._draining

    def drain(self) -> None:
        """The server is going away: it is not ready from now on, though it still answers."""
        self._draining = True
        self._notify()

    @property
    def changes(self) -> int:
        """Counts what changed; for `wait_change`."""
        return self._changes

    def wait_change(self, seen: int, timeout: float) -> int:
        """Waits until `changes` is not ``seen`` any more, or for ``timeout`` seconds; gives it."""
        with self._condition:
            self._condition.wait_for(lambda: self._changes != seen, timeout)
            return self._changes

    def load(self, name: str, overrides: Message | None = None, timeout: float | None = None) -> None:
        """Loads a model anew: its newest files, and versions that failed or were rolled back from get another chance.

        Args:
            overrides: an ``inference.ModelConfig`` to take instead of the model's file.
            timeout: seconds to wait; None: as long as it takes.

        Raises:
            ServeError: NOT_FOUND, or INVALID_ARGUMENT when a version cannot be loaded (the former ones go on serving).
        """
        future: Future[None] = Future()
        self._submit(lambda: self._load(name, overrides, future), future, timeout)

    def unload(self, name: str, timeout: float | None = None) -> None:
        """Takes a model out of service; requests under way are finished.

        Raises:
            ServeError: NOT_FOUND.
        """
        future: Future[None] = Future()

        def job() -> None:
            self._model(name).unload()
            self._looks.pop(name, None)
            future.set_result(None)

        self._submit(job, future, timeout)

    def rollback(self, name: str, timeout: float | None = None) -> list[int]:
        """Returns to the versions that served before the last update; they are in memory, so it takes no time.

        Returns:
            The versions that serve now.

        Raises:
            ServeError: NOT_FOUND, or FAILED_PRECONDITION when none were kept.
        """
        future: Future[None] = Future()

        def job() -> None:
            if not self._model(name).rollback():
                raise ServeError(Code.FAILED_PRECONDITION, f"model '{name}' has no former versions in memory")
            future.set_result(None)

        self._submit(job, future, timeout)
        return sorted(self.view(name).active)

    def reload(self, models: Sequence[ModelConfig], timeout: float | None = None) -> None:
        """Takes these models instead of all others, as TF Serving's reload does; those omitted are unloaded.

        Raises:
            ServeError: INVALID_ARGUMENT when a version cannot be loaded, FAILED_PRECONDITION when a label cannot be
                assigned. What could be done has been done then.
        """
        future: Future[None] = Future()

        def job() -> None:
            self.configuration = dataclasses.replace(self.configuration, models=tuple(models), repositories=())
            self._scan()
            pending: list[Future[None]] = []
            for model in list(self._models.values()):
                model.wanted = True
                model.retry()
                pending.append(Future())
                self._settle(model, pending[-1])
            when_all_done(pending, lambda: self._finish_reload(pending, future))

        self._submit(job, future, timeout)

    def poll(self, timeout: float | None = None) -> None:
        """Looks at all files now."""
        future: Future[None] = Future()

        def job() -> None:
            self._look_at_all()
            future.set_result(None)

        self._submit(job, future, timeout)

    # What a model asks of its host.

    def retire(self, model: Model, loaded: Loaded) -> None:
        self._retired[id(loaded)] = (model, loaded)

    def changed(self, model: Model) -> None:
        if self._models.get(model.config.name) is model:
            self._views = {**self._views, model.config.name: model.view}
        self._notify()

    def admit(self, files: VersionFiles) -> None:
        """Makes room for a version, giving up former ones; LoadError when there is none."""
        limit = self.configuration.server.memory_limit_bytes
        if not limit:
            return
        need = _loading.estimated_bytes(files)
        while (used := sum(model.memory() for model in self._models.values())) + need > limit:
            if not any(model.forget_previous() for model in self._models.values()):
                mib = 1 << 20
                raise LoadError(
                    f"{files.folder}: needs about {need / mib:.0f} MiB; {used / mib:.0f} of {limit / mib:.0f} MiB "
                    "are in use: raise memory_limit_bytes, or unload a model"
                )

    def load_version(self, config: ModelConfig, files: VersionFiles) -> Loaded:
        counts = self.load_counts(config.name)
        try:
            self.admit(files)
            loaded = _loading.load(config, files, self._make_served, self._terminate)
        except Exception as error:
            self._load_counts[config.name] = LoadCounts(counts.good, counts.bad + 1, False)
            if isinstance(error, LoadError):
                raise
            log.exception("%s: version %d failed in an unforeseen way", config.name, files.version)
            raise LoadError(f"{files.folder}: {type(error).__name__}: {error}") from error
        self._load_counts[config.name] = LoadCounts(counts.good + 1, counts.bad, True)
        return loaded

    # The loader's thread.

    def _run(self) -> None:
        _priority.be_nice()
        while True:
            try:
                job = self._jobs.get(timeout=max(0.0, self._next_wake() - time.monotonic()))
            except queue.Empty:
                pass
            else:
                if job is None:
                    break
                do(*job)
            try:
                self._tick()
            except Exception:
                log.exception("the repository could not be looked at")
        with self._ending:
            self._ended = True
        waiting = [future for _, future, _ in self._waiters]
        while not self._jobs.empty():
            job = self._jobs.get()
            waiting += [job[1]] if job else []
        for future in waiting:
            future.set_exception(ServeError(Code.UNAVAILABLE, _GOING))
        self._started.set()

    def _next_wake(self) -> float:
        soonest = min([self._next_poll, *self._looks.values()], default=float("inf"))
        if self._retired:
            soonest = min(soonest, time.monotonic() + _DRAIN_POLL)
        return min(soonest, time.monotonic() + 3600.0)

    def _tick(self) -> None:
        now = time.monotonic()
        for name in [name for name, due in self._looks.items() if due <= now]:
            if name in self._models:
                self._settle(self._models[name])
            else:
                del self._looks[name]
        if self._next_poll <= now:
            self._look_at_all()
        self._finish_drained()
        if not self._started.is_set() and (not self._looks or now > self._first_pass_ends):
            self._started.set()
            self._notify()

    def _begin(self) -> None:
        server = self.configuration.server
        if server.control == "poll":
            self._next_poll = time.monotonic() + server.poll_seconds
        try:
            self._scan()
        except ConfigError as error:
            log.error("%s", error)
        for model in list(self._models.values()):
            self._settle(model)

    def _look_at_all(self) -> None:
        """A poll: folders are read anew, and every model that is wanted is brought up to date."""
        server = self.configuration.server
        if server.control == "poll":
            self._next_poll = time.monotonic() + server.poll_seconds
        try:
            self._scan()
        except ConfigError as error:  # what serves goes on serving
            log.error("%s", error)
            return
        for model in list(self._models.values()):
            if model.wanted:
                self._settle(model)

    def _scan(self, only: str = "") -> None:
        """Reads what models there are: new ones are added, settings (of ``only`` one) renewed, those gone removed."""
        found = _layouts.scan(self.configuration)
        for text in [*self.configuration.warnings, *found.warnings]:
            if text not in self._warned:
                self._warned.add(text)
                log.warning("%s", text)
        server = self.configuration.server
        for name, config in found.models.items():
            model = self._models.get(name)
            if model is None:
                wanted = server.control != "explicit" or "*" in server.load or name in server.load
                self._models[name] = Model(config, self, wanted)
                self.engine.set_model(name, [])  # from now on it is known, and not ready
            elif not only or name == only:
                model.configure(config)
        for name, text in found.problems.items():
            if self._problems.get(name) != text:
                log.error("%s", text)
        for name in [name for name in self._models if name not in found.models and name not in found.problems]:
            log.info("%s: is gone from the repository", name)
            self._models.pop(name).unload()
            self._load_counts.pop(name, None)
            self.engine.remove_model(name)
            self._looks.pop(name, None)
        self._problems = found.problems
        views = {name: model.view for name, model in self._models.items()}
        for name, text in found.problems.items():
            if name in views:
                views[name] = dataclasses.replace(views[name], problem=text)
            else:
                views[name] = ModelView(ModelConfig(name, self.configuration.repositories[0] / name), problem=text)
        self._views = dict(sorted(views.items()))
        self._notify()

    def _settle(self, model: Model, future: Future[None] | None = None) -> None:
        """Reconciles; ``future`` and all that wait for the model are resolved when nothing has to settle any more."""
        name = model.config.name
        if future is not None:
            self._waiters.append((name, future, time.monotonic() + self._patience()))
        failure: Exception | None = None
        try:
            model.reconcile()
        except Exception as error:
            log.exception("%s: could not be brought up to date", name)
            model.waiting, failure = None, error
            model.problem = f"{type(error).__name__}: {error}"
            self.changed(model)
        if name in self._problems:
            self._views = {**self._views, name: dataclasses.replace(model.view, problem=self._problems[name])}
        if model.waiting is None:
            self._looks.pop(name, None)
        else:
            self._looks[name] = time.monotonic() + max(model.waiting, _LOOK_AGAIN)
        mine = [waiter for waiter in self._waiters if waiter[0] == name]
        self._waiters = [waiter for waiter in self._waiters if waiter[0] != name]
        for waiter in mine:
            _, waiting, until = waiter
            if failure is not None:
                waiting.set_exception(ServeError(Code.INTERNAL, f"model '{name}': {failure}"))
            elif model.waiting is None:
                resolve(waiting, model)
            elif time.monotonic() > until:
                text = f"the files of model '{name}' are still being written"
                waiting.set_exception(ServeError(Code.UNAVAILABLE, text))
            else:
                self._waiters.append(waiter)

    def _patience(self) -> float:
        """How long files may take to settle before one stops to wait for them."""
        return 5 * self.configuration.server.settle_seconds + 1.0

    def _load(self, name: str, overrides: Message | None, future: Future[None]) -> None:
        self._scan(only=name)
        if name in self._problems:
            raise ServeError(Code.INVALID_ARGUMENT, self._problems[name])
        model = self._model(name)
        if overrides is not None:
            plain = ModelConfig(name, model.config.path, model.config.layout)
            model.configure(_pbtxt.from_triton(overrides, plain, "the request's config"))
        model.wanted = True
        model.retry()
        self._settle(model, future)

    def _finish_reload(self, pending: Sequence[Future[None]], future: Future[None]) -> None:
        for one in pending:
            error = one.exception()
            if error is not None:
                future.set_exception(error)
                return
        for model in self._models.values():
            problem = model.view.problem
            if problem:
                future.set_exception(ServeError(Code.FAILED_PRECONDITION, f"model '{model.config.name}': {problem}"))
                return
        future.set_result(None)

    def _finish_drained(self) -> None:
        done = [key for key, (_, loaded) in self._retired.items() if loaded.served.in_flight == 0]
        if not done:
            return
        dropped = False
        with _priority.Quiet() as quiet:
            for key in done:
                model, loaded = self._retired.pop(key)
                dropped = not model.drained(loaded) or dropped
                with quiet.idle():
                    del loaded
            if dropped:
                with quiet.idle():
                    _priority.return_memory()

    def _model(self, name: str) -> Model:
        model = self._models.get(name)
        if model is None:
            raise ServeError(Code.NOT_FOUND, f"unknown model '{name}'")
        return model

    def _submit(self, job: Callable[[], None], future: Future[None], timeout: float | None) -> None:
        with self._ending:
            if self._ended:
                raise ServeError(Code.UNAVAILABLE, _GOING)
            self._jobs.put((job, future))
        try:
            future.result(timeout)
        except FutureTimeout:
            raise ServeError(Code.DEADLINE_EXCEEDED, "it is not done yet, and goes on") from None

    def _notify(self) -> None:
        with self._condition:
            self._changes += 1
            self._condition.notify_all()
