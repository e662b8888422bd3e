# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Stand-ins for what the storage autoscaler talks to: PVCs and CNPG clusters in the API, and Prometheus.

The API refuses what the real one refuses: a stale resourceVersion, a volume that would shrink, an apply that is none.
"""

from __future__ import annotations

import copy
import json
import re
import threading
import urllib.parse
import uuid
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ansible_collections.harvester_rke2.platform.tests.unit.node_labeler.fake_api import FakeApi, Json, Refused

GIB = 2**30
CLAIM = re.compile(r"/api/v1/namespaces/(?P<namespace>[^/]+)/persistentvolumeclaims(?:/(?P<name>[^/]+))?")
CLUSTER = re.compile(r"/apis/postgresql\.cnpg\.io/v1/namespaces/(?P<namespace>[^/]+)/clusters(?:/(?P<name>[^/]+))?")


class FakeStorageApi(FakeApi):
    """The API with PVCs, StorageClasses and CNPG clusters."""

    def __init__(self, certificate: Path, key: Path, account: Path) -> None:
        super().__init__(certificate, key, account)
        self.claims: dict[tuple[str, str], Json] = {}
        self.clusters: dict[tuple[str, str], Json] = {}
        self.classes = {"harvester": True, "fixed": False}

    def put_claim(self, name: str, gib: int = 10, namespace: str = "monitoring") -> Json:
        """Make a bound PVC, and return it as it is stored: a test changes it there."""
        claim: Json = {
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": str(uuid.uuid4()),
                "resourceVersion": self._next(),
                "labels": {},
            },
            "spec": {"storageClassName": "harvester", "resources": {"requests": {"storage": f"{gib}Gi"}}},
            "status": {"phase": "Bound", "capacity": {"storage": f"{gib}Gi"}},
        }
        self.claims[namespace, name] = claim
        return claim

    def put_cluster(self, name: str, gib: int = 10, instances: int = 3) -> Json:
        """Make a CNPG cluster with its PVCs."""
        cluster: Json = {
            "metadata": {
                "name": name,
                "namespace": "database",
                "uid": str(uuid.uuid4()),
                "resourceVersion": self._next(),
            },
            "spec": {"instances": instances, "storage": {"size": f"{gib}Gi"}},
        }
        self.clusters["database", name] = cluster
        for number in range(1, instances + 1):
            claim = self.put_claim(f"{name}-{number}", gib, "database")
            claim["metadata"]["labels"] = {"cnpg.io/cluster": name, "cnpg.io/pvcRole": "PG_DATA"}
        return cluster

    def size(self, name: str, namespace: str = "monitoring") -> str:
        """The size that a PVC asks for."""
        return str(self.claims[namespace, name]["spec"]["resources"]["requests"]["storage"])

    def resize(self) -> None:
        """Do what the operator, the resizer and the kubelet do after a size was raised."""
        with self.lock:
            for (namespace, _), claim in self.claims.items():
                owner = claim["metadata"]["labels"].get("cnpg.io/cluster")
                request = claim["spec"]["resources"]["requests"]
                if (namespace, owner) in self.clusters:
                    request["storage"] = self.clusters[namespace, str(owner)]["spec"]["storage"]["size"]
                claim["status"]["capacity"]["storage"] = request["storage"]
                claim["metadata"]["resourceVersion"] = self._next()

    def patches(self) -> list[tuple[str, Json]]:
        """Path with query, and body, of each write to a volume."""
        return [(target, body or {}) for method, target, body in self.calls if method == "PATCH"]

    def route(self, method: str, path: str, query: dict[str, str], body: Json) -> Json:
        if path == "/apis/storage.k8s.io/v1/storageclasses":
            items = [{"metadata": {"name": n}, "allowVolumeExpansion": grows} for n, grows in self.classes.items()]
            return {"items": items}
        for pattern, store in ((CLAIM, self.claims), (CLUSTER, self.clusters)):
            if match := pattern.fullmatch(path):
                if method == "GET" and match["name"] is None:
                    return {"items": [copy.deepcopy(o) for key, o in store.items() if key[0] == match["namespace"]]}
                if method == "PATCH":
                    return self._apply(store, (match["namespace"], match["name"]), query, body)
        return super().route(method, path, query, body)

    def _apply(
        self, store: dict[tuple[str, str], Json], key: tuple[str, str], query: dict[str, str], body: Json
    ) -> Json:
        if self.request.content_type != "application/apply-patch+yaml" or not query.get("fieldManager"):
            raise Refused(415, "UnsupportedMediaType")
        live = store.get(key)
        if live is None:
            raise Refused(404, "NotFound")
        if body["metadata"].get("resourceVersion") != live["metadata"]["resourceVersion"]:
            raise Refused(409, "Conflict")
        after = copy.deepcopy(live)
        after["metadata"].setdefault("annotations", {}).update(body["metadata"].get("annotations", {}))
        if store is self.claims:
            old, new = live["spec"]["resources"]["requests"], body["spec"]["resources"]["requests"]
            if int(new["storage"].removesuffix("Gi")) < float(old["storage"].removesuffix("Gi")):
                raise Refused(422, "Invalid")
            after["spec"]["resources"]["requests"] = {**old, **new}
        else:
            for field, value in body["spec"].items():
                after["spec"][field] = {**after["spec"][field], **value}
        if query.get("dryRun") != "All":
            after["metadata"]["resourceVersion"] = self._next()
            live.clear()
            live.update(after)
        return copy.deepcopy(after)


@dataclass
class Series:
    """A volume as a kubelet reports it."""

    used: float
    capacity: float
    inodes_used: float = 1.0
    inodes: float = 1000.0
    age: float = 15.0
    samples: float = 20.0


class FakePrometheus:
    """Answers the autoscaler's queries, and nothing else."""

    def __init__(self) -> None:
        self.volumes: dict[tuple[str, str, str], Series] = {}
        self.down: int | None = None
        self.answer: Any = None
        self.queries: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> FakePrometheus:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def put(self, name: str, ratio: float, gib: float = 10, namespace: str = "monitoring", **more: Any) -> Series:
        """Say how full a volume is."""
        node = more.pop("node", "n1")
        series = Series(used=ratio * gib * GIB, capacity=gib * GIB, **more)
        self.volumes[namespace, name, node] = series
        return series

    def vector(self, query: str) -> list[Json]:
        """The series of a query."""
        result = []
        for (namespace, name, node), volume in self.volumes.items():
            labels = {"namespace": namespace, "persistentvolumeclaim": name, "instance": node, "job": "kubelet"}
            if query == '{__name__=~"kubelet_volume_stats_(used_bytes|capacity_bytes|inodes_used|inodes)"}':
                values = {
                    "used_bytes": volume.used,
                    "capacity_bytes": volume.capacity,
                    "inodes_used": volume.inodes_used,
                    "inodes": volume.inodes,
                }
                result += [
                    ({**labels, "__name__": f"kubelet_volume_stats_{key}"}, value) for key, value in values.items()
                ]
            elif query == "count_over_time(kubelet_volume_stats_used_bytes[10m])":
                result.append((labels, volume.samples))
            elif query == "time() - timestamp(kubelet_volume_stats_used_bytes)":
                result.append((labels, volume.age))
            else:
                raise AssertionError(f"unexpected query {query}")
        return [{"metric": labels, "value": [1.0, str(value)]} for labels, value in result]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))["query"]
                fake.queries.append(query)
                answer = fake.answer
                if answer is None:
                    answer = {"status": "success", "data": {"resultType": "vector", "result": fake.vector(query)}}
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(fake.down or 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Keep the tests' output short."""

        return Handler
