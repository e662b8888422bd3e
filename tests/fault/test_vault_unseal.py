# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Unsealing: only what is sealed, with the right keys, alone, and never against an operator's will."""

from __future__ import annotations

import base64
import pathlib
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fault._vault_case import Case

RECORD = "platform.harvester-rke2.io/vault-unsealed"


@pytest.fixture
def case(tmp_path: pathlib.Path) -> Iterator[Case]:
    with Case(tmp_path) as made:
        yield made


@pytest.fixture
def single(tmp_path: pathlib.Path) -> Iterator[Case]:
    with Case(tmp_path, servers=1) as made:
        yield made


def wrong_keys(stored: dict[str, Any]) -> dict[str, Any]:
    keys = [secrets.token_bytes(33) for _ in range(5)]
    encoded = [base64.b64encode(key).decode() for key in keys]
    return {**stored, "keys": [key.hex() for key in keys], "keys_base64": encoded}


def sealed(case: Case) -> list[str]:
    return [node.name for node in case.servers.nodes if node.status()["sealed"]]


def test_restarts_one_of_three_all_three_and_none(case: Case) -> None:
    planned = case.unseal(check=True)
    assert planned.result["changed"] and not case.gate.writes(), planned.text
    assert case.init().returncode == 0
    first = case.unseal()
    assert first.result["unsealed"] == ["vault-0", "vault-1", "vault-2"], first.text
    assert sum(peer["voter"] for peer in first.result["peers"]) == 3
    case.gate.reset()
    for check in (False, True):
        again = case.unseal(check=check)
        assert again.returncode == 0 and not again.result["changed"] and not case.gate.writes(), again.text
    case.servers.nodes[1].restart()
    planned = case.unseal(check=True)
    assert planned.result["unsealed"] == ["vault-1"] and not case.gate.writes() and sealed(case) == ["vault-1"]
    one = case.unseal()
    assert one.returncode == 0 and one.result["unsealed"] == ["vault-1"] and not sealed(case), one.text
    assert all("vault-1" in call for call in case.gate.writes())
    for node in case.servers.nodes:
        node.restart()
    every = case.unseal()
    assert every.returncode == 0 and len(every.result["unsealed"]) == 3 and not sealed(case), every.text


def test_wrong_keys_are_told_in_one_sentence(single: Case) -> None:
    single.ready()
    right = single.stored()
    assert right is not None
    single.kube.delete(f"/api/v1/namespaces/{single.namespace}/secrets/vault-init")
    wrong = wrong_keys(right)
    single.put("vault-init", wrong)
    single.servers.nodes[0].restart()
    outcome = single.unseal()
    assert outcome.returncode != 0 and "the stored keys are not its keys" in outcome.message, outcome.text
    assert not any(key in outcome.text for key in [*wrong["keys"], *wrong["keys_base64"]])
    assert single.servers.nodes[0].status()["progress"] == 0


def test_keys_of_another_number_are_not_even_tried(single: Case) -> None:
    single.ready()
    stored = single.stored()
    assert stored is not None
    single.kube.delete(f"/api/v1/namespaces/{single.namespace}/secrets/vault-init")
    single.put("vault-init", {**stored, "secret_threshold": 2})
    single.servers.nodes[0].restart()
    single.gate.reset()
    outcome = single.unseal()
    assert outcome.returncode != 0 and "asks for 3 of 5 keys" in outcome.message, outcome.text
    assert not single.gate.writes()


def test_a_share_that_somebody_has_left_is_reset_first(single: Case) -> None:
    single.ready()
    stored, node = single.stored(), single.servers.nodes[0]
    assert stored is not None
    node.restart()
    node.call("PUT", "sys/unseal", {"key": wrong_keys(stored)["keys"][0]})
    assert node.status()["progress"] == 1
    outcome = single.unseal()
    assert outcome.returncode == 0 and outcome.result["unsealed"] == ["vault-0"], outcome.text


