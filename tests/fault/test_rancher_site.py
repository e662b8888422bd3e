# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What phase 0 promises of the clusters that it makes through Rancher: UEFI from the first boot, no accidental roll,
the autoscaler's numbers are its own; UEFI for a cluster that somebody else has made; two clusters side by side."""

from __future__ import annotations

import pathlib
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ansible_collections.harvester_rke2.platform.plugins.module_utils._kube_client import MERGE

from tests.fault import _modules
from tests.fault._rancher import CONFIGS, SMALL, VMIS, VMS, Cluster, connection
from tests.fault._site import Audit, Site, site, until

APPLY = "Apply credentials, machine configs and the cluster"
ROLE = str(_modules.ROOT / "roles/rke2_cluster/templates/user-data")

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def lab() -> Iterator[Site]:
    where = site()
    where.empty(nodes="rancher")
    yield where


@pytest.fixture(scope="module")
def cluster(lab: Site) -> Iterator[Cluster]:
    """The small one, with four general nodes."""
    made = Cluster(lab, f"s-{uuid.uuid4().hex[:6]}", {**SMALL, "general": {**SMALL["general"], "minimum": 4}})
    made.made()
    yield made
    made.remove()


def efi(machine: dict[str, Any]) -> bool:
    spec = machine["spec"].get("template", {}).get("spec") or machine["spec"]
    return bool(spec["domain"].get("firmware", {}).get("bootloader", {}).get("efi"))


def test_every_machine_boots_by_uefi_from_its_first_boot(lab: Site, cluster: Cluster) -> None:
    """That the lab's machines without it do not boot is in tests/integration/test_lab_rancher.py."""
    machines, instances = cluster.on_harvester(VMS), cluster.on_harvester(VMIS)
    assert len(machines) == len(instances) == 6
    assert all(efi(machine) for machine in [*machines, *instances])
    # Never changed since they were made: it was so at the first boot.
    assert all(machine["metadata"]["generation"] == 1 for machine in machines)
    assert not any("lab.harvesterhci.io/not-booted" in (one["metadata"].get("annotations") or {}) for one in instances)
    made = cluster.cluster()
    assert made
    configs = [
        one for one in cluster.rancher.request("GET", CONFIGS)["items"] if cluster._mine(one["metadata"]["name"])
    ]
    assert len(configs) == 4 and all(one["enableEfi"] is True for one in configs)
    # Each config was there before the Cluster.
    assert all(one["metadata"]["creationTimestamp"] <= made["metadata"]["creationTimestamp"] for one in configs)
    cluster.sound()


def test_changed_user_data_is_refused_and_with_consent_rolled_one_node_at_a_time(
    lab: Site, cluster: Cluster, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "20-more.yml.j2").write_text("{% if pool.name == 'general' %}\ntimezone: UTC\n{% endif %}\n")
    changed = {"rke2_cluster_user_data": [ROLE, str(tmp_path)]}
    before, general = cluster.nodes(), {one["metadata"]["name"] for one in cluster.machines("general")}
    assert len(general) == 4
    audit = Audit(lab)
    said = cluster.refused(**changed)
    assert f"Changing HarvesterConfig fleet-default/{cluster.name}-general" in said and "userData" in said
    assert "every node of the pool general would be replaced" in said
    assert "rke2_cluster_allow_roll" in said
    assert not [word for word in audit.stored() if "harvesterconfigs" in word or "clusters/" in word]
    # Check mode tells the same and stores nothing.
    told = cluster.run("--check", **changed)
    assert told.returncode == 0 and "A run would be refused here." in told.said and "allow_roll" in told.said
    time.sleep(5)
    assert cluster.nodes() == before

    looks: list[tuple[int, int]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            nodes = lab.cluster.request("GET", "/api/v1/nodes")["items"]
            mine = [one for one in nodes if one["metadata"]["name"].startswith(f"{cluster.name}-general-")]
            ready = [one for one in mine if not one["spec"].get("unschedulable") and _ready(one)]
            looks.append((len(ready), len(mine)))
            time.sleep(0.2)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    run = cluster.run(**changed, rke2_cluster_allow_roll=["general"])
    over.set()
    watcher.join(30)
    assert run.returncode == 0 and run.changed >= 1, run.tail
    now = {one["metadata"]["name"] for one in cluster.machines("general")}
    assert len(now) == 4 and not now & general, "rolled whole, and the run waited for it"
    others = [name for name in before if "-general-" not in name]
    assert [name for name in cluster.nodes() if "-general-" not in name] == others, "only that pool"
    fewest, most = min(ready for ready, _ in looks), max(there for _, there in looks)
    print(f"{len(looks)} looks in {run.seconds:.0f} s: never under {fewest} ready, never over {most} nodes")
    # While the one drained last is still going, the next may come.
    assert fewest >= 4 and most in (5, 6), looks
    # From now on it is what the cluster has.
    cluster.variables |= changed
    assert cluster.run().changed == 0


def _ready(node: dict[str, Any]) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in node["status"].get("conditions") or [])


def test_what_the_autoscaler_has_scaled_stays(lab: Site, cluster: Cluster) -> None:
    cluster.scale("general", lambda _: 6)
    run = cluster.run()
    assert run.returncode == 0 and run.changed == 0, run.tail
    assert cluster.pool("general")["quantity"] == 6 and len(cluster.machines("general")) == 6
    # What is above the maximum is nobody's wish: the next run says so by its change.
    cluster.scale("general", lambda _: 4)
    until(lambda: len(cluster.machines("general")) == 4 and len(cluster.nodes()) == 6, "scaled back")


