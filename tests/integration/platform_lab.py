# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The platform on a running lab (LAB_NAME), reached as its users reach it."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lab.kube import Client, Object, Refused
from lab.settings import DOMAIN, REPOSITORY, Lab
from lab.state import HTTPS

DIRECTORY = Lab.from_environment().directory
MONITORING = "/api/v1/namespaces/monitoring"
THERE = (DIRECTORY / "kubeconfig" / "cluster.yaml").exists()
NOT_THERE = f"no lab runs in {DIRECTORY}"


def cluster() -> Client:
    return Client(DIRECTORY / "kubeconfig" / "cluster.yaml")


def with_service(name: str) -> Client:
    """The cluster's API where this Service of phase 3 is there; elsewhere the test is skipped with its reason."""
    client = cluster()
    if client.get(f"{MONITORING}/services/{name}") is None:
        pytest.skip("phase 3 is not there: ansible-playbook site.yml -i inventories/lab")
    return client


def until(seen: Callable[[], Any], seconds: float, what: str, pause: float = 0.5) -> Any:
    """The first true answer; what the API cannot answer yet is asked again."""
    deadline = time.monotonic() + seconds
    why: Any = None
    while time.monotonic() < deadline:
        try:
            why = seen()
            if why:
                return why
        except (Refused, OSError, http.client.HTTPException) as error:
            why = error
        time.sleep(pause)
    raise AssertionError(f"{what}: not within {seconds} s; last seen: {why}")


def play(folder: Path, playbook: str | Path, /, *words: str, seconds: float = 300, **variables: Any) -> str:
    """Run a playbook on the lab's inventory, roles of tests/data on roles_path beside it; return what it printed."""
    if not isinstance(playbook, Path):
        text, playbook = playbook, folder / "play.yml"
        playbook.write_text(text)
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "inventories/lab", *words, str(playbook)]
    env = {
        **os.environ,
        "ANSIBLE_ROLES_PATH": str(REPOSITORY / "tests" / "data" / "roles"),
        "HARVESTER_RKE2_REPORT_DIRECTORY": str(folder),
    }
    if variables:
        argv += ["-e", json.dumps(variables)]
    done = subprocess.run(argv, env=env, cwd=REPOSITORY, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def prometheus(client: Client, path: str, **query: str) -> Any:
    """The field ``data`` of an answer of Prometheus's API, by the API server's proxy."""
    answer = client.request("GET", f"{MONITORING}/services/prometheus:9090/proxy/api/v1/{path}", query=query)
    return answer["data"]


def value(client: Client, expression: str) -> float | None:
    """The one value of an instant query; None where there is none."""
    found = prometheus(client, "query", query=expression)["result"]
    return float(found[0]["value"][1]) if found else None


def targets(client: Client, job: str) -> list[Object]:
    found: list[Object] = prometheus(client, "targets", state="active")["activeTargets"]
    return [item for item in found if item["labels"]["job"] == job]


def rules(client: Client) -> dict[str, list[Object]]:
    """Alerting rules by the name of their alert."""
    found: dict[str, list[Object]] = {}
    for group in prometheus(client, "rules", type="alert")["groups"]:
        for rule in group["rules"]:
            found.setdefault(rule["name"], []).append(rule)
    return found


class Browser:
    """A user of the host: by the forwarder of 127.0.0.1, by name, with the platform's root CA."""

    def __init__(self, client: Client) -> None:
        port = json.loads((DIRECTORY / "ports.json").read_text())[HTTPS]
        root = client.request("GET", f"{MONITORING}/configmaps/platform-root-ca")["data"]["ca.crt"]
        self.port, self.context = port, ssl.create_default_context(cadata=root)

    def get(self, host: str, path: str = "/", user: tuple[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body; a certificate that does not verify for the name is an error."""
        name = f"{host}.{DOMAIN}"
        connection = http.client.HTTPSConnection(name, 443, timeout=15, context=self.context)
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=15)
        connection.sock = self.context.wrap_socket(plain, server_hostname=name)
        headers: dict[str, str] = {}
        if user:
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(user).encode()).decode()
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def password(client: Client, namespace: str, host: str) -> tuple[str, str]:
    """What opens an address that stands behind basic authentication."""
    data: Mapping[str, str] = client.request("GET", f"/api/v1/namespaces/{namespace}/secrets/{host}-basic-auth")["data"]
    return base64.b64decode(data["username"]).decode(), base64.b64decode(data["password"]).decode()
