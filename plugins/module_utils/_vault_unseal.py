# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Unsealing the servers of a Vault and judging whether its Raft cluster is whole (private to this collection).

A seal that an operator has set is told from one that a restart has left: after each unseal the pod is annotated with
the start of its container. A server that is sealed although that very container was unsealed once was sealed by hand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ._errors import NoConnection, PlatformError, Unreachable
from ._kube_client import MERGE
from ._vault_client import Vault, VaultError, VaultNotReady, VaultUnreachable
from ._vault_doors import Doors
from ._vault_init import refuse_apart
from ._vault_keys import InitKeys, KeyStore, Stored

RECORD = "platform.harvester-rke2.io/vault-unsealed"
_DELAY = 0.5
_HALF_JOINED = (
    "Look at its log: a server that was removed from the Raft cluster, or that joined another one, stays out until its "
    "volume claim is deleted together with its pod; then it joins anew."
)


@dataclass
class Unsealing:
    """One run over all servers."""

    doors: Doors
    store: Callable[[], KeyStore]
    voters: int | None = None
    force: bool = False
    token: str = ""
    check: bool = False
    timeout: float = 90.0
    unsealed: list[str] = field(default_factory=list)
    _deadline: float = 0.0

    def run(self) -> dict[str, Any]:
        self._deadline = time.monotonic() + self.timeout
        try:
            store = self.store()
            stored = store.read()
            statuses = {name: self._status(name) for name in self.doors.pods}
        except (NoConnection, Unreachable, VaultNotReady) as exc:
            if not self.check:
                raise
            return self._planned(list(self.doors.pods), exc.why)
        refuse_apart("Unsealing Vault", _ids(statuses))
        sealed = [name for name, status in statuses.items() if status["sealed"]]
        if self.check and (stored is None or not any(status["initialized"] for status in statuses.values())):
            return self._planned(sealed, "it is not initialised yet")
        self._respect(statuses)
        if self.check:
            return self._planned(sealed, "sealed") if sealed else self._result(statuses, [])
        keys = self._keys(store, stored, statuses) if sealed else None
        # Those that have data first: the others can only join once there is a leader.
        for name in sorted(sealed, key=lambda name: not statuses[name]["initialized"]):
            assert keys is not None
            statuses[name] = self._unseal(name, keys)
        statuses = {name: self._opened(name) for name in self.doors.pods}
        refuse_apart("Unsealing Vault", _ids(statuses))
        self._note_life(store, stored, next(iter(_ids(statuses).values()), ""))
        for name in self.doors.pods:
            self._record(name)
        return self._result(statuses, self._wait_for_voters(stored))

    def _left(self) -> float:
        return self._deadline - time.monotonic()

    def _status(self, name: str) -> dict[str, Any]:
        """A server that has just been started may need a moment before it answers."""
        while True:
            try:
                return self.doors.open(name).seal_status()
            except (VaultUnreachable, VaultNotReady, VaultError):
                if self.check or self._left() < _DELAY:
                    raise
            time.sleep(_DELAY)

    def _respect(self, statuses: Mapping[str, Mapping[str, Any]]) -> None:
        """Nothing at all is unsealed while a seal that was set on purpose stands."""
        if self.force:
            return
        by_hand = [name for name, status in statuses.items() if status["sealed"] and self._sealed_by_hand(name)]
        if by_hand:
            raise PlatformError(
                "Unsealing Vault",
                f"{', '.join(by_hand)} was sealed while it was running, so somebody sealed it on purpose",
                "Nothing was unsealed. If the reason is gone, run the playbook unseal.",
                sealed_on_purpose=by_hand,
            )

    def _sealed_by_hand(self, name: str) -> bool:
        pod = self.doors.find_pod(name)
        if pod is None:
            return False
        recorded = (pod["metadata"].get("annotations") or {}).get(RECORD)
        return recorded is not None and recorded == _life(pod)

    def _record(self, name: str) -> None:
        """Note on the pod that this life of its container has been unsealed; a restart makes the note void."""
        pod = self.doors.find_pod(name)
        life = _life(pod) if pod else ""
        if pod and self.doors.kube and life and (pod["metadata"].get("annotations") or {}).get(RECORD) != life:
            body = {"metadata": {"annotations": {RECORD: life}}}
            self.doors.kube.request("PATCH", self.doors.pod_path(name), body=body, content_type=MERGE)

    def _keys(self, store: KeyStore, stored: Stored | None, statuses: Mapping[str, Mapping[str, Any]]) -> InitKeys:
        if not any(status["initialized"] for status in statuses.values()):
            raise VaultNotReady("Unsealing Vault", "it is not initialised", "Initialise it first (--tags phase2).")
        if stored is None:
            raise PlatformError(
                "Unsealing Vault",
                f"{store} does not exist",
                "Put the keys back there from an offline copy, or run phase 2 on the machine whose spool holds them.",
            )
        return stored.keys

    def _unseal(self, name: str, keys: InitKeys) -> dict[str, Any]:
        vault = self.doors.open(name)
        vault.hide(keys.shares)
        status = self._joined(name)
        if not status["sealed"]:
            return status
        doing = f"Unsealing {name}"
        if status["t"] != keys.threshold or status["n"] != len(keys.shares):
            why = f"it asks for {status['t']} of {status['n']} keys, the stored ones are {keys.threshold} of "
            mend = "They belong to another Vault, or this server was initialised apart from the others."
            raise PlatformError(doing, f"{why}{len(keys.shares)}", mend)
        if status["progress"]:
            # Shares that somebody else has left there, perhaps of other keys, would spoil ours.
            vault.call("PUT", "sys/unseal", {"reset": True}, doing=doing)
        status = self._submit(vault, keys, doing)
        self.unsealed.append(name)
        return status

    def _joined(self, name: str) -> dict[str, Any]:
        """A server without data joins by itself (retry_join) once another one is unsealed."""
        while not (status := self._status(name))["initialized"]:
            if self._left() < _DELAY:
                why = f"it has not joined the Raft cluster within {self.timeout:.0f} s"
                mend = "Check its retry_join configuration and that it reaches the others on ports 8200 and 8201."
                raise PlatformError(f"Unsealing {name}", why, mend)
            time.sleep(_DELAY)
        return status

    def _submit(self, vault: Vault, keys: InitKeys, doing: str) -> dict[str, Any]:
        nonce = ""
        for count, share in enumerate(keys.shares[: keys.threshold], start=1):
            try:
                left = max(1.0, min(30.0, self._left()))
                status = vault.call("PUT", "sys/unseal", {"key": share}, retry=False, timeout=left, doing=doing)
            except VaultUnreachable as exc:
                if count < keys.threshold or not exc.sent:
                    raise
                # Joining, it answers only when it has reached the leader: whether it opens is seen by looking.
                return {"sealed": True}
            except VaultError as exc:
                if exc.status == 400:
                    why = f"the stored keys are not its keys ({'; '.join(exc.errors)})"
                    mend = "The Secret holds the keys of another Vault, or this server was initialised apart from it."
                    raise PlatformError(doing, why, mend) from None
                raise
            if not status["sealed"] or count == keys.threshold:
                return status
            nonce = nonce or status["nonce"]
            if status["progress"] != count or status["nonce"] != nonce:
                why = f"after {count} keys of ours it counts {status['progress']}: somebody else unseals it or resets"
                raise PlatformError(doing, why, "Let only one unseal at a time, then run again.")
        raise AssertionError("the threshold is at least 1")

    def _opened(self, name: str) -> dict[str, Any]:
        """The last share of a joining server is answered with `sealed`: it opens a little later, by itself."""
        state = "it is still sealed"
        while True:
            try:
                status = self._status(name)
            except VaultUnreachable:
                if name not in self.unsealed:
                    raise
                # A server that cannot reach the leader it joins holds every request back.
                state = "it does not answer"
                break
            if not status["sealed"]:
                return status
            if self._left() < _DELAY:
                break
            time.sleep(_DELAY)
        why = (
            f"all keys were accepted, but {state} after {self.timeout:.0f} s: it has only half joined the Raft cluster"
        )
        raise PlatformError(f"Unsealing {name}", why, _HALF_JOINED)

    def _note_life(self, store: KeyStore, stored: Stored | None, cluster_id: str) -> None:
        if stored is None or not cluster_id or stored.cluster_id == cluster_id:
            return
        if stored.cluster_id:
            why = f"{store} is noted as that of the Vault {stored.cluster_id}, but {cluster_id} is running"
            raise PlatformError("Comparing Vault with its keys", why, "Put the running Vault's own keys there.")
        store.note_cluster_id(cluster_id)

    def _wait_for_voters(self, stored: Stored | None) -> list[dict[str, Any]]:
        """Joining is judged by the leader's peers: a server that says `joined` may never arrive."""
        wanted = len(self.doors.pods) if self.voters is None else self.voters
        token = self.token or (stored.keys.root_token if stored else "")
        peers: list[dict[str, Any]] = []
        while wanted:
            leader = self.doors.leader(max(self._left(), 1.0))
            leader.token = token
            try:
                answer = leader.call("GET", "sys/storage/raft/configuration")
            except VaultError as exc:
                mend = "The root token may have been revoked: set token, or voters: 0 to leave this out."
                raise PlatformError(
                    "Reading the Raft peers of Vault", exc.why, mend if exc.status == 403 else ""
                ) from None
            peers = answer["data"]["config"]["servers"]
            if sum(bool(peer["voter"]) for peer in peers) >= wanted:
                break
            if self._left() < _DELAY:
                raise self._half_joined(peers, wanted)
            time.sleep(_DELAY)
        return peers

    def _half_joined(self, peers: list[dict[str, Any]], wanted: int) -> PlatformError:
        voter = {str(peer["node_id"]): bool(peer["voter"]) for peer in peers}
        missing = [name for name in self.doors.pods if name not in voter]
        silent = [name for name in self.doors.pods if voter.get(name) is False]
        parts = [f"{', '.join(missing)} is not among the leader's peers"] if missing else []
        parts += [f"{', '.join(silent)} has no vote yet"] if silent else []
        found = "; ".join(parts) or f"it knows {', '.join(sorted(voter))}"
        why = f"after {self.timeout:.0f} s the leader counts {sum(voter.values())} of {wanted} voters: {found}"
        return PlatformError("Waiting for Vault's Raft cluster", why, _HALF_JOINED, peers=peers)

    def _planned(self, names: list[str], why: str) -> dict[str, Any]:
        self.unsealed = names
        return {**self._result({}, []), "planned": why}

    def _result(self, statuses: Mapping[str, Mapping[str, Any]], peers: list[dict[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {
            "changed": bool(self.unsealed),
            "unsealed": self.unsealed,
            "cluster_id": next(iter(_ids(statuses).values()), ""),
            "peers": [{key: peer.get(key) for key in ("node_id", "address", "leader", "voter")} for peer in peers],
        }
        if self.unsealed:
            before = "".join(f"{name}: sealed\n" for name in self.unsealed)
            result["diff"] = {"before": before, "after": before.replace(": sealed", ": unsealed")}
        return result


def _ids(statuses: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {name: str(status["cluster_id"]) for name, status in statuses.items() if status.get("cluster_id")}


def _life(pod: Mapping[str, Any]) -> str:
    """What is new after every start of the server's process."""
    for container in (pod.get("status") or {}).get("containerStatuses") or []:
        started = ((container.get("state") or {}).get("running") or {}).get("startedAt")
        if container["name"] == "vault" and started:
            return f"{pod['metadata']['uid']}/{container.get('restartCount', 0)}/{started}"
    return ""
