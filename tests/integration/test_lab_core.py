# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The lab's control plane, looked at from outside. Needs a running lab (LAB_NAME)."""

from __future__ import annotations

import base64
import ipaddress
import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.kube import Client, Refused
from lab.pki import INSTALLER
from lab.settings import REPOSITORY, Lab

DIRECTORY = Lab.from_environment().directory
GATEWAYS = "/apis/gateway.networking.k8s.io/v1"

pytestmark = pytest.mark.skipif(not (DIRECTORY / "kubeconfig").is_dir(), reason=f"no lab runs in {DIRECTORY}")


def client(server: str) -> Client:
    return Client(DIRECTORY / "kubeconfig" / f"{server}.yaml")


@pytest.fixture(scope="module")
def cluster() -> Client:
    return client("cluster")


@pytest.fixture(scope="module")
def namespace(cluster: Client) -> Iterator[str]:
    name = f"lab-core-{uuid.uuid4().hex[:6]}"
    cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    wait(lambda: cluster.get(f"/api/v1/namespaces/{name}/serviceaccounts/default"))
    yield name
    cluster.delete(f"/api/v1/namespaces/{name}")


def wait(seen: Callable[[], Any], seconds: float = 20.0) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = seen()
        if answer:
            return answer
        time.sleep(0.1)
    raise AssertionError(f"not seen after {seconds} s")


def inside(program: str) -> str:
    """Run Python where the lab's modules run."""
    done = subprocess.run(
        [DIRECTORY / "python", "-c", program], capture_output=True, text=True, check=True, timeout=30, cwd=REPOSITORY
    )
    return done.stdout.strip()


@pytest.mark.parametrize("server", ["cluster", "harvester", "rancher"])
def test_api_servers_answer(server: str) -> None:
    assert client(server).ready()
    assert client(server).request("GET", "/version")["gitVersion"].startswith("v1.34.")
    assert (DIRECTORY / "kubeconfig" / f"{server}.yaml").stat().st_mode & 0o777 == 0o600


def test_each_server_has_its_own_authority_objects_and_users(cluster: Client) -> None:
    authorities = {(DIRECTORY / "pki" / name / "ca.crt").read_text() for name in ("cluster", "harvester", "rancher")}
    assert len(authorities) == 3
    names = [item["metadata"]["name"] for item in client("harvester").request("GET", "/api/v1/nodes")["items"]]
    assert names == ["harvester-1", "harvester-2", "harvester-3"]
    assert client("rancher").get("/apis/harvesterhci.io/v1beta1") is None
    assert client("harvester").get("/apis/harvesterhci.io/v1beta1") is not None
    stranger = Client(DIRECTORY / "kubeconfig" / "harvester.yaml")
    stranger.port = cluster.port
    with pytest.raises(OSError, match="certificate verify failed"):
        stranger.request("GET", "/version")


def test_one_kubeconfig_serves_inside_and_outside() -> None:
    program = (
        "from pathlib import Path; from lab.kube import Client; "
        f"print(Client(Path({str(DIRECTORY)!r}, 'kubeconfig', 'cluster.yaml')).ready())"
    )
    assert inside(program) == "True"


def test_the_reference_cluster_is_ready(cluster: Client) -> None:
    """Whoever has made its nodes: the lab, or the site through Rancher."""
    nodes = cluster.request("GET", "/api/v1/nodes")["items"]
    assert len(nodes) == 11
    for node in nodes:
        assert {"type": "Ready", "status": "True"}.items() <= next(
            condition for condition in node["status"]["conditions"] if condition["type"] == "Ready"
        ).items()
        lease = cluster.get(
            f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node['metadata']['name']}"
        )
        assert lease is not None


def test_a_cluster_address_is_answered(namespace: str) -> None:
    answer = inside(
        "import ssl, urllib.request; context = ssl.create_default_context(cafile="
        f"{str(DIRECTORY / 'pki' / 'cluster' / 'ca.crt')!r}); "
        "print(urllib.request.urlopen('https://kubernetes.default.svc.cluster.local/version', context=context).status)"
    )
    assert answer == "200"


def test_a_service_without_endpoints_is_refused_at_once(cluster: Client, namespace: str) -> None:
    body = {"metadata": {"name": "empty"}, "spec": {"ports": [{"port": 80}], "selector": {"nobody": "here"}}}
    address = cluster.request("POST", f"/api/v1/namespaces/{namespace}/services", body)["spec"]["clusterIP"]
    program = f"""
import socket
for _ in range(100):
    try:
        socket.create_connection(({address!r}, 80), 1).close()
    except ConnectionRefusedError:
        print("refused")
        break
    except TimeoutError:
        pass
"""
    assert inside(program) == "refused"


