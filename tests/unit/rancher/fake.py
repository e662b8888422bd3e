# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""A small Rancher on a real socket: tokens, clusters, and Kubernetes answers behind its proxy, as a test tells them."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

WORDS = "please apply your changes to the latest version and try again"
TOKEN = "token-abcde:" + "x" * 30


def _merge(target: dict[str, Any], patch: dict[str, Any]) -> None:
    """As a merge patch says: mappings one into the other, all else replaced."""
    for key, value in patch.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = value


class Rancher:
    """Answers GETs from ``objects`` by path, counts what is minted."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self.clusters: dict[str, str] = {"harvester": "c-m-hvst"}
        self.tokens: set[str] = {TOKEN}
        self.token_fields: dict[str, Any] = {"expiresAt": ""}
        self.made: dict[str, tuple[str, str]] = {}  # name of a token made here: its description and secret
        self.refusals: dict[str, tuple[int, Any]] = {}  # path: what is answered instead
        self.minted = 0
        self.lost = 0  # answers to the making of a token that do not arrive
        self.date: str | None = None
        self.conflicts = 0
        self.requests: list[tuple[str, str]] = []
        # What others do then.
        self.after_write: Callable[[], None] = lambda: None
        self.after_conflict: Callable[[], None] = lambda: None
        rancher = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                rancher.requests.append((self.command, self.path))
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                status, answer = rancher.answer(self.command, self.path, token, body)
                data = json.dumps(answer).encode()
                self.send_response_only(status)
                self.send_header("Date", rancher.date or self.date_time_string())
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = do_DELETE = _serve

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, target: str, token: str, body: bytes) -> tuple[int, Any]:
        """What Rancher would say."""
        parts = urlsplit(target)
        if token not in self.tokens:
            return 401, {"type": "error", "status": 401, "message": "must authenticate"}
        if parts.path in self.refusals:
            return self.refusals[parts.path]
        if parts.path == "/v3/clusters":
            name = parts.query.removeprefix("name=")
            data = [{"id": ident, "name": known} for known, ident in self.clusters.items() if name in ("", known)]
            return 200, {"data": data}
        if parts.path.startswith("/v3/tokens"):
            return self._tokens(method, parts.path.removeprefix("/v3/tokens").strip("/"), parts.query, body)
        if parts.path == "/v3/settings/server-version":
            return 200, {"value": "v2.13.1"}
        found = self.objects.get(parts.path)
        if found is not None and method == "PATCH":
            return self._patch(found, json.loads(body), "dryRun=All" in parts.query)
        if found is not None and method == "DELETE":
            return 200, self._delete(parts.path)
        if found is None and parts.path.endswith("/api"):
            found = {"kind": "APIVersions"}
        return (404, {"kind": "Status", "code": 404, "message": "not found"}) if found is None else (200, found)

    def _patch(self, found: dict[str, Any], body: dict[str, Any], dry: bool) -> tuple[int, Any]:
        meta = body.pop("metadata")
        if self.conflicts or meta.pop("resourceVersion") != found["metadata"]["resourceVersion"]:
            self.conflicts = max(0, self.conflicts - 1)
            found["metadata"]["resourceVersion"] += "1"
            self.after_conflict()
            return 500, {"kind": "Status", "code": 500, "message": f"the object has been modified; {WORDS}"}
        if not dry:
            _merge(found, body)
            self.after_write()
            found["metadata"].update({key: value for key, value in meta.items() if value is not None})
            for key in [key for key, value in meta.items() if value is None]:
                found["metadata"].pop(key, None)
        if found["metadata"].get("deletionTimestamp") and not found["metadata"].get("finalizers"):
            self._gone(next(path for path, item in self.objects.items() if item is found))
        return 200, found

    def _delete(self, path: str) -> Any:
        found = self.objects[path]
        if found["metadata"].get("finalizers"):
            found["metadata"]["deletionTimestamp"] = "now"
        else:
            self._gone(path)
        return found

    def _gone(self, path: str) -> None:
        """From its kind's list too, as on a real server."""
        folder, _, name = path.rpartition("/")
        del self.objects[path]
        listed = self.objects.get(folder, {"items": []})
        listed["items"] = [item for item in listed["items"] if item["metadata"]["name"] != name]

    def _tokens(self, method: str, name: str, query: str, body: bytes) -> tuple[int, Any]:
        if method == "POST":
            self.minted += 1
            made = f"token-u{self.minted}"
            self.made[made] = json.loads(body)["description"], f"{made}:{'y' * 30}"
            self.tokens.add(self.made[made][1])
            self.lost -= 1
            if self.lost >= 0:
                return 500, {"type": "error", "code": "ServerError", "message": "no healthy server"}
            return 201, {"id": made, "token": self.made[made][1]}
        if not name:
            wanted = unquote(query.removeprefix("description="))
            found = [{"id": one, "description": text} for one, (text, _) in self.made.items() if text == wanted]
            return 200, {"data": found}
        if method == "DELETE":
            if name not in self.made:
                return 404, {"type": "error", "status": 404, "message": "not found"}
            self.tokens.discard(self.made.pop(name)[1])
            return 200, {}
        return 200, {**self.token_fields, "description": self.made.get(name, ("",))[0]}

    def put(self, cluster: str, path: str, *items: Any) -> None:
        """A list behind the proxy."""
        self.objects[f"/k8s/clusters/{cluster}{path}"] = {"items": list(items), "metadata": {}}
