"""Certificates from files, read again when the files change: new connections get the new ones."""

from __future__ import annotations

import logging
import ssl
import threading
from typing import Any

import grpc

from linnet.serve._config import ConfigError, Tls

log = logging.getLogger("linnet.serve")

_LOOK_EVERY = 5.0


def _stamp(tls: Tls) -> tuple[tuple[int, int], ...]:
    """Changes when one of the files does."""
    files = [tls.certificate, tls.key, *([tls.client_ca] if tls.client_ca else [])]
    return tuple((status.st_mtime_ns, status.st_size) for status in (file.stat() for file in files))


def _check(tls: Tls) -> ssl.SSLContext:
    """The files as an HTTP server takes them; ConfigError when they are no certificate and its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        if tls.client_ca:
            context.load_verify_locations(tls.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{tls.certificate}, {tls.key}: cannot be used for TLS: {error}") from None
    return context


class Certificates:
    """The server's certificates for both transports.

    Raises:
        ConfigError: the files cannot be used. Later on, files that cannot be used are logged, and the former ones kept.
    """

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._stamp: Any = _stamp(tls)
        self.http = _check(tls)
        self._lock = threading.Lock()
        self._current = self._read()
        self._given = self._current
        self.grpc = grpc.dynamic_ssl_server_credentials(
            self._current, self._fetch, require_client_authentication=tls.client_ca is not None
        )
        self._ended = threading.Event()
        threading.Thread(target=self._watch, name="linnet-tls", daemon=True).start()

    def stop(self) -> None:
        self._ended.set()

    def _read(self) -> grpc.ServerCertificateConfiguration:
        pair = (self._tls.key.read_bytes(), self._tls.certificate.read_bytes())
        roots = self._tls.client_ca.read_bytes() if self._tls.client_ca else None
        return grpc.ssl_server_certificate_configuration([pair], roots)

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """gRPC asks at each handshake; None: nothing new."""
        with self._lock:
            if self._current is self._given:
                return None
            self._given = self._current
            return self._current

    def look(self) -> None:
        """Reads the files again if they have changed."""
        try:
            stamp = _stamp(self._tls)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            _check(self._tls)
            fresh = self._read()
            self.http.load_cert_chain(self._tls.certificate, self._tls.key)
            if self._tls.client_ca:
                self.http.load_verify_locations(self._tls.client_ca)
            with self._lock:
                self._current = fresh
            log.info("%s: the new certificate is in use", self._tls.certificate)
        except (OSError, ssl.SSLError, ConfigError) as error:
            log.error("the certificate is not renewed: %s", error)

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_EVERY):
            self.look()
