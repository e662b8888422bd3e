# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The emulated Rancher and Harvester, used as the platform uses the real ones. Needs a running lab (LAB_NAME)."""

from __future__ import annotations

import http.client
import importlib.util
import json
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from lab.kube import Client, Object, Refused
from lab.rancher import settings
from lab.storage import amount

_spec = importlib.util.spec_from_file_location("rancher_cluster", Path(__file__).with_name("rancher_cluster.py"))
assert _spec and _spec.loader
made = importlib.util.module_from_spec(_spec)
sys.modules["rancher_cluster"] = made
_spec.loader.exec_module(made)
wait = made.wait
DIRECTORY: Path = made.DIRECTORY

pytestmark = [
    pytest.mark.skipif(not (DIRECTORY / "rancher-token").exists(), reason=f"no lab with a Rancher runs in {DIRECTORY}"),
    pytest.mark.timeout(300),
]
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture(scope="module")
def rancher() -> Any:
    return made.Rancher()


@contextmanager
def faults(**values: Any) -> Iterator[None]:
    file = DIRECTORY / "faults.json"
    file.write_text(json.dumps(values))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def no_faults() -> Iterator[None]:
    yield
    (DIRECTORY / "faults.json").unlink(missing_ok=True)


@contextmanager
def cluster(rancher: Any, pools: dict[str, int], **config: Any) -> Iterator[Any]:
    one = made.Made(rancher, pools, **config)
    try:
        yield one
    finally:
        with suppress(Refused):
            one.clean()


# --- the server


def test_a_token_is_needed_and_shown_without_its_secret(rancher: Any) -> None:
    assert made.Rancher("token-lab01:wrong").call("GET", "/v3/clusters")[0] == 401
    assert made.Rancher("nobody").call("GET", "/k8s/clusters/local/version")[0] == 401
    shown = rancher.get("/v3/tokens/token-lab01")
    assert shown["enabled"] and not shown["expired"] and shown["ttl"] > 0 and shown["expiresAt"]
    assert rancher.token.split(":")[1] not in json.dumps(shown)
    assert (DIRECTORY / "rancher-token").stat().st_mode & 0o777 == 0o600


def test_a_token_expires(rancher: Any) -> None:
    status, token = rancher.call("POST", "/v3/tokens", {"type": "token", "ttl": 1500, "description": "short"})
    assert status == 201
    short = made.Rancher(token["token"])
    assert short.call("GET", "/k8s/clusters/local/version")[0] == 200
    wait(lambda: short.call("GET", "/k8s/clusters/local/version")[0] == 401, 10)
    assert rancher.get(f"/v3/tokens/{token['id']}")["expired"]
    rancher.call("DELETE", f"/v3/tokens/{token['id']}")
    with faults(token_expires_now=True):
        assert rancher.call("GET", "/v3/clusters")[0] == 401
    assert rancher.call("GET", "/v3/clusters")[0] == 200


def test_a_token_can_be_good_for_one_cluster_only(rancher: Any) -> None:
    wanted = {"type": "token", "ttl": 60000, "description": f"one {uuid.uuid4()}", "clusterId": rancher.harvester()}
    status, token = rancher.call("POST", "/v3/tokens", wanted)
    assert status == 201
    scoped = made.Rancher(token["token"])
    assert scoped.call("GET", f"/k8s/clusters/{rancher.harvester()}/version")[0] == 200
    assert scoped.call("GET", "/k8s/clusters/local/version")[0] == 401
    assert scoped.call("GET", "/v3/tokens")[0] == 401
    path = f"/v3/tokens?description={wanted['description'].replace(' ', '%20')}"
    assert wait(lambda: [one["id"] for one in rancher.get(path)["data"]] == [token["id"]], 10)
    rancher.call("DELETE", f"/v3/tokens/{token['id']}")


def test_clusters_are_found_by_name(rancher: Any) -> None:
    assert rancher.harvester().startswith("c-m-")
    assert rancher.get("/v3/clusters?name=nobody")["data"] == []
    assert rancher.get("/v3/settings/server-version")["value"] == settings.VERSION
    assert rancher.get("/rancherversion")["Version"] == settings.VERSION
    offered = [one["id"] for one in rancher.get("/v1-rke2-release/releases")["data"]]
    assert made.VERSION in offered and "v9.99.9" not in offered


