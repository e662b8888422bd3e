# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Proxies between a module and its servers which count every call, and at a chosen one kill, drop or interfere."""

from __future__ import annotations

import http.client
import os
import pathlib
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import yaml
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _kubeconfig

BEFORE, AFTER, ANSWERED = "before it is sent on", "after it was acted upon", "right after its answer"


class Gate:
    """All calls of one run, in order, through whichever of its proxies."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.target: subprocess.Popen[bytes] | None = None
        self.kill_at: tuple[int, str] | None = None
        self.delay = 0.0
        self.drop_after: Callable[[str], bool] = lambda call: False
        self.refuse: Callable[[str], bool] = lambda call: False
        self.on_answer: Callable[[str], None] = lambda call: None
        self._lock = threading.Lock()
        self._proxies: list[ThreadingHTTPServer] = []

    def reset(self) -> None:
        self.calls, self.target, self.kill_at, self.delay = [], None, None, 0.0

    def arrive(self, call: str) -> int:
        with self._lock:
            self.calls.append(call)
            return len(self.calls)

    def kill(self, number: int, moment: str) -> bool:
        if self.kill_at != (number, moment) or self.target is None:
            return False
        time.sleep(self.delay)
        os.kill(self.target.pid, signal.SIGKILL)
        return True

    def writes(self) -> list[str]:
        return [call for call in self.calls if call.split()[0] not in ("GET", "LIST")]

    def before(self, url: str, context: ssl.SSLContext | None = None, name: str = "") -> str:
        """The address of a proxy for this server."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, url, context, name))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._proxies.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    def before_kubernetes(self, kubeconfig: str, folder: pathlib.Path) -> str:
        """A kubeconfig that leads through a proxy, which presents the original's identity."""
        config = _kubeconfig.load(kubeconfig)
        address = self.before(config.server, config.ssl_context(), "kubernetes")
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "gate",
            "clusters": [{"name": "gate", "cluster": {"server": address}}],
            "users": [{"name": "gate", "user": {"token": config.bearer() or "none"}}],
            "contexts": [{"name": "gate", "context": {"cluster": "gate", "user": "gate"}}],
        }
        path = folder / "gate.yaml"
        path.write_text(yaml.safe_dump(document))
        path.chmod(0o600)
        return str(path)

    def close(self) -> None:
        for proxy in self._proxies:
            proxy.shutdown()
            proxy.server_close()


def _handler(gate: Gate, url: str, context: ssl.SSLContext | None, name: str) -> type[BaseHTTPRequestHandler]:
    parts = urlsplit(url)
    assert parts.hostname is not None

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            call = f"{self.command} {name} {self.path}".replace("  ", " ")
            number = gate.arrive(call)
            if gate.kill(number, BEFORE) or gate.refuse(call):
                self.close_connection = True
                return
            try:
                status, headers, answer = self._forward(body)
            except OSError:
                # The server behind is down: the caller sees a closed connection, as it would without us.
                self.close_connection = True
                return
            gate.on_answer(call)
            if gate.kill(number, AFTER) or gate.drop_after(call):
                self.close_connection = True
                return
            try:
                self.send_response(status)
                self.send_header("Content-Type", headers.get("Content-Type", "application/json"))
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
                self.wfile.flush()
            except OSError:
                self.close_connection = True
            gate.kill(number, ANSWERED)

        do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = do_LIST = do

        def _forward(self, body: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
            connection: http.client.HTTPConnection
            if parts.scheme == "https":
                connection = http.client.HTTPSConnection(str(parts.hostname), parts.port, timeout=60, context=context)
            else:
                connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
            dropped = ("host", "connection", "content-length", "accept-encoding")
            headers = {key: value for key, value in self.headers.items() if key.lower() not in dropped}
            if headers.get("Authorization") == "Bearer none":
                del headers["Authorization"]
            try:
                connection.request(self.command, self.path, body or None, headers)
                answer = connection.getresponse()
                return answer.status, answer.headers, answer.read()
            finally:
                connection.close()

        def log_message(self, format: str, *args: Any) -> None:
            """The requests are in `gate.calls`; the suite's output stays readable."""

    return Handler
