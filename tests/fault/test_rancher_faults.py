# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Phase 0 on the lab's Rancher and Harvester, which fail in one way each: what the user is told, and that the next run
converges. Each test makes a small cluster of its own."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator

import pytest

from tests.fault._rancher import CLAIMS, IMAGES, VMS, WAIT, Cluster, Faults, rancher_call
from tests.fault._site import Audit, Site, site, until

APPLY = "Apply credentials, machine configs and the cluster"
KUBECONFIG = "Keep a working kubeconfig"

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def lab() -> Iterator[Site]:
    where = site()
    where.empty(nodes="rancher")
    yield where


@pytest.fixture
def faults(lab: Site) -> Iterator[Faults]:
    made = Faults(lab)
    yield made
    made.none()


@pytest.fixture
def cluster(lab: Site, faults: Faults) -> Iterator[Cluster]:
    made = Cluster(lab, f"f-{uuid.uuid4().hex[:6]}")
    yield made
    faults.none()
    made.remove()


def answered(lab: Site, code: int) -> int:
    """How often Rancher's server itself has answered so."""
    text = (lab.directory / "log" / "rancher-server.log").read_text(errors="replace")
    return len(re.findall(rf" {code}$", text, re.MULTILINE))


# --- conflicts, trouble and silence


def test_conflicts_that_come_as_500_are_merged_anew(lab: Site, cluster: Cluster, faults: Faults) -> None:
    """Fault 14."""
    before = answered(lab, 500)
    faults.set(conflict_500=3)
    cluster.made()
    assert answered(lab, 500) - before == 3
    faults.none()
    cluster.converges()
    # Over somebody else's change: his stays, ours comes back.
    cluster.edit({"metadata": {"annotations": {"somebody": "else"}}})
    cluster.edit({"spec": {"rkeConfig": {"etcd": {"snapshotRetention": 9}}}})
    faults.set(conflict_500=3)
    assert cluster.made().changed == 1
    found = cluster.cluster()
    assert found and found["metadata"]["annotations"]["somebody"] == "else"
    assert found["spec"]["rkeConfig"]["etcd"]["snapshotRetention"] == 5


@pytest.mark.parametrize("fault", ["rancher_500", "rancher_silent"])
def test_rancher_in_trouble_for_half_a_minute_is_survived(
    lab: Site, cluster: Cluster, faults: Faults, fault: str
) -> None:
    """Fault 15: from before the first task, and again from the moment at which each of three tasks begins."""
    before, began = answered(lab, 500), time.monotonic()
    faults.set(**{fault: 30})
    run = cluster.start()
    for task in (APPLY, WAIT, KUBECONFIG):
        assert run.reaches(task), run.output[-3000:]
        faults.set(**{fault: 30})
    done = run.finish()
    assert done.returncode == 0, done.tail
    assert time.monotonic() - began >= 118, "it was over before the fault was"
    if fault == "rancher_500":
        assert answered(lab, 500) > before
    faults.none()
    cluster.converges()


def test_a_webhook_that_is_late_by_90_s_is_waited_for(lab: Site, cluster: Cluster, faults: Faults) -> None:
    """Fault 19: Rancher's admission webhook on a fresh server."""
    faults.set(webhook_late=90)
    began = time.monotonic()
    run = cluster.made()
    assert time.monotonic() - began >= 90
    assert "failed calling webhook" in run.said, "the user was not told what is waited for"
    faults.none()
    cluster.converges()


def test_a_webhook_in_the_fresh_cluster_that_is_late_is_waited_for(lab: Site, cluster: Cluster, faults: Faults) -> None:
    """Fault 19: Rancher's webhook in the cluster that it has made judges every namespace; phase 1 begins with one."""
    cluster.made()
    words = ("--tags", "phase1", "-e", json.dumps(cluster.variables))
    faults.set(webhook_late=90)
    began = time.monotonic()
    run = lab.run(*words)
    assert run.returncode == 0, run.tail
    assert time.monotonic() - began >= 90 and "failed calling webhook" in run.said
    faults.none()
    again = lab.run(*words)
    assert again.returncode == 0 and again.changed == 0, again.tail


