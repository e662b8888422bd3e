# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The keys of Vault are never lost, whatever fails while they are made."""

from __future__ import annotations

import base64
import json
import pathlib
import random
import secrets
import stat
from collections.abc import Iterator

import pytest

from tests.fault import _modules
from tests.fault._gate import AFTER, ANSWERED, BEFORE, Gate
from tests.fault._vault_case import Case

LOST = "Vault is initialized, but no keys are stored"


@pytest.fixture
def case(tmp_path: pathlib.Path) -> Iterator[Case]:
    with Case(tmp_path) as made:
        yield made


def init_calls(case: Case) -> int:
    return sum(call.startswith("PUT") and call.endswith("/v1/sys/init") for call in case.gate.calls)


def initialized(case: Case) -> bool:
    return any(node.status()["initialized"] for node in case.servers.nodes if node.process is not None)


def other_keys() -> dict[str, object]:
    keys = [secrets.token_bytes(33) for _ in range(5)]
    return {
        "keys": [key.hex() for key in keys],
        "keys_base64": [base64.b64encode(key).decode() for key in keys],
        "root_token": f"s.{secrets.token_hex(12)}",
        "secret_shares": 5,
        "secret_threshold": 3,
    }


def clean(outcome: _modules.Outcome, *documents: object) -> None:
    """No key and no token in anything the module said."""
    for document in documents:
        assert isinstance(document, dict)
        for secret in [*document["keys"], *document["keys_base64"], document["root_token"]]:
            assert secret not in outcome.text


def test_the_ordinary_way(case: Case) -> None:
    planned = case.init(check=True)
    assert planned.result["changed"] and not case.gate.writes() and not initialized(case), planned.text
    assert not case.spool.parent.exists()
    first = case.init()
    assert first.returncode == 0 and first.result["changed"] and init_calls(case) == 1, first.text
    stored = case.stored()
    assert stored and len(stored["keys"]) == 5 and (case.secret() or {})["immutable"] is True
    assert not case.spool.exists() and case.secret("vault-init-begun") is None
    assert case.keys_open_the_vault()
    case.gate.reset()
    for check in (False, True):
        again = case.init(check=check)
        assert again.returncode == 0 and not again.result["changed"], again.text
        clean(again, stored)
    assert not case.gate.writes()
    clean(first, stored)


def test_store_down_before_init_means_no_init_call(case: Case) -> None:
    case.gate.refuse = lambda call: "kubernetes" in call
    outcome = case.init()
    assert outcome.returncode != 0 and init_calls(case) == 0 and not initialized(case), outcome.text


def test_store_read_only_before_init_means_no_init_call(case: Case) -> None:
    case.gate.refuse = lambda call: "kubernetes" in call and not call.startswith("GET")
    outcome = case.init()
    assert outcome.returncode != 0 and init_calls(case) == 0 and not initialized(case), outcome.text
    assert "Vault has not been initialised" in outcome.message


def test_spool_not_writable_before_init_means_no_init_call(case: Case) -> None:
    (case.folder / "file").write_text("")
    outcome = case.init(spool_directory=str(case.folder / "file" / "spool"))
    assert outcome.returncode != 0 and init_calls(case) == 0 and not initialized(case), outcome.text


def test_disk_full_before_init_means_no_init_call(case: Case) -> None:
    process = _modules.start("vault_init", case.init_params(), largest_file=4096)
    outcome = _modules.finish(process)
    assert outcome.returncode != 0 and init_calls(case) == 0 and not initialized(case), outcome.text
    assert "Reserving room for the spool file" in outcome.message
    assert case.init().returncode == 0


def test_one_server_down_before_init_means_no_init_call(case: Case) -> None:
    case.servers.nodes[2].stop()
    outcome = case.init()
    assert outcome.returncode != 0 and init_calls(case) == 0 and not initialized(case), outcome.text


def test_store_fails_after_init_the_spool_has_the_keys_and_the_next_run_finishes(case: Case) -> None:
    case.gate.refuse = lambda call: "kubernetes" in call and init_calls(case) > 0
    failed = case.init()
    assert failed.returncode != 0 and failed.result["spool"] == str(case.spool), failed.text
    assert str(case.spool) in failed.message and stat.S_IMODE(case.spool.stat().st_mode) == 0o600
    spooled = json.loads(case.spool.read_text())
    clean(failed, spooled)
    case.gate.refuse = lambda call: False
    case.gate.reset()
    finished = case.init()
    assert finished.returncode == 0 and finished.result["finished"] and init_calls(case) == 0, finished.text
    assert (case.stored() or {})["keys"] == spooled["keys"] and not case.spool.exists()
    assert case.keys_open_the_vault()
    assert not case.init().result["changed"]


