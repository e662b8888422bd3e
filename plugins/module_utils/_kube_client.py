# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""A small Kubernetes client on one pool of kept-alive connections (private to this collection).

It exists because importing and starting the ``kubernetes`` package costs half a second a task, and because its
callers need to know exactly what is sent again after an error and what never is.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, SSLError

from ._errors import NoConnection, PlatformError, Unreachable
from ._kube_discovery import Discovery, Resource, UnknownKind
from ._kubeconfig import KubeConfig, load

__all__ = ["ApiError", "KubeClient", "NoConnection", "Resource", "UnknownKind", "Unreachable"]

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
_RETRY_STATUS = frozenset((429, 500, 502, 503, 504))
_DELAYS = (0.2, 0.5, 1.0, 2.0, 4.0)
_LONGEST_DELAY = 30.0
_NOT_SENT = (NewConnectionError, ConnectTimeoutError)
_MODIFIED = "the object has been modified"


class ApiError(PlatformError):
    """The API server answered with a refusal (a Kubernetes Status)."""

    def __init__(self, doing: str, status: int, body: Any, retry_after: float | None = None) -> None:
        self.status = status
        self.body: dict[str, Any] = body if isinstance(body, dict) else {}
        self.reason = str(self.body.get("reason") or "")
        self.message = str(self.body.get("message") or (body if isinstance(body, str) else "") or "no reason given")
        self.retry_after = retry_after
        super().__init__(doing, f"{self.message.strip()} (HTTP {status})", status=status, reason=self.reason)

    @property
    def conflict(self) -> bool:
        """Somebody changed the object in between; Rancher passes this on as HTTP 500."""
        return self.status == 409 or (self.status == 500 and _MODIFIED in self.message)

    @property
    def webhook_late(self) -> bool:
        """An admission webhook is registered but does not answer yet."""
        return self.status == 500 and "failed calling webhook" in self.message

    @property
    def causes(self) -> list[dict[str, Any]]:
        return list((self.body.get("details") or {}).get("causes") or [])


