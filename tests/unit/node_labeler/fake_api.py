# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""A small, strict stand-in for the Kubernetes API: nodes with watches, Leases and Events, over TLS with a bearer token.

It refuses what the real server refuses: a stale resourceVersion, a name taken, a wrong token, a watch from a version
that it has forgotten.
"""

from __future__ import annotations

import copy
import json
import queue
import re
import ssl
import threading
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Json = dict[str, Any]
LEASES = re.compile(r"/apis/coordination\.k8s\.io/v1/namespaces/[^/]+/leases(?:/(?P<name>[^/]+))?")
EVENTS = re.compile(r"/api/v1/namespaces/[^/]+/events")


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, code: int, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.headers = headers or {}


class FakeApi:
    """The server and its store."""

    def __init__(self, certificate: Path, key: Path, account: Path) -> None:
        self.account = account
        self.lock = threading.RLock()
        self.version = 100
        self.forgotten = 0
        self.nodes: dict[str, Json] = {}
        self.leases: dict[str, Json] = {}
        self.events: list[Json] = []
        self.calls: list[tuple[str, str, Json | None]] = []
        self.failures: list[tuple[str, str, Refused]] = []
        self.watchers: list[queue.Queue[Json | None]] = []
        self.history: list[Json] = []
        # Of the request that this thread answers.
        self.request = threading.local()
        self.set_token("first")
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = int(self.server.server_address[1])

    def __enter__(self) -> FakeApi:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end_watches()
        self.server.shutdown()
        self.server.server_close()

    def set_token(self, token: str) -> None:
        """Renew the account's token, as the kubelet does: the old one is refused from now on."""
        self.token = token
        (self.account / "token").write_text(token, encoding="ascii")

    def put_node(self, name: str, labels: dict[str, str] | None = None, **metadata: str) -> Json:
        """Make or change a node; watchers hear of it."""
        with self.lock:
            old = self.nodes.get(name)
            node = {
                "metadata": {
                    "name": name,
                    "uid": old["metadata"]["uid"] if old else str(uuid.uuid4()),
                    "creationTimestamp": "2026-01-01T00:00:00Z",
                    "resourceVersion": self._next(),
                    "labels": dict(labels or {}),
                    **metadata,
                }
            }
            self.nodes[name] = node
            self._tell("MODIFIED" if old else "ADDED", node)
            return copy.deepcopy(node)

    def delete_node(self, name: str) -> None:
        """Delete a node; watchers hear of it."""
        with self.lock:
            node = self.nodes.pop(name)
            node["metadata"]["resourceVersion"] = self._next()
            self._tell("DELETED", node)

    def bookmark(self) -> None:
        """Send what the server sends about once a minute."""
        with self.lock:
            self._tell("BOOKMARK", {"kind": "Node", "metadata": {"resourceVersion": self._next()}}, keep=False)

    def forget(self) -> None:
        """Compact the history: a watch from any version so far is refused with 410, a running one ends with it."""
        with self.lock:
            self.forgotten = int(self._next())
            status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            self._tell("ERROR", status, keep=False)
            self.history.clear()
        self.end_watches()

    def end_watches(self) -> None:
        """End the running watches as the server does when their time is over."""
        with self.lock:
            for watcher in self.watchers:
                watcher.put(None)
            self.watchers.clear()

    def fail(self, method: str, path: str, code: int, times: int = 1, headers: dict[str, str] | None = None) -> None:
        """Refuse the next requests of a method whose path contains ``path``."""
        self.failures += [(method, path, Refused(code, f"Planned{code}", headers))] * times

    def label(self, name: str) -> str | None:
        """The label in question."""
        value: str | None = self.nodes[name]["metadata"]["labels"].get("workload-type")
        return value

    def writes(self) -> list[tuple[str, str, Json | None]]:
        """Requests that change something, but for the lease's."""
        return [call for call in self.calls if call[0] not in ("GET", "WATCH") and "/leases" not in call[1]]

    def _next(self) -> str:
        self.version += 1
        return str(self.version)

    def _tell(self, kind: str, item: Json, keep: bool = True) -> None:
        event = {"type": kind, "object": copy.deepcopy(item)}
        if keep:
            self.history.append(event)
        for watcher in self.watchers:
            watcher.put(event)

    def open_watch(self, version: int) -> queue.Queue[Json | None]:
        """Begin a watch after a version."""
        with self.lock:
            if version < self.forgotten:
                raise Refused(410, "Expired")
            watcher: queue.Queue[Json | None] = queue.Queue()
            for event in self.history:
                if int(event["object"]["metadata"]["resourceVersion"]) > version:
                    watcher.put(event)
            self.watchers.append(watcher)
            return watcher

    def answer(self, method: str, target: str, body: Json | None) -> Json:
        """Everything but watches."""
        parts = urllib.parse.urlsplit(target)
        query = dict(urllib.parse.parse_qsl(parts.query))
        with self.lock:
            self.calls.append((method, target, body))
            for failure in self.failures:
                if failure[0] == method and failure[1] in target:
                    self.failures.remove(failure)
                    raise failure[2]
            if EVENTS.fullmatch(parts.path):
                return self._event(body or {})
            if lease := LEASES.fullmatch(parts.path):
                return self._lease(method, lease["name"] or "", body or {})
            return self.route(method, urllib.parse.unquote(parts.path), query, body or {})

    def route(self, method: str, path: str, query: dict[str, str], body: Json) -> Json:
        """What this controller needs beside Leases and Events."""
        if path == "/api/v1/nodes":
            items = [copy.deepcopy(node) for node in self.nodes.values()]
            return {"metadata": {"resourceVersion": str(self.version)}, "items": items}
        if path.startswith("/api/v1/nodes/"):
            return self._patch(path.rpartition("/")[2], body, query)
        raise Refused(404, "NotFound")

    def _patch(self, name: str, body: Json, query: dict[str, str]) -> Json:
        node = self.nodes.get(name)
        if node is None:
            raise Refused(404, "NotFound")
        if body["metadata"].get("resourceVersion") != node["metadata"]["resourceVersion"]:
            raise Refused(409, "Conflict")
        if query.get("dryRun") == "All":
            return copy.deepcopy(node)
        return self.put_node(name, {**node["metadata"]["labels"], **body["metadata"]["labels"]})

    def _event(self, body: Json) -> Json:
        if body["metadata"]["name"] in [event["metadata"]["name"] for event in self.events]:
            raise Refused(409, "AlreadyExists")
        self.events.append(body)
        return body

    def _lease(self, method: str, name: str, body: Json) -> Json:
        if method == "GET":
            if name not in self.leases:
                raise Refused(404, "NotFound")
            return copy.deepcopy(self.leases[name])
        name = body["metadata"]["name"]
        if method == "POST" and name in self.leases:
            raise Refused(409, "AlreadyExists")
        if method == "PUT":
            if name not in self.leases:
                raise Refused(404, "NotFound")
            if body["metadata"].get("resourceVersion") != self.leases[name]["metadata"]["resourceVersion"]:
                raise Refused(409, "Conflict")
        self.leases[name] = {**body, "metadata": {**body["metadata"], "resourceVersion": self._next()}}
        return copy.deepcopy(self.leases[name])

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _act(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                try:
                    if self.headers.get("Authorization") != f"Bearer {fake.token}":
                        raise Refused(401, "Unauthorized")
                    fake.request.content_type = self.headers.get("Content-Type", "")
                    if "watch=1" in self.path:
                        self._watch()
                    else:
                        self._send(200, fake.answer(self.command, self.path, body))
                except Refused as refused:
                    status = {"kind": "Status", "code": refused.code, "reason": refused.reason, "message": "refused"}
                    self._send(refused.code, status, refused.headers)
                except OSError:
                    self.close_connection = True

            def _send(self, code: int, body: Json, headers: dict[str, str] | None = None) -> None:
                data = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(data)))
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def _watch(self) -> None:
                query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
                fake.calls.append(("WATCH", self.path, None))
                watcher = fake.open_watch(int(query["resourceVersion"]))
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                while (event := watcher.get()) is not None:
                    line = json.dumps(event).encode() + b"\n"
                    self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
                self.wfile.write(b"0\r\n\r\n")

            do_GET = do_POST = do_PUT = do_PATCH = _act

            def log_message(self, format: str, *args: object) -> None:
                """Keep the tests' output short."""

        return Handler
