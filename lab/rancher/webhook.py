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
from typing import Any

from lab.kube import Object
from lab.rancher import settings
from lab.rancher.admission import Refusal, judge
from lab.rancher.faults import Faults

log = logging.getLogger("webhook")
PATH = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
WATCHED = (("provisioning.cattle.io", "v1", "clusters"), ("rke-machine-config.cattle.io", "v1", "harvesterconfigs"))


def configuration(authority: bytes) -> Object:
    service = {"name": settings.WEBHOOK, "namespace": settings.WEBHOOK_NAMESPACE, "port": 443, "path": "/v1/webhook"}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "rancher.cattle.io"},
        "webhooks": [
            {
                "name": f"rancher.cattle.io.{plural}.{group}",
                "clientConfig": {"caBundle": base64.b64encode(authority).decode(), "service": service},
                "rules": [
                    {
                        "apiGroups": [group],
                        "apiVersions": [version],
                        "resources": [plural],
                        "operations": ["CREATE", "UPDATE"],
                        "scope": "Namespaced",
                    }
                ],
                "failurePolicy": "Fail",
                "matchPolicy": "Equivalent",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "timeoutSeconds": 10,
            }
            for group, version, plural in WATCHED
        ],
    }


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
