# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The Kubernetes API for the agent: calls that do not block the event loop, and a stream of pods that never ends."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab.kube import Client, Object, Refused

log = logging.getLogger(__name__)

Failure = (OSError, http.client.HTTPException, Refused, ValueError)
STRATEGIC = "application/strategic-merge-patch+json"
PODS = "/api/v1/pods"
EVENTS = 5000  # whose repeats are counted


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def missing(error: Exception) -> bool:
    return isinstance(error, Refused) and error.status == 404


class Api:
    """The client keeps one connection a thread; these threads are its connections."""

    def __init__(self, kubeconfig: Path) -> None:
        self.client = Client(kubeconfig)
        self.threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="api")
        self.events: dict[str, int] = {}

    async def call(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, lambda: self.client.request(method, path, body, **options))

    async def get(self, path: str) -> Object | None:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, self.client.get, path)

    async def event(self, pod: Object, kind: str, reason: str, message: str) -> None:
        """What the kubelet would say about the pod; people and the wait for readiness read it. Repeats are counted."""
        meta, moment, message = pod["metadata"], now(), message[:1000]
        digest = hashlib.sha256(f"{meta['uid']} {reason} {message}".encode()).hexdigest()[:16]
        name, collection = f"{meta['name'][:200]}.{digest}", f"/api/v1/namespaces/{meta['namespace']}/events"
        if len(self.events) > EVENTS:
            self.events.clear()
        count = self.events[digest] = self.events.get(digest, 0) + 1
        involved = {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta["uid"],
        }
        again = {"count": count, "lastTimestamp": moment}
        body = {
            "metadata": {"name": name, "namespace": meta["namespace"]},
            "involvedObject": involved,
            "type": kind,
            "reason": reason,
            "message": message,
            "source": {"component": "kubelet", "host": pod["spec"].get("nodeName", "")},
            "firstTimestamp": moment,
            **again,
        }
        try:
            try:
                await self.call("POST", collection, body)
            except Refused as error:
                if error.status != 409:
                    raise
                await self.call("PATCH", f"{collection}/{name}", again, content_type="application/merge-patch+json")
        except Failure as error:
            log.info("event %s of %s/%s not written: %s", reason, meta["namespace"], meta["name"], error)

    def follow(self, seen: Callable[[str, Object], None], known: Callable[[], dict[str, Object]]) -> None:
        """Tell every pod that is bound to a node, now and from now on: `seen(ADDED|MODIFIED|DELETED, pod)`.

        `known` names the pods told so far by uid, so that one that went while no watch ran is told as DELETED.
        """
        threading.Thread(target=self._follow, args=(seen, known), name="pods", daemon=True).start()

    def _follow(self, seen: Callable[[str, Object], None], known: Callable[[], dict[str, Object]]) -> None:
        version = ""
        while True:
            try:
                if not version:
                    listed = self.client.request("GET", PODS, query={"fieldSelector": "spec.nodeName!="})
                    present = {item["metadata"]["uid"]: item for item in listed["items"]}
                    for uid, pod in known().items():
                        if uid not in present:
                            seen("DELETED", pod)
                    for pod in present.values():
                        seen("MODIFIED", pod)
                    version = listed["metadata"]["resourceVersion"]
                for event in self.client.watch(PODS, version):
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK" and event["object"]["spec"].get("nodeName"):
                        seen(event["type"], event["object"])
            except Refused as error:
                # 410: the version is too old, anything else may have lost events as well
                log.info("listing pods again: %s", error)
                version = ""
                time.sleep(0.2)
            except Failure as error:
                log.info("watching pods again: %s", error)
                time.sleep(0.5)