# --- what cannot go on


def test_an_image_that_cannot_be_imported_is_told(lab: Site, cluster: Cluster, faults: Faults) -> None:
    name = f"image-{uuid.uuid4().hex[:6]}"
    url = f"https://images.example.com/{name}.qcow2"
    image = {"harvester_vm_image": name, "harvester_vm_image_url": url}
    faults.set(image_import_fails=name)
    said = cluster.refused(**image)
    assert f"VirtualMachineImage default/{name}" in said
    assert f"failed to download {url}: unexpected status code 404" in said
    assert "harvester_vm_image_url" in said and "delete the image" in said
    assert cluster.cluster() is None, "a cluster without an image"
    # The one mend, and the other.
    better = {**image, "harvester_vm_image_url": f"https://images.example.com/better-{uuid.uuid4().hex[:6]}.qcow2"}
    cluster.made(**better)
    faults.none()
    cluster.remove()
    lab.harvester.delete(f"{IMAGES}/{name}")
    until(lambda: lab.harvester.get_or_none(f"{IMAGES}/{name}") is None, "the image is gone")
    cluster.converges(**image)


def test_a_machine_that_never_reports_is_named(lab: Site, cluster: Cluster, faults: Faults) -> None:
    faults.set(vm_never_reports="general")
    said = cluster.refused(rke2_cluster_timeout=70)
    machine = cluster.machines("general")[0]["metadata"]["name"]
    assert re.search(r"it is not ready after [67]\d s:", said)
    assert f"general 0 of 1 ({machine} is Provisioned)" in said
    assert f"configuring worker node(s) {machine}: waiting for agent to check in" in said
    assert "virtual machines' consoles on Harvester, then run again" in said
    # The progress lines have said so before.
    assert re.search(rf"{WAIT}: \d+ of 70 s: .*{machine}", said)
    faults.none()
    cluster.converges()


def test_what_rancher_knows_is_told_before_the_time_out(lab: Site, cluster: Cluster, faults: Faults) -> None:
    """Fault 17: the cloud credential has gone, so no machine can be made."""
    faults.set(credential_gone=True)
    began = time.monotonic()
    said = cluster.refused()
    assert time.monotonic() - began < 150, "the time-out is 1800 s"
    assert "Rancher cannot go on:" in said and "of pool controlplane is Provisioning" in said
    assert "the cloud credential's token is not valid" in said and "then run again" in said
    faults.none()
    cluster.converges()


def test_room_short_by_one_node_is_refused_with_the_numbers(lab: Site, faults: Faults) -> None:
    whole = Cluster(lab, f"f-{uuid.uuid4().hex[:6]}", pools=None)
    with faults.on(quota_short=1):
        allocatable = "/api/v1/nodes"

        def short() -> bool:
            nodes = lab.harvester.request("GET", allocatable)["items"]
            return all(node["status"]["allocatable"]["cpu"].endswith("m") for node in nodes)

        until(short, "Harvester is short")
        audit = Audit(lab)
        said = whole.refused()
        # The run's own Lease and its namespace keep another run away meanwhile; nothing else was asked for.
        home = f"namespaces/{whole.name}-keys"
        asked = [what for what in audit.asked() if "/leases/run" not in what and not what.endswith(home)]
        assert not asked, asked
        needs = "The machines still to be made (3 of controlplane, 4 of general, 4 of database) need"
        assert f"{needs} 56 CPUs, but Harvester has 52 CPUs left." in said
        assert f"{needs} 192 GiB of memory, but Harvester has 184 GiB of memory left." in said
        assert f"{needs} 2400 GiB of storage (3 copies of each volume), but Harvester has" in said
        assert "lower the pools' minimum" in said


# --- credentials


