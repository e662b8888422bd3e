# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What phase 0 learns before it touches anything: token, room, orphans, and how far a cluster is."""

from __future__ import annotations

import datetime
import email.utils
import pathlib
import time
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils import (
    _cluster_info,
    _rancher,
    _rancher_capacity,
    _rancher_cluster,
)
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError
from ansible_collections.harvester_rke2.platform.plugins.modules import cluster_info, rancher_cluster_ready
from ansible_collections.harvester_rke2.platform.plugins.modules import rancher_cluster_info as module
from ansible_collections.harvester_rke2.platform.tests.unit.rancher.fake import TOKEN, Rancher

GIB = 2**30
FLEET = "/apis/provisioning.cattle.io/v1/namespaces/fleet-default/clusters"
POOLS = {
    "controlplane": {"minimum": 3, "cpu": 8, "memory_gib": 32, "disk_gib": 80},
    "general": {"minimum": 4, "cpu": 4, "memory_gib": 8, "disk_gib": 60},
}


def cluster(name: str, **quantities: int | None) -> dict[str, Any]:
    pools = [
        {"name": pool, "machineConfigRef": {"name": f"{name}-{pool}"}, **({} if count is None else {"quantity": count})}
        for pool, count in quantities.items()
    ]
    return {"metadata": {"name": name}, "spec": {"kubernetesVersion": "v1", "rkeConfig": {"machinePools": pools}}}


def info(rancher: Rancher, **changed: Any) -> dict[str, Any]:
    wanted = {
        **{"rancher_url": rancher.url, "rancher_token": TOKEN, "rancher_ca_certificate": ""},
        **{"name": "lab", "harvester_cluster": "harvester", "namespace": "lab", "pools": POOLS, "volume_replicas": 3},
        **changed,
    }
    state: dict[str, Any] = module.execute(wanted, check=False)["state"]
    return state


@pytest.fixture
def ground(rancher: Rancher) -> Rancher:
    """A Harvester of two nodes, on which nothing runs."""
    rancher.put("local", FLEET)
    nodes = [
        {"metadata": {"name": f"h{n}"}, "status": {"allocatable": {"cpu": "32", "memory": "128Gi"}}} for n in (1, 2)
    ]
    rancher.put("c-m-hvst", "/api/v1/nodes", *nodes)
    rancher.put("c-m-hvst", "/api/v1/pods")
    disk = {"storageMaximum": 1000 * GIB, "storageScheduled": 0}
    longhorn = [{"spec": {"disks": {"d": {}}}, "status": {"diskStatus": {"d": disk}}} for _ in (1, 2)]
    rancher.put("c-m-hvst", "/apis/longhorn.io/v1beta2/namespaces/longhorn-system/nodes", *longhorn)
    return rancher


def test_there_is_room(ground: Rancher) -> None:
    state = info(ground)
    assert state["reachable"] and not state["exists"] and state["shortages"] == []
    assert state["free"] == {"cpu": 64.0, "memory_gib": 256, "storage_gib": 2000}
    assert state["harvester_id"] == "c-m-hvst" and state["management_host"] == f"{ground.url}/k8s/clusters/local"
    assert state["token_days"] == -1.0


def test_one_node_too_few(ground: Rancher) -> None:
    pool = {"minimum": 7, "cpu": 8, "memory_gib": 32, "disk_gib": 80}
    assert info(ground, pools={"general": pool})["shortages"] == []
    found = info(ground, pools={"general": {**pool, "minimum": 9}})["shortages"]
    assert [sentence.split(" need ")[1].split(". ")[0] for sentence in found] == [
        "72 CPUs, but Harvester has 64 CPUs left",
        "288 GiB of memory, but Harvester has 256 GiB of memory left",
        "2160 GiB of storage (3 copies of each volume), but Harvester has 2000 GiB of storage left",
    ]
    assert "(9 of general)" in found[0] and found[0].endswith("or lower the pools' minimum.")


def test_machines_that_are_there_need_no_room_again(ground: Rancher) -> None:
    ground.put("local", FLEET, cluster("lab", controlplane=3, general=6))
    instance = {"spec": {"domain": {"resources": {"limits": {"cpu": "60", "memory": "250Gi"}}}}}
    ground.put("c-m-hvst", "/apis/kubevirt.io/v1/virtualmachineinstances", instance)
    state = info(ground)
    assert state["shortages"] == [] and state["quantities"] == {"controlplane": 3, "general": 6}
    assert state["free"]["cpu"] == 4.0
    assert state["machine_configs"] == {"lab-controlplane": ["controlplane"], "lab-general": ["general"]}


