# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Rancher's validating webhook: a real server, registered by Service reference, that may come late."""

from __future__ import annotations

import base64
import http.server
import json
import logging
import socketserver
import ssl
import threading
from collections.abc import Sequence
from typing import Any

from lab.kube import Client, Object
from lab.rancher import settings
from lab.rancher.admission import Refusal, judge
from lab.rancher.faults import Faults

log = logging.getLogger("webhook")
PATH = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
NAME = "rancher.cattle.io"
SPACE = "kubernetes.io/metadata.name"
# Secrets: of the namespaces in which Rancher's own are.
SECRETS = {"matchExpressions": [{"key": SPACE, "operator": "In", "values": [settings.FLEET, settings.CREDENTIALS]}]}
WATCHED: tuple[tuple[str, str, str, Object], ...] = (
    ("provisioning.cattle.io", "v1", "clusters", {}),
    ("rke-machine-config.cattle.io", "v1", "harvesterconfigs", {}),
    ("", "v1", "secrets", SECRETS),
)
# In a cluster that Rancher has made: every namespace but those without which nothing would come up.
GUEST: tuple[tuple[str, str, str, Object], ...] = (
    (
        "",
        "v1",
        "namespaces",
        {"matchExpressions": [{"key": SPACE, "operator": "NotIn", "values": ["kube-system", "cattle-system"]}]},
    ),
)


def configuration(authority: bytes, watched: Sequence[tuple[str, str, str, Object]] = WATCHED) -> Object:
    service = {"name": settings.WEBHOOK, "namespace": settings.WEBHOOK_NAMESPACE, "port": 443, "path": "/v1/webhook"}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": NAME},
        "webhooks": [
            {
                "name": ".".join(part for part in (NAME, plural, group) if part),
                "clientConfig": {"caBundle": base64.b64encode(authority).decode(), "service": service},
                "rules": [
                    {
                        "apiGroups": [group],
                        "apiVersions": [version],
                        "resources": [plural],
                        "operations": ["CREATE", "UPDATE"],
                        "scope": "*",
                    }
                ],
                "namespaceSelector": selector,
                "failurePolicy": "Fail",
                "matchPolicy": "Equivalent",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "timeoutSeconds": 10,
            }
            for group, version, plural, selector in watched
        ],
    }


def install(client: Client, authority: bytes) -> None:
    """As Rancher puts it into each cluster that it has made. The process is one and the same in the lab."""
    core = f"/api/v1/namespaces/{settings.WEBHOOK_NAMESPACE}"
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": settings.WEBHOOK_NAMESPACE}}
    client.apply(core, space)
    port = {"name": "https", "protocol": "TCP"}
    service: Object = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": settings.WEBHOOK}}
    service["spec"] = {"ports": [{**port, "port": 443, "targetPort": settings.WEBHOOK_PORT}]}
    client.apply(f"{core}/services/{settings.WEBHOOK}", service)
    labels = {"kubernetes.io/service-name": settings.WEBHOOK, "endpointslice.kubernetes.io/managed-by": "lab"}
    endpoints: Object = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{settings.WEBHOOK}-lab", "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [settings.WEBHOOK_ADDRESS], "conditions": {"ready": True}}],
        "ports": [{**port, "port": settings.WEBHOOK_PORT}],
    }
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{settings.WEBHOOK_NAMESPACE}/endpointslices"
    client.apply(f"{slices}/{settings.WEBHOOK}-lab", endpoints)
    client.apply(f"{PATH}/{NAME}", configuration(authority, GUEST))


def review(body: bytes) -> Object:
    request = json.loads(body)["request"]
    answer: dict[str, Any] = {"uid": request["uid"], "allowed": True}
    try:
        judge(request)
    except Refusal as refusal:
        log.info("refused %s %s: %s", request["operation"], request.get("name"), refusal)
        answer = {"uid": request["uid"], "allowed": False, "status": refusal.status}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        if isinstance(self.server, Listener) and self.server.faults.late():
            # the API server keeps connections: the late one hangs up on these too
            self.close_connection = True
            return
        answer = json.dumps(review(self.rfile.read(int(self.headers["Content-Length"])))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Listener(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True

    def __init__(self, files: settings.Files, faults: Faults) -> None:
        super().__init__((settings.WEBHOOK_ADDRESS, settings.WEBHOOK_PORT), Handler)
        self.faults = faults
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(files.pki / "webhook.crt", files.pki / "webhook.key")

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """A webhook that is late hangs up on whoever calls."""
        return not self.faults.late()

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(30)
        with self.context.wrap_socket(request, server_side=True) as connection:
            super().finish_request(connection, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("connection of %s ended", client_address, exc_info=True)


def start(files: settings.Files, faults: Faults) -> None:
    threading.Thread(target=Listener(files, faults).serve_forever, name="webhook", daemon=True).start()
