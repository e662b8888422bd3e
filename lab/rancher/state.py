# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What Rancher's server knows: tokens and clusters of the management API, kept by watches."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.kube import Client, Object
from lab.mirror import Mirror
from lab.rancher import settings, tokens
from lab.rancher.faults import Faults

CLUSTERS = "/apis/management.cattle.io/v3/clusters"


class Audit:
    """Writes to Rancher's own API, in the shape of the API servers' audit logs."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.lock = threading.Lock()

    def write(self, verb: str, uri: str, user: str, resource: str, name: str, status: int) -> None:
        entry = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": "Metadata",
            "stage": "ResponseComplete",
            "requestURI": uri,
            "verb": verb,
            "user": {"username": user, "groups": list(settings.GROUPS)},
            "objectRef": {"apiGroup": "management.cattle.io", "apiVersion": "v3", "resource": resource, "name": name},
            "responseStatus": {"code": status},
            "requestReceivedTimestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        with self.lock, self.file.open("a") as log:
            log.write(json.dumps(entry) + "\n")


class State:
    def __init__(self, files: settings.Files) -> None:
        self.files = files
        self.client = Client(files.kubeconfig("rancher", "rancher"))
        self.faults = Faults(files.faults)
        self.audit = Audit(files.audit)
        changed = threading.Event()
        self.tokens = Mirror(self.client, tokens.PATH, changed)
        self.clusters = Mirror(self.client, CLUSTERS, changed)
        for mirror in (self.tokens, self.clusters):
            mirror.start()

    def ready(self) -> bool:
        return self.tokens.filled.is_set() and self.clusters.filled.is_set()

    def token(self, name: str) -> Object | None:
        found = self.tokens.items.get(name)
        # made a moment ago, perhaps by another program
        return self._faulty(found or (self.client.get(f"{tokens.PATH}/{name}") if _plausible(name) else None))

    def all_tokens(self) -> list[Object]:
        return [token for item in self.tokens.items.values() if (token := self._faulty(item))]

    def _faulty(self, token: Object | None) -> Object | None:
        if token and token["metadata"]["name"] == settings.TOKEN and self.faults.on("token_expires_now"):
            return {**token, "expiresAt": "2026-01-01T00:00:00Z"}
        return token

    def user(self, header: str, cluster: str = "") -> str:
        """Who an Authorization header stands for; nobody when it is not valid, or is good for another cluster only."""
        text = tokens.bearer(header)
        if not text:
            return ""
        token = self.token(tokens.name_of(text))
        if token is None or not tokens.accepts(token, text) or token.get("clusterName", cluster) != cluster:
            return ""
        return str(token["userId"])

    def mint(self, token: Object) -> Object:
        made: Object = self.client.request("POST", tokens.PATH, token)
        return made

    def cluster(self, name: str) -> Object | None:
        found = self.clusters.items.get(name)
        return found or (self.client.get(f"{CLUSTERS}/{name}") if _plausible(name) else None)

    def setting(self, name: str) -> Object | None:
        if not _plausible(name):
            return None
        return self.client.get(f"/apis/management.cattle.io/v3/settings/{name}")


def _plausible(name: str) -> bool:
    return bool(name) and all(letter.isalnum() or letter in "-." for letter in name)


def connected(cluster: Mapping[str, Any]) -> bool:
    """Whether its API server can be reached through Rancher."""
    conditions = (cluster.get("status") or {}).get("conditions") or []
    return any(item["type"] == "Connected" and item["status"] == "True" for item in conditions)