def test_each_kubeconfig_mints_a_token(rancher: Any) -> None:
    before = len(rancher.get("/v3/tokens")["data"])
    texts = {rancher.kubeconfig("local") for _ in range(2)}
    assert len(texts) == 2
    wait(lambda: len(rancher.get("/v3/tokens")["data"]) >= before + 2, 10)
    assert Client(texts.pop()).ready()


def test_v1_reads_and_refuses_patch(rancher: Any) -> None:
    status, body = rancher.call("PATCH", "/v1/provisioning.cattle.io.clusters/fleet-default/harvester", {})
    assert status == 405 and body["code"] == "MethodNotAllowed"
    one = rancher.get("/v1/provisioning.cattle.io.clusters/fleet-default/harvester")
    assert one["id"] == "fleet-default/harvester" and one["status"]["clusterName"] == rancher.harvester()


def test_harvester_refuses_to_make_the_cloud_provider_kubeconfig(rancher: Any) -> None:
    path = f"/k8s/clusters/{rancher.harvester()}/v1/harvester/kubeconfig"
    assert rancher.call("POST", path, {"clusterRoleName": "harvesterhci.io:cloudprovider"})[0] == 401


def test_an_unknown_cluster_is_unavailable(rancher: Any) -> None:
    status, body = rancher.call("GET", "/k8s/clusters/c-m-nobody11/version")
    assert status == 503 and body["code"] == "ClusterUnavailable"


# --- the proxy


def test_the_proxy_streams_a_watch(rancher: Any) -> None:
    client, name = rancher.client("local"), f"w-{uuid.uuid4().hex[:6]}"
    version = client.request("GET", CONFIGMAPS)["metadata"]["resourceVersion"]
    seen: list[float] = []

    def follow() -> None:
        for event in rancher.client("local").watch(CONFIGMAPS, version, 20):
            if event["object"]["metadata"].get("name") == name:
                seen.append(time.monotonic())
                return

    thread = threading.Thread(target=follow)
    thread.start()
    time.sleep(0.5)
    began = time.monotonic()
    client.request("POST", CONFIGMAPS, {"metadata": {"name": name}})
    thread.join(15)
    client.delete(f"{CONFIGMAPS}/{name}")
    assert seen and seen[0] - began < 10


def test_a_watch_that_its_client_left_ends_behind_the_proxy(rancher: Any) -> None:
    """Also while nothing comes by which the proxy could notice."""
    metrics = rancher.client("local")

    def watches() -> float:
        text = metrics.request("GET", "/metrics")
        lines = [line for line in text.splitlines() if line.startswith("apiserver_longrunning_requests{")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if 'resource="configmaps"' in line)

    before = watches()
    version = metrics.request("GET", CONFIGMAPS)["metadata"]["resourceVersion"]
    connections = [rancher.client("local").connect(30) for _ in range(5)]
    for connection in connections:
        path = f"/k8s/clusters/local{CONFIGMAPS}?watch=1&resourceVersion={version}"
        connection.request("GET", path, headers={"Authorization": f"Bearer {rancher.token}"})
        connection.getresponse()
    assert wait(lambda: watches() >= before + 5, 10)
    for connection in connections:
        connection.sock.close() if connection.sock else None
        connection.close()
    del connections, connection
    wait(lambda: watches() <= before, 20)


def test_large_bodies_and_many_requests_on_one_connection(rancher: Any) -> None:
    client, name = rancher.client("local"), f"big-{uuid.uuid4().hex[:6]}"
    text = "x" * 900_000
    client.request("POST", CONFIGMAPS, {"metadata": {"name": name}, "data": {"a": text}})
    for _ in range(20):
        assert client.request("GET", f"{CONFIGMAPS}/{name}")["data"]["a"] == text
    client.delete(f"{CONFIGMAPS}/{name}")
    with pytest.raises(Refused, match=r"too large|limit"):
        client.request("POST", CONFIGMAPS, {"metadata": {"name": name}, "data": {"a": "x" * 4_000_000}})
    assert client.ready()