def test_answer_of_init_lost_changes_nothing_and_is_never_sent_again(case: Case) -> None:
    case.gate.drop_after = lambda call: call.endswith("/v1/sys/init")
    outcome = case.init()
    assert outcome.returncode != 0 and init_calls(case) == 1, outcome.text
    assert LOST in outcome.message and "the answer of sys/init was lost" in outcome.message
    case.gate.drop_after = lambda call: False
    case.gate.reset()
    again = case.init()
    assert again.returncode != 0 and LOST in again.message and not case.gate.writes(), again.text
    assert case.stored() is None and "an initialisation began at" in again.message


@pytest.mark.parametrize("moment", [BEFORE, AFTER])
def test_killed_at_every_call_no_key_is_lost_and_the_next_run_finishes(case: Case, moment: str) -> None:
    """From the first check to the verified save: SIGKILL at each call, before it is sent on or after it acted."""
    number, ways = 0, dict.fromkeys(("again", "finished", "lost"), 0)
    while True:
        number += 1
        case.killed("vault_init", case.init_params(), number, moment)
        if len(case.gate.calls) < number:
            break
        at = f"killed at call {number} ({case.gate.calls[number - 1]}) {moment}"
        asked, was_initialized = case.gate.calls[-1], initialized(case)
        case.gate.reset()
        after = case.init()
        if asked.endswith("/v1/sys/init") and moment == AFTER:
            # The one window nobody can close: the only copy was on the wire.
            assert after.returncode != 0 and LOST in after.message and not case.gate.writes(), f"{at}: {after.text}"
            ways["lost"] += 1
        else:
            assert after.returncode == 0, f"{at}: {after.text}"
            assert init_calls(case) == (0 if was_initialized else 1), at
            ways["finished" if was_initialized else "again"] += 1
            assert not case.spool.exists() and case.secret("vault-init-begun") is None, at
            assert case.keys_open_the_vault(), at
            assert not was_initialized or case.init().result["changed"] is False, at
        case.new_life()
    print(f"{number - 1} calls, {moment}: {ways}")
    assert ways["again"] > 5 and ways["finished"] >= 3 and ways["lost"] == (1 if moment == AFTER else 0), ways


