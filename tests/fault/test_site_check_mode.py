# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""`--check --diff` over all phases stores nothing: on an empty lab, a half-made one, a converged one, and with no API.

The measure: in the audit logs of all API servers no write that is stored and no credential that is minted; of Vault no
request that writes (its own counters) and no entry in its Raft log.
"""

from __future__ import annotations

import pathlib
import re
import threading
from collections.abc import Iterator

import pytest

from tests.fault._site import PODS, Audit, Site, site, vault_call

CHECK = ("--check", "--diff")
_ROUTE = re.compile(r"^(?:vault|openbao|bao)_route_(create|update|patch|delete|revoke)_(\S+?)__?count (\d+)", re.M)

# Several whole runs a test, on whatever machine this is.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def lab() -> Iterator[Site]:
    where = site()
    where.empty()
    yield where


class VaultWatch:
    """Counts requests that write while the block runs: by the leader's counters, which forget after half a minute and
    so are read again and again, and by its Raft log, in which every write of whatever origin is an entry."""

    def __init__(self, where: Site) -> None:
        self.where, self.leader = where, where.leader()
        self.requests: dict[str, int] = {}
        self.entries = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> VaultWatch:
        self._before, self._index = self._counts(), self._raft()
        self._thread.start()
        return self

    def __exit__(self, *_unused: object) -> None:
        self._over.set()
        self._thread.join(60)
        assert not self._thread.is_alive() and self.where.leader() == self.leader, "the leader has changed meanwhile"
        self._look()
        self.entries = self._raft() - self._index

    def _watch(self) -> None:
        while not self._over.wait(4):
            self._look()

    def _look(self) -> None:
        for name, count in self._counts().items():
            if count > self._before.get(name, 0):
                self.requests[name] = max(self.requests.get(name, 0), count - self._before.get(name, 0))

    def _counts(self) -> dict[str, int]:
        with self.where.cluster.portforward("vault", self.leader, 8200) as (host, port):
            text = vault_call(f"http://{host}:{port}", "GET", "sys/metrics?format=prometheus")
        return {f"{verb} {mount}": int(count) for verb, mount, count in _ROUTE.findall(text)}

    def _raft(self) -> int:
        return int(self.where.vault(self.leader, "GET", "sys/leader")["raft_committed_index"])


def test_on_an_empty_lab_nothing_is_stored(lab: Site) -> None:
    audit = Audit(lab)
    run = lab.run(*CHECK)
    assert run.returncode == 0, run.tail
    assert not audit.stored(), audit.stored()
    # The measure sees something: this many objects were validated by the servers.
    assert sum(audit.asked().values()) > 20
    assert run.changed >= 10, run.tail
    # What an earlier phase would make, is told as such.
    assert "would create, not validated" in run.output
    assert lab.harvester.get_or_none("/api/v1/namespaces/platform-lab-keys") is None
    assert not list((lab.home / ".local").rglob("*")), "a spool was made"


@pytest.mark.parametrize("mode", [(), CHECK], ids=["for real", "check"])
def test_one_phase_alone_on_an_empty_lab_is_refused_naming_what_to_run_first(lab: Site, mode: tuple[str, ...]) -> None:
    audit = Audit(lab)
    monitoring = "alertmanager, grafana, hubble, prometheus, traefik_dashboard"
    for phase, ground in (
        (2, "vault, vault_pki need cert_manager, which phase 1 makes: run it first (--tags phase1)."),
        (3, f"{monitoring} need vault_pki, which phase 2 makes: run it first (--tags phase2)."),
    ):
        run = lab.run("--tags", f"phase{phase}", *mode)
        assert run.returncode == 2 and run.changed == 0, run.tail
        assert f"Phase {phase} needs the root CA, which phase 0 makes: run it first (--tags phase0)." in run.said
        assert ground in run.said, run.said
    assert not audit.asked()


@pytest.mark.parametrize("how", ["no kubeconfig", "nobody answers"])
def test_without_any_api_each_phase_prints_its_plan(lab: Site, tmp_path: pathlib.Path, how: str) -> None:
    kubeconfig = tmp_path / "kubeconfig.yaml"
    if how == "nobody answers":
        text = pathlib.Path(lab.kubeconfig("cluster")).read_text()
        kubeconfig.write_text(re.sub(r"server: .*", "server: https://127.0.0.1:1", text))
    audit = Audit(lab)
    both = [f"-eplatform_kubeconfig={kubeconfig}", f"-eplatform_harvester_kubeconfig={kubeconfig}"]
    run = lab.run(*CHECK, *both)
    assert run.returncode == 0, run.tail
    assert not audit.asked()
    assert run.report["phases"].keys() >= {"phase0", "phase1", "phase2"}
    for phase in ("phase0", "phase1", "phase2"):
        assert run.report["phases"][phase]["changed"] >= 1, run.tail
    for planned in ("Root CA", "Deployment node-labeler (", "Helm release vault/vault", "pki_int"):
        assert planned in run.output, planned
    assert lab.run(*both).returncode == 2, "for real it must fail"


def test_on_a_half_made_lab_the_next_phase_is_planned_and_nothing_stored(lab: Site) -> None:
    """Phases 0 and 1 are there, and of phase 2 what a killed run may have left: Vault deployed, not initialised."""
    made = lab.run("--tags", "phase0,phase1")
    assert made.returncode == 0, made.tail
    for left in ("nothing", "pods of an empty Vault"):
        audit = Audit(lab)
        run = lab.run("--tags", "phase2", *CHECK)
        assert run.returncode == 0 and run.changed >= 4, f"{left}: {run.tail}"
        assert not audit.stored(), audit.stored()
        if left == "nothing":
            killed = lab.start("--tags", "phase2")
            assert killed.reaches("Initialise Vault once and keep its keys")
            killed.kill()
            pods = "/api/v1/namespaces/vault/pods"
            assert {pod["metadata"]["name"] for pod in lab.cluster.request("GET", pods)["items"]} >= set(PODS)


def test_on_a_converged_lab_nothing_is_changed_and_nothing_stored(lab: Site) -> None:
    lab.converged()
    lab.again()
    audit = Audit(lab)
    with VaultWatch(lab) as watch:
        run = lab.run(*CHECK)
    assert run.returncode == 0 and run.changed == 0, run.tail
    assert "\n+++ " not in run.output, "a diff although nothing changes"
    assert not audit.stored(), audit.stored()
    assert sum(audit.asked().values()) > 0
    assert not watch.requests, watch.requests
    # Without a request that writes, an entry is Vault's own housekeeping (it tidies its PKI, leases end).
    print(f"{watch.entries} entries in the Raft log meanwhile, none of them asked for")


def test_the_measure_sees_a_write_to_vault(lab: Site) -> None:
    token = lab.init()["root_token"]
    with VaultWatch(lab) as watch:
        lab.vault(
            watch.leader, "PUT", "sys/policies/acl/seen", {"policy": 'path "x" { capabilities = ["read"] }'}, token
        )
        lab.vault(watch.leader, "DELETE", "sys/policies/acl/seen", None, token)
    assert watch.requests.keys() == {"update sys", "delete sys"} and watch.entries >= 2, (watch.requests, watch.entries)


def test_the_measure_sees_what_is_stored_and_what_is_minted(lab: Site) -> None:
    space = "/api/v1/namespaces/default"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seen"}}
    for server in ("cluster", "harvester", "rancher"):
        audit, client = Audit(lab), lab.client(server)
        client.request("POST", f"{space}/configmaps", body=body, query={"dryRun": "All"})
        assert not audit.stored() and sum(audit.asked().values()) == 1
        client.request("POST", f"{space}/configmaps", body=body)
        client.delete(f"{space}/configmaps/seen")
        client.request("POST", f"{space}/serviceaccounts/default/token", body={"spec": {"expirationSeconds": 600}})
        assert sorted(audit.stored()) == [
            f"{server}: create default/configmaps/seen",
            f"{server}: create default/serviceaccounts/default/token",
            f"{server}: delete default/configmaps/seen",
        ]


def test_a_converged_lab_shows_drift_in_check_mode_and_leaves_it(lab: Site) -> None:
    """Not only nothing where there is nothing: a difference is shown, and still there afterwards."""
    path = "/apis/apps/v1/namespaces/node-labeler/deployments/node-labeler"
    before = lab.cluster.request("GET", path)["spec"]["replicas"]
    lab.cluster.request(
        "PATCH",
        path,
        body={"spec": {"replicas": before + 1}},
        content_type="application/merge-patch+json",
        query={"fieldManager": "kubectl-edit"},
    )
    run = lab.run("--tags", "node_labeler", *CHECK)
    assert run.returncode == 0 and run.changed == 1 and f"-  replicas: {before + 1}" in run.output, run.tail
    assert lab.cluster.request("GET", path)["spec"]["replicas"] == before + 1
    mended = lab.run("--tags", "node_labeler")
    assert mended.returncode == 0 and mended.changed == 1, mended.tail
    assert lab.cluster.request("GET", path)["spec"]["replicas"] == before