def test_the_audit_log_names_the_proxy_and_whom_it_speaks_for(rancher: Any) -> None:
    name = f"audited-{uuid.uuid4().hex[:6]}"
    rancher.client("local").request("POST", CONFIGMAPS, {"metadata": {"name": name}})
    rancher.client("local").delete(f"{CONFIGMAPS}/{name}")
    log = DIRECTORY / "audit" / "rancher.log"
    line = wait(lambda: next((line for line in log.read_text().splitlines() if name in line), None), 10)
    entry = json.loads(line)
    assert entry["user"]["username"] == "rancher-proxy"
    assert entry["impersonatedUser"]["username"] == settings.USER


# --- the webhook and faults


def refused(rancher: Any, name: str) -> str:
    body = {"apiVersion": "provisioning.cattle.io/v1", "kind": "Cluster", "metadata": {"name": name}, "spec": {}}
    try:
        rancher.client("local").request("POST", f"{made.CLUSTERS}?dryRun=All", body)
    except Refused as error:
        return f"{error.status} {error}"
    return ""


def test_the_webhook_refuses_names_that_rancher_refuses(rancher: Any) -> None:
    assert refused(rancher, "good-name") == ""
    for name in ("local", "c-abcde", "x" * 64):
        assert refused(rancher, name).startswith("422") and "cluster name must be" in refused(rancher, name)


def test_a_late_webhook_fails_every_write_and_then_none(rancher: Any) -> None:
    with faults(webhook_late=3):
        assert "failed calling webhook" in refused(rancher, "good-name")
        assert wait(lambda: refused(rancher, "good-name") == "", 20)


def test_rancher_answers_500_or_nothing_for_a_while(rancher: Any) -> None:
    with faults(rancher_500=2):
        assert rancher.call("GET", "/v3/clusters")[0] == 500
        assert wait(lambda: rancher.call("GET", "/v3/clusters")[0] == 200, 10)
    with faults(rancher_silent=2):
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            rancher.call("GET", "/v3/clusters", timeout=1)
        assert rancher.call("GET", "/v3/clusters")[0] == 200
        assert time.monotonic() - began >= 1.5


def test_a_conflict_can_come_as_500(rancher: Any) -> None:
    with faults(conflict_500=1):
        path = "/k8s/clusters/local/apis/provisioning.cattle.io/v1/namespaces/fleet-default/clusters/harvester"
        current = rancher.get(path)
        status, body = rancher.call("PUT", path, current)
        assert status == 500 and "the object has been modified; please apply your changes" in body["message"]
        assert rancher.call("PUT", path, rancher.get(path))[0] == 200


def test_an_image_is_imported_with_progress_or_fails(rancher: Any) -> None:
    one = made.Made(rancher, {})
    with faults(image_import_fails="bad-image"):
        one.infrastructure("https://images.example.com/bad-image.qcow2")
        path = made.IMAGES.format(one.name)
        body = one.harvester.request("GET", f"{path}/rocky9")
        body["metadata"] = {"name": "good"}
        body.pop("status", None)
        body["spec"]["url"] = "https://images.example.com/good.qcow2"
        one.harvester.request("POST", path, body)

        def imported(name: str) -> str:
            found = one.harvester.request("GET", f"{path}/{name}").get("status") or {}
            return next((c["status"] for c in found.get("conditions") or [] if c["type"] == "Imported"), "")

        wait(lambda: imported("rocky9") == "False" and imported("good") == "True", 20)
        assert one.harvester.request("GET", f"{path}/good")["status"]["progress"] == 100
    one.harvester.delete(f"/api/v1/namespaces/{one.name}")


def test_capacity_can_be_short_by_a_node(rancher: Any) -> None:
    harvester = rancher.client(rancher.harvester())

    def memory() -> float:
        nodes = harvester.request("GET", "/api/v1/nodes")["items"]
        return sum(amount(node["status"]["allocatable"]["memory"]) for node in nodes) / 2**30

    with faults(quota_short=1):
        wait(lambda: abs(memory() - 184) < 0.1, 40)
    wait(lambda: memory() == 3 * 248, 40)


# --- clusters