def test_killed_right_after_the_answer_of_init_nothing_is_lost_silently(case: Case) -> None:
    """A race by nature: the keys are in the spool whole, or the documented sentence says that they are not."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    chance, whole = random.Random(seed), 0
    for _ in range(4):
        case.gate.reset()
        process = _modules.start("vault_init", case.init_params())
        case.gate.target = process
        watched = case.gate

        def arm(call: str, watched: Gate = watched) -> None:
            if call.endswith("/v1/sys/init"):
                watched.kill_at = (len(watched.calls), ANSWERED)
                watched.delay = chance.uniform(0, 0.02)

        case.gate.on_answer = arm
        _modules.finish(process)
        case.gate.on_answer = lambda call: None
        case.gate.reset()
        after = case.init()
        if after.returncode == 0:
            whole += 1
            assert init_calls(case) == 0 and case.keys_open_the_vault(), after.text
        else:
            assert LOST in after.message and not case.gate.writes(), after.text
        case.new_life()
    print(f"spooled whole in {whole} of 4")


@pytest.mark.parametrize("damage", ["half", "tampered", "empty", "other entry", "too few"])
def test_damaged_store_is_refused_and_left_alone(case: Case, damage: str) -> None:
    keys = other_keys()
    text, entry = json.dumps(keys).encode(), "init.json"
    if damage == "half":
        text = text[: len(text) // 2]
    elif damage == "tampered":
        text = json.dumps({**keys, "keys": list(reversed(keys["keys"]))}).encode()  # type: ignore[call-overload]
    elif damage == "empty":
        text = b" "
    elif damage == "other entry":
        entry = "keys.json"
    else:
        short = {name: keys[name][:2] for name in ("keys", "keys_base64")}  # type: ignore[index]
        text = json.dumps({**keys, **short}).encode()
    case.put("vault-init", None, text=text, entry=entry)
    before = case.secret()
    outcome = case.init()
    assert outcome.returncode != 0 and init_calls(case) == 0 and not initialized(case), outcome.text
    assert "Put back an intact copy" in outcome.message and case.secret() == before
    clean(outcome, keys)


def test_keys_of_a_former_vault_are_refused_and_archived_only_with_consent(case: Case) -> None:
    former = other_keys()
    case.put("vault-init", former)
    refused = case.init()
    assert refused.returncode != 0 and "keys of a former Vault" in refused.message, refused.text
    assert not initialized(case) and case.stored() == former
    assert case.init(archive_keys="another").returncode != 0 and not initialized(case)
    agreed = case.init(archive_keys="fault")
    assert agreed.returncode == 0, agreed.text
    assert (case.stored(agreed.result["archived"]) or {})["root_token"] == former["root_token"]
    assert case.keys_open_the_vault()
    clean(agreed, former)


def test_keys_of_a_vault_that_is_given_up_are_archived_under_its_id(case: Case) -> None:
    assert not case.init(state="archived").result["changed"]
    case.ready(voters=1)
    stored = case.stored()
    assert case.init(state="archived").returncode != 0 and case.stored() == stored
    case.gate.reset()
    planned = case.init(state="archived", archive_keys="fault", check=True)
    assert planned.result["changed"] and not case.gate.writes(), planned.text
    outcome = case.init(state="archived", archive_keys="fault")
    assert outcome.returncode == 0 and outcome.result["archived"] == f"vault-init-{outcome.result['cluster_id']}"
    assert (case.stored(outcome.result["archived"]) or {})["keys"] == (stored or {})["keys"]
    assert case.stored() is None and not case.init(state="archived", archive_keys="fault").result["changed"]


def test_spool_of_a_former_vault_is_refused(case: Case) -> None:
    case.spool.parent.mkdir(mode=0o700)
    case.spool.touch(0o600)
    case.spool.write_text(json.dumps(other_keys()))
    outcome = case.init()
    assert outcome.returncode != 0 and "keys of a former Vault" in outcome.message, outcome.text
    assert not initialized(case) and case.spool.exists()


def test_spool_and_store_with_different_keys_are_refused(case: Case) -> None:
    case.ready()
    case.spool.parent.mkdir(mode=0o700, exist_ok=True)
    case.spool.touch(0o600)
    case.spool.write_text(json.dumps(other_keys()))
    outcome = case.init()
    assert outcome.returncode != 0 and "holds other keys than" in outcome.message, outcome.text
    assert case.spool.exists()


def test_keys_of_another_running_vault_are_refused(case: Case) -> None:
    """The store was put back from another cluster's backup: told by Vault's own id."""
    case.ready()
    path = f"/api/v1/namespaces/{case.namespace}/secrets/vault-init"
    note = {"metadata": {"annotations": {"platform.harvester-rke2.io/vault-cluster-id": "of-another-vault"}}}
    case.kube.request("PATCH", path, body=note, content_type="application/merge-patch+json")
    outcome = case.init()
    assert outcome.returncode != 0 and "belong to the Vault of-another-vault" in outcome.message, outcome.text


def test_offline_copy_is_written_once_compared_and_never_replaced(case: Case) -> None:
    copy = case.folder / "safe" / "copy.json"
    first = case.init(offline_copy=str(copy))
    assert first.returncode == 0 and stat.S_IMODE(copy.stat().st_mode) == 0o600, first.text
    assert json.loads(copy.read_text())["keys"] == (case.stored() or {})["keys"]
    assert not case.init(offline_copy=str(copy)).result["changed"]
    copy.write_text(json.dumps(other_keys()))
    refused = case.init(offline_copy=str(copy))
    assert refused.returncode != 0 and "it holds the keys of another Vault" in refused.message, refused.text


def test_two_servers_initialised_apart_stop_the_run(tmp_path: pathlib.Path) -> None:
    with Case(tmp_path, servers=2, join=False) as case:
        for node in case.servers.nodes:
            answer = node.call("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
            node.call("PUT", "sys/unseal", {"key": answer["keys"][0]})
            case.put("vault-init", {**answer, "secret_threshold": 1}) if node.name == "vault-0" else None
        case.gate.reset()
        for outcome in (case.init(), case.unseal()):
            assert outcome.returncode != 0 and "initialised apart from each other" in outcome.message, outcome.text
        assert not case.gate.writes()
