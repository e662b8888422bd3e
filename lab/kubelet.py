# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The kubelets' metrics: one server on port 10250 of all nodes' addresses, which answers for the node it was asked at.

Who asks is judged as a kubelet does with webhook mode and without anonymous users. Logs and port-forwards are KWOK's,
on another port.
"""

from __future__ import annotations

import argparse
import http.client
import logging
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from lab import usage
from lab.kube import Client, Object, Refused
from lab.mirror import Mirror, Store
from lab.storage import amount, claims_of

log = logging.getLogger(__name__)
PORT = 10250
PATHS = {
    "nodes": "/api/v1/nodes",
    "pods": "/api/v1/pods",
    "claims": "/api/v1/persistentvolumeclaims",
    "volumes": "/api/v1/persistentvolumes",
}
TOKENS = "/apis/authentication.k8s.io/v1/tokenreviews"
RIGHTS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
REMEMBER = {True: 120.0, False: 30.0}  # seconds, the kubelet's own
INODE_EVERY = 16384  # bytes: mkfs.ext4's default
CPU_PERIOD = 100_000


class Page:
    """Prometheus' text format; a family's samples stand together."""

    def __init__(self) -> None:
        self.families: dict[str, list[str]] = {}

    def add(self, name: str, kind: str, value: float, /, **labels: str) -> None:
        family = self.families.setdefault(name, [f"# TYPE {name} {kind}"])
        words = ",".join(f'{label}="{escaped(text)}"' for label, text in labels.items())
        family.append(f"{name}{{{words}}} {value:.17g}" if words else f"{name} {value:.17g}")

    def text(self) -> str:
        return "".join(f"{line}\n" for family in self.families.values() for line in family)


def escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def node_at(address: str, nodes: Store) -> Object | None:
    """The node whose InternalIP it is."""
    for node in nodes.values():
        if {"type": "InternalIP", "address": address} in (node.get("status", {}).get("addresses") or []):
            return node
    return None


def running_on(node: str, pods: Store) -> list[Object]:
    return [
        pod
        for pod in pods.values()
        if pod["spec"].get("nodeName") == node and pod.get("status", {}).get("phase") == "Running"
    ]


def metrics(node: Object, stores: Mapping[str, Store]) -> str:
    """What /metrics says of a node."""
    page, name = Page(), node["metadata"]["name"]
    pods = running_on(name, stores["pods"])
    states = [
        "running" if "running" in entry.get("state", {}) else "exited"
        for pod in pods
        for entry in pod["status"].get("containerStatuses") or []
        if set(entry.get("state", {})) & {"running", "terminated"}
    ]
    page.add("kubelet_node_name", "gauge", 1, node=name)
    page.add("kubelet_running_pods", "gauge", len(pods))
    for state in sorted(set(states)):
        page.add("kubelet_running_containers", "gauge", states.count(state), container_state=state)
    version = node.get("status", {}).get("nodeInfo", {}).get("kubeletVersion", "")
    page.add("kubernetes_build_info", "gauge", 1, git_version=version)
    mounted = {(pod["metadata"]["namespace"], claim) for pod in pods for claim in claims_of(pod)}
    for namespace, claim in sorted(mounted):
        found = stores["claims"].get(f"{namespace}/{claim}")
        volume = stores["volumes"].get(str(found["spec"].get("volumeName"))) if found else None
        if found and volume:
            _volume(page, found, volume)
    return page.text()


def _volume(page: Page, claim: Object, volume: Object) -> None:
    """The file system is as large as the claim's status says: it grows after the PersistentVolume did."""
    source = volume["spec"].get("hostPath") or volume["spec"].get("local")
    if source is None or volume["spec"].get("volumeMode") == "Block":
        return
    capacity = amount(str(claim.get("status", {}).get("capacity", {}).get("storage", "0")))
    used, files = usage.folder(Path(source["path"]))
    inodes = capacity // INODE_EVERY
    meta = claim["metadata"]
    for word, value in {
        "capacity_bytes": capacity,
        "available_bytes": max(0, capacity - used),
        "used_bytes": used,
        "inodes": inodes,
        "inodes_free": max(0, inodes - files),
        "inodes_used": files,
    }.items():
        labels = {"namespace": meta["namespace"], "persistentvolumeclaim": meta["name"]}
        page.add(f"kubelet_volume_stats_{word}", "gauge", value, **labels)


def cadvisor(node: Object, stores: Mapping[str, Store], seen: Mapping[tuple[str, str], usage.Usage]) -> str:
    """What /metrics/cadvisor says: only containers that are processes here have numbers."""
    page, capacity = Page(), node.get("status", {}).get("capacity", {})
    page.add("machine_cpu_cores", "gauge", amount(str(capacity.get("cpu", "0"))))
    page.add("machine_memory_bytes", "gauge", amount(str(capacity.get("memory", "0"))))
    for pod in running_on(node["metadata"]["name"], stores["pods"]):
        meta, spec = pod["metadata"], pod["spec"]
        place = {"namespace": meta["namespace"], "pod": meta["name"]}
        found = [
            (container, seen[(meta["uid"], container["name"])])
            for container in [*(spec.get("initContainers") or []), *spec["containers"]]
            if (meta["uid"], container["name"]) in seen
        ]
        for container, used in found:
            labels = {"container": container["name"], "image": container["image"], **place}
            _container(page, container, used, labels)
        if found and not spec.get("hostNetwork"):
            received, sent = found[0][1].network
            page.add("container_network_receive_bytes_total", "counter", received, interface="eth0", **place)
            page.add("container_network_transmit_bytes_total", "counter", sent, interface="eth0", **place)
    return page.text()


