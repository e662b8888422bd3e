# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The life of a cluster that Rancher has made: one run at a time, another size, another version, the end, and anew.

The tests go through one cluster's life in their order, from the whole site on an empty lab to the whole site again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _run_lease as leases
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError

from tests.fault._site import TO_VAULT, Audit, Run, Site, site, until

NAME = "platform-lab"
KEYS = f"{NAME}-keys"
FLEET = "/apis/provisioning.cattle.io/v1/namespaces/fleet-default/clusters"
MACHINES = "/apis/cluster.x-k8s.io/v1beta1/namespaces/fleet-default/machines"
CONFIGS = "/apis/rke-machine-config.cattle.io/v1/namespaces/fleet-default/harvesterconfigs"
SNAPSHOTS = "/apis/rke.cattle.io/v1/namespaces/fleet-default/etcdsnapshots"
POOL = "rke.cattle.io/rke-machine-pool-name"
OLD, NEW = "v1.34.8+rke2r2", "v1.34.9+rke2r1"
SCALE, UPGRADE, DESTROY = "playbooks/scale.yml", "playbooks/upgrade.yml", "playbooks/destroy.yml"
CONFIRMED = ("-e", f"confirm_destroy={NAME}")

# Several whole runs a test, on whatever machine this is.
pytestmark = pytest.mark.timeout(2400)


@pytest.fixture(scope="module")
def lab() -> Iterator[Site]:
    """All phases are done on machines that Rancher has made."""
    before = os.environ.get("LAB_NODES")
    os.environ["LAB_NODES"] = "rancher"
    where = site()
    where.empty(nodes="rancher")
    where.converged()
    try:
        yield where
    finally:
        where.lab("down")
        os.environ.pop("LAB_NODES")
        if before is not None:
            os.environ["LAB_NODES"] = before
        where.lab("up")


def lease(lab: Site, holder: str = "nobody", process: str = "another-machine pid:[1] 1 1") -> leases.RunLease:
    return leases.RunLease(lab.harvester, KEYS, "run", leases.Run(holder, process), NAME, duration=5)


def holder(lab: Site) -> str:
    return str(((lease(lab).read() or {}).get("spec") or {}).get("holderIdentity") or "")


def nodes(lab: Site, pool: str = "") -> dict[str, dict[str, Any]]:
    items = lab.cluster.request("GET", "/api/v1/nodes")["items"]
    found = {item["metadata"]["name"]: item for item in items}
    return {name: item for name, item in found.items() if pool in ("", item["metadata"]["labels"].get(POOL))}


def ready(node: Mapping[str, Any]) -> bool:
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in node["status"]["conditions"])


def version(node: Mapping[str, Any]) -> str:
    return str(node["status"]["nodeInfo"]["kubeletVersion"])


def cluster(lab: Site) -> dict[str, Any] | None:
    return lab.client("rancher").get_or_none(f"{FLEET}/{NAME}")


def refused(lab: Site, *arguments: str, playbook: str) -> str:
    audit = Audit(lab)
    run = lab.run(*arguments, playbook=playbook)
    assert run.returncode == 2 and run.changed == 0, run.tail
    touched = {entry for entry in audit.stored() if "/leases/run" not in entry}
    assert not touched, touched
    return run.said


# --- one run at a time


def test_a_run_is_refused_while_another_has_the_cluster_and_told_who_and_since_when(lab: Site) -> None:
    until(lambda: not holder(lab), "the run before has given the cluster back", 15)
    first = lab.start(*TO_VAULT)
    until(lambda: "(run " in holder(lab), "the first run has the cluster")
    name = holder(lab)
    audit = Audit(lab)
    second = lab.run("-e", "pool=general", "-e", "quantity=5", playbook=SCALE)
    assert second.returncode == 2 and second.changed == 0, second.tail
    assert f"{name} has it since 20" in second.said and "Wait until that run has ended." in second.said
    assert first.process.poll() is None, "the first run ended too soon for this test to mean anything"
    done = first.finish()
    assert done.returncode == 0 and done.changed == 0, done.tail
    assert not [entry for entry in audit.stored() if "/clusters/" in entry], audit.stored()
    assert len(nodes(lab, "general")) == 4
    until(lambda: not holder(lab), "the first run gives the cluster back", 15)


def test_a_run_costs_one_module_more_and_check_mode_none(lab: Site) -> None:
    states = lab.again(*TO_VAULT).states("Keep other runs away from the cluster")
    assert [state for state in states if state != "skipped"] == ["ok"]
    until(lambda: not holder(lab), "it is given back", 15)
    before = lease(lab).read()
    run = lab.run(*TO_VAULT, "--check")
    assert run.returncode == 0 and run.changed == 0, run.tail
    assert lease(lab).read() == before