@pytest.fixture(scope="module")
def running(rancher: Any) -> Iterator[Any]:
    with cluster(rancher, {"controlplane": 3, "general": 2}) as one:
        began = time.monotonic()
        one.make()
        assert rancher.call("GET", f"/k8s/clusters/{one.identity()}/version")[0] == 503
        one.settled()
        print(f"5 nodes: {time.monotonic() - began:.1f} s")
        yield one


def test_a_cluster_becomes_machines_and_nodes(running: Any) -> None:
    nodes = running.nodes()
    assert len(nodes) == 5 == len(running.virtual()) == len(running.machines())
    for node in running.nodes("general"):
        labels = node["metadata"]["labels"]
        assert labels["workload-type"] == "general" and labels["node-role.kubernetes.io/worker"] == "true"
        assert not node["spec"].get("taints")
    for node in running.nodes("controlplane"):
        keys = {taint["key"] for taint in node["spec"]["taints"]}
        assert keys == {"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/etcd"}
    machine = running.virtual()[0]
    spec = machine["spec"]["template"]["spec"]
    assert spec["domain"]["firmware"]["bootloader"]["efi"] == {"secureBoot": False}
    assert {one["metadata"]["name"] for one in running.virtual()} == {node["metadata"]["name"] for node in nodes}
    claims = running.harvester.request("GET", f"/api/v1/namespaces/{running.name}/persistentvolumeclaims")["items"]
    assert len(claims) == 5 and {claim["status"]["phase"] for claim in claims} == {"Bound"}
    found = running.rancher.get(f"/v3/clusters?name={running.name}")["data"]
    assert [one["id"] for one in found] == [running.identity()]


def test_quantity_is_followed_both_ways(running: Any) -> None:
    running.scale("general", 3)
    running.settled()
    assert len(running.nodes("general")) == 3
    running.scale("general", 2)
    running.settled()
    wait(lambda: len(running.nodes("general")) == 2 == len(running.machines("general")))
    wait(lambda: len(running.virtual()) == 5)


def test_a_changed_config_rolls_its_pool_one_by_one(running: Any) -> None:
    before = {node["metadata"]["name"] for node in running.nodes("general")}
    others = {node["metadata"]["name"] for node in running.nodes("controlplane")}
    path = f"{made.CONFIGS}/{running.name}-general"
    running.local.merge(path, {"metadata": {"labels": {"harmless": "yes"}}, "common": {"labels": {"a": "b"}}})
    time.sleep(1)
    assert {node["metadata"]["name"] for node in running.nodes("general")} == before
    running.local.merge(path, {"userData": made.USER_DATA + "timezone: UTC\n"})
    fewest, most = 99, 0
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        nodes = running.nodes("general")
        ready = [node for node in nodes if not node["spec"].get("unschedulable")]
        fewest, most = min(fewest, len(ready)), max(most, len(nodes))
        if len(nodes) == 2 and not before & {node["metadata"]["name"] for node in nodes}:
            break
        time.sleep(0.2)
    running.settled()
    assert not before & {node["metadata"]["name"] for node in running.nodes("general")}
    assert {node["metadata"]["name"] for node in running.nodes("controlplane")} == others
    assert fewest >= 2 and most <= 4


def test_another_version_goes_node_by_node_control_plane_first(running: Any) -> None:
    path = f"{made.CLUSTERS}/{running.name}"
    running.local.merge(path, {"spec": {"kubernetesVersion": "v1.34.9+rke2r1"}})
    down, order = 0, []
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        nodes = running.nodes()
        down = max(down, sum(bool(node["spec"].get("unschedulable")) for node in nodes))
        for node in nodes:
            name = node["metadata"]["name"]
            if node["status"]["nodeInfo"]["kubeletVersion"] == "v1.34.9+rke2r1" and name not in order:
                order.append(name)
        if len(order) == 5:
            break
        time.sleep(0.1)
    running.settled()
    assert down == 1
    assert all("controlplane" in name for name in order[:3]) and all("general" in name for name in order[3:])


