"""The HTTP transport: aiohttp on a thread of its own, inference in a pool of threads.

Addresses of models' calls are taken apart here; bodies go to the engine as they are.
"""

from __future__ import annotations

import asyncio
import math
import re
import ssl
import threading
import zlib
from collections.abc import Callable
from concurrent import futures
from functools import partial
from typing import Any

from aiohttp import web

from linnet._core import serve as _core
from linnet._errors import ServeError
from linnet.serve._budget import Hold
from linnet.serve._codes import Code, http_status
from linnet.serve._compression import TooLarge, inflate_http

_INFER = re.compile(r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?/infer")
_PREDICT = re.compile(
    r"/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>[^/:]+)|/labels/(?P<label>[^/:]+))?:(?P<verb>\w+)"
)
_WORTH_COMPRESSING = 1024
_READ_SIZE = 1 << 20
"""Bytes that are read ahead on a connection."""
_JSON_SIZE = "Inference-Header-Content-Length"

# A page may use what comes from here, and nothing else; nobody may frame it.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

# (method, path, body) -> (status, type of content, content); None when the path is not theirs.
Control = Callable[[str, str, bytes], tuple[int, str, bytes] | None]


class HttpTransport:
    """An HTTP server on one address; ``control`` answers everything that is not inference.

    Args:
        threads: requests that run at a time; others wait in order.
        max_body_bytes: a larger body, also one that grows larger when it is decompressed, is refused with 413.
        head_timeout_s: a connection on which no request's head has come by then, whole, is closed; also one that is
            not used again for so long.
        body_timeout_s: a request whose body has not come by then is refused with 408.
        max_connections: of more than these, the ones that have been quiet for longest are closed.
    """

    def __init__(
        self,
        engine: _core.Engine,
        control: Control,
        *,
        threads: int = 64,
        max_body_bytes: int = 64 << 20,
        head_timeout_s: float = 75.0,
        body_timeout_s: float = 30.0,
        max_connections: int = 4096,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._engine = engine
        self._control = control
        self._budget = engine.budget
        self._head_timeout = head_timeout_s
        self._body_timeout = body_timeout_s
        self._max_connections = max_connections
        # When each connection was last heard of; infinity while a request is under way.
        self._heard: dict[Any, float] = {}
        self._tls = tls
        self._pool = futures.ThreadPoolExecutor(threads, thread_name_prefix="linnet-http")
        self._limit = max_body_bytes
        self._app = web.Application()
        self._app.router.add_route("*", "/{path:.*}", self._handle)
        self._loop = asyncio.new_event_loop()
        self._sweeper: asyncio.Task[None] | None = None
        self._runner = web.AppRunner(
            self._app, access_log=None, handle_signals=False, auto_decompress=False, read_bufsize=_READ_SIZE
        )
        self._thread = threading.Thread(target=self._run, name="linnet-http-loop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _await(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def listen(self, host: str, port: int) -> int:
        """Binds and serves at once. Gives the port. OSError when it is taken."""

        async def bind() -> int:
            if not self._runner.sites:
                await self._runner.setup()
                self._sweeper = self._loop.create_task(self._sweep())
            site = web.TCPSite(self._runner, host, port, ssl_context=self._tls)
            await site.start()
            return int(self._runner.addresses[-1][1])

        return int(self._await(bind()))

    def stop(self, grace_s: float) -> None:
        """Takes no new connections, waits at most ``grace_s`` seconds for requests under way, and ends."""
        if self._sweeper is not None:
            self._loop.call_soon_threadsafe(self._sweeper.cancel)
        self._runner._shutdown_timeout = grace_s
        self._await(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._pool.shutdown(wait=False)

    async def _sweep(self) -> None:
        """Closes connections on which nothing happens (aiohttp itself waits for a request's head for ever)."""
        while True:
            await asyncio.sleep(min(1.0, self._head_timeout / 4))
            server = self._runner.server
            now = self._loop.time()
            self._heard = {one: self._heard.get(one, now) for one in (server.connections if server else ())}
            quiet = sorted((at, id(one), one) for one, at in self._heard.items() if at != math.inf)
            for index, (at, _, one) in enumerate(quiet):
                if now - at < self._head_timeout and index >= len(self._heard) - self._max_connections:
                    break
                one.force_close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        connection = request.protocol
        self._heard[connection] = math.inf
        try:
            return await self._answer(request)
        finally:
            self._heard[connection] = self._loop.time()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            with Hold(self._budget) as hold:
                try:
                    body = await asyncio.wait_for(self._read(request, hold), self._body_timeout)
                except (asyncio.TimeoutError, TimeoutError):
                    return _error(408, f"the body did not arrive within {self._body_timeout:g} s")
                if encoding := request.headers.get("Content-Encoding", "").strip().lower():
                    body = await self._loop.run_in_executor(self._pool, inflate_http, body, encoding, self._limit)
                    hold.take(len(body))
                work = self._work(request, body)
                response: web.Response = await self._loop.run_in_executor(self._pool, work)
                return response
        except TooLarge as error:
            return _error(413, str(error))
        except ServeError as error:
            return _error(http_status(error.code), str(error))

    async def _read(self, request: web.Request, hold: Hold) -> bytes:
        """The body. What has come counts as in flight, what is announced does not: who announces much and sends
        nothing takes nothing from others."""
        announced = request.content_length or 0
        if announced > self._limit:
            raise TooLarge(self._limit)
        self._budget.check(announced)
        body = bytearray()
        try:
            while piece := await request.content.readany():
                if len(body) + len(piece) > self._limit:
                    raise TooLarge(self._limit)
                hold.take(len(piece))
                body += piece
        except ServeError:
            raise
        except Exception as error:  # what aiohttp says of a body that is not what its headers claim
            raise ServeError(Code.INVALID_ARGUMENT, f"the body cannot be read: {error}") from None
        return bytes(body)

    def _work(self, request: web.Request, body: bytes) -> Callable[[], web.Response]:
        """What is to be done in another thread."""
        if request.method == "POST":
            trace = request.headers.get("traceparent", "")
            accepted = request.headers.get("Accept-Encoding", "")
            if match := _INFER.fullmatch(request.path):
                size = request.headers.get(_JSON_SIZE)
                infer = partial(self._infer, body, size, match["model"], match["version"] or "", trace)
                return lambda: _compress(infer(), accepted)
            if match := _PREDICT.fullmatch(request.path):
                predict = partial(self._predict, body, match, trace)
                return lambda: _compress(predict(), accepted)
        return partial(self._other, request.method, request.path_qs, body)

    def _infer(self, body: bytes, size: str | None, model: str, version: str, trace: str) -> web.Response:
        if size is not None and not re.fullmatch("[0-9]{1,18}", size):
            return _error(400, f"{_JSON_SIZE} is {size[:40]!r}, which is no number of bytes")
        json_size = -1 if size is None else int(size)
        content, head = self._engine.infer_rest_v2(body, json_size, model, version, -1.0, None, trace)
        if head < 0:
            return web.Response(body=content, content_type="application/json")
        return web.Response(body=content, content_type="application/octet-stream", headers={_JSON_SIZE: str(head)})

    def _predict(self, body: bytes, match: re.Match[str], trace: str) -> web.Response:
        if match["verb"] != "predict":
            return _error(501, f"'{match['verb']}' is not offered; 'predict' is")
        content = self._engine.predict_rest_v1(
            body, match["model"], match["version"] or "", match["label"] or "", -1.0, None, trace
        )
        return web.Response(body=content, content_type="application/json")

    def _other(self, method: str, path: str, body: bytes) -> web.Response:
        answer = self._control(method, path, body)
        if answer is None:
            return _error(404, f"there is nothing at {method} {path}")
        status, content_type, content = answer
        return web.Response(status=status, body=content, headers={"Content-Type": content_type, **_HEADERS})


def _compress(response: web.Response, accepted: str) -> web.Response:
    """Compresses an inference's answer where the client takes that.

    Other answers are sent as they are: Triton's client says for all of them that it takes gzip, and cannot read it.
    """
    body = response.body
    if not isinstance(body, bytes) or len(body) < _WORTH_COMPRESSING:
        return response
    for name, bits in (("gzip", 31), ("deflate", 15)):
        if name in accepted:
            made = zlib.compressobj(level=1, wbits=bits)
            response.body = made.compress(body) + made.flush()
            response.headers["Content-Encoding"] = name
            break
    return response


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)