def test_a_silent_holder_elsewhere_is_taken_over_and_a_renewing_one_is_not(lab: Site) -> None:
    anna, over = lease(lab, "anna@elsewhere (run 0a1b2c3d)"), threading.Event()
    anna.acquire()

    def renew() -> None:
        while not over.wait(1):
            with contextlib.suppress(PlatformError):
                anna.renew()

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        said = refused(lab, "-e", "pool=general", "-e", "quantity=4", playbook=SCALE)
    finally:
        over.set()
        thread.join()
    assert "anna@elsewhere (run 0a1b2c3d) has it since 20" in said
    run = lab.run("-e", "pool=general", "-e", "quantity=4", playbook=SCALE)
    assert run.returncode == 0, run.tail
    assert "anna@elsewhere (run 0a1b2c3d) had the cluster and did not give it back" in run.said


def test_whatever_of_a_run_is_killed_the_next_one_need_not_wait(lab: Site) -> None:
    """Of ansible-playbook alone, what is in the background gives the cluster back; killed with it, it is found dead."""
    run = lab.start(*TO_VAULT)
    until(lambda: "(run " in holder(lab), "the run has the cluster")
    os.kill(run.process.pid, signal.SIGKILL)
    until(lambda: not holder(lab), "it is given back", 15)
    run.kill()
    run.finish()
    run = lab.start(*TO_VAULT)
    until(lambda: "(run " in holder(lab), "the run has the cluster")
    name = holder(lab)
    run.kill()
    run.finish()
    assert holder(lab) == name
    again = lab.again("--tags", "phase0")
    assert f"{name} had the cluster and did not give it back" in again.said


# --- size


def test_a_pool_grows_and_shrinks_and_nothing_else_changes(lab: Site) -> None:
    others = {name for name, node in nodes(lab).items() if node["metadata"]["labels"][POOL] != "general"}
    spec = (cluster(lab) or {})["spec"]
    six = ("-e", "pool=general", "-e", "quantity=6")
    audit = Audit(lab)
    planned = lab.run(*six, "--check", playbook=SCALE)
    assert planned.returncode == 0 and planned.changed == 1 and not audit.stored(), planned.tail
    grown = lab.run(*six, playbook=SCALE)
    assert grown.returncode == 0 and grown.changed == 1, grown.tail
    there = nodes(lab, "general")
    assert len(there) == 6 and all(ready(node) for node in there.values())
    lab.again(*six, playbook=SCALE)
    # The site leaves it, as it leaves the autoscaler's number.
    lab.again("--tags", "phase0")
    assert len(nodes(lab, "general")) == 6
    shrunk = lab.run("-e", "pool=general", "-e", "quantity=4", playbook=SCALE)
    assert shrunk.returncode == 0 and shrunk.changed == 1, shrunk.tail
    assert len(nodes(lab, "general")) == 4
    assert {name for name, node in nodes(lab).items() if node["metadata"]["labels"][POOL] != "general"} == others
    assert (cluster(lab) or {})["spec"] == spec
    lab.again()


def test_a_size_that_the_autoscaler_would_undo_is_refused(lab: Site) -> None:
    """Its bounds in the cluster count, also where the inventory says something else by now."""
    wider = "{general: {minimum: 1, maximum: 12, cpu: 4, memory_gib: 8, disk_gib: 60}}"
    plane = "controlplane: {minimum: 3, maximum: 3, cpu: 8, memory_gib: 32, disk_gib: 80, control_plane: true}"
    database = "database: {minimum: 4, maximum: 10, cpu: 4, memory_gib: 16, disk_gib: 80}"
    pools = f"{{platform_pools: {{{plane}, {database}, {wider[1:-1]}}}}}"
    said = refused(lab, "-e", pools, "-e", "pool=general", "-e", "quantity=2", playbook=SCALE)
    assert "the autoscaler keeps it between 4 and 10" in said and len(nodes(lab, "general")) == 4


# --- version


class Planes(threading.Thread):
    """How many nodes were out at once while this ran, and in which order they got the version."""

    def __init__(self, lab: Site) -> None:
        super().__init__(daemon=True)
        self.lab, self.over = lab, threading.Event()
        self.most_planes = self.most = self.looks = 0
        self.order: list[str] = []

    def run(self) -> None:
        while not self.over.wait(0.1):
            with contextlib.suppress(PlatformError):
                self._look(nodes(self.lab))

    def _look(self, found: Mapping[str, Mapping[str, Any]]) -> None:
        out = [name for name, node in found.items() if node["spec"].get("unschedulable") or not ready(node)]
        planes = [name for name in out if found[name]["metadata"]["labels"][POOL] == "controlplane"]
        self.looks += 1
        self.most, self.most_planes = max(self.most, len(out)), max(self.most_planes, len(planes))
        self.order += [name for name, node in found.items() if version(node) == NEW and name not in self.order]

    def __enter__(self) -> Planes:
        self.start()
        return self

    def __exit__(self, *_unused: object) -> None:
        self.over.set()
        self.join(30)