def test_the_autoscaler_scales_between_our_read_and_our_write(lab: Site, cluster: Cluster) -> None:
    """It writes again and again while we do; each time it looks, its own number is still there."""
    cluster.edit({"spec": {"rkeConfig": {"etcd": {"snapshotRetention": 9}}}})
    numbers: list[int] = []
    wrong: list[tuple[int, int]] = []
    over = threading.Event()

    def change(seen: int) -> int:
        if numbers and seen != numbers[-1]:
            wrong.append((numbers[-1], seen))
        return 11 - seen if seen in (5, 6) else 5

    def scale() -> None:
        while not over.is_set():
            numbers.append(cluster.scale("general", change))

    run = cluster.start()
    assert run.reaches(APPLY)
    scaler = threading.Thread(target=scale, daemon=True)
    scaler.start()
    mended = until(lambda: _retention(cluster) == 5, "our write has arrived", 60)
    between = len(numbers)
    over.set()
    scaler.join(30)
    done = run.finish()
    assert mended and done.returncode == 0, done.tail
    assert between > 3, "the autoscaler was not quick enough to come in between"
    assert not wrong, f"set back: {wrong}"
    assert cluster.pool("general")["quantity"] == numbers[-1]
    print(f"{between} writes of the autoscaler around ours")
    cluster.scale("general", lambda _: 4)
    until(lambda: len(cluster.machines("general")) == 4 and len(cluster.nodes()) == 6, "scaled back")


def _retention(cluster: Cluster) -> int:
    found = cluster.cluster()
    assert found
    return int(found["spec"]["rkeConfig"]["etcd"]["snapshotRetention"])


# --- a cluster that somebody else has made


def test_an_adopted_cluster_gets_uefi_once_with_consent_and_never_over_a_change(lab: Site, cluster: Cluster) -> None:
    """Fault 18. The machine config of a pool without nodes is switched off, as an adopted cluster's would be."""
    path = f"{CONFIGS}/{cluster.name}-compute"

    def patch(body: dict[str, Any]) -> None:
        cluster.rancher.request("PATCH", path, body=body, content_type=MERGE)

    def switch(check: bool = False, **more: Any) -> _modules.Outcome:
        wanted = {"name": cluster.name, "harvester_cluster": "harvester", **more}
        return _modules.run("rancher_machine_config_efi", {**connection(lab), **wanted}, check=check)

    assert switch().result["changed"] is False
    patch({"enableEfi": None})
    audit = Audit(lab)
    planned = switch(check=True)
    assert planned.result["changed"] and not audit.stored(), planned.text
    # Somebody changes the config between our reading and our writing: his change stays.
    over = threading.Event()

    def edit() -> None:
        number = 0
        while not over.is_set():
            number += 1
            patch({"metadata": {"annotations": {"edited": str(number)}}, "sshUser": f"u{number}"})
            time.sleep(0.05)

    editor = threading.Thread(target=edit, daemon=True)
    editor.start()
    first = switch()
    over.set()
    editor.join(30)
    assert first.returncode == 0 and first.result["switched"] == [f"{cluster.name}-compute"], first.text
    now = cluster.rancher.request("GET", path)
    assert now["enableEfi"] is True and now["sshUser"] == f"u{now['metadata']['annotations']['edited']}"
    assert switch().result["changed"] is False, "twice is once"
    # A pool with nodes needs consent.
    patch({"sshUser": "rocky"})
    cluster.rancher.request("PATCH", f"{CONFIGS}/{cluster.name}-general", body={"enableEfi": False}, content_type=MERGE)
    refused = switch()
    cluster.rancher.request("PATCH", f"{CONFIGS}/{cluster.name}-general", body={"enableEfi": True}, content_type=MERGE)
    assert refused.returncode != 0 and "general" in refused.message and "replaced" in refused.message, refused.text


# --- two clusters


def test_two_clusters_side_by_side(lab: Site, tmp_path: pathlib.Path) -> None:
    """All clusters of the lab share one RKE2 API server, so that only phase 0 can be shown of a second one."""
    seconds: dict[int, float] = {}
    for count in (1, 2):
        lab.empty(nodes="rancher")
        clusters = [Cluster(lab, f"side-{number}", None) for number in range(count)]
        hosts = {
            one.name: {
                **one.variables,
                "ansible_connection": "local",
                "ansible_python_interpreter": "{{ lab_directory }}/python",
                "lab_directory": str(lab.directory),
            }
            for one in clusters
        }
        inventory = tmp_path / f"{count}.yml"
        inventory.write_text(yaml.safe_dump({"rke2_clusters": {"hosts": hosts}}))
        limit = ":".join(one.name for one in clusters)
        words = ["-i", str(inventory), "--limit", limit, "--tags", "phase0", "--forks", "2"]
        run = lab.run(*words)
        assert run.returncode == 0, run.tail
        seconds[count] = run.seconds
        for one in clusters:
            assert len(one.machines()) == 11
            one.sound()
        again = lab.run(*words)
        assert again.returncode == 0 and again.changed == 0, again.tail
        print(f"{count} of 11 nodes each: {run.seconds:.0f} s, again {again.seconds:.0f} s, changed 0")
    print(f"two take {seconds[2] / seconds[1]:.2f} times as long as one")
    assert seconds[2] < 2 * seconds[1]
