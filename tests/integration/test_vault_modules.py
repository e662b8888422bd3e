# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The Vault modules on pods of Vault's chart in a running lab (LAB_NAME): a release of its own, all by
port-forwards through the Kubernetes API, the keys on the lab's Harvester API server."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _pki
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError
from ansible_collections.harvester_rke2.platform.plugins.module_utils._kube_client import KubeClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from lab.settings import Lab
from tests.fault import _modules

LAB = Lab.from_environment().directory
NAME = f"vault-it-{os.getpid()}"
PODS = [f"{NAME}-{number}" for number in range(3)]
RECORD = "platform.harvester-rke2.io/vault-unsealed"
CONFIG = """
listener "tcp" {
  tls_disable = 1
  address = "[::]:8200"
  cluster_address = "[::]:8201"
}
storage "raft" {
  path = "/vault/data"
  performance_multiplier = 1
  %s
}
service_registration "kubernetes" {}
"""


class Release:
    """Vault as its chart makes it, in a namespace and with keys of this run."""

    def __init__(self) -> None:
        self.kube = KubeClient.from_options({"kubeconfig": str(LAB / "kubeconfig/cluster.yaml")})
        self.keys = KubeClient.from_options({"kubeconfig": str(LAB / "kubeconfig/harvester.yaml")})
        self.keys_namespace = f"{NAME}-keys"

    def helm(self, *arguments: str, values: Any = None) -> None:
        command = [str(LAB / "bin/helm"), "--kubeconfig", str(LAB / "kubeconfig/cluster.yaml"), "-n", NAME, *arguments]
        subprocess.run(command, input=json.dumps(values), text=True, check=True, capture_output=True, timeout=120)

    def install(self) -> None:
        joins = "\n  ".join(f'retry_join {{ leader_api_addr = "http://{pod}.{NAME}-internal:8200" }}' for pod in PODS)
        raft = {"enabled": True, "setNodeId": True, "config": CONFIG % joins}
        server = {
            "ha": {"enabled": True, "replicas": 3, "raft": raft},
            "image": {"tag": "1.19.0"},
            "dataStorage": {"enabled": True, "size": "1Gi", "storageClass": "harvester"},
            "auditStorage": {"enabled": False},
        }
        values = {"injector": {"enabled": False}, "server": server}
        chart = next(iter(sorted((LAB / "charts").glob("vault*"))))
        self.helm("install", NAME, str(chart), "--create-namespace", "-f", "-", values=values)
        for pod in PODS:
            self.wait(pod, lambda found: found["status"].get("phase") == "Running", 120)

    def remove(self) -> None:
        self.helm("uninstall", NAME)
        for client, namespace in ((self.kube, NAME), (self.keys, self.keys_namespace)):
            client.delete(f"/api/v1/namespaces/{namespace}")

    def pod(self, name: str) -> dict[str, Any] | None:
        return self.kube.get_or_none(f"/api/v1/namespaces/{NAME}/pods/{name}")

    def wait(self, name: str, reached: Any, timeout: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            found = self.pod(name)
            if found is not None and reached(found):
                return found
            time.sleep(0.3)
        raise AssertionError(f"pod {name} is not as wanted after {timeout:.0f} s: {(found or {}).get('status')}")

    def replaced(self, name: str) -> None:
        """Delete the pod and wait for the one that the StatefulSet makes in its place."""
        before = self.pod(name)
        assert before is not None
        self.kube.delete(f"/api/v1/namespaces/{NAME}/pods/{name}")

        def new(found: dict[str, Any]) -> bool:
            fresh = found["metadata"]["uid"] != before["metadata"]["uid"]
            return fresh and bool(found["status"].get("phase") == "Running")

        self.wait(name, new, 120)

    def run(self, module: str, *, check: bool = False, **more: Any) -> _modules.Outcome:
        params: dict[str, Any] = {
            "keys_kubeconfig": str(LAB / "kubeconfig/harvester.yaml"),
            "keys_namespace": self.keys_namespace,
        }
        if module != "root_ca":
            params |= {"kubeconfig": str(LAB / "kubeconfig/cluster.yaml"), "vault_namespace": NAME, "pods": PODS}
        return _modules.run(module, {**params, **more}, check=check)

    def call(self, pod: str, method: str, path: str, body: Any = None, token: str = "") -> Any:
        """By hand, as an operator would."""
        with self.kube.portforward(NAME, pod, 8200) as (host, port):
            data = None if body is None else json.dumps(body).encode()
            headers = {"X-Vault-Token": token} if token else {}
            request = urllib.request.Request(f"http://{host}:{port}/v1/{path}", data, headers, method=method)
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read()
        return json.loads(text) if text else {}

    def root_token(self) -> str:
        found = self.keys.get_or_none(f"/api/v1/namespaces/{self.keys_namespace}/secrets/vault-init")
        assert found is not None
        return str(json.loads(base64.b64decode(found["data"]["init.json"]))["root_token"])


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """Installed, initialised and unsealed once for all tests here; each leaves it unsealed."""
    release = Release()
    try:
        release.install()
        spool = str(tmp_path_factory.mktemp("spool"))
        planned = [release.run("vault_init", check=True, cluster_name=NAME, spool_directory=spool)]
        planned += [release.run("vault_unseal", check=True)]
        assert all(outcome.result["changed"] for outcome in planned), [outcome.text for outcome in planned]
        assert release.keys.get_or_none(f"/api/v1/namespaces/{release.keys_namespace}") is None
        made = release.run("vault_init", cluster_name=NAME, spool_directory=spool)
        assert made.returncode == 0 and not list(pathlib.Path(spool).iterdir()), made.text
        opened = release.run("vault_unseal")
        assert opened.returncode == 0 and opened.result["unsealed"] == PODS, opened.text
        assert sum(peer["voter"] for peer in opened.result["peers"]) == 3
        yield release
    finally:
        release.remove()


def test_not_deployed_yet_is_planned_in_check_mode_and_told_otherwise() -> None:
    release = Release()
    nowhere = {"vault_namespace": "nowhere", "cluster_name": NAME, "timeout": 1}
    assert release.run("vault_init", check=True, **nowhere).result["changed"]
    refused = release.run("vault_init", **nowhere)
    assert refused.returncode != 0 and "it does not exist. Deploy Vault first (--tags phase2)" in refused.message


def test_second_run_changes_nothing(vault: Release) -> None:
    for check in (False, True):
        for outcome in (
            vault.run("vault_init", check=check, cluster_name=NAME),
            vault.run("vault_unseal", check=check),
        ):
            assert outcome.returncode == 0 and not outcome.result["changed"], outcome.text


def test_pod_deleted_comes_back_sealed_and_only_it_is_unsealed(vault: Release) -> None:
    vault.replaced(PODS[1])
    assert vault.run("vault_unseal", check=True).result["unsealed"] == [PODS[1]]
    outcome = vault.run("vault_unseal")
    assert outcome.returncode == 0 and outcome.result["unsealed"] == [PODS[1]], outcome.text
    assert not vault.run("vault_unseal").result["changed"]


def test_sealed_by_an_operator_stays_sealed_until_force(vault: Release) -> None:
    recorded = vault.pod(PODS[0])
    assert recorded is not None and recorded["metadata"]["annotations"][RECORD]
    leader = next(pod for pod in PODS if vault.call(pod, "GET", "sys/leader")["is_self"])
    vault.call(leader, "PUT", "sys/seal", {}, token=vault.root_token())
    refused = vault.run("vault_unseal")
    assert refused.returncode != 0 and f"{leader} was sealed while it was running" in refused.message, refused.text
    assert vault.call(leader, "GET", "sys/seal-status")["sealed"]
    forced = vault.run("vault_unseal", force=True)
    assert forced.returncode == 0 and forced.result["unsealed"] == [leader], forced.text


def test_a_service_account_gets_a_certificate_of_the_domain(vault: Release) -> None:
    """Root CA, intermediate, Kubernetes auth and a role: what cert-manager does, step by step."""
    assert vault.run("root_ca").returncode == 0
    made = vault.run("vault_intermediate")
    assert made.returncode == 0 and not vault.run("vault_intermediate").result["changed"], made.text
    objects: list[dict[str, Any]] = [
        {
            "kind": "pki_role",
            "path": "pki_int",
            "name": "lab",
            "data": {
                "allowed_domains": ["lab.example"],
                "allow_subdomains": True,
                "require_cn": False,
                "max_ttl": "720h",
            },
        },
        {"kind": "policy", "name": "sign", "policy": 'path "pki_int/sign/lab" { capabilities = ["create", "update"] }'},
        {"kind": "auth", "path": "kubernetes", "type": "kubernetes"},
        {
            "kind": "auth_config",
            "path": "kubernetes",
            "data": {"kubernetes_host": "https://kubernetes.default.svc:443"},
        },
        {
            "kind": "auth_role",
            "path": "kubernetes",
            "name": "issuer",
            "data": {
                "bound_service_account_names": ["default"],
                "bound_service_account_namespaces": [NAME],
                "audience": "vault://issuer",
                "token_policies": ["sign"],
                "token_ttl": "10m",
            },
        },
    ]
    outcome = vault.run("vault_objects", objects=objects)
    assert outcome.returncode == 0 and outcome.result["changed"], outcome.text
    assert not vault.run("vault_objects", objects=objects).result["changed"]
    chain = issued(vault)
    assert _pki.issued_by(chain[1], _pki.parse(vault.run("root_ca").result["certificate"], "test"))
    assert _pki.issued_by(chain[0], chain[1])


def issued(vault: Release) -> list[x509.Certificate]:
    """Log in with a token of the ServiceAccount and have a request signed: leaf and intermediate."""
    path = f"/api/v1/namespaces/{NAME}/serviceaccounts/default/token"
    spec = {"audiences": ["vault://issuer"], "expirationSeconds": 600}
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    token = vault.kube.request("POST", path, body=body)["status"]["token"]
    leader = next(pod for pod in PODS if vault.call(pod, "GET", "sys/leader")["is_self"])
    login = vault.call(leader, "POST", "auth/kubernetes/login", {"role": "issuer", "jwt": token})
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    names = x509.SubjectAlternativeName([x509.DNSName("a.lab.example")])
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=False)
    csr = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    signed = vault.call(leader, "POST", "pki_int/sign/lab", {"csr": csr}, token=login["auth"]["client_token"])
    data = signed["data"]
    return [_pki.parse(pem, "test") for pem in (data["certificate"], data["issuing_ca"])]


def test_a_broken_port_forward_is_one_sentence(vault: Release) -> None:
    with pytest.raises(PlatformError), vault.kube.portforward(NAME, "no-such-pod", 8200):
        raise AssertionError("there is no such pod")
