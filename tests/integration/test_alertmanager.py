# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""From a killed Vault server to a message at a receiver, and to the message that it is over: all parts are real.

Needs the site on the lab. Only the waiting is shortened, by the variables that a user has for it.
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.tests.integration.platform_lab import (
    MONITORING,
    NOT_THERE,
    THERE,
    play,
    rules,
    until,
    with_service,
)

from lab.kube import Client, Object
from lab.settings import REPOSITORY

PLAYBOOK = """
- name: Alerts are told
  hosts: rke2_clusters
  gather_facts: false
  roles:
    - {role: harvester_rke2.platform.platform, platform_phase: 3}
    - {role: harvester_rke2.platform.vault, vars: {service_action: deploy}}
    - {role: harvester_rke2.platform.alertmanager, vars: {service_action: deploy}}
    - {role: harvester_rke2.platform.service, vars: {service_action: wait, service_names: [alertmanager]}}
"""
SPACE = "receiver-test"
# Says each message in its log.
RECEIVER = """
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.rfile.read(int(self.headers["Content-Length"])).decode(), flush=True)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words):
        pass

http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""
ALERTS = f"{MONITORING}/services/alertmanager:9093/proxy/api/v2/alerts"
SEALED = "VaultSealed"

pytestmark = [pytest.mark.skipif(not THERE, reason=NOT_THERE), pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def api() -> Client:
    return with_service("alertmanager")


@pytest.fixture(scope="module")
def receiver(api: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The path of the receiver's log; Alertmanager and the alert are as they were afterwards."""
    folder = tmp_path_factory.mktemp("alertmanager")
    url = f"http://receiver.{SPACE}.svc:8080/"
    quick = {
        "alertmanager_receivers": [
            {"route": route, "type": "webhook", "url": f"{url}{route}"} for route in ("critical", "warning", "watchdog")
        ],
        "alertmanager_group_wait": "1s",
        "alertmanager_critical_group_wait": "1s",
        "alertmanager_group_interval": "5s",
        "platform_alerts": {SEALED: {"for": "0s"}},
    }
    path = f"/api/v1/namespaces/{SPACE}"
    api.delete(path)
    until(lambda: api.get(path) is None, 60, "what a killed run left goes")
    try:
        labels = {"app": "receiver"}
        api.request("POST", "/api/v1/namespaces", {"metadata": {"name": SPACE}})
        until(lambda: api.get(f"{path}/serviceaccounts/default"), 30, "the namespace")
        container = {
            "name": "receiver",
            "image": "docker.io/library/python:3.13-slim",
            "command": ["python3", "-c", RECEIVER],
            "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        }
        pod = {"metadata": {"name": "receiver", "labels": labels}, "spec": {"containers": [container]}}
        api.request("POST", f"{path}/pods", pod)
        ports = [{"port": 8080}]
        api.request(
            "POST", f"{path}/services", {"metadata": {"name": "receiver"}, "spec": {"selector": labels, "ports": ports}}
        )
        play(folder, PLAYBOOK, **quick)
        yield f"{path}/pods/receiver/log"
    finally:
        try:
            play(folder, REPOSITORY / "playbooks" / "unseal.yml")
        finally:
            play(folder, PLAYBOOK)
            api.delete(path)


def told(api: Client, log: str, alert: str) -> list[Object]:
    """Each message of an alert, in the order in which they came."""
    lines = str(api.request("GET", log)).splitlines()
    messages = [json.loads(line) for line in lines if line.startswith("{")]
    return [message for message in messages if message["groupLabels"].get("alertname") == alert]


def seen(api: Client, alert: str, severity: str) -> list[Object]:
    return [
        item
        for item in api.request("GET", ALERTS)
        if (item["labels"]["alertname"], item["labels"].get("severity")) == (alert, severity)
    ]


def test_the_watchdog_is_heard(api: Client, receiver: str) -> None:
    """It always fires: who no longer hears it knows that alerts do not come through."""
    message = until(lambda: told(api, receiver, "Watchdog"), 120, "the watchdog's message")[0]
    assert message["receiver"] == "watchdog"


def test_a_killed_vault_is_told_keeps_its_warning_back_and_is_over_when_unsealed(
    api: Client, receiver: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def loaded() -> bool:
        return [rule["duration"] for rule in rules(api).get(SEALED, [])] == [0]

    until(loaded, 120, "the changed rule")
    until(lambda: not seen(api, SEALED, "critical"), 120, "nothing sealed before")
    began = time.monotonic()
    api.delete("/api/v1/namespaces/vault/pods/vault-1")

    def firing() -> list[tuple[Object, Object]]:
        """Messages with the alert of that server; on a busy machine another may be slow to answer its probe."""
        return [
            (message, alert)
            for message in told(api, receiver, SEALED)
            for alert in message["alerts"]
            if (alert["status"], alert["labels"]["pod"]) == ("firing", "vault-1")
        ]

    [(message, alert), *_] = until(firing, 150, "the message")
    print(f"killed to told: {time.monotonic() - began:.0f} s")
    assert message["receiver"] == "critical"
    assert alert["labels"]["severity"] == "critical"
    assert alert["annotations"]["runbook_url"].endswith("/vault.md#vaultsealed")
    assert "vault-1" in alert["annotations"]["description"]

    labels: dict[str, Any] = {"alertname": SEALED, "namespace": "vault", "severity": "warning"}
    now = datetime.datetime.now(datetime.UTC).isoformat()
    # Of the same server, and of another that is not critical.
    warnings = [{"labels": {**labels, "pod": pod}, "startsAt": now} for pod in ("vault-1", "vault-9")]
    api.request("POST", ALERTS, warnings)

    def states() -> dict[str, str]:
        return {item["labels"]["pod"]: item["status"]["state"] for item in seen(api, SEALED, "warning")}

    until(lambda: states() == {"vault-1": "suppressed", "vault-9": "active"}, 30, "the warning is kept back")

    def warned() -> set[str]:
        return {
            alert["labels"]["pod"]
            for message in told(api, receiver, SEALED)
            if message["receiver"] == "warning"
            for alert in message["alerts"]
        }

    assert until(warned, 30, "the warning that nothing keeps back") == {"vault-9"}

    began = time.monotonic()
    play(tmp_path_factory.mktemp("unseal"), REPOSITORY / "playbooks" / "unseal.yml")

    def over() -> list[Object]:
        return [
            message
            for message in told(api, receiver, SEALED)
            if message["status"] == "resolved" and message["receiver"] == "critical"
        ]

    until(over, 150, "the message that it is over")
    print(f"unsealing began to told over: {time.monotonic() - began:.0f} s")