def test_the_namespaces_quota_counts(ground: Rancher) -> None:
    status = {"hard": {"limits.cpu": "20", "requests.storage": "1Ti"}, "used": {"limits.cpu": "2"}}
    ground.put("c-m-hvst", "/api/v1/namespaces/lab/resourcequotas", {"status": status})
    (sentence,) = info(ground)["shortages"]
    assert "need 40 CPUs, but the ResourceQuota of namespace lab on Harvester leaves 18 CPUs" in sentence


def test_what_cannot_be_read_is_not_guessed(rancher: Rancher) -> None:
    rancher.put("local", FLEET)
    state = info(rancher)
    assert state["free"] == {"cpu": None, "memory_gib": None, "storage_gib": None} and state["shortages"] == []


def test_overcommitment_is_harvesters() -> None:
    assert _rancher_capacity.overcommit({"default": '{"cpu":1600,"memory":150,"storage":200}'})["cpu"] == 1600
    assert _rancher_capacity.overcommit(None) == {"cpu": 100, "memory": 100, "storage": 100}


@pytest.mark.parametrize(
    ("text", "value"), [("500m", 0.5), ("2", 2), ("1Gi", GIB), ("1e3", 1000), ("16291360Ki", 16291360 * 1024), ("?", 0)]
)
def test_quantities(text: str, value: float) -> None:
    assert _rancher_capacity.quantity(text) == value


def test_orphans_are_this_clusters_own(ground: Rancher) -> None:
    ground.put("local", FLEET, cluster("lab-two", general=1))
    machines = [
        {"metadata": {"name": name, "finalizers": ["k"]}} for name in ("lab-general-a", "lab-two-general-b", "web")
    ]
    ground.put("c-m-hvst", "/apis/kubevirt.io/v1/namespaces/lab/virtualmachines", *machines)
    state = info(ground)
    assert [entry["name"] for entry in state["orphans"]] == ["lab-general-a"]
    (warning,) = module.warnings(state, 14)
    assert "VirtualMachine lab/lab-general-a" in warning and "rke2_cluster_remove_orphans" in warning
    # Of a cluster that lives, they are its machines.
    ground.put("local", FLEET, cluster("lab", general=1))
    assert info(ground)["orphans"] == []


def test_a_token_tells_its_end(ground: Rancher) -> None:
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=3)
    ground.token_fields = {"expiresAt": soon.strftime("%Y-%m-%dT%H:%M:%SZ")}
    state = info(ground)
    assert 2.9 <= state["token_days"] <= 3.0
    assert "ends in" in module.warnings(state, 14)[0] and module.warnings(state, 2) == []


def test_a_name_that_rancher_does_not_know(ground: Rancher) -> None:
    with pytest.raises(PlatformError, match="There are: harvester"):
        info(ground, harvester_cluster="harvestr")


@pytest.mark.parametrize("ahead", [-7200, 0, 86400])
def test_a_clock_that_differs_from_the_servers_is_seen(ground: Rancher, ahead: int) -> None:
    ground.date = email.utils.formatdate(time.time() - ahead, usegmt=True)
    assert abs(info(ground)["clock_ahead"] - ahead) < 5


def test_no_rancher_is_no_failure(rancher: Rancher) -> None:
    rancher.close()
    state = info(rancher)
    assert not state["reachable"] and state["why"]


def test_harvester_is_found_behind_rancher_or_keeps_its_name(rancher: Rancher, tmp_path: pathlib.Path) -> None:
    wanted = {
        **{"kubeconfig": str(tmp_path / "none"), "context": None, "host": None, "harvester_kubeconfig": None},
        **{"rancher_url": rancher.url, "rancher_token": TOKEN, "rancher_ca_certificate": ""},
        **{"harvester_cluster": "harvester", "keys_namespace": "lab-keys", "root_ca_name": "root-ca"},
        "helm_binary": "",
        "renewable": False,
        **{"rancher_tokens": {}, "kinds": []},
    }
    assert cluster_info.execute(wanted)["state"]["harvester_host"] == f"{rancher.url}/k8s/clusters/c-m-hvst"
    rancher.close()
    state = cluster_info.execute(wanted)["state"]
    assert state["harvester_host"] == f"{rancher.url}/k8s/clusters/harvester" and state["harvester_why"]


