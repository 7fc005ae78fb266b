"""The server: a repository, the engine, and the transports in front of them."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from linnet._core import serve as _core
from linnet._info import get_version_string
from linnet.serve import _layouts
from linnet.serve._config import ConfigError, Configuration, ServerConfig
from linnet.serve._control import Control
from linnet.serve._grpc import GrpcTransport, Methods
from linnet.serve._http import HttpTransport
from linnet.serve._metrics import Metrics
from linnet.serve._repository import Repository
from linnet.serve._status import Status
from linnet.serve._tls import Certificates
from linnet.serve._watch import Watch

log = logging.getLogger("linnet.serve")

_SIGNAL_POLL = 0.2


class Server:
    """Serves models over gRPC and HTTP.

    Args:
        source: an ONNX file; a folder in Triton's or TF Serving's layout; a TF Serving model config (text); a TOML
            file; or a `Configuration`.
        settings: any field of `linnet.serve.ServerConfig`, in place of what ``source`` says: ``grpc_port=0``.

    Example::

        with linnet.serve.Server("digits.onnx", grpc_port=0) as server:
            client = linnet.serve.Client(server.grpc_address)
            client.infer("digits", {"image": images})

    Raises:
        ConfigError: the source or a setting cannot be used.
    """

    def __init__(self, source: str | Path | Configuration, **settings: Any) -> None:
        configuration = source if isinstance(source, Configuration) else _layouts.open_path(Path(source))
        unknown = sorted(set(settings) - set(ServerConfig.__dataclass_fields__))
        if unknown:
            raise ConfigError(f"the server has no setting {', '.join(unknown)}")
        self.config: ServerConfig = replace(configuration.server, **settings)
        self.configuration = replace(configuration, server=self.config)
        self.engine = _core.Engine(self.config.cpus, self.config.max_bytes_in_flight)
        self.repository = Repository(self.configuration, self.engine, _core.Served)
        self.control = Control(self.repository, "linnet", get_version_string())
        self.watch = Watch(self.config, self.engine)
        self._metrics = Metrics(self.repository, [self.watch], self.config.triton_metrics)
        self._addresses: dict[str, str] = {}
        self._status = Status(self.repository, self._metrics, self._addresses, self.config.cpus)
        self.grpc_address = ""
        """``host:port`` that gRPC clients connect to; empty: none."""
        self.admin_address = ""
        self.http_address = ""
        """``http://host:port``; empty: none."""
        self._certificates = Certificates(self.config.tls) if self.config.tls else None
        self._grpc: list[GrpcTransport] = []
        self._http: HttpTransport | None = None
        self._asked_to_stop = threading.Event()
        self._hurry = threading.Event()
        self._stopped = False

    def start(self, wait: bool = True) -> Server:
        """Listens, and loads the models.

        Args:
            wait: until every model is loaded or has failed; before, requests are answered with UNAVAILABLE.

        Raises:
            ConfigError: a folder of models cannot be read.
            OSError: an address is in use.
        """
        try:
            self.watch.open()
            self.repository.open()
            self._listen()
        except BaseException:
            self._close(0.0)
            raise
        self.repository.start(wait)
        return self

    def stop(self, drain_seconds: float = 0.0) -> None:
        """Ends in order: not ready any more, still answering for ``drain_seconds``, then no new requests, those under
        way are finished (for at most the setting ``exit_seconds``)."""
        if self._stopped:
            return
        self._stopped = True
        self.repository.drain()
        until = time.monotonic() + drain_seconds
        while (left := until - time.monotonic()) > 0 and not self._hurry.wait(min(left, _SIGNAL_POLL)):
            pass
        self._close(0.0 if self._hurry.is_set() else self.config.exit_seconds)

    def run(self) -> None:
        """Waits for SIGTERM or SIGINT, and stops with the setting ``drain_seconds``; a second signal stops at once.
        SIGHUP opens the request log anew."""

        def ask(number: int, frame: FrameType | None) -> None:
            if self._asked_to_stop.is_set():
                self._hurry.set()
            self._asked_to_stop.set()

        former = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
        former[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda number, frame: self.watch.reopen())
        try:
            # Not for longer at a time: a signal may come to another thread, and its handler runs when this one wakes.
            while not self._asked_to_stop.wait(_SIGNAL_POLL):
                pass
            log.info("going away: answering for %g s more", self.config.drain_seconds)
            self.stop(self.config.drain_seconds)
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _listen(self) -> None:
        config = self.config
        credentials = self._certificates.grpc if self._certificates else None
        streams = self.control.streams()
        if config.grpc_port is not None or config.unix_socket is not None:
            transport = self._transport(Methods(self.control.unary(), streams))
            if config.grpc_port is not None:
                port = transport.listen(_join(config.host, config.grpc_port), credentials)
                self.grpc_address = _join(config.host, port)
            if config.unix_socket is not None:
                transport.listen(f"unix:{config.unix_socket.resolve()}")
            self._grpc.append(transport)
        if config.admin_port is not None:
            admin = self._transport(Methods(self.control.unary(admin=True), streams), inference=False)
            self.admin_address = _join(config.host, admin.listen(_join(config.host, config.admin_port), credentials))
            self._grpc.append(admin)
        if config.http_port is not None:
            tls = self._certificates.http if self._certificates else None
            self._http = HttpTransport(self.engine, self._answer_http, max_body_bytes=config.max_message_bytes, tls=tls)
            port = self._http.listen(config.host, config.http_port)
            self.http_address = f"{'https' if tls else 'http'}://{_join(config.host, port)}"
        self._addresses |= {
            "gRPC": self.grpc_address,
            "gRPC, Unix socket": f"unix:{config.unix_socket.resolve()}" if config.unix_socket else "",
            "HTTP": self.http_address,
            "administration": self.admin_address,
        }
        for transport in self._grpc:
            transport.start()

    def _transport(self, methods: Methods, inference: bool = True) -> GrpcTransport:
        return GrpcTransport(
            self.engine,
            methods,
            inference=inference,
            max_message_bytes=self.config.max_message_bytes,
            traced=self.watch.wanted,
        )

    def _answer_http(self, method: str, path: str, body: bytes) -> tuple[int, str, bytes] | None:
        if method in ("GET", "HEAD") and path.split("?")[0] == "/metrics":
            text = self.engine.metrics(self.config.triton_metrics) + self._metrics.render()
            return 200, "text/plain; version=0.0.4; charset=utf-8", text.encode()
        return self._status.answer(method, path) or self.control.rest(method, path, body)

    def _close(self, grace_s: float) -> None:
        self.control.close()
        until = time.monotonic() + grace_s
        closers = [threading.Thread(target=transport.stop, args=(grace_s,)) for transport in self._grpc]
        if self._http is not None:
            closers.append(threading.Thread(target=self._http.stop, args=(grace_s,)))
        for closer in closers:
            closer.start()
        for closer in closers:
            closer.join(max(0.0, until - time.monotonic()) + 5.0)
        self.repository.stop()
        self.watch.close()
        if self._certificates is not None:
            self._certificates.stop()
        if self.config.unix_socket is not None:
            with contextlib.suppress(OSError):
                self.config.unix_socket.unlink()


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
