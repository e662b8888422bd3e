# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""One root, one key a intermediate, and objects that converge, whatever fails in between."""

from __future__ import annotations

import base64
import pathlib
import time
import urllib.error
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _pki
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from tests.fault import _modules
from tests.fault._gate import AFTER, BEFORE
from tests.fault._vault_case import Case

CANARY = "canary-5b1f-of-a-password"


@pytest.fixture
def case(tmp_path: pathlib.Path) -> Iterator[Case]:
    with Case(tmp_path, servers=1) as made:
        yield made


def root_params(case: Case, **more: Any) -> dict[str, Any]:
    params = {key: value for key, value in case.params().items() if key != "addresses"}
    return {**params, "key_bits": 3072, **more}


def make_root(case: Case, **more: Any) -> _modules.Outcome:
    return _modules.run("root_ca", root_params(case, **more))


def make_intermediate(case: Case, *, check: bool = False, **more: Any) -> _modules.Outcome:
    return _modules.run("vault_intermediate", case.params(key_bits=2048, **more), check=check)


def intermediate_keys(case: Case) -> int:
    return len(case.servers.nodes[0].call("LIST", "pki_int/keys", token=case.root_token())["data"]["keys"])


def verified(outcome: _modules.Outcome) -> None:
    """The chain: an intermediate that may sign leaves only, issued by the root."""
    first, second, _ = outcome.result["chain"].split("-----END CERTIFICATE-----\n")
    intermediate, root = (_pki.parse(f"{pem}-----END CERTIFICATE-----\n", "test") for pem in (first, second))
    assert _pki.issued_by(intermediate, root) and _pki.issued_by(root, root)
    limits = intermediate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert limits.ca and limits.path_length == 0


@pytest.mark.parametrize("moment", [BEFORE, AFTER])
def test_root_ca_killed_at_every_call_there_is_one_root(case: Case, moment: str) -> None:
    number = 0
    while True:
        number += 1
        case.killed("root_ca", root_params(case), number, moment)
        if len(case.gate.calls) < number:
            break
        there = case.secret("root-ca")
        after = make_root(case)
        assert after.returncode == 0 and after.result["changed"] == (there is None), f"call {number}: {after.text}"
        if there:
            assert after.result["certificate"] == base64.b64decode(there["data"]["tls.crt"]).decode()
        assert not make_root(case).result["changed"]
        case.kube.delete(f"/api/v1/namespaces/{case.namespace}/secrets/root-ca")
    assert number > 4


@pytest.mark.parametrize("damage", ["another key", "no key", "not PEM", "not a CA"])
def test_root_ca_damaged_is_told_and_left_alone(case: Case, damage: str) -> None:
    root, other = _pki.make_root("Root", "", 1000, 2048), _pki.make_root("Other", "", 1000, 2048)
    data = {"tls.crt": root.pem.encode(), "tls.key": root.key_pem}
    if damage == "another key":
        data["tls.key"] = other.key_pem
    elif damage == "no key":
        data["tls.key"] = b""
    elif damage == "not PEM":
        data["tls.crt"] = b"certificate"
    else:
        csr = x509.CertificateSigningRequestBuilder().subject_name(root.certificate.subject)
        leaf = csr.sign(root.key, hashes.SHA256())
        data["tls.crt"] = leaf.public_bytes(serialization.Encoding.PEM)
    case.put("root-ca", None, text=data["tls.crt"], entry="tls.crt")
    body = {"data": {key: base64.b64encode(value).decode() for key, value in data.items()}}
    path = f"/api/v1/namespaces/{case.namespace}/secrets/root-ca"
    case.kube.request("PATCH", path, body=body, content_type="application/merge-patch+json")
    outcome = make_root(case)
    assert outcome.returncode != 0 and "Put back the intact pair" in outcome.message, outcome.text
    assert "PRIVATE KEY" not in outcome.text and (case.secret("root-ca") or {})["data"] == body["data"]


def test_root_ca_store_down_makes_nothing(case: Case) -> None:
    case.gate.refuse = lambda call: not call.startswith("GET")
    assert make_root(case).returncode != 0 and case.secret("root-ca") is None
    case.gate.refuse = lambda call: True
    planned = _modules.run("root_ca", root_params(case), check=True)
    assert planned.returncode == 0 and planned.result["changed"], planned.text