def test_nonce_changes_because_somebody_else_unseals_at_the_same_time(single: Case) -> None:
    single.ready()
    stored, node = single.stored(), single.servers.nodes[0]
    assert stored is not None
    node.restart()
    single.gate.reset()

    def interfere(call: str) -> None:
        if len(single.gate.writes()) == 1 and call.startswith("PUT"):
            node.call("PUT", "sys/unseal", {"reset": True})

    single.gate.on_answer = interfere
    outcome = single.unseal()
    assert outcome.returncode != 0 and "somebody else unseals it" in outcome.message, outcome.text
    single.gate.on_answer = lambda call: None
    assert single.unseal().returncode == 0


def test_answer_to_a_share_lost_the_next_run_starts_over(single: Case) -> None:
    single.ready()
    single.servers.nodes[0].restart()
    single.gate.reset()
    single.gate.drop_after = lambda call: call.startswith("PUT") and len(single.gate.writes()) == 2
    assert single.unseal().returncode != 0
    single.gate.drop_after = lambda call: False
    outcome = single.unseal()
    assert outcome.returncode == 0 and outcome.result["unsealed"] == ["vault-0"], outcome.text


def test_killed_at_every_call_the_next_run_finishes(single: Case) -> None:
    single.ready()
    number = 0
    while True:
        number += 1
        single.servers.nodes[0].restart()
        single.killed("vault_unseal", single.params(), number, "before it is sent on")
        if len(single.gate.calls) < number:
            break
        outcome = single.unseal()
        assert outcome.returncode == 0 and not sealed(single), f"killed at call {number}: {outcome.text}"
    print(f"{number - 1} calls")
    assert number > 5


def test_no_keys_is_told(single: Case) -> None:
    single.ready()
    single.kube.delete(f"/api/v1/namespaces/{single.namespace}/secrets/vault-init")
    single.servers.nodes[0].restart()
    outcome = single.unseal()
    assert outcome.returncode != 0 and "does not exist" in outcome.message, outcome.text
    assert "offline copy" in outcome.message and sealed(single) == ["vault-0"]


def test_half_joined_a_server_that_never_joins(tmp_path: pathlib.Path) -> None:
    """Its retry_join leads nowhere."""
    with Case(tmp_path, servers=2) as case:
        lone = case.servers.nodes[1]
        lone.peers = []
        lone.restart()
        assert case.init().returncode == 0
        outcome = case.unseal(timeout=8)
        assert outcome.returncode != 0, outcome.text
        assert "Unsealing vault-1: it has not joined the Raft cluster within 8 s" in outcome.message, outcome.text


def test_half_joined_a_server_that_was_removed(case: Case) -> None:
    """It answers as unsealed, but the leader does not count it: the leader's peers decide."""
    case.ready()
    leader = next(node for node in case.servers.nodes if node.name == case.leader())
    gone = next(node for node in case.servers.nodes if node.name != leader.name)
    leader.call("POST", "sys/storage/raft/remove-peer", {"server_id": gone.name}, token=case.root_token())
    outcome = case.unseal(timeout=8)
    assert outcome.returncode != 0, outcome.text
    assert f"{gone.name} is not among the leader's peers" in outcome.message, outcome.text
    assert "until its volume claim is deleted" in outcome.message


def test_half_joined_a_server_that_stays_sealed_after_all_its_shares(tmp_path: pathlib.Path) -> None:
    """It has asked to join, and then the leader is gone: its shares are accepted, but it cannot open."""
    with Case(tmp_path, servers=2) as case:
        assert case.init().returncode == 0
        first, second = case.servers.nodes
        for key in (case.stored() or {})["keys"][:3]:
            first.call("PUT", "sys/unseal", {"key": key})
        deadline = time.monotonic() + 30
        while not second.status()["initialized"] and time.monotonic() < deadline:
            time.sleep(0.1)
        first.stop()
        case.gate.reset()
        outcome = case.unseal(addresses={"vault-1": case.addresses["vault-1"]}, timeout=8)
        assert outcome.returncode != 0, outcome.text
        assert "after 8 s: it has only half joined the Raft cluster" in outcome.message, outcome.text
        assert len(case.gate.writes()) == 3, "shares are never sent again"


