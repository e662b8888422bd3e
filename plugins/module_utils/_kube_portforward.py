# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""A local port that leads to a pod's port through the Kubernetes API (private to this collection).

One websocket a connection (`v4.channel.k8s.io`): this passes Rancher's proxy, needs no kubectl, and the payload
(TLS to Vault, for instance) stays end to end. The kubelet does not pass on the end of a stream: speak protocols that
know their lengths, and set time-outs.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

from ._errors import PlatformError, Unreachable
from ._kubeconfig import KubeConfig

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONNECT_TIMEOUT = 10.0
_PAUSES = (0.2, 0.8)
_BINARY, _CLOSE, _PING, _PONG = 0x2, 0x8, 0x9, 0xA


class WebSocket:
    """As much of RFC 6455 as a port-forward needs (client side)."""

    def __init__(self, config: KubeConfig, path: str) -> None:
        self.doing = f"Opening {config.server}{path}"
        parts = urlsplit(config.server)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            raw = socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT)
            self._socket: socket.socket = raw
            if parts.scheme == "https":
                self._socket = config.ssl_context().wrap_socket(raw, server_hostname=config.server_name or host)
        except (OSError, ssl.SSLError) as exc:
            raise Unreachable(self.doing, str(exc), f"Check the server of {config.title}.") from exc
        self._sending = threading.Lock()
        self._buffer = b""
        try:
            self._handshake(config, f"{parts.path.rstrip('/')}{path}", parts.netloc)
        except BaseException:
            self.close()
            raise
        self._socket.settimeout(None)

    def _handshake(self, config: KubeConfig, path: str, host: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {host}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: v4.channel.k8s.io",
            f"Sec-WebSocket-Key: {key}",
        ]
        token = config.bearer()
        if token:
            lines.append(f"Authorization: Bearer {token}")
        try:
            self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            while b"\r\n\r\n" not in self._buffer and len(self._buffer) < 65536:
                self._more()
        except OSError as exc:
            raise Unreachable(self.doing, str(exc)) from exc
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        status, *headers = head.decode("latin-1").split("\r\n")
        if " 101 " not in f"{status} ":
            why = self._buffer.decode("utf-8", "replace")[:300].strip() or status
            raise PlatformError(
                self.doing, why, "Check that the pod runs and that the user may create pods/portforward."
            )
        answer = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in headers)}
        expected = base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()
        if answer.get("sec-websocket-accept") != expected:
            raise PlatformError(self.doing, "the answer is not that of a websocket server")

    def _more(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the connection was closed")
        self._buffer += data

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._more()
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def send(self, payload: bytes, opcode: int = _BINARY) -> None:
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
        elif size < 65536:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
        mask = os.urandom(4)
        # As one big integer: a loop over the bytes would be the slowest part of the whole transfer.
        repeated = (mask * (size // 4 + 1))[:size]
        masked = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")
        with self._sending:
            self._socket.sendall(head + mask + masked)

    def messages(self) -> Iterator[bytes]:
        """Yield whole messages until the other side closes."""
        message = b""
        while True:
            try:
                first, second = self._take(2)
                size = second & 0x7F
                if size == 126:
                    (size,) = struct.unpack("!H", self._take(2))
                elif size == 127:
                    (size,) = struct.unpack("!Q", self._take(8))
                payload = self._take(size)
            except OSError:
                return
            opcode = first & 0x0F
            if opcode == _CLOSE:
                return
            if opcode == _PING:
                self.send(payload, _PONG)
                continue
            if opcode == _PONG:
                continue
            message += payload
            if first & 0x80:
                yield message
                message = b""

    def end(self) -> None:
        """Wake whoever reads or sends, and let go of nothing."""
        _end(self._socket)

    def close(self) -> None:
        """Only when nobody else uses it any more."""
        _end(self._socket)
        self._socket.close()


def _end(connection: socket.socket) -> None:
    # Not the method of an SSL socket: after it, another thread would send what is left in the clear.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _opened(config: KubeConfig, path: str) -> WebSocket:
    """What breaks off while it is being opened has carried nothing yet, so it is opened anew."""
    for pause in _PAUSES:
        try:
            return WebSocket(config, path)
        except Unreachable as exc:
            if isinstance(exc.__cause__, ssl.SSLCertVerificationError):
                raise
        time.sleep(pause)
    return WebSocket(config, path)


class _Forward:
    """Listens on 127.0.0.1 and carries each connection over a websocket of its own."""

    def __init__(self, config: KubeConfig, namespace: str, pod: str, port: int) -> None:
        self._config = config
        self._path = (
            f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(pod, safe='')}/portforward?ports={port}"
        )
        self._open: set[tuple[socket.socket, WebSocket]] = set()
        self._first: WebSocket | None = _opened(config, self._path)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = ("127.0.0.1", self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                local, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(local,), daemon=True).start()

    def _carry(self, local: socket.socket) -> None:
        # The one that proved at the start that the pod answers carries the first connection.
        first, self._first = self._first, None
        try:
            remote = first or _opened(self._config, self._path)
        except PlatformError:
            # The caller sees a closed connection, as it would from the pod itself.
            local.close()
            return
        pair = (local, remote)
        self._open.add(pair)
        outward = threading.Thread(target=self._outward, args=pair, daemon=True)
        outward.start()
        greeted: set[int] = set()
        try:
            for message in remote.messages():
                channel, data = message[0], message[1:]
                if channel not in greeted:
                    # The first message of each channel only repeats the port's number.
                    greeted.add(channel)
                    data = data[2:]
                if channel == 1 and data:
                    break
                if data:
                    local.sendall(data)
        except OSError:
            return
        finally:
            _end(local)
            remote.end()
            # A descriptor that the other thread still uses would by then be another connection's, or a file's.
            outward.join()
            self._open.discard(pair)
            local.close()
            remote.close()

    @staticmethod
    def _outward(local: socket.socket, remote: WebSocket) -> None:
        with contextlib.suppress(OSError):
            while data := local.recv(65536):
                remote.send(b"\x00" + data)
        remote.end()

    def close(self) -> None:
        # Closing alone would leave the thread in accept() and the port open.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._first is not None:
            self._first.close()
        for local, remote in list(self._open):
            _end(local)
            remote.end()


@contextlib.contextmanager
def portforward(config: KubeConfig, namespace: str, pod: str, port: int) -> Iterator[tuple[str, int]]:
    """Give the local address that leads to the pod's port; fails at once if the pod cannot be reached."""
    forward = _Forward(config, namespace, pod, port)
    try:
        yield forward.address
    finally:
        forward.close()
