# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""A small client of the Kubernetes API on the standard library, for the lab's own processes."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]


class Refused(Exception):
    """The API server's answer was an error."""

    def __init__(self, status: int, body: Object, doing: str) -> None:
        self.status = status
        self.body = body
        self.reason = str(body.get("reason", ""))
        super().__init__(f"{doing}: {status} {body.get('message', body)}")


class Client:
    """Connections are kept, one a thread. The user is known by certificate or by token."""

    def __init__(self, kubeconfig: Path | str, headers: Sequence[tuple[str, str]] = ()) -> None:
        text = kubeconfig.read_text() if isinstance(kubeconfig, Path) else kubeconfig
        content = yaml.safe_load(text)
        cluster = content["clusters"][0]["cluster"]
        user = content["users"][0]["user"]
        url = urllib.parse.urlsplit(cluster["server"])
        self.host, self.port = str(url.hostname), int(url.port or 443)
        self.prefix = url.path.rstrip("/")
        self.headers = list(headers)
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self.context = ssl.create_default_context(cadata=authority)
        if "token" in user:
            self.headers.append(("Authorization", f"Bearer {user['token']}"))
        else:
            with tempfile.NamedTemporaryFile() as pem:
                pem.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
                pem.flush()
                self.context.load_cert_chain(pem.name)
        self.kept = threading.local()

    def connect(self, timeout: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=self.context)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        timeout: float = 30.0,
    ) -> Any:
        if query:
            path = f"{path}?{urllib.parse.urlencode(query)}"
        data = None if body is None else json.dumps(body).encode()
        headers = [("Accept", "application/json"), ("Content-Type", content_type), *self.headers]
        for again in (True, False):
            connection: http.client.HTTPSConnection | None = getattr(self.kept, "connection", None)
            fresh = connection is None
            if connection is None:
                connection = self.kept.connection = self.connect(timeout)
            try:
                send(connection, method, self.prefix + path, data, headers)
                answer = connection.getresponse()
                text = answer.read()
                break
            except (OSError, http.client.HTTPException):
                connection.close()
                self.kept.connection = None
                # only a kept connection may have been closed by the other side in the meantime
                if fresh or not again:
                    raise
        parsed: Any = text.decode()
        if answer.headers.get_content_type() == "application/json":
            parsed = json.loads(text)
        if answer.status >= 300:
            raise Refused(
                answer.status, parsed if isinstance(parsed, dict) else {"message": parsed}, f"{method} {path}"
            )
        return parsed

    def get(self, path: str) -> Object | None:
        try:
            found: Object = self.request("GET", path)
        except Refused as error:
            if error.status == 404:
                return None
            raise
        return found

    def apply(self, path: str, body: Object, manager: str = "lab", subresource: str = "") -> Object:
        """Server-side apply; the lab's word goes over anyone else's on the fields it sets."""
        query = {"fieldManager": manager, "force": "true"}
        target = f"{path}/{subresource}" if subresource else path
        applied: Object = self.request("PATCH", target, body, query=query, content_type="application/apply-patch+yaml")
        return applied

    def merge(self, path: str, body: Object) -> Object:
        merged: Object = self.request("PATCH", path, body, content_type="application/merge-patch+json")
        return merged

    def delete(self, path: str) -> None:
        try:
            self.request("DELETE", path)
        except Refused as error:
            if error.status != 404:
                raise

    def ready(self) -> bool:
        try:
            return bool(self.request("GET", "/readyz", timeout=5) == "ok")
        except (OSError, http.client.HTTPException, Refused):
            return False

    def wait_ready(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.ready():
                return True
            time.sleep(0.1)
        return False

    def watch(self, path: str, version: str, timeout: int = 300) -> Iterator[Object]:
        """Events until the server ends the watch."""
        query = {
            "watch": "1",
            "resourceVersion": version,
            "timeoutSeconds": str(timeout),
            "allowWatchBookmarks": "true",
        }
        connection = self.connect(timeout + 30)
        try:
            target = f"{self.prefix}{path}?{urllib.parse.urlencode(query)}"
            send(connection, "GET", target, None, [("Accept", "application/json"), *self.headers])
            answer = connection.getresponse()
            if answer.status != 200:
                raise Refused(answer.status, {"message": answer.read().decode()}, f"WATCH {path}")
            while line := answer.readline():
                event: Object = json.loads(line)
                if event["type"] == "ERROR":
                    raise Refused(int(event["object"].get("code", 500)), event["object"], f"WATCH {path}")
                yield event
        finally:
            connection.close()


def send(
    connection: http.client.HTTPSConnection,
    method: str,
    target: str,
    data: bytes | None,
    headers: Sequence[tuple[str, str]],
) -> None:
    """A header may come more than once (Impersonate-Group), which a mapping could not hold."""
    connection.putrequest(method, target)
    for name, value in headers:
        connection.putheader(name, value)
    if data is not None or method in {"POST", "PUT", "PATCH"}:
        connection.putheader("Content-Length", str(len(data or b"")))
    connection.endheaders(data)