def test_a_kubeconfig_of_a_cluster_that_has_gone_is_as_good_as_none(rancher: Rancher) -> None:
    gone = "/k8s/clusters/c-m-gone"
    client = _rancher.Rancher(rancher.url, TOKEN, attempts=1).kubernetes("c-m-gone")
    rancher.refusals[f"{gone}/version"] = 503, {"type": "error", "code": "ClusterUnavailable", "message": "not found"}
    state = _cluster_info.read(client)
    assert not state["reachable"] and "not found (HTTP 503)" in state["why"]
    rancher.tokens.clear()
    with pytest.raises(PlatformError, match="credential may have expired"):
        _cluster_info.read(client)
    state = _cluster_info.read(client, renewable=True)
    assert not state["reachable"] and "HTTP 401" in state["why"]


def looked_at(rancher: Rancher, token: str, folder: pathlib.Path) -> dict[str, Any]:
    """What cluster_info says of the autoscaler's token."""
    wanted = {
        **{"kubeconfig": str(folder / "none"), "context": None, "host": None, "harvester_kubeconfig": None},
        **{"rancher_url": rancher.url, "rancher_token": TOKEN, "rancher_ca_certificate": ""},
        **{"harvester_cluster": "harvester", "keys_namespace": "", "root_ca_name": "root-ca"},
        **{"rancher_tokens": {"cluster_autoscaler_token": token}, "kinds": [], "helm_binary": "", "renewable": False},
    }
    state: dict[str, Any] = cluster_info.execute(wanted)["state"]
    return state


def test_whose_another_token_is_and_when_it_ends(rancher: Rancher, tmp_path: pathlib.Path) -> None:
    other = "token-other:" + "y" * 30
    rancher.tokens.add(other)
    rancher.token_fields = {"userId": "u-abc12", "expiresAt": ""}
    state = looked_at(rancher, other, tmp_path)
    assert state["rancher_tokens"] == {"cluster_autoscaler_token": {"user": "u-abc12", "days": -1.0}}
    assert cluster_info.warnings(state) == []
    ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=3, minutes=1)
    rancher.token_fields["expiresAt"] = ends.strftime("%Y-%m-%dT%H:%M:%SZ")
    (sentence,) = cluster_info.warnings(looked_at(rancher, other, tmp_path))
    assert sentence.startswith("The token of cluster_autoscaler_token ends in 3 days: ")


@pytest.mark.parametrize(
    ("known", "fields", "words"),
    [
        (False, {}, r"does not take the token \(HTTP 401\).* set cluster_autoscaler_token"),
        (
            True,
            {"userId": "u-abc12", "clusterId": "c-m-x"},
            "it is for the cluster c-m-x only.* set cluster_autoscaler",
        ),
    ],
)
def test_another_token_that_will_not_do(
    rancher: Rancher, tmp_path: pathlib.Path, known: bool, fields: dict[str, Any], words: str
) -> None:
    other = "token-other:" + "y" * 30
    rancher.tokens |= {other} if known else set()
    rancher.token_fields = fields
    with pytest.raises(PlatformError, match=words) as caught:
        looked_at(rancher, other, tmp_path)
    assert other not in str(caught.value)


def test_a_pool_without_a_number_is_one() -> None:
    assert _rancher_cluster.quantities(cluster("lab", general=None, compute=0)) == {"general": 1, "compute": 0}


def machine(pool: str, name: str, phase: str = "Running", **meta: Any) -> dict[str, Any]:
    labels = {_rancher_cluster.POOL_LABEL: pool}
    status = {"phase": phase, **({"nodeRef": {"name": name}} if phase == "Running" else {})}
    return {"metadata": {"name": name, "labels": labels, **meta}, "status": status}


def test_progress_by_pool() -> None:
    machines = [
        machine("general", "g1"),
        machine("general", "g2", "Provisioning"),
        machine("compute", "c1", deletionTimestamp="now"),
    ]
    found = _rancher_cluster.progress(cluster("lab", general=2, compute=0, database=0), machines)
    assert [(pool.name, pool.running, pool.wanted, pool.ready) for pool in found] == [
        ("general", 1, 2, False),
        ("compute", 0, 0, False),
        ("database", 0, 0, True),
    ]
    assert found[0].shown() == "general 1 of 2 (g2 is Provisioning)"


