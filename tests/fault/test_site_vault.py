# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Vault's pods on the converged lab: one is killed, all are, and an operator seals on purpose."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from tests.fault._site import PODS, TO_PHASE_2, TO_VAULT, Site, site, until

UNSEAL = "playbooks/unseal.yml"

# Several whole runs a test, on whatever machine this is.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def lab() -> Iterator[Site]:
    where = site()
    where.converged(*TO_VAULT)
    where.again(*TO_VAULT)
    yield where


def servers() -> set[int]:
    """The processes of all Vault servers of this suite's lab."""
    mark = f"LAB_PROCESS={site().directory}".encode()
    found = set()
    for entry in pathlib.Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            if words[:2] == [b"vault", b"server"] and of_lab(int(entry.name), mark):
                found.add(int(entry.name))
        except OSError:
            continue
    return found


def of_lab(pid: int, mark: bytes) -> bool:
    """A pod's process has the environment of its container: its ancestors carry the lab's mark."""
    while pid > 1:
        if mark in pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            return True
        pid = int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


def process_of(lab: Site, pod: str) -> int:
    """The one whose network namespace has the pod's address."""
    found = lab.pod(pod)
    assert found is not None
    for pid in servers():
        if found["status"]["podIP"] in pathlib.Path(f"/proc/{pid}/net/fib_trie").read_text():
            return pid
    raise AssertionError(f"no process has the address of {pod}")


def deleted(lab: Site, *pods: str) -> None:
    """Delete pods and wait for those that the StatefulSet makes in their place."""
    before = {name: lab.pod(name) for name in pods}
    for name in pods:
        lab.cluster.delete(f"/api/v1/namespaces/vault/pods/{name}")
    for name, old in before.items():
        assert old is not None

        def new(name: str = name, uid: str = old["metadata"]["uid"]) -> bool:
            found = lab.pod(name)
            return bool(found and found["metadata"]["uid"] != uid and found["status"].get("phase") == "Running")

        until(new, f"a new {name}")
    until(lambda: [lab.vault(name, "GET", "sys/seal-status") for name in pods], "their servers answer")


def identity(lab: Site) -> tuple[str, list[str]]:
    """What must outlive every restart: the Vault itself and its intermediate CA."""
    token, leader = lab.init()["root_token"], lab.leader()
    issuers = lab.vault(leader, "GET", "pki_int/issuers?list=true", None, token)["data"]["keys"]
    return lab.vault(leader, "GET", "sys/seal-status")["cluster_id"], sorted(issuers)


def test_a_pod_is_deleted_its_process_ends_it_comes_back_sealed_with_its_data(lab: Site) -> None:
    before, pid = identity(lab), process_of(lab, "vault-1")
    deleted(lab, "vault-1")
    assert pid not in servers() and len(servers()) == 3
    status = lab.vault("vault-1", "GET", "sys/seal-status")
    assert status["sealed"] and status["initialized"], "an empty volume would not be initialised"
    run = lab.run(playbook=UNSEAL)
    assert run.returncode == 0 and run.states("Unseal what is sealed and wait for the voters") == ["changed"], run.tail
    assert run.states("Initialise Vault once and keep its keys") == ["skipped"]
    assert not lab.sealed() and identity(lab) == before
    lab.check(*TO_PHASE_2)
    assert lab.again(playbook=UNSEAL).changed == 0
    lab.again(*TO_VAULT)


def test_all_three_are_killed_the_site_opens_them(lab: Site) -> None:
    before, pids = identity(lab), servers()
    deleted(lab, *PODS)
    assert not pids & servers() and lab.sealed() == list(PODS)
    checked = lab.run(*TO_VAULT, "--check", "--diff")
    assert checked.returncode == 0 and lab.sealed() == list(PODS), checked.tail
    assert checked.states("Unseal what is sealed and wait for the voters") == ["changed"]
    run = lab.run(*TO_VAULT)
    assert run.returncode == 0 and run.changed == 1, run.tail
    assert not lab.sealed() and identity(lab) == before
    lab.check(*TO_PHASE_2)
    lab.again(*TO_VAULT)


@pytest.mark.parametrize("count", [1, 2], ids=["the leader", "two, so that no leader is left"])
def test_sealed_on_purpose_the_site_leaves_it_and_unseal_opens_it(lab: Site, count: int) -> None:
    before, token = identity(lab), lab.init()["root_token"]
    for _ in range(count):
        # Only the active server takes this request; when it is sealed another one becomes active.
        leader = until(lambda: next((pod for pod in PODS if is_active(lab, pod)), None), "a leader")
        lab.vault(leader, "PUT", "sys/seal", {}, token)
    assert len(lab.sealed()) == count
    closed = lab.sealed()
    for mode in ((), ("--check", "--diff")):
        refused = lab.run(*TO_VAULT, *mode)
        assert refused.returncode == 2, refused.tail
        assert "was sealed while it was running, so somebody sealed it on purpose" in refused.said, refused.tail
        assert lab.sealed() == closed
    run = lab.run(playbook=UNSEAL)
    assert run.returncode == 0, run.tail
    assert not lab.sealed() and identity(lab) == before
    lab.check(*TO_PHASE_2)
    lab.again(*TO_VAULT)


def is_active(lab: Site, pod: str) -> bool:
    status = lab.vault(pod, "GET", "sys/seal-status")
    return not status["sealed"] and bool(lab.vault(pod, "GET", "sys/leader").get("is_self"))
