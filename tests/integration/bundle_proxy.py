# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""A proxy between a module and a real API server that records requests and injects faults."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.harvester_rke2.platform.plugins.module_utils._kube_http import ApiError, Transport
from ansible_collections.harvester_rke2.platform.plugins.module_utils._kubeconfig import load


@dataclass
class Fault:
    """An answer instead of the server's; ``status`` 0 breaks the connection off.

    ``after`` lets the server act first and then loses its answer.
    """

    status: int
    body: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    after: bool = False


Decide = Callable[[str, str, int], Fault | None]


class Proxy:
    """Listens on 127.0.0.1 without TLS; ``decide`` gets method, path and the number of such requests so far."""

    def __init__(self, kubeconfig: Path, folder: Path, decide: Decide | None = None) -> None:
        self.requests: list[tuple[str, str]] = []
        self.decide = decide
        self._lock = threading.Lock()
        transport = Transport(load(str(kubeconfig)))
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, format: str, *args: Any) -> None:
                """The recorded requests say enough."""

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
                fault = proxy.record(self.command, self.path)
                if fault is None and "watch=true" in self.path:
                    self._stream()
                    return
                if fault is None or fault.after:
                    status, content = self._pass_on(body)
                    if fault is None:
                        self._answer(status, content, {})
                        return
                if fault.status == 0:
                    self.close_connection = True
                    self.connection.close()
                    return
                self._answer(fault.status, fault.body, fault.headers)

            def _stream(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.close_connection = True
                try:
                    for event in transport.stream("proxying", self.path, 60.0):
                        self.wfile.write(json.dumps(event).encode() + b"\n")
                        self.wfile.flush()
                except OSError:
                    # The client has seen enough.
                    return

            def _pass_on(self, body: bytes | None) -> tuple[int, Any]:
                headers = {key: self.headers[key] for key in ("Accept", "Content-Type") if self.headers.get(key)}
                try:
                    return transport.send("proxying", self.command, self.path, body, headers, 30.0)
                except ApiError as exc:
                    return exc.status, exc.body or exc.message

            def _answer(self, status: int, content: Any, headers: dict[str, str]) -> None:
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                for key, value in headers.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _serve

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.kubeconfig = folder / "proxy.yaml"
        self.kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "proxy",
                    "clusters": [
                        {"name": "c", "cluster": {"server": f"http://127.0.0.1:{self._server.server_address[1]}"}}
                    ],
                    "users": [{"name": "u", "user": {}}],
                    "contexts": [{"name": "proxy", "context": {"cluster": "c", "user": "u"}}],
                }
            )
        )

    def record(self, method: str, path: str) -> Fault | None:
        with self._lock:
            count = sum(1 for known in self.requests if known == (method, path))
            self.requests.append((method, path))
        return self.decide(method, path, count) if self.decide is not None else None

    def writes(self) -> list[tuple[str, str]]:
        """Requests that would change something."""
        return [(method, path) for method, path in self.requests if method != "GET" and "dryRun=All" not in path]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