@pytest.mark.parametrize("moment", [BEFORE, AFTER])
def test_intermediate_killed_at_every_call_there_is_one_key(case: Case, moment: str) -> None:
    case.ready()
    assert make_root(case).returncode == 0
    urls: dict[str, Any] = {"issuing_certificates": ["http://vault.example/ca"]}
    number = 0
    while True:
        number += 1
        case.killed("vault_intermediate", case.params(key_bits=2048, **urls), number, moment)
        if len(case.gate.calls) < number:
            break
        after = make_intermediate(case, **urls)
        assert after.returncode == 0, f"killed at call {number} ({case.gate.calls[-1]}): {after.text}"
        verified(after)
        assert intermediate_keys(case) == 1, f"killed at call {number}"
        case.gate.reset()
        assert not make_intermediate(case, **urls).result["changed"] and not case.gate.writes()
        case.servers.nodes[0].call("DELETE", "sys/mounts/pki_int", token=case.root_token())
    print(f"{number - 1} calls, {moment}")
    assert number > 8


def test_intermediate_answer_with_the_request_lost_the_next_run_takes_its_key_up(case: Case) -> None:
    case.ready()
    make_root(case)
    case.gate.drop_after = lambda call: "intermediate/generate" in call
    case.gate.reset()
    assert make_intermediate(case).returncode != 0
    assert sum("intermediate/generate" in call for call in case.gate.calls) == 1, "never sent twice"
    case.gate.drop_after = lambda call: False
    outcome = make_intermediate(case)
    assert outcome.returncode == 0 and intermediate_keys(case) == 1, outcome.text


def test_intermediate_ends_before_its_leaves_would(case: Case) -> None:
    case.ready()
    make_root(case)
    outcome = make_intermediate(case, ttl="700h")
    assert outcome.returncode != 0 and "before a leaf of 720 h" in outcome.message, outcome.text
    renewed = make_intermediate(case, renew_below="720h")
    assert renewed.returncode == 0 and renewed.result["changed"] and intermediate_keys(case) == 2, renewed.text
    verified(renewed)
    case.gate.reset()
    assert not make_intermediate(case, renew_below="720h").result["changed"] and not case.gate.writes()


def test_intermediate_cannot_outlive_the_root(case: Case) -> None:
    case.ready()
    make_root(case, ttl="20000h")
    outcome = make_intermediate(case)
    assert outcome.returncode != 0 and "the root CA ends on" in outcome.message, outcome.text


def test_intermediate_of_another_root_is_not_passed_over(case: Case) -> None:
    case.ready()
    make_root(case)
    assert make_intermediate(case).returncode == 0
    case.kube.delete(f"/api/v1/namespaces/{case.namespace}/secrets/root-ca")
    make_root(case)
    refused = make_intermediate(case)
    assert refused.returncode != 0 and "not issued by the stored root CA" in refused.message, refused.text
    replaced = make_intermediate(case, replace_foreign=True)
    assert replaced.returncode == 0 and intermediate_keys(case) == 2, replaced.text
    verified(replaced)
    assert not make_intermediate(case).result["changed"]


def test_leaf_that_outlives_its_issuer_is_refused_by_vault_not_truncated(case: Case) -> None:
    """cert-manager renews a truncated leaf at once and for ever: leaf_not_after_behavior stays at err."""
    case.ready()
    make_root(case)
    assert make_intermediate(case, ttl="100h", leaf_ttl="1h").returncode == 0
    role = {"kind": "pki_role", "path": "pki_int", "name": "lab"}
    data = {"allowed_domains": ["lab.example"], "allow_subdomains": True, "max_ttl": "720h", "ttl": "720h"}
    assert settle(case, [{**role, "data": data}]).returncode == 0
    node = case.servers.nodes[0]
    issuers = node.call("LIST", "pki_int/issuers", token=case.root_token())["data"]["keys"]
    behaviours = [node.call("GET", f"pki_int/issuer/{name}", token=case.root_token())["data"] for name in issuers]
    assert {issuer["leaf_not_after_behavior"] for issuer in behaviours} == {"err"}
    node.call("POST", "sys/mounts/pki_int/tune", {"max_lease_ttl": "1000h"}, token=case.root_token())
    with pytest.raises(urllib.error.HTTPError):
        body = {"common_name": "a.lab.example", "ttl": "700h"}
        node.call("POST", "pki_int/issue/lab", body, token=case.root_token())


def objects() -> list[dict[str, Any]]:
    return [
        {"kind": "policy", "name": "reader", "policy": 'path "kv/data/*" { capabilities = ["read"] }\n'},
        {"kind": "mount", "path": "kv", "type": "kv", "options": {"version": "2"}},
        {
            "kind": "kv",
            "path": "kv",
            "name": "app/db",
            "data": {"password": CANARY},
            "secret_fields": ["password"],
        },
        {"kind": "auth", "path": "approle", "type": "approle"},
        {
            "kind": "auth_role",
            "path": "approle",
            "name": "app",
            "data": {"token_policies": ["reader"], "token_ttl": "10m", "secret_id_bound_cidrs": ["10.0.0.0/8"]},
        },
    ]


