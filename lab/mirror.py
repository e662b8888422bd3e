# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Keep copies of what an API server holds, and act on the whole when something changes."""

from __future__ import annotations

import http.client
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from lab.kube import Client, Object, Refused

log = logging.getLogger(__name__)
Store = dict[str, Object]


def key(item: Object) -> str:
    meta = item["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if "namespace" in meta else str(meta["name"])


class Mirror(threading.Thread):
    """One list and watch; `items` is replaced, never changed in place."""

    def __init__(self, client: Client, path: str, changed: threading.Event) -> None:
        super().__init__(name=path, daemon=True)
        self.client, self.path, self.changed = client, path, changed
        self.items: Store = {}
        self.filled = threading.Event()

    def run(self) -> None:
        while True:
            try:
                self._follow()
            except (OSError, http.client.HTTPException, ValueError, Refused) as error:
                log.info("%s: %s; listing again", self.path, error)
                time.sleep(0.5)

    def _follow(self) -> None:
        listed = self.client.request("GET", self.path)
        kind, version = listed["kind"].removesuffix("List"), listed["apiVersion"]
        self.items = {key(item): {"kind": kind, "apiVersion": version, **item} for item in listed["items"]}
        self.filled.set()
        self.changed.set()
        position = listed["metadata"]["resourceVersion"]
        while True:
            for event in self.client.watch(self.path, position):
                item = event["object"]
                position = item["metadata"]["resourceVersion"]
                if event["type"] == "BOOKMARK":
                    continue
                items = dict(self.items)
                if event["type"] == "DELETED":
                    items.pop(key(item), None)
                else:
                    items[key(item)] = item
                self.items = items
                self.changed.set()


class Controller(threading.Thread):
    """Level-triggered: whatever happened, look at everything again."""

    def __init__(
        self, name: str, kubeconfig: Path, paths: Mapping[str, str], act: Callable[[Client, Mapping[str, Store]], None]
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.client = Client(kubeconfig)
        self.act = act
        self.changed = threading.Event()
        self.mirrors = {word: Mirror(self.client, path, self.changed) for word, path in paths.items()}

    def run(self) -> None:
        for mirror in self.mirrors.values():
            mirror.start()
        for mirror in self.mirrors.values():
            mirror.filled.wait()
        while True:
            # what a refused call left behind is tried again even when nothing changes
            self.changed.wait(10)
            self.changed.clear()
            try:
                self.act(self.client, {word: mirror.items for word, mirror in self.mirrors.items()})
            except (OSError, http.client.HTTPException, Refused) as error:
                log.warning("%s: %s", self.name, error)
                time.sleep(0.5)
                self.changed.set()
            time.sleep(0.05)
