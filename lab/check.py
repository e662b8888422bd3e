# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""`python -m lab check`: is the platform on the lab what the site promises? Runs inside the lab's namespace."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.kube import Client
from lab.settings import DOMAIN

PROMETHEUS = "http://prometheus.monitoring.svc.cluster.local:9090/api/v1/{path}"
HOSTS = ("vault", "grafana", "prometheus", "alertmanager", "hubble", "traefik")
# Of jobs whose programs all run for real.
SCRAPED = ("apiserver", "etcd", "kubelet", "node-exporter", "prometheus", "traefik", "vault")
VAULT = "http://{pod}.vault-internal.vault.svc.cluster.local:8200/v1/{path}"
KEYS = "/api/v1/namespaces/platform-lab-keys/secrets/{name}"
Seen = tuple[bool, str]
Row = tuple[str, bool, str]


def _vault(path: str, token: str = "", pod: str = "vault-0") -> dict[str, Any]:
    request = urllib.request.Request(
        VAULT.format(pod=pod, path=path), headers={"X-Vault-Token": token} if token else {}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        content: dict[str, Any] = json.load(answer)
    return content


def _secret(client: Client, path: str) -> dict[str, bytes]:
    data = client.request("GET", path)["data"]
    return {key: base64.b64decode(value) for key, value in data.items()}


def _voters(token: str) -> Seen:
    sealed = [pod for pod in ("vault-0", "vault-1", "vault-2") if _vault("sys/seal-status", pod=pod)["sealed"]]
    servers = _vault("sys/storage/raft/configuration", token)["data"]["config"]["servers"]
    voters = [server["node_id"] for server in servers if server["voter"]]
    seen = f"voters {', '.join(sorted(voters))}; sealed {', '.join(sealed) or 'none'}"
    return len(voters) == 3 and not sealed, seen


def _issuer(cluster: Client) -> Seen:
    issuer = cluster.request("GET", "/apis/cert-manager.io/v1/clusterissuers/vault-issuer")
    ready = next(
        (c for c in issuer.get("status", {}).get("conditions", []) if c["type"] == "Ready"),
        {"status": "Unknown", "message": "no condition"},
    )
    return ready["status"] == "True", f"Ready {ready['status']}: {ready.get('message', '')}"


def _certificate(cluster: Client, root: bytes) -> Seen:
    secret = _secret(cluster, "/api/v1/namespaces/vault/secrets/vault-tls")
    with tempfile.TemporaryDirectory() as folder:
        anchor, leaf = Path(folder, "root.crt"), Path(folder, "leaf.crt")
        anchor.write_bytes(root)
        leaf.write_bytes(secret["tls.crt"])
        outcome = subprocess.run(
            ["openssl", "verify", "-CAfile", str(anchor), "-untrusted", str(leaf), str(leaf)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        subject = subprocess.run(
            ["openssl", "x509", "-noout", "-issuer", "-enddate", "-ext", "subjectAltName", "-in", str(leaf)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    said = (outcome.stdout + outcome.stderr).strip().replace(folder, "")
    return outcome.returncode == 0, f"{said}; {' '.join(subject.stdout.split())}"


def _root_key(root: dict[str, bytes], token: str) -> Seen:
    issuers = _vault("pki_int/issuers?list=true", token)["data"]["key_info"]
    with_key = [issuer for issuer, info in issuers.items() if info.get("key_id")]
    certificates = [_vault(f"pki_int/issuer/{issuer}", token)["data"]["certificate"].strip() for issuer in with_key]
    inside = root["tls.crt"].decode().strip() in certificates
    holds = b"PRIVATE KEY" in root["tls.key"] and not inside and len(with_key) == 1
    keys = f"Vault holds {len(with_key)} key, {'AND' if inside else 'not'} the root's"
    seen = f"on Harvester in platform-lab-keys/root-ca; {keys}"
    return holds, seen


def _prometheus(path: str) -> dict[str, Any]:
    with urllib.request.urlopen(PROMETHEUS.format(path=path), timeout=10) as answer:
        data: dict[str, Any] = json.load(answer)["data"]
    return data


def _targets() -> Seen:
    """Right after the site a target may not have been asked yet: an interval is waited for."""
    deadline = time.monotonic() + 60
    while True:
        targets = _prometheus("targets?state=active")["activeTargets"]
        down = {target["labels"]["job"] for target in targets if target["health"] != "up"}
        holds = not down & set(SCRAPED) and set(SCRAPED) <= {target["labels"]["job"] for target in targets}
        if holds or time.monotonic() > deadline:
            break
        time.sleep(2)
    up = sum(target["health"] == "up" for target in targets)
    simulated = ", ".join(sorted(down - set(SCRAPED)))
    return holds, f"{up} of {len(targets)} up; not all up: {simulated or 'none'}"


def _rules() -> Seen:
    rules = [rule for group in _prometheus("rules")["groups"] for rule in group["rules"]]
    bad = [rule["name"] for rule in rules if rule["health"] == "err"]
    return bool(rules) and not bad, f"{len(rules)} loaded; failing {', '.join(bad) or 'none'}"


def _addresses(root: bytes) -> Seen:
    """Whatever the status: it means that the certificate verified. A Traefik that just starts is waited for."""
    context = ssl.create_default_context(cadata=root.decode())
    deadline = time.monotonic() + 60
    while True:
        said = {host: _status(f"https://{host}.{DOMAIN}/", context) for host in HOSTS}
        holds = all(status.isdigit() for status in said.values())
        if holds or time.monotonic() > deadline:
            return holds, ", ".join(f"{host} {status}" for host, status in said.items())
        time.sleep(2)


def _status(url: str, context: ssl.SSLContext) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10, context=context) as answer:
            return str(answer.status)
    except urllib.error.HTTPError as error:
        return str(error.code)
    except OSError as error:
        return f"({error})"


def check(kubeconfigs: Path, last: int | None = None) -> list[Row]:
    """Return one row a promise of the phases up to the last: what, whether it holds, what was seen."""
    cluster, harvester = Client(kubeconfigs / "cluster.yaml"), Client(kubeconfigs / "harvester.yaml")
    root = _secret(harvester, KEYS.format(name="root-ca"))
    token = json.loads(_secret(harvester, KEYS.format(name="vault-init"))["init.json"])["root_token"]
    promises: dict[int, dict[str, Callable[[], Seen]]] = {
        2: {
            "Vault: unsealed voters": lambda: _voters(token),
            "ClusterIssuer vault-issuer": lambda: _issuer(cluster),
            "Certificate by `openssl verify`": lambda: _certificate(cluster, root["tls.crt"]),
            "Root CA's key": lambda: _root_key(root, token),
        },
        3: {
            "Prometheus: targets": _targets,
            "Prometheus: rules": _rules,
            "HTTPS by name, verified": lambda: _addresses(root["tls.crt"]),
        },
    }
    return [
        (what, *_seen(promise))
        for phase, of_phase in promises.items()
        if last is None or phase <= last
        for what, promise in of_phase.items()
    ]


def _seen(promise: Callable[[], Seen]) -> Seen:
    try:
        return promise()
    except (OSError, KeyError, urllib.error.URLError) as error:
        return False, f"could not be seen: {error}"


def print_table(rows: list[Row]) -> int:
    """Print the table; return the exit code."""
    width = max(len(what) for what, _, _ in rows)
    for what, holds, seen in rows:
        print(f"{'ok  ' if holds else 'FAIL'}  {what:<{width}}  {seen}")
    return 0 if all(holds for _, holds, _ in rows) else 1