def test_names_resolve_inside(cluster: Client, namespace: str) -> None:
    address = inside("import socket; print(socket.gethostbyname('kubernetes.default.svc.cluster.local'))")
    assert address == "198.19.0.1"
    assert inside("import socket; print(socket.gethostbyname('vault.lab.example.com'))") == "198.18.1.2"


def test_simulated_pods_run_and_jobs_complete(cluster: Client, namespace: str) -> None:
    template = {
        "metadata": {"labels": {"app": "sim"}},
        "spec": {
            "containers": [{"name": "c", "image": "nobody/knows:1"}],
            "nodeSelector": {"workload-type": "general"},
        },
    }
    apps = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "sim"}}, "template": template}
    cluster.request("POST", apps, {"metadata": {"name": "sim"}, "spec": spec})
    job_pod = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "nobody/knows:1"}]}}
    jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    cluster.request("POST", jobs, {"metadata": {"name": "sim"}, "spec": {"template": job_pod}})
    wait(lambda: cluster.request("GET", f"{apps}/sim")["status"].get("readyReplicas") == 2)
    wait(lambda: cluster.request("GET", f"{jobs}/sim")["status"].get("succeeded") == 1)


def conditions(cluster: Client, path: str) -> set[str]:
    found = cluster.request("GET", path)["status"].get("conditions") or []
    return {condition["type"] for condition in found}


def test_a_claim_binds_grows_and_leaves_nothing(cluster: Client, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    cluster.request("POST", path, {"metadata": {"name": "data"}, "spec": spec})
    claim = wait(lambda: bound(cluster, f"{path}/data"))
    assert claim["spec"]["storageClassName"] == "harvester"
    volume = claim["spec"]["volumeName"]
    folder = Path(cluster.request("GET", f"/api/v1/persistentvolumes/{volume}")["spec"]["hostPath"]["path"])
    assert folder.is_dir() and folder.is_relative_to(DIRECTORY)
    cluster.merge(f"{path}/data", {"spec": {"resources": {"requests": {"storage": "2Gi"}}}})
    # The file system grows where it is mounted: by then the volume has grown, and the claim waits for a pod.
    wait(lambda: "FileSystemResizePending" in conditions(cluster, f"{path}/data"))
    assert cluster.request("GET", f"/api/v1/persistentvolumes/{volume}")["spec"]["capacity"]["storage"] == "2Gi"
    with pytest.raises(Refused, match="can not be less than"):
        cluster.merge(f"{path}/data", {"spec": {"resources": {"requests": {"storage": "1Gi"}}}})
    cluster.delete(f"{path}/data")
    wait(lambda: cluster.get(f"/api/v1/persistentvolumes/{volume}") is None and not folder.exists())


def bound(cluster: Client, path: str) -> Any:
    claim = cluster.request("GET", path)
    return claim if claim["status"]["phase"] == "Bound" else None


def test_a_load_balancer_gets_its_address_only_with_the_class(cluster: Client, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}], "selector": {"a": "b"}}
    for name, address, more in (
        ("with", "198.18.1.19", {"loadBalancerClass": "io.cilium/l2-announcer"}),
        ("without", "198.18.1.18", {}),
    ):
        meta = {"name": name, "annotations": {"lbipam.cilium.io/ips": address}}
        cluster.request("POST", path, {"metadata": meta, "spec": {**spec, **more}})
    wait(lambda: cluster.request("GET", f"{path}/with")["status"]["loadBalancer"].get("ingress"))
    assert cluster.request("GET", f"{path}/with")["status"]["loadBalancer"]["ingress"][0]["ip"] == "198.18.1.19"
    time.sleep(0.5)
    assert not cluster.request("GET", f"{path}/without")["status"]["loadBalancer"].get("ingress")


@pytest.fixture
def traefik(cluster: Client) -> Iterator[None]:
    """Traefik's Gateway provider on, and afterwards as it was."""
    path = "/apis/helm.cattle.io/v1/namespaces/kube-system/helmchartconfigs"
    before = cluster.get(f"{path}/rke2-traefik")
    if before is None:
        values = "providers: {kubernetesGateway: {enabled: true}}"
        body = {"metadata": {"name": "rke2-traefik"}, "spec": {"valuesContent": values}}
        cluster.request("POST", path, {"apiVersion": "helm.cattle.io/v1", "kind": "HelmChartConfig", **body})
    wait(lambda: cluster.get(f"{GATEWAYS}/gatewayclasses/traefik"))
    yield
    if before is None:
        cluster.delete(f"{path}/rke2-traefik")