class KubeClient:
    """Requests to one API server as one identity; safe to share between threads."""

    def __init__(self, config: KubeConfig, *, connections: int = 16, attempts: int = len(_DELAYS) + 1) -> None:
        self.config = config
        self.attempts = attempts
        parts = urlsplit(config.server)
        self._base = parts.path.rstrip("/")
        timeout = urllib3.Timeout(connect=5.0, read=30.0)
        host = parts.hostname or ""
        self._pool: urllib3.HTTPConnectionPool
        if parts.scheme == "https":
            self._pool = urllib3.HTTPSConnectionPool(
                host,
                parts.port or 443,
                maxsize=connections,
                timeout=timeout,
                ssl_context=config.ssl_context(),
                server_hostname=config.server_name or None,
                assert_hostname=config.server_name or None,
            )
        else:
            self._pool = urllib3.HTTPConnectionPool(host, parts.port or 80, maxsize=connections, timeout=timeout)
        self.discovery = Discovery(lambda path, accept: self.request("GET", path, accept=accept))

    @classmethod
    def from_options(cls, options: Mapping[str, Any], **kwargs: Any) -> KubeClient:
        return cls(load(options.get("kubeconfig"), options.get("context")), **kwargs)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout: float = 30.0,
        retry: bool = True,
    ) -> Any:
        """Send a request and return the decoded answer.

        Overload, broken connections and 5xx are tried again with backoff, but a POST only when it certainly was
        not acted upon. Conflicts are the caller's: only it knows how to merge anew.
        """
        return self._send(method, path, query, body, content_type, accept, timeout, retry)[1]

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Any,
        content_type: str,
        accept: str,
        timeout: float,
        retry: bool,
    ) -> tuple[int, Any]:
        doing = f"Calling {method} {self.config.server}{path}"
        payload = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
        url = self._url(path, query)
        for attempt in range(self.attempts):
            last = not retry or attempt + 1 >= self.attempts
            headers = self._headers(accept, content_type if payload is not None else "")
            try:
                answer = self._pool.request(
                    method,
                    url,
                    body=payload,
                    headers=headers,
                    timeout=urllib3.Timeout(connect=5.0, read=timeout),
                    retries=False,
                    redirect=False,
                )
            except HTTPError as exc:
                if last or isinstance(exc, SSLError) or (method == "POST" and not isinstance(exc, _NOT_SENT)):
                    raise self._unreachable(doing, exc) from exc
                self._pause(attempt, None)
                continue
            if answer.status < 300:
                return answer.status, self._decode(answer.data, answer.headers.get("Content-Type", ""))
            error = ApiError(
                doing,
                answer.status,
                self._decode(answer.data, answer.headers.get("Content-Type", "")),
                _seconds(answer.headers.get("Retry-After")),
            )
            if last or not self._worth_a_retry(method, error):
                raise error
            self._pause(attempt, error.retry_after)
        raise AssertionError("unreachable: the last attempt returns or raises")

    @staticmethod
    def _worth_a_retry(method: str, error: ApiError) -> bool:
        if error.status not in _RETRY_STATUS or error.conflict:
            return False
        # 429 is answered before a request is acted upon; any other failure of a POST may come after it.
        return method != "POST" or error.status == 429

    @staticmethod
    def _pause(attempt: int, retry_after: float | None) -> None:
        delay = _DELAYS[min(attempt, len(_DELAYS) - 1)]
        if retry_after is not None:
            delay = max(delay if retry_after == 0 else 0.0, retry_after)
        # The spread keeps parallel workers from coming back at the same moment.
        time.sleep(min(delay, _LONGEST_DELAY) * random.uniform(1.0, 1.2))

    def _url(self, path: str, query: Mapping[str, Any] | None) -> str:
        given = {key: value for key, value in (query or {}).items() if value is not None}
        return f"{self._base}{path}?{urlencode(given, doseq=True)}" if given else f"{self._base}{path}"

    def _headers(self, accept: str, content_type: str) -> dict[str, str]:
        headers = {"Accept": accept, "User-Agent": "harvester-rke2-platform"}
        if content_type:
            headers["Content-Type"] = content_type
        token = self.config.bearer()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return headers

    @staticmethod
    def _decode(data: bytes, content_type: str) -> Any:
        if "json" in content_type:
            return json.loads(data) if data else {}
        return data.decode("utf-8", "replace")

    def _unreachable(self, doing: str, exc: Exception) -> Unreachable:
        mend = f"Check the server of context '{self.config.context}' in {self.config.source} and the way to it."
        if isinstance(exc, SSLError):
            mend = "Check certificate-authority-data in the kubeconfig; an unverified server is never talked to."
        # urllib3 quotes its own connection object, which says nothing to a reader.
        why = str(exc).rsplit(": ", 1)[-1] if isinstance(exc, _NOT_SENT) else str(exc)
        return Unreachable(doing, why, mend, sent=not isinstance(exc, (*_NOT_SENT, SSLError)))

    def get_or_none(self, path: str, *, query: Mapping[str, Any] | None = None, **kwargs: Any) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = self.request("GET", path, query=query, **kwargs)
        except ApiError as exc:
            if exc.status == 404:
                return None
            raise
        return answer

    def list_all(self, path: str, *, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A complete list; read in pages so that a big one does not time out."""
        question = {"limit": 500, **(query or {})}
        result: dict[str, Any] = self.request("GET", path, query=question)
        page = result
        while (page.get("metadata") or {}).get("continue"):
            page = self.request("GET", path, query={**question, "continue": page["metadata"]["continue"]})
            result.setdefault("items", []).extend(page.get("items") or [])
        return result

    def resource(self, api_version: str, kind: str) -> Resource:
        return self.discovery.find(api_version, kind)

    def path_for(self, api_version: str, kind: str, namespace: str | None = None, name: str | None = None) -> str:
        return self.discovery.find(api_version, kind).path(namespace, name)

    def path_of(self, obj: Mapping[str, Any]) -> str:
        meta = obj["metadata"]
        return self.path_for(obj["apiVersion"], obj["kind"], meta.get("namespace"), meta["name"])

    def apply(
        self,
        obj: Mapping[str, Any],
        *,
        field_manager: str,
        force: bool = False,
        dry_run: bool = False,
        validate: str = "Strict",
    ) -> dict[str, Any]:
        return self.apply_status(obj, field_manager=field_manager, force=force, dry_run=dry_run, validate=validate)[1]

    def apply_status(
        self,
        obj: Mapping[str, Any],
        *,
        field_manager: str,
        force: bool = False,
        dry_run: bool = False,
        validate: str = "Strict",
    ) -> tuple[int, dict[str, Any]]:
        """Server-side apply; the status 201 says that the object did not exist before."""
        query = {
            "fieldManager": field_manager,
            "fieldValidation": validate,
            "force": "true" if force else "false",
            "dryRun": "All" if dry_run else None,
        }
        return self._send("PATCH", self.path_of(obj), query, obj, APPLY, "application/json", 30.0, True)

    def create(self, obj: Mapping[str, Any], *, field_manager: str, dry_run: bool = False) -> dict[str, Any]:
        """Create and never overwrite; raises ApiError 409 if something else of that name exists.

        When the answer is lost the object is read again, and counts as made by us if it says what we sent.
        """
        meta = obj["metadata"]
        path = self.path_for(obj["apiVersion"], obj["kind"], meta.get("namespace"))
        query = {
            "fieldManager": field_manager,
            "fieldValidation": "Strict",
            "dryRun": "All" if dry_run else None,
        }
        for attempt in range(self.attempts):
            try:
                made: dict[str, Any] = self.request("POST", path, query=query, body=obj)
                return made
            except (ApiError, Unreachable) as exc:
                # A 409 after a lost answer may be our own earlier request.
                lost = isinstance(exc, Unreachable) or exc.status >= 500 or (attempt > 0 and exc.status == 409)
                if not lost or dry_run:
                    raise
                live = self.get_or_none(f"{path}/{meta['name']}")
                if live is not None and _says(live, obj):
                    return live
                if live is not None or attempt + 1 >= self.attempts:
                    raise
                self._pause(attempt, getattr(exc, "retry_after", None))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def delete(self, path: str, *, propagation: str = "Background", dry_run: bool = False, uid: str = "") -> bool:
        """Delete; False if it was not there."""
        body: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            self.request("DELETE", path, body=body, query={"dryRun": "All"} if dry_run else None)
        except ApiError as exc:
            if exc.status == 404:
                return False
            raise
        return True

    def watch(
        self, path: str, *, resource_version: str, query: Mapping[str, Any] | None = None, timeout: float = 30.0
    ) -> Iterator[dict[str, Any]]:
        """Yield events until ``timeout``; ends early when the server closes the stream (list and watch again)."""
        question = {
            **(query or {}),
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": max(1, int(timeout)),
        }
        doing = f"Watching {self.config.server}{path}"
        try:
            answer = self._pool.request(
                "GET",
                self._url(path, question),
                headers=self._headers("application/json", ""),
                timeout=urllib3.Timeout(connect=5.0, read=timeout + 5.0),
                retries=False,
                redirect=False,
                preload_content=False,
            )
        except HTTPError as exc:
            raise self._unreachable(doing, exc) from exc
        try:
            if answer.status >= 300:
                raise ApiError(doing, answer.status, self._decode(answer.data, answer.headers.get("Content-Type", "")))
            rest = b""
            for chunk in answer.stream(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield json.loads(line)
        except HTTPError:
            # A stream that breaks off is the ordinary end of a watch behind a proxy.
            return
        finally:
            # The connection still carries the stream: it cannot go back into the pool.
            answer.close()

    def portforward(self, namespace: str, pod: str, port: int) -> AbstractContextManager[tuple[str, int]]:
        from ._kube_portforward import portforward

        return portforward(self.config, namespace, pod, port)


def _says(live: Any, sent: Any) -> bool:
    """Whether everything that was sent stands in the live object."""
    if isinstance(sent, Mapping):
        return isinstance(live, Mapping) and all(key in live and _says(live[key], sent[key]) for key in sent)
    if isinstance(sent, list):
        return isinstance(live, list) and len(live) == len(sent) and all(map(_says, live, sent))
    return bool(live == sent)


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds: a number or a date; anything else counts as absent."""
    if not header:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None