def test_what_rancher_cannot_do_is_told_apart_from_what_it_waits_for(rancher: Rancher) -> None:
    client = _rancher.Rancher(rancher.url, TOKEN).kubernetes("local")
    made = {**cluster("lab", general=3), "status": {"clusterName": "c-m-lab"}}
    rancher.objects[f"/k8s/clusters/local{FLEET}/lab"] = made
    waits, failed, refused = (
        machine("general", f"g{n}", phase) for n, phase in enumerate(("Provisioned", "Failed", ""))
    )
    failed["status"]["failureMessage"] = "no space left"
    condition = {"type": "InfrastructureReady", "status": "False", "reason": "CreateError", "message": "Unauthorized"}
    refused["status"]["conditions"] = [condition]
    rancher.put("local", _rancher_cluster.MACHINES, waits)
    assert _rancher_cluster.state(client, "lab").stuck == []
    rancher.put("local", _rancher_cluster.MACHINES, waits, failed, refused)
    first, second = _rancher_cluster.state(client, "lab").stuck
    assert first == "g1 of pool general is Failed: no space left"
    assert second.startswith("g2 of pool general") and "Unauthorized" in second
    waiting = {"type": "Updated", "status": "Unknown", "reason": "Waiting", "message": "waiting for agent to check in"}
    made["status"]["conditions"] = [waiting]
    assert len(_rancher_cluster.state(client, "lab").stuck) == 2
    made["status"]["conditions"] = [{**waiting, "status": "False", "reason": "Error", "message": "no release found"}]
    assert _rancher_cluster.state(client, "lab").stuck[0] == "the Cluster: no release found"
    assert "Rancher cannot go on: the Cluster: no release found;" in str(
        rancher_cluster_ready.given_up("lab", _rancher_cluster.state(client, "lab").stuck)
    )


def test_ready_is_conditions_and_machines(rancher: Rancher) -> None:
    client = _rancher.Rancher(rancher.url, TOKEN).kubernetes("local")
    assert "there is no Cluster" in _rancher_cluster.state(client, "lab").why
    made = {**cluster("lab", general=1), "status": {"ready": True, "clusterName": "c-m-lab"}}
    rancher.objects[f"/k8s/clusters/local{FLEET}/lab"] = made
    rancher.put("local", _rancher_cluster.MACHINES)
    assert not _rancher_cluster.state(client, "lab").ready
    rancher.put("local", _rancher_cluster.MACHINES, machine("general", "g1"))
    state = _rancher_cluster.state(client, "lab")
    assert state.ready and state.management_id == "c-m-lab"


def test_nodes_say_why_they_are_not_ready(rancher: Rancher) -> None:
    client = _rancher.Rancher(rancher.url, TOKEN).kubernetes("c-m-lab")
    rancher.put("c-m-lab", "/api/v1/nodes")
    assert _rancher_cluster.unready_nodes(client) == ["there is no node"]
    conditions = [{"type": "Ready", "status": "False", "message": "cni plugin not initialized"}]
    rancher.put("c-m-lab", "/api/v1/nodes", {"metadata": {"name": "n1"}, "status": {"conditions": conditions}})
    assert _rancher_cluster.unready_nodes(client) == ["n1: cni plugin not initialized"]


def test_a_cluster_that_rancher_no_longer_has_is_not_reachable_and_no_failure(rancher: Rancher) -> None:
    wanted = {
        **{"kubeconfig": None, "context": None, "host": f"{rancher.url}/k8s/clusters/c-m-gone", "api_key": TOKEN},
        **{"ca_cert": None, "harvester_kubeconfig": None, "rancher_url": "", "rancher_token": ""},
        **{"rancher_ca_certificate": "", "harvester_cluster": "", "keys_namespace": "", "root_ca_name": "root-ca"},
        **{"rancher_tokens": {}, "kinds": [], "helm_binary": "", "renewable": False},
    }
    state = cluster_info.execute(wanted)["state"]
    assert not state["reachable"] and "HTTP 404" in state["why"]