def upgrade(lab: Site, *arguments: str, to: str = NEW) -> Run:
    return lab.run("-e", f"rke2_cluster_version={to}", *arguments, playbook=UPGRADE)


@pytest.mark.parametrize(
    ("to", "sentence"),
    [
        ("v1.34.7+rke2r1", "cannot be taken back to an earlier version"),
        ("v1.36.1+rke2r1", "a minor version must not be left out. Go to a release of v1.35 first."),
        ("v1.34.10+rke2r1", "Rancher does not offer this version. It offers v1.34.9+rke2r1"),
    ],
)
def test_a_version_that_cannot_be_is_refused(lab: Site, to: str, sentence: str) -> None:
    assert sentence in refused(lab, "-e", f"rke2_cluster_version={to}", playbook=UPGRADE)


def test_the_site_does_not_upgrade_by_the_way(lab: Site) -> None:
    said = refused(lab, "-e", f"rke2_cluster_version={NEW}", playbook="site.yml")
    assert f"has RKE2 {OLD}, and rke2_cluster_version is {NEW}" in said and "run the playbook upgrade" in said


def test_without_a_snapshot_of_etcd_nothing_is_upgraded(lab: Site) -> None:
    (lab.directory / "faults.json").write_text('{"snapshot_fails": true}')
    try:
        client = lab.client("rancher")
        body = {"spec": {"rkeConfig": {"upgradeStrategy": {"workerConcurrency": "3"}}}}
        merge, by_hand = "application/merge-patch+json", {"fieldManager": "kubectl-edit"}
        client.request("PATCH", f"{FLEET}/{NAME}", body=body, content_type=merge, query=by_hand)
        said = upgrade(lab).said
        assert "Rancher would take 3 worker nodes at once" in said and "Run phase 0 (--tags phase0), which sets" in said
        mended = lab.run("--tags", "phase0")
        assert mended.returncode == 0 and mended.changed == 1, mended.tail
        run = lab.start("-e", f"rke2_cluster_version={NEW}", playbook=UPGRADE)
        until(lambda: client.request("GET", SNAPSHOTS)["items"], "snapshots that failed")
        time.sleep(3)
        assert run.process.poll() is None and (cluster(lab) or {})["spec"]["kubernetesVersion"] == OLD
        run.kill()
        run.finish()
    finally:
        (lab.directory / "faults.json").unlink()


def test_an_upgrade_goes_node_by_node_and_killed_half_way_the_next_run_finishes(lab: Site) -> None:
    before = set(nodes(lab))
    with Planes(lab) as watch:
        run = lab.start("-e", f"rke2_cluster_version={NEW}", playbook=UPGRADE)
        until(lambda: len(watch.order) >= 4 or run.process.poll() is not None, "a third of the nodes", 600)
        print(f"killed at {run.kill()}, {len(watch.order)} of {len(before)} nodes upgraded")
        run.finish()
        assert len(watch.order) < len(before), "it was over before it was killed"
        finished = upgrade(lab)
        assert finished.returncode == 0, finished.tail
    print(f"finished in {finished.seconds:.0f} s; {watch.looks} looks; at most {watch.most} nodes out at once")
    assert watch.looks > 50 and watch.most_planes == 1 and watch.most == 1
    there = nodes(lab)
    assert set(there) == before, "a machine was replaced"
    assert all(version(node) == NEW and ready(node) for node in there.values())
    assert {node.split("-controlplane-")[0] for node in watch.order[:3]} == {NAME}, watch.order
    assert any(
        item["snapshotFile"]["status"] == "successful"
        for item in lab.client("rancher").request("GET", SNAPSHOTS)["items"]
    )
    assert not lab.sealed()
    lab.again("-e", f"rke2_cluster_version={NEW}", playbook=UPGRADE)
    lab.again("-e", f"rke2_cluster_version={NEW}")
    lab.check()