def test_etcd_is_snapshotted_on_demand_once_a_generation(running: Any) -> None:
    snapshots = f"/apis/rke.cattle.io/v1/namespaces/{made.FLEET}/etcdsnapshots"

    def states() -> list[str]:
        items = running.local.request("GET", snapshots)["items"]
        return [one["snapshotFile"]["status"] for one in items if one["spec"]["clusterName"] == running.name]

    path = f"{made.CLUSTERS}/{running.name}"
    running.local.merge(path, {"spec": {"rkeConfig": {"etcdSnapshotCreate": {"generation": 1}}}})
    wait(lambda: states() == ["successful"] * 3)
    with faults(snapshot_fails=True):
        running.local.merge(path, {"spec": {"rkeConfig": {"etcdSnapshotCreate": {"generation": 2}}}})
        wait(lambda: sorted(states()) == ["failed"] * 3 + ["successful"] * 3)


def test_a_budget_holds_up_a_drain(running: Any) -> None:
    guest: Client = running.rancher.client(running.identity())
    space = f"t-{uuid.uuid4().hex[:6]}"
    guest.request("POST", "/api/v1/namespaces", {"metadata": {"name": space}})
    node = running.nodes("general")[0]["metadata"]["name"]
    base = f"/api/v1/namespaces/{space}"
    wait(lambda: guest.get(f"{base}/serviceaccounts/default"))
    pod = {"metadata": {"name": "kept", "labels": {"a": "b"}}}
    pod_spec = {"nodeName": node, "containers": [{"name": "c", "image": "nobody/knows:1"}]}
    guest.request("POST", f"{base}/pods", {**pod, "spec": pod_spec})
    wait(lambda: guest.request("GET", f"{base}/pods/kept")["status"].get("phase") == "Running")
    budgets = f"/apis/policy/v1/namespaces/{space}/poddisruptionbudgets"
    budget = {"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}}
    guest.request("POST", budgets, budget)
    wait(lambda: guest.request("GET", f"{budgets}/b").get("status", {}).get("currentHealthy") == 1)
    marked = {"metadata": {"annotations": {"cluster.x-k8s.io/delete-machine": "true"}}}
    running.local.merge(f"{made.MACHINES}/{node}", marked)
    running.scale("general", 1)
    wait(lambda: guest.request("GET", f"/api/v1/nodes/{node}")["spec"].get("unschedulable"))
    time.sleep(3)
    assert guest.get(f"{base}/pods/kept") and guest.get(f"/api/v1/nodes/{node}")
    guest.delete(f"{budgets}/b")
    wait(lambda: guest.get(f"/api/v1/nodes/{node}") is None)
    guest.delete(f"/api/v1/namespaces/{space}")
    running.settled()


def test_deletion_takes_everything_along(running: Any) -> None:
    identity = running.identity()
    running.destroy()
    wait(lambda: running.virtual() == [])
    claims = f"/api/v1/namespaces/{running.name}/persistentvolumeclaims"
    wait(lambda: running.harvester.request("GET", claims)["items"] == [])
    assert running.machines() == []
    assert running.rancher.call("GET", f"/k8s/clusters/{identity}/version")[0] == 503
    wait(lambda: running.local.get(f"{made.CONFIGS}/{running.name}-general") is None)


NOT_BOOTING: list[tuple[dict[str, Any], str]] = [
    ({"enableEfi": False}, "UEFI"),
    ({"userData": "#cloud-config\nrunncmd: [ls]\n"}, "runncmd"),
]


@pytest.mark.parametrize(("change", "reason"), NOT_BOOTING, ids=["no EFI", "bad user data"])
def test_a_machine_that_cannot_boot_never_joins(rancher: Any, change: dict[str, Any], reason: str) -> None:
    with cluster(rancher, {"controlplane": 1}) as one:
        one.make(**change)
        path = made.VMIS.format(one.name)

        def why() -> str:
            items: list[Object] = one.harvester.request("GET", path)["items"]
            found = [
                item["metadata"].get("annotations", {}).get("lab.harvesterhci.io/not-booted", "") for item in items
            ]
            return "".join(found)

        assert reason in wait(why, 30)
        time.sleep(3)
        assert not one.get()["status"]["ready"]
        assert one.machines()[0]["status"]["phase"] == "Provisioning"
        assert (
            "infrastructure" in one.condition("Updated")["message"]
            or "registered" in one.condition("Updated")["message"]
        )
        assert rancher.call("GET", f"/k8s/clusters/{one.identity()}/version")[0] == 503


def test_what_controllers_find_wrong_stands_in_the_conditions(rancher: Any) -> None:
    with cluster(rancher, {"controlplane": 1}) as one:
        one.infrastructure()
        one.credentials()
        body = one.cluster()
        body["spec"]["kubernetesVersion"] = "v9.99.9"
        body["spec"]["rkeConfig"]["machinePools"][0] |= {"controlPlaneRole": False, "etcdRole": False}
        reference = "secret://fleet-default:nobody"
        body["spec"]["rkeConfig"]["machineSelectorConfig"] = [{"config": {"cloud-provider-config": reference}}]
        one.local.request("POST", made.CLUSTERS, body)
        message = wait(lambda: one.condition("Updated").get("message"), 20)
        for part in ("v9.99.9", "at least one role", f'"{one.name}-controlplane" not found', '"nobody" not found'):
            assert part in message


def test_a_machine_that_never_reports_is_named(rancher: Any) -> None:
    with cluster(rancher, {"controlplane": 1, "general": 1}) as one, faults(vm_never_reports="general"):
        one.make()
        wait(lambda: "waiting for agent to check in" in one.condition("Updated").get("message", ""), 60)
        assert len(one.nodes()) == 1
        (DIRECTORY / "faults.json").unlink()
        one.settled()


def test_a_node_can_come_without_its_pools_label(rancher: Any) -> None:
    with cluster(rancher, {"controlplane": 1, "general": 1}) as one, faults(no_pool_label="general"):
        one.make()
        one.settled()
        fields = one.nodes("general")[0]["metadata"]["managedFields"]
        owners = {entry["manager"] for entry in fields if "f:workload-type" in str(entry.get("fieldsV1"))}
        # Where the site has run, the node labeler has already mended it: that is what it is for.
        assert owners <= {"harvester-rke2-platform-controller"}


def test_orphans_stay_when_the_credential_went_first(rancher: Any) -> None:
    with cluster(rancher, {"controlplane": 1}) as one:
        one.make()
        one.settled()
        one.local.delete(f"/api/v1/namespaces/cattle-global-data/secrets/{one.credential}")
        one.destroy()
        left = one.virtual()
        assert len(left) == 1 and left[0]["metadata"]["finalizers"]
        claims = f"/api/v1/namespaces/{one.name}/persistentvolumeclaims"
        assert len(one.harvester.request("GET", claims)["items"]) == 1
        one.harvester.delete(f"{made.VMS.format(one.name)}/{left[0]['metadata']['name']}")
        wait(lambda: one.virtual() == [])


def test_chart_values_and_manifests_arrive_inside(rancher: Any) -> None:
    name = f"m-{uuid.uuid4().hex[:6]}"
    manifest = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: kube-system}}\ndata: {{a: b}}\n"
    values = {"rke2-cilium": {"hubble": {"enabled": True}}}
    with cluster(rancher, {"controlplane": 1}, chartValues=values, additionalManifest=manifest) as one:
        one.make()
        one.settled()
        guest: Client = rancher.client(one.identity())
        charts = "/apis/helm.cattle.io/v1/namespaces/kube-system/helmchartconfigs/rke2-cilium"
        wait(lambda: guest.get(charts))
        assert "hubble" in guest.request("GET", charts)["spec"]["valuesContent"]
        wait(lambda: guest.get(f"/api/v1/namespaces/kube-system/configmaps/{name}"))
        guest.delete(charts)
        guest.delete(f"/api/v1/namespaces/kube-system/configmaps/{name}")


def test_an_upgraded_connection_passes_the_proxy(rancher: Any) -> None:
    """The upgrade of a connection: answered by the API server behind, not by the proxy."""
    connection = http.client.HTTPSConnection("127.0.0.1", rancher.port, context=rancher.context, timeout=10)
    headers = {
        "Authorization": f"Bearer {rancher.token}",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Origin": rancher.url,
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol": "base64.binary.k8s.io",
    }
    version = rancher.client("local").request("GET", CONFIGMAPS)["metadata"]["resourceVersion"]
    path = f"/k8s/clusters/local{CONFIGMAPS}?watch=1&resourceVersion={version}"
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    assert answer.status == 101
    connection.close()
