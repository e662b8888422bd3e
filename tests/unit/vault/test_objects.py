# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Objects of Vault: what is written, what is left alone, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _vault_objects
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError
from ansible_collections.harvester_rke2.platform.plugins.module_utils._vault_client import VaultError
from ansible_collections.harvester_rke2.platform.plugins.module_utils._vault_compare import PKI_ROLE_DEFAULTS
from ansible_collections.harvester_rke2.platform.plugins.module_utils._vault_leader import Leader
from ansible_collections.harvester_rke2.platform.plugins.module_utils._vault_objects import Change, Objects, masked

ROLE = {"kind": "pki_role", "path": "pki", "name": "lab", "data": {"max_ttl": "720h", "allow_ip_sans": False}}


class FakeLeader(Leader):
    """Paths and what they give back; writes are merged, as most of Vault's are."""

    def __init__(self, paths: dict[str, dict[str, Any]] | None = None, *, bao: bool = False) -> None:
        self.paths, self.bao, self.hidden = paths or {}, bao, set[str]()
        self.writes: list[tuple[str, str, Any]] = []
        self.failures: list[VaultError] = []

    def hide(self, secrets: set[str]) -> None:
        self.hidden |= secrets

    def read(self, path: str) -> dict[str, Any] | None:
        if self.failures:
            raise self.failures.pop()
        return self.paths.get(path)

    def list(self, path: str) -> dict[str, Any]:
        below = [key.removeprefix(f"{path}/") for key in self.paths if key.startswith(f"{path}/")]
        return {"keys": below} if below else {}

    def is_openbao(self) -> bool:
        return self.bao

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, **kwargs: Any) -> dict[str, Any]:
        self.writes.append((method, path, body))
        if method == "DELETE":
            self.paths.pop(path, None)
        else:
            self.paths[path] = {**self.paths.get(path, {}), **(body or {})}
        return {}


def objects(leader: FakeLeader, *, check: bool = False, secrets: Mapping[str, str] | None = None) -> Objects:
    return Objects(leader, lambda reference: (secrets or {}).get(reference["key"]), check=check)


def settle(leader: FakeLeader, spec: Mapping[str, Any], **more: Any) -> Change:
    return objects(leader, **more).settle(spec)


def test_created_then_unchanged_then_changed() -> None:
    leader = FakeLeader()
    assert settle(leader, ROLE, check=True).result == "created" and not leader.writes
    assert settle(leader, ROLE).result == "created"
    assert settle(leader, ROLE).result == "unchanged" and len(leader.writes) == 1
    changed = settle(leader, {**ROLE, "data": {**ROLE["data"], "max_ttl": "24h"}})  # type: ignore[dict-item]
    assert changed.result == "changed" and changed.before == {"max_ttl": "720h"} and changed.after == {"max_ttl": "24h"}


def test_an_unnamed_field_of_a_pki_role_is_at_its_default() -> None:
    """Vault resets what a write does not name, so a field that somebody has set is a difference."""
    live = {**PKI_ROLE_DEFAULTS, "max_ttl": 2592000, "allow_ip_sans": False}
    leader = FakeLeader({"pki/roles/lab": live})
    assert settle(leader, ROLE).result == "unchanged"
    live["allow_any_name"] = True
    assert settle(FakeLeader({"pki/roles/lab": live}), ROLE, check=True).after == {"allow_any_name": False}


def test_unnamed_fields_of_other_objects_are_left_alone() -> None:
    spec = {"kind": "auth_role", "path": "kubernetes", "name": "r", "data": {"audience": "vault"}}
    assert (
        settle(FakeLeader({"auth/kubernetes/role/r": {"audience": "vault", "token_ttl": 5}}), spec).result
        == "unchanged"
    )


def test_a_value_that_reads_back_otherwise_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_vault_objects, "_LAG", 0.4)

    class Stubborn(FakeLeader):
        def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, **kwargs: Any) -> dict[str, Any]:
            self.paths[path] = {"a": "other"}
            return {}

    with pytest.raises(PlatformError, match="does not read back as written: a, b"):
        settle(Stubborn(), {"kind": "write", "path": "x", "data": {"a": 1, "b": 2}})


def test_secret_fields_are_written_but_not_compared_nor_shown() -> None:
    spec = {
        "kind": "write",
        "path": "auth/oidc/config",
        "data": {"client": "vault"},
        "data_from": {"secret": {"namespace": "n", "name": "s", "key": "password"}},
    }
    leader = FakeLeader()
    made = settle(leader, spec, secrets={"password": "hunter22"})
    assert leader.writes[0][2] == {"client": "vault", "secret": "hunter22"} and "hunter22" in leader.hidden
    assert made.after == {"client": "vault", "secret": "********"}
    leader.paths["auth/oidc/config"].pop("secret")
    assert settle(leader, spec, secrets={"password": "hunter22"}).result == "unchanged"
    assert settle(FakeLeader(), spec, check=True).result == "created"
    with pytest.raises(PlatformError, match="the Secret entries for secret do not exist"):
        settle(FakeLeader(), spec)