@pytest.mark.parametrize("task", [APPLY, WAIT])
def test_a_token_that_expires_in_the_middle_is_told(lab: Site, cluster: Cluster, faults: Faults, task: str) -> None:
    """Faults 12 and 17. A cluster that is waited for needs longer than the token lives."""
    faults.set(vm_never_reports="general")
    run = cluster.start()
    assert run.reaches(task)
    faults.set(vm_never_reports="general", token_expires_now=True)
    done = run.finish()
    assert done.returncode == 2, done.tail
    assert "is not taken" in done.said and "has expired" in done.said, done.tail
    assert "platform_rancher_token" in done.said and "then run again" in done.said
    assert "Traceback" not in done.output
    # And an expired one is refused before anything is touched.
    audit = Audit(lab)
    said = cluster.refused()
    assert "Rancher does not take the token (HTTP 401). It has expired" in said and not audit.asked()
    faults.none()
    cluster.converges()


def test_days_left_are_told_before_it_is_too_late(lab: Site, cluster: Cluster) -> None:
    """Fault 17."""
    body = {"type": "token", "description": f"short {cluster.name}", "ttl": 5 * 86_400_000}
    token = rancher_call(lab, "POST", "/v3/tokens", body)["token"]
    run = cluster.made(platform_rancher_token=token)
    assert re.search(r"Rancher's token ends in (5\.0|4\.9) days\..*no pool grows: make a new one", run.said), run.tail
    assert "token ends in" not in cluster.made().said
    rancher_call(lab, "DELETE", f"/v3/tokens/{token.partition(':')[0]}")


def test_a_kubeconfig_whose_token_was_deleted_is_renewed(lab: Site, cluster: Cluster) -> None:
    """Fault 17: the 30 days of a kubeconfig are over."""
    cluster.made()
    (old,) = cluster.kubeconfig_tokens()
    rancher_call(lab, "DELETE", f"/v3/tokens/{old}")
    until(lambda: not cluster.kubeconfig_tokens(), "the token is gone")
    refused = lab.run("--tags", "phase1", "-e", json.dumps(cluster.variables))
    assert refused.returncode == 2 and "make a new kubeconfig (phase 0)" in refused.said, refused.tail
    run = cluster.made()
    assert run.changed == 1 and run.states(KUBECONFIG) == ["changed"], run.tail
    assert cluster.kubeconfig_tokens() != [old]
    cluster.sound()


# --- the controller itself


def test_a_kubeconfig_that_cannot_be_written_leaves_no_token(lab: Site, cluster: Cluster) -> None:
    """Fault 20: what is written last on this machine cannot be. A disk that is full: test_rancher_kills."""
    path = "/proc/nowhere/kubeconfig.yaml"
    said = cluster.refused(platform_kubeconfig=path)
    assert f"Writing the kubeconfig {path}" in said and "set platform_kubeconfig" in said
    assert cluster.kubeconfig_tokens() == []
    cluster.converges()


# --- what an earlier cluster has left


def test_what_a_cluster_has_left_is_told_and_removed_only_when_asked_for(lab: Site, cluster: Cluster) -> None:
    """Fault 22, as far as it concerns phase 0: the credential went first, so machines and volumes stay."""
    cluster.made()
    lab.client("rancher").delete(f"/api/v1/namespaces/cattle-global-data/secrets/cc-{cluster.name}")
    lab.client("rancher").delete(f"/apis/provisioning.cattle.io/v1/namespaces/fleet-default/clusters/{cluster.name}")
    until(lambda: cluster.cluster() is None, "the cluster is gone")
    left = sorted(item["metadata"]["name"] for item in cluster.on_harvester(VMS))
    assert len(left) == 3 and len(cluster.on_harvester(CLAIMS)) == 3
    told = cluster.run("--check")
    assert told.returncode == 0, told.tail
    assert "An earlier cluster of this name has left 9 objects on Harvester" in told.said, told.tail
    # A warning may be wrapped within a name.
    bare = "".join(told.output.split())
    assert all(f"VirtualMachine{cluster.name}/{name}" in bare for name in left)
    assert "rke2_cluster_remove_orphans: true" in told.said
    assert sorted(item["metadata"]["name"] for item in cluster.on_harvester(VMS)) == left
    run = cluster.made(rke2_cluster_remove_orphans=True)
    assert run.changed > 0
    there = {item["metadata"]["name"] for item in cluster.on_harvester(VMS)}
    assert len(there) == 3 and not there & set(left)
    cluster.converges()
