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
from urllib.parse import urlencode

from ._errors import NoConnection, Unreachable
from ._kube_discovery import Discovery, Resource, UnknownKind
from ._kube_http import ApiError, Broken, Transport
from ._kube_portforward import portforward
from ._kubeconfig import KubeConfig, from_options

__all__ = ["MERGE", "ApiError", "Broken", "KubeClient", "NoConnection", "Resource", "UnknownKind", "Unreachable"]

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_RETRY_STATUS = frozenset((429, 500, 502, 503, 504))
_DELAYS = (0.2, 0.5, 1.0, 2.0, 4.0)
_LONGEST_DELAY = 30.0
# Seconds that trouble before an API server is waited for: Rancher's pods or an ingress are started again.
_PATIENCE = 60.0


class KubeClient:
    """Requests to one API server as one identity; safe to share between threads."""

    def __init__(self, config: KubeConfig, *, attempts: int = len(_DELAYS) + 1) -> None:
        self.config = config
        self.attempts = attempts
        self._transport = Transport(config)
        self.discovery = Discovery(lambda path, accept: self.request("GET", path, accept=accept))

    @classmethod
    def from_options(cls, options: Mapping[str, Any], **kwargs: Any) -> KubeClient:
        return cls(from_options(options), **kwargs)

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
        payload = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Accept": accept, **({"Content-Type": content_type} if payload is not None else {})}
        url = _url(path, query)
        attempt, began = 0, time.monotonic()
        while True:
            attempt += 1
            last = not retry or attempt >= self.attempts
            try:
                return self._transport.send(doing, method, url, payload, headers, timeout)
            except Broken as exc:
                if last or exc.final or (method == "POST" and exc.sent):
                    raise
                self._pause(attempt, None)
            except ApiError as exc:
                waits = retry and exc.passing and time.monotonic() - began < _PATIENCE
                if (last and not waits) or not self._worth_a_retry(method, exc):
                    raise
                self._pause(attempt, exc.retry_after)

    def clock_ahead(self) -> float:
        """Seconds by which this machine's clock is ahead of the server's last answer; 0 where that told no time."""
        date = self._transport.date
        return time.time() - parsedate_to_datetime(date).timestamp() if date else 0.0

    @staticmethod
    def _worth_a_retry(method: str, error: ApiError) -> bool:
        if error.status not in _RETRY_STATUS or error.conflict:
            return False
        # 429 is answered before a request is acted upon; any other failure of a POST may come after it.
        return method != "POST" or error.status == 429

    @staticmethod
    def _pause(attempt: int, retry_after: float | None) -> None:
        delay = _DELAYS[min(attempt, len(_DELAYS)) - 1]
        if retry_after:
            delay = retry_after
        # The spread keeps parallel workers from coming back at the same moment.
        time.sleep(min(delay, _LONGEST_DELAY) * random.uniform(1.0, 1.2))

    def get_or_none(self, path: str, *, query: Mapping[str, Any] | None = None, **kwargs: Any) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = self.request("GET", path, query=query, **kwargs)
        except ApiError as exc:
            if exc.status == 404:
                return None
            raise
        return answer

    def list_all(self, path: str, *, query: Mapping[str, Any] | None = None, **kwargs: Any) -> dict[str, Any]:
        """A complete list; read in pages so that a big one does not time out."""
        question = {"limit": 500, **(query or {})}
        result: dict[str, Any] = self.request("GET", path, query=question, **kwargs)
        page = result
        while (page.get("metadata") or {}).get("continue"):
            page = self.request("GET", path, query={**question, "continue": page["metadata"]["continue"]}, **kwargs)
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
    ) -> dict[str, Any]:
        return self.apply_status(obj, field_manager=field_manager, force=force, dry_run=dry_run)[1]

    def apply_status(
        self,
        obj: Mapping[str, Any],
        *,
        field_manager: str,
        force: bool = False,
        dry_run: bool = False,
    ) -> tuple[int, dict[str, Any]]:
        """Server-side apply; the status 201 says that the object did not exist before."""
        query = {
            "fieldManager": field_manager,
            "fieldValidation": "Strict",
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
        attempt = 0
        while True:
            attempt += 1
            try:
                made: dict[str, Any] = self.request("POST", path, query=query, body=obj)
                return made
            except (ApiError, Broken) as exc:
                # A 409 after a lost answer may be our own earlier request.
                lost = exc.sent if isinstance(exc, Broken) else exc.status >= 500 or (attempt > 1 and exc.status == 409)
                if not lost or dry_run:
                    raise
                live = self.get_or_none(f"{path}/{meta['name']}")
                if live is not None and _says(live, obj):
                    return live
                if live is not None or attempt >= self.attempts:
                    raise
                self._pause(attempt, getattr(exc, "retry_after", None))

    def delete(self, path: str, *, dry_run: bool = False, uid: str = "") -> bool:
        """Delete; False if it was not there."""
        body: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        if dry_run:
            # The server reads the options from the body alone; the query is there for whoever reads the audit log.
            body["dryRun"] = ["All"]
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
        return self._transport.stream(f"Watching {self.config.server}{path}", _url(path, question), timeout + 5.0)

    def portforward(self, namespace: str, pod: str, port: int) -> AbstractContextManager[tuple[str, int]]:
        return portforward(self.config, namespace, pod, port)


def _url(path: str, query: Mapping[str, Any] | None) -> str:
    given = {key: value for key, value in (query or {}).items() if value is not None}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


def _says(live: Any, sent: Any) -> bool:
    """Whether everything that was sent stands in the live object."""
    if isinstance(sent, Mapping):
        return isinstance(live, Mapping) and all(key in live and _says(live[key], sent[key]) for key in sent)
    if isinstance(sent, list):
        return isinstance(live, list) and len(live) == len(sent) and all(map(_says, live, sent))
    return bool(live == sent)