def test_a_listener_on_443_is_not_programmed(cluster: Client, namespace: str, traefik: None) -> None:
    path = f"{GATEWAYS}/namespaces/{namespace}/gateways"
    # Any pair that fits: Traefik reads it.
    files = {"tls.crt": "apiserver.crt", "tls.key": "apiserver.key"}
    pair = {
        key: base64.b64encode((DIRECTORY / "pki" / "cluster" / file).read_bytes()).decode()
        for key, file in files.items()
    }
    secret = {"metadata": {"name": "tls"}, "type": "Opaque", "data": pair}
    for name, port in (("right", 8443), ("wrong", 443)):
        listener = {"name": "https", "port": port, "protocol": "HTTPS", "hostname": "a.lab.example.com"}
        spec = {
            "gatewayClassName": "traefik",
            "listeners": [{**listener, "tls": {"certificateRefs": [{"name": "tls"}]}}],
        }
        kind = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway"}
        cluster.request("POST", path, {**kind, "metadata": {"name": name}, "spec": spec})
    wait(lambda: "secret" in programmed(cluster, f"{path}/right")[1])
    cluster.request("POST", f"/api/v1/namespaces/{namespace}/secrets", secret)
    wait(lambda: programmed(cluster, f"{path}/right")[0] == "True")
    assert programmed(cluster, f"{path}/wrong")[0] != "True"
    assert "no matching entryPoint for port 443" in programmed(cluster, f"{path}/wrong")[1]


def programmed(cluster: Client, path: str) -> tuple[str, str]:
    """The Gateway's status, and what Traefik says of its listeners."""
    status = cluster.request("GET", path).get("status", {})
    by_type = {condition["type"]: condition["status"] for condition in status.get("conditions", [])}
    said = [entry["message"] for listener in status.get("listeners", []) for entry in listener["conditions"]]
    return by_type.get("Programmed", ""), "; ".join(said)


def test_the_audit_log_counts_the_installers_writes_and_nobody_elses(cluster: Client, namespace: str) -> None:
    log = DIRECTORY / "audit" / "cluster.log"
    before = len(log.read_text().splitlines())
    name = f"counted-{uuid.uuid4().hex[:6]}"
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    cluster.request("POST", path, {"metadata": {"name": name}, "data": {"a": "b"}})
    cluster.request("POST", f"{path}?dryRun=All", {"metadata": {"name": f"{name}-dry"}})
    cluster.request("GET", f"{path}/{name}")

    def mine() -> list[Any]:
        entries = [json.loads(line) for line in log.read_text().splitlines()[before:]]
        return [entry for entry in entries if name in entry.get("objectRef", {}).get("name", "")]

    entries = wait(lambda: mine() if len(mine()) == 2 else None)
    assert [entry["verb"] for entry in entries] == ["create", "create"]
    assert {entry["user"]["username"] for entry in entries} == {INSTALLER}
    assert "dryRun=All" in entries[1]["requestURI"]
    # A pod that outlives its account is nobody.
    users = {json.loads(line)["user"].get("username", "") for line in log.read_text().splitlines()}
    assert not {user for user in users if user.startswith(("system:", "lab-"))}


def test_an_impersonated_call_is_counted_too(cluster: Client, namespace: str) -> None:
    log = DIRECTORY / "audit" / "cluster.log"
    before = len(log.read_text().splitlines())
    connection = cluster.connect(10)
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    headers = {"Impersonate-User": "proxied", "Impersonate-Group": "system:masters", "Content-Type": "application/json"}
    connection.request("POST", path, json.dumps({"metadata": {"name": "by-proxy"}}), headers)
    assert connection.getresponse().status == 201
    connection.close()
    entries = wait(lambda: log.read_text().splitlines()[before:])
    assert any(json.loads(line).get("impersonatedUser", {}).get("username") == "proxied" for line in entries)


def test_the_namespace_is_closed() -> None:
    routes = inside("import subprocess; print(subprocess.run(['ip', 'route'], capture_output=True, text=True).stdout)")
    assert "default" not in routes
    for line in routes.splitlines():
        assert ipaddress.IPv4Network(line.split()[0]).subnet_of(ipaddress.IPv4Network("198.18.0.0/15"))