def test_seal_on_purpose_is_respected(single: Case) -> None:
    """The pod's container runs on, so nobody but an operator can have sealed it; a restart is another matter."""
    pod = Pod(single, "vault-0")
    pod.make()
    params: dict[str, Any] = {"kubeconfig": single.kubeconfig, "vault_namespace": single.namespace}
    assert single.init().returncode == 0
    assert single.unseal(**params).returncode == 0
    assert pod.read()["metadata"]["annotations"][RECORD]
    single.servers.nodes[0].call("PUT", "sys/seal", {}, token=single.root_token())
    single.gate.reset()
    for check in (True, False):
        refused = single.unseal(check=check, **params)
        assert refused.returncode != 0 and "somebody sealed it on purpose" in refused.message, refused.text
    assert not single.gate.writes() and sealed(single) == ["vault-0"]
    forced = single.unseal(force=True, **params)
    assert forced.returncode == 0 and forced.result["unsealed"] == ["vault-0"], forced.text
    single.servers.nodes[0].restart()
    pod.start(restarts=1)
    restarted = single.unseal(**params)
    assert restarted.returncode == 0 and restarted.result["unsealed"] == ["vault-0"], restarted.text


def test_revoked_root_token_is_told_and_another_is_taken(single: Case) -> None:
    single.ready()
    node, root = single.servers.nodes[0], single.root_token()
    other = node.call("POST", "auth/token/create", {"policies": ["root"], "no_parent": True}, token=root)
    node.call("POST", "auth/token/revoke-self", {}, token=root)
    refused = single.unseal()
    assert refused.returncode != 0 and "The root token may have been revoked" in refused.message, refused.text
    assert single.unseal(token=other["auth"]["client_token"]).returncode == 0
    assert single.unseal(voters=0).returncode == 0


class Pod:
    """A pod as the API shows it; what runs behind it is the test's server."""

    def __init__(self, case: Case, name: str) -> None:
        self.kube, self.namespace, self.name = case.kube, case.namespace, name
        self.path = f"/api/v1/namespaces/{self.namespace}/pods/{name}"

    def make(self) -> None:
        for path, body in (
            ("/api/v1/namespaces", {"kind": "Namespace", "metadata": {"name": self.namespace}}),
            (
                f"/api/v1/namespaces/{self.namespace}/serviceaccounts",
                {"kind": "ServiceAccount", "metadata": {"name": "vault"}},
            ),
            (
                f"/api/v1/namespaces/{self.namespace}/pods",
                {
                    "kind": "Pod",
                    "metadata": {"name": self.name},
                    "spec": {
                        "serviceAccountName": "vault",
                        "automountServiceAccountToken": False,
                        "schedulerName": "none",
                        "containers": [{"name": "vault", "image": "example.invalid/vault:1"}],
                    },
                },
            ),
        ):
            self.kube.request("POST", path, body={"apiVersion": "v1", **body})
        self.start(restarts=0)

    def start(self, restarts: int) -> None:
        running = {"running": {"startedAt": f"2026-01-01T00:00:0{restarts}Z"}}
        container = {"name": "vault", "image": "x", "imageID": "", "ready": True, "state": running}
        status = {"phase": "Running", "containerStatuses": [{**container, "restartCount": restarts}]}
        merge = "application/merge-patch+json"
        self.kube.request("PATCH", f"{self.path}/status", body={"status": status}, content_type=merge)

    def read(self) -> dict[str, Any]:
        found = self.kube.get_or_none(self.path)
        assert found is not None
        return found