def test_a_node_that_does_not_come_back_stops_the_run_by_its_name(lab: Site) -> None:
    """A budget keeps a worker from being drained."""
    guest, space = lab.cluster, "held-up"
    node = sorted(nodes(lab, "general"))[0]
    guest.request("POST", "/api/v1/namespaces", body={"metadata": {"name": space}})
    try:
        base = f"/api/v1/namespaces/{space}"
        until(lambda: guest.get_or_none(f"{base}/serviceaccounts/default"), "its account")
        spec = {"nodeName": node, "containers": [{"name": "c", "image": "nobody/knows:1"}]}
        guest.request("POST", f"{base}/pods", body={"metadata": {"name": "kept", "labels": {"a": "b"}}, "spec": spec})
        budget = {"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}}
        path = f"/apis/policy/v1/namespaces/{space}/poddisruptionbudgets"
        guest.request("POST", path, body=budget)
        until(lambda: (guest.request("GET", f"{path}/b").get("status") or {}).get("currentHealthy") == 1, "its budget")
        stopped = upgrade(lab, "-e", "rke2_cluster_node_timeout=60", to="v1.35.4+rke2r1")
        assert stopped.returncode == 2, stopped.tail
        assert f"the node {node} has not come back" in stopped.said and "is cordoned" in stopped.said
    finally:
        guest.delete(f"/api/v1/namespaces/{space}")
    finished = upgrade(lab, to="v1.35.4+rke2r1")
    assert finished.returncode == 0 and all(version(one) == "v1.35.4+rke2r1" for one in nodes(lab).values())


# --- the end


def test_another_name_destroys_nothing(lab: Site) -> None:
    for given in ("platform", ""):
        said = refused(lab, "-e", f"confirm_destroy={given}", playbook=DESTROY)
        assert f"The cluster {NAME} is kept, as confirm_destroy is '{given}'" in said
    assert cluster(lab) is not None and lab.secret("vault-init") is not None


def test_check_mode_says_what_would_go_and_stores_nothing(lab: Site) -> None:
    audit = Audit(lab)
    run = lab.run(*CONFIRMED, "--check", "--diff", playbook=DESTROY)
    assert run.returncode == 0 and run.changed >= 6, run.tail
    assert not audit.stored(), audit.stored()
    for word in ("Namespace vault", "PersistentVolume pvc-", "cc-platform-lab", "vault-init", "root-ca-"):
        assert word in run.said, word


def test_destroyed_with_kills_on_the_way_it_leaves_what_it_lists_and_no_more(lab: Site) -> None:
    ca, keys = lab.secret("root-ca"), lab.secret("vault-init")
    tokens = len(lab.client("rancher").request("GET", "/apis/management.cattle.io/v3/tokens")["items"])
    for task in (
        "Move the root CA aside",
        "Let go of addresses",
        "Delete the cluster and wait",
        "Delete the credentials",
    ):
        run = lab.start(*CONFIRMED, playbook=DESTROY)
        assert run.reaches(task), run.output[-3000:]
        time.sleep(2)
        print(f"killed at {run.kill()}")
        run.finish()
    done = lab.run(*CONFIRMED, playbook=DESTROY)
    assert done.returncode == 0, done.tail
    rancher, harvester = lab.client("rancher"), lab.harvester
    assert cluster(lab) is None and rancher.request("GET", MACHINES)["items"] == []
    assert rancher.request("GET", CONFIGS)["items"] == [] and rancher.request("GET", SNAPSHOTS)["items"] == []
    for space in ("cattle-global-data", "fleet-default"):
        items = rancher.request("GET", f"/api/v1/namespaces/{space}/secrets")["items"]
        assert not [item["metadata"]["name"] for item in items if NAME in item["metadata"]["name"]]
    for path in (
        "/apis/kubevirt.io/v1/namespaces/{}/virtualmachines",
        "/apis/kubevirt.io/v1/namespaces/{}/virtualmachineinstances",
        "/api/v1/namespaces/{}/persistentvolumeclaims",
    ):
        assert harvester.request("GET", path.format(NAME))["items"] == []
    images = harvester.request("GET", "/apis/harvesterhci.io/v1beta1/namespaces/default/virtualmachineimages")["items"]
    networks = "/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions"
    assert images and len(harvester.request("GET", networks)["items"]) == 2
    assert lab.secret("root-ca") is None and lab.secret("vault-init") is None
    kept = {
        item["metadata"]["name"] for item in harvester.request("GET", f"/api/v1/namespaces/{KEYS}/secrets")["items"]
    }
    names = {word: next(name for name in kept if name.startswith(f"{word}-")) for word in ("root-ca", "vault-init")}
    assert lab.secret(names["root-ca"]) == ca
    stored = lab.secret(names["vault-init"])
    assert stored is not None and keys is not None
    assert names["root-ca"].removeprefix("root-ca-") == names["vault-init"].removeprefix("vault-init-")
    for name in (*names.values(), "rocky-9-genericcloud", "vm-network", "services-network"):
        assert name in done.said, name
    assert "Rancher: " not in done.output, done.tail
    assert not (lab.directory / "kubeconfig" / "platform.yaml").exists()
    assert len(rancher.request("GET", "/apis/management.cattle.io/v3/tokens")["items"]) == tokens - 1
    lab.again(*CONFIRMED, playbook=DESTROY)


def test_a_new_cluster_of_the_same_name_comes_up(lab: Site) -> None:
    made = lab.run()
    assert made.returncode == 0, made.tail
    lab.again()
    lab.check()
    assert all(version(node) == OLD for node in nodes(lab).values())