def settle(case: Case, wanted: list[dict[str, Any]], *, check: bool = False, **more: Any) -> _modules.Outcome:
    return _modules.run("vault_objects", case.params(objects=wanted, **more), check=check)


@pytest.mark.parametrize("moment", [BEFORE, AFTER])
def test_objects_killed_at_every_call_the_next_run_converges(case: Case, moment: str) -> None:
    case.ready()
    node, token = case.servers.nodes[0], case.root_token()
    number = 0
    while True:
        number += 1
        case.killed("vault_objects", case.params(objects=objects()), number, moment)
        if len(case.gate.calls) < number:
            break
        after = settle(case, objects())
        assert after.returncode == 0, f"killed at call {number}: {after.text}"
        case.gate.reset()
        again = settle(case, objects())
        assert again.returncode == 0 and not again.result["changed"] and not case.gate.writes(), again.text
        for path in ("sys/mounts/kv", "sys/auth/approle", "sys/policies/acl/reader"):
            node.call("DELETE", path, token=token)
    print(f"{number - 1} calls, {moment}")
    assert number > 10


def test_leader_lost_in_the_middle_the_new_one_is_found(tmp_path: pathlib.Path) -> None:
    with Case(tmp_path) as case:
        case.ready()
        name = case.leader()
        leader = next(node for node in case.servers.nodes if node.name == name)
        case.gate.reset()

        def lose(call: str) -> None:
            if len(case.gate.writes()) == 2 and leader.process is not None:
                leader.stop()

        case.gate.on_answer = lose
        outcome = settle(case, objects())
        assert outcome.returncode == 0 and leader.process is None, outcome.text
        assert not settle(case, objects()).result["changed"]


def test_token_expires_in_the_middle(case: Case) -> None:
    case.ready()
    node, root = case.servers.nodes[0], case.root_token()
    made = node.call("POST", "auth/token/create", {"policies": ["root"], "ttl": "60s"}, token=root)
    token = made["auth"]["client_token"]
    case.gate.reset()

    def expire(call: str) -> None:
        if len(case.gate.writes()) == 1:
            case.gate.on_answer = lambda call: None
            node.call("POST", "auth/token/revoke", {"token": token}, token=root)

    case.gate.on_answer = expire
    outcome = settle(case, objects(), token=token)
    assert outcome.returncode != 0 and "the given token has expired or was revoked" in outcome.message, outcome.text
    assert token not in outcome.text and CANARY not in outcome.text
    assert settle(case, objects()).returncode == 0


def test_token_without_the_right_is_not_called_expired(case: Case) -> None:
    case.ready()
    made = case.servers.nodes[0].call("POST", "auth/token/create", {"policies": ["default"]}, token=case.root_token())
    outcome = settle(case, objects(), token=made["auth"]["client_token"])
    assert outcome.returncode != 0 and "Give the token a policy that allows this" in outcome.message, outcome.text


def test_root_token_of_the_store_was_replaced_in_the_middle(case: Case) -> None:
    """Asked for once more, the store has the new one."""
    case.ready()
    node, root = case.servers.nodes[0], case.root_token()
    stored = case.stored()
    new = node.call("POST", "auth/token/create", {"policies": ["root"], "no_parent": True}, token=root)["auth"]
    case.gate.reset()

    def replace(call: str) -> None:
        if len(case.gate.writes()) == 1:
            case.gate.on_answer = lambda call: None
            case.kube.delete(f"/api/v1/namespaces/{case.namespace}/secrets/vault-init")
            case.put("vault-init", {**(stored or {}), "root_token": new["client_token"]})
            node.call("POST", "auth/token/revoke", {"token": root}, token=new["client_token"])

    case.gate.on_answer = replace
    outcome = settle(case, objects())
    assert outcome.returncode == 0, outcome.text


def test_secrets_are_in_no_output(case: Case) -> None:
    case.ready()
    diff = settle(case, objects(), check=True)
    refused = settle(case, [*objects(), {"kind": "policy", "name": "bad", "policy": f'path "{CANARY}" {{ x }}'}])
    assert refused.returncode != 0 and diff.result["changed"]
    assert CANARY not in diff.text and case.root_token() not in diff.text + refused.text
    assert CANARY not in refused.message


def test_vault_not_there_yet_is_planned_in_check_mode_and_told_otherwise(case: Case) -> None:
    for outcome in (settle(case, objects(), check=True), make_intermediate(case, check=True)):
        assert outcome.returncode == 0 and outcome.result["changed"], outcome.text
    assert not case.gate.writes()
    started = time.monotonic()
    outcome = settle(case, objects())
    assert outcome.returncode != 0 and "vault-0 is not initialised" in outcome.message, outcome.text
    assert time.monotonic() - started < 30