def _container(page: Page, container: Object, used: usage.Usage, labels: Mapping[str, str]) -> None:
    limits = container.get("resources", {}).get("limits") or {}
    page.add("container_cpu_usage_seconds_total", "counter", used.cpu_seconds, cpu="total", **labels)
    page.add("container_memory_working_set_bytes", "gauge", used.resident, **labels)
    page.add("container_memory_rss", "gauge", used.anonymous, **labels)
    page.add("container_start_time_seconds", "gauge", used.started, **labels)
    page.add("container_spec_memory_limit_bytes", "gauge", amount(str(limits.get("memory", "0"))), **labels)
    if "cpu" in limits:
        page.add("container_spec_cpu_period", "gauge", CPU_PERIOD, **labels)
        page.add("container_spec_cpu_quota", "gauge", amount(str(limits["cpu"])) * CPU_PERIOD, **labels)


class Guard:
    """A token is reviewed, then its owner's right to the node's metrics; both answers are kept for a while."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self.client, self.clock = client, clock
        self.kept: dict[tuple[str, ...], tuple[float, bool, Object]] = {}
        self.lock = threading.Lock()

    def status(self, authorization: str, node: str) -> int:
        """200, or why not: 401 or 403."""
        kind, _, token = authorization.partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            return 401
        known, user = self._review((token,), TOKENS, {"token": token.strip()}, "authenticated")
        if not known:
            return 401
        right = {"verb": "get", "version": "v1", "resource": "nodes", "subresource": "metrics", "name": node}
        person = {key: value for key, value in user.get("user", {}).items() if key != "username"}
        spec = {**person, "user": user["user"]["username"], "resourceAttributes": right}
        allowed, _ = self._review((token, node), RIGHTS, spec, "allowed")
        return 200 if allowed else 403

    def _review(self, key: tuple[str, ...], path: str, spec: Object, word: str) -> tuple[bool, Object]:
        with self.lock:
            until, answer, status = self.kept.get(key, (0.0, False, {}))
        if self.clock() < until:
            return answer, status
        kind = "TokenReview" if path == TOKENS else "SubjectAccessReview"
        body = {"apiVersion": path.removeprefix("/apis/").rpartition("/")[0], "kind": kind, "spec": spec}
        status = self.client.request("POST", path, body).get("status") or {}
        answer, now = bool(status.get(word)), self.clock()
        with self.lock:
            self.kept = {one: entry for one, entry in self.kept.items() if entry[0] > now}
            self.kept[key] = (now + REMEMBER[answer], answer, status)
        return answer, status


class Kubelets:
    """What the server answers from."""

    def __init__(self, client: Client, run: Path) -> None:
        self.guard, self.run = Guard(client), run
        changed = threading.Event()
        self.mirrors = {word: Mirror(client, path, changed) for word, path in PATHS.items()}

    def start(self) -> None:
        for mirror in self.mirrors.values():
            mirror.start()
        for mirror in self.mirrors.values():
            mirror.filled.wait()

    def answer(self, address: str, path: str, authorization: str) -> tuple[int, str]:
        stores = {word: mirror.items for word, mirror in self.mirrors.items()}
        node = node_at(address, stores["nodes"])
        if node is None:
            return 503, f"no node of the lab has the address {address}\n"
        try:
            status = self.guard.status(authorization, node["metadata"]["name"])
        except (OSError, http.client.HTTPException, Refused) as error:
            return 500, f"asking the API server who this is: {error}\n"
        if status != 200:
            return status, "Unauthorized" if status == 401 else "Forbidden (verb=get, resource=nodes/metrics)\n"
        if path == "/metrics":
            return 200, metrics(node, stores)
        if path == "/metrics/cadvisor":
            return 200, cadvisor(node, stores, usage.containers(self.run))
        return 404, "404 page not found\n"


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext, kubelets: Kubelets) -> None:
        self.context, self.kubelets = context, kubelets
        super().__init__(address, Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        # in the connection's own thread, so that a slow handshake holds up nobody else
        request.settimeout(10)
        with self.context.wrap_socket(request, server_side=True) as stream:
            super().finish_request(stream, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.info("connection of %s ended", client_address, exc_info=True)


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 300.0

    def do_GET(self) -> None:
        address = self.connection.getsockname()[0]
        path = self.path.partition("?")[0]
        status, text = self.server.kubelets.answer(address, path, self.headers.get("Authorization", ""))
        body = text.encode()
        self.send_response(status)
        kind = "text/plain; version=0.0.4; charset=utf-8" if status == 200 else "text/plain; charset=utf-8"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--certificate", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="the agent's run folder")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.INFO)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.certificate, options.key)
    kubelets = Kubelets(Client(options.kubeconfig), options.run)
    kubelets.start()
    log.info("started")
    Server(("0.0.0.0", PORT), context, kubelets).serve_forever()


if __name__ == "__main__":
    main()