def test_mount_created_tuned_and_never_changed_in_type() -> None:
    spec = {"kind": "mount", "path": "pki", "type": "pki", "config": {"max_lease_ttl": "87600h"}}
    leader = FakeLeader({"sys/mounts": {}})
    assert settle(leader, spec).result == "created"
    assert leader.writes == [("POST", "sys/mounts/pki", {"type": "pki", "config": {"max_lease_ttl": "87600h"}})]
    row = {"type": "pki", "config": {"max_lease_ttl": 315360000, "default_lease_ttl": 5}, "description": ""}
    assert settle(FakeLeader({"sys/mounts": {"pki/": row}}), spec).result == "unchanged"
    tuned = FakeLeader({"sys/mounts": {"pki/": {**row, "config": {"max_lease_ttl": 0}}}})
    assert settle(tuned, spec).result == "changed"
    assert tuned.writes == [("POST", "sys/mounts/pki/tune", {"max_lease_ttl": "87600h"})]
    with pytest.raises(PlatformError, match="it is of type kv, wanted is pki"):
        settle(FakeLeader({"sys/mounts": {"pki/": {**row, "type": "kv"}}}), spec)


def test_audit_is_passed_over_on_openbao_and_cannot_be_changed() -> None:
    spec = {"kind": "audit", "path": "out", "type": "file", "options": {"file_path": "stdout"}, "optional": True}
    assert settle(FakeLeader({"sys/audit": {}}, bao=True), spec).result == "unsupported"
    vault = FakeLeader({"sys/audit": {}})
    assert settle(vault, spec).result == "created" and vault.writes[0][:2] == ("PUT", "sys/audit/out")
    other = {"out/": {"type": "file", "options": {"file_path": "/x"}}}
    with pytest.raises(PlatformError, match="an audit device cannot be changed"):
        settle(FakeLeader({"sys/audit": other}), spec)


def test_kv_is_created_once_and_never_overwritten() -> None:
    spec = {"kind": "kv", "path": "kv", "name": "a/b", "data": {"user": "x"}}
    leader = FakeLeader()
    made = settle(leader, spec)
    assert made.after == {"user": "********"} and leader.writes[0][2]["options"] == {"cas": 0}
    known = {"current_version": 3, "versions": {"3": {"deletion_time": "", "destroyed": False}}}
    assert settle(FakeLeader({"kv/metadata/a/b": known}), spec).result == "unchanged"
    known["versions"]["3"]["deletion_time"] = "2026-01-01"  # type: ignore[index]
    with pytest.raises(PlatformError, match="its newest version was deleted"):
        settle(FakeLeader({"kv/metadata/a/b": known}), spec)


def test_a_kv_mount_in_its_first_moments_is_waited_for() -> None:
    leader = FakeLeader()
    leader.failures = [VaultError("Reading", 400, ["Upgrading from non-versioned to versioned data"])]
    assert settle(leader, {"kind": "kv", "path": "kv", "name": "a", "data": {"k": "v"}}).result == "created"
    leader.failures = [VaultError("Reading", 400, ["something else"])]
    with pytest.raises(VaultError, match="something else"):
        settle(leader, {"kind": "kv", "path": "kv", "name": "b", "data": {"k": "v"}})


def test_absent_and_purge_stay_within_what_is_named() -> None:
    leader = FakeLeader(
        {
            "sys/policies/acl/default": {},
            "sys/policies/acl/root": {},
            "sys/policies/acl/old": {},
            "sys/policies/acl/kept": {"policy": "x"},
            "pki/roles/lab": {},
            "pki/roles/old": {},
            "other/roles/theirs": {},
        }
    )
    specs = [ROLE, {"kind": "policy", "name": "kept", "policy": "x"}]
    removed = objects(leader).purge(["policy", "pki_role"], specs)
    assert sorted(change.name for change in removed) == ["old", "pki/old"]
    assert "other/roles/theirs" in leader.paths and "sys/policies/acl/default" in leader.paths
    assert settle(leader, {**ROLE, "state": "absent"}).result == "removed"
    assert settle(leader, {**ROLE, "state": "absent"}).result == "unchanged"
    with pytest.raises(PlatformError, match="never removed"):
        settle(leader, {"kind": "kv", "path": "kv", "name": "a", "state": "absent"})


@pytest.mark.parametrize("kind", ["policy", "mount", "auth", "audit"])
def test_what_is_missing_in_a_specification_is_told(kind: str) -> None:
    with pytest.raises(PlatformError, match="is not given"):
        settle(FakeLeader(), {"kind": kind, "path": "x", "name": "x"})


def test_parameters_are_shown_without_secrets() -> None:
    spec = {"kind": "write", "path": "x", "data": {"a": 1, "b": 2}, "secret_fields": ["b"]}
    assert masked(spec)["data"] == {"a": 1, "b": "********"}
    assert masked({"kind": "kv", "data": {"a": 1}})["data"] == {"a": "********"}
