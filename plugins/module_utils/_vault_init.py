# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Initialising a Vault once without ever losing its keys (private to this collection).

The order is the whole point: the store proves itself, room for the spool is reserved, every server says that it is
not initialised, then ``sys/init`` is sent exactly once; its answer is on the disk before it is parsed, then in the
store, read back and compared, and only then the spool goes. Whatever is found half-done is finished, never redone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ._errors import NoConnection, PlatformError, Unreachable
from ._vault_client import VaultError, VaultNotReady, VaultUnreachable
from ._vault_doors import Doors
from ._vault_keys import InitKeys, KeyStore, Stored, now
from ._vault_spool import SecretFile

_DOING = "Initialising Vault"
_DELAY = 1.0


@dataclass
class Initialisation:
    """One run. ``store`` is opened late: in check mode its cluster need not exist yet."""

    doors: Doors
    store: Callable[[], KeyStore]
    spool: SecretFile
    cluster: str
    shares: int = 5
    threshold: int = 3
    offline: SecretFile | None = None
    archive_consent: str = ""
    check: bool = False
    timeout: float = 60.0

    def run(self) -> dict[str, Any]:
        try:
            store = self.store()
            stored = store.read()
        except (NoConnection, Unreachable) as exc:
            if not self.check:
                raise
            return self._planned(f"the keys' cluster does not answer yet ({exc.why})")
        spooled = self._one_life(store, stored)
        try:
            survey = self._survey(need_all=stored is None and spooled is None)
        except (VaultNotReady, NoConnection, Unreachable) as exc:
            if not self.check:
                raise
            return self._planned(str(exc))
        self._same_life(survey, stored, spooled)
        if not any(status.get("initialized") for status in survey.values()):
            return self._first_life(store, stored, spooled, survey)
        if stored is None and spooled is None:
            raise self._lost(store)
        return self._finish(store, stored, spooled)

    def archive(self) -> dict[str, Any]:
        """Move the keys of a Vault that is being given up aside, so that a new one can get its own."""
        store = self.store()
        stored = store.read()
        spooled = self._one_life(store, stored)
        if stored is None and spooled is None:
            return {"changed": False, "initialized": False, "cluster_id": ""}
        if self.archive_consent != self.cluster:
            mend = f"Set archive_keys to '{self.cluster}' to say that you mean it."
            raise PlatformError("Archiving the keys of Vault", "there is no consent", mend)
        diff = {"before": f"{store.name}\n", "after": f"{store.name}-<cluster id>\n"}
        result = {
            "changed": True,
            "initialized": False,
            "cluster_id": stored.cluster_id if stored else "",
            "diff": diff,
        }
        return result if self.check else {**result, "archived": self._move_aside(store, stored, spooled)}

    def _move_aside(self, store: KeyStore, stored: Stored | None, spooled: InitKeys | None) -> str:
        name = ""
        if stored:
            name = store.archive(stored)
        elif spooled:
            name = f"{store.name}-{spooled.fingerprint}"
            store.save(spooled, name)
        self.spool.remove()
        return name

    def _one_life(self, store: KeyStore, stored: Stored | None) -> InitKeys | None:
        """The keys in the spool, which must be those of the store."""
        spooled = self._spooled()
        if stored and spooled and not stored.keys.same_as(spooled):
            raise PlatformError(
                _DOING,
                f"the spool file {self.spool} holds other keys than {store}",
                "One of them belongs to a Vault that is gone: find out which, and move the spool file aside.",
                spool=str(self.spool),
            )
        return spooled

    def _spooled(self) -> InitKeys | None:
        content = self.spool.read()
        return None if content is None else InitKeys.from_json(content, f"Reading the spool file {self.spool}")

    def _survey(self, *, need_all: bool) -> dict[str, dict[str, Any]]:
        """The seal status of each server. All must answer before a first initialisation, else one is enough."""
        deadline = time.monotonic() + (0 if self.check else self.timeout)
        while True:
            survey: dict[str, dict[str, Any]] = {}
            problem: PlatformError | None = None
            for name in self.doors.pods:
                try:
                    survey[name] = self.doors.open(name).seal_status()
                except (VaultNotReady, VaultUnreachable, VaultError) as exc:
                    problem = exc
            if problem is None or (not need_all and any(status.get("initialized") for status in survey.values())):
                return survey
            if time.monotonic() > deadline:
                raise problem
            time.sleep(_DELAY)

    def _same_life(
        self, survey: Mapping[str, Mapping[str, Any]], stored: Stored | None, spooled: InitKeys | None
    ) -> None:
        """Refuse servers that were initialised apart, and keys that belong to another Vault."""
        ids = {name: str(status["cluster_id"]) for name, status in survey.items() if status.get("cluster_id")}
        refuse_apart(_DOING, ids)
        keys = stored.keys if stored else spooled
        running = next(iter(ids.values()), "")
        if stored and stored.cluster_id and running and stored.cluster_id != running:
            why = f"the stored keys belong to the Vault {stored.cluster_id}, but {running} is running"
            raise PlatformError(_DOING, why, "Move the Secret aside and put back the running Vault's own keys.")
        for name, status in survey.items():
            if keys and status.get("initialized") and (status["n"], status["t"]) != (len(keys.shares), keys.threshold):
                raise PlatformError(
                    _DOING,
                    f"{name} needs {status['t']} of {status['n']} keys, but the stored ones are {keys.threshold} of "
                    f"{len(keys.shares)}: they belong to another Vault, or were replaced by a rekey",
                    "Put the keys of this Vault into the Secret.",
                )

    def _first_life(
        self, store: KeyStore, stored: Stored | None, spooled: InitKeys | None, survey: Mapping[str, Any]
    ) -> dict[str, Any]:
        if stored is None and spooled is None:
            return self._planned("every server is uninitialised") if self.check else self._initialise(store)
        where = str(store) if stored else f"the spool file {self.spool}"
        missing = [name for name in self.doors.pods if name not in survey]
        if self.archive_consent != self.cluster or missing:
            why = f"no server is initialised, but {where} holds keys of a former Vault"
            if missing:
                why += f", and {', '.join(missing)} did not answer"
            mend = (
                "If its data is only out of reach, bring that back; if it is gone for good, set vault_archive_keys to "
                f"'{self.cluster}': the old keys are then kept under another name."
            )
            raise PlatformError(_DOING, why, mend)
        if self.check:
            return self._planned(f"the keys in {where} would be kept under another name first")
        archived = self._move_aside(store, stored, spooled)
        return {**self._initialise(store), "archived": archived}

    def _initialise(self, store: KeyStore) -> dict[str, Any]:
        store.prove(str(self.spool))
        files = [self.spool] + ([self.offline] if self.offline and self.offline.read() is None else [])
        try:
            for file in files:
                file.reserve()
            # Asked again: the proofs took time, and a server may have got its data back meanwhile.
            first = self.doors.pods[0]
            for name, status in self._survey(need_all=True).items():
                if status.get("initialized"):
                    raise PlatformError(_DOING, f"{name} was initialised by somebody else meanwhile", "Run again.")
            self._call_once(store, first)
            keys = self._spooled()
            assert keys is not None
            self._save(store, keys)
        finally:
            for file in files:
                file.release()
        return self._result(store, "", changed=True)

    def _call_once(self, store: KeyStore, name: str) -> None:
        vault = self.doors.open(name)
        body = {"secret_shares": self.shares, "secret_threshold": self.threshold}
        answer: dict[str, Any] = {}
        why = "the answer was empty"
        try:
            answer = vault.call("PUT", "sys/init", body, retry=False, timeout=120.0)
        except VaultError as exc:
            if exc.status == 400:
                raise PlatformError(f"{_DOING} on {name}", exc.why, "Nothing was changed.") from None
            why = exc.why
        except VaultUnreachable as exc:
            why = exc.why
        if answer.get("keys"):
            record = {**answer, "secret_shares": self.shares, "secret_threshold": self.threshold, "created": now()}
            self.spool.commit(json.dumps(record).encode())
            return
        if vault.seal_status(retry=True).get("initialized"):
            raise self._lost(store, why)
        raise PlatformError(f"{_DOING} on {name}", why, "It is still uninitialised: run again.")

    def _save(self, store: KeyStore, keys: InitKeys) -> bool:
        try:
            store.save(keys)
        except PlatformError as exc:
            raise PlatformError(
                "Saving the keys of the initialised Vault",
                f"{exc.why}; they are safe in {self.spool} on this machine and nowhere else",
                "Keep that file, make the keys' cluster writable, and run again on this machine: it will be finished.",
                spool=str(self.spool),
            ) from None
        copied = self._copy_offline(keys)
        self.spool.remove()
        store.clear_marker()
        return copied

    def _copy_offline(self, keys: InitKeys) -> bool:
        """The second of the two files that may hold a secret; one that is there is compared, never replaced."""
        if self.offline is None:
            return False
        there = self.offline.read()
        if there is not None:
            if not InitKeys.from_json(there, f"Reading the offline copy {self.offline}").same_as(keys):
                why = "it holds the keys of another Vault"
                raise PlatformError(f"Writing the offline copy {self.offline}", why, "Move it aside, or name another.")
            return False
        if not self.check:
            self.offline.reserve()
            self.offline.commit(keys.to_json())
        return True

    def _finish(self, store: KeyStore, stored: Stored | None, spooled: InitKeys | None) -> dict[str, Any]:
        """The Vault is initialised and its keys exist: complete what a killed run has left."""
        cluster_id = stored.cluster_id if stored else ""
        left = spooled is not None or store.marker() is not None
        if stored is not None and not left:
            return self._result(store, cluster_id, changed=self._copy_offline(stored.keys))
        if not self.check:
            keys = stored.keys if stored else spooled
            assert keys is not None
            self._save(store, keys)
        return {**self._result(store, cluster_id, changed=True), "finished": True}

    def _lost(self, store: KeyStore, why: str = "") -> PlatformError:
        marker = store.marker()
        found = f"Vault is initialized, but no keys are stored in {store}, and there is no spool file {self.spool}"
        if marker:
            found += f" (an initialisation began at {marker['when']} on {marker['host']}, spool {marker['spool']})"
        if why:
            found += f"; the answer of sys/init was lost: {why}"
        mend = (
            "Nothing was changed. If the keys are known elsewhere (that machine's spool, an offline copy), put them "
            "into the entry init.json of the Secret. If not, nobody can read its data: delete the volume claims "
            f"data-{self.doors.pods[0]} and so on with the pods, and run again for a new, empty Vault."
        )
        return PlatformError(_DOING, found, mend)

    def _planned(self, why: str) -> dict[str, Any]:
        return {**self._diff(f"uninitialised ({why})"), "changed": True, "initialized": False, "cluster_id": ""}

    def _result(self, store: KeyStore, cluster_id: str, *, changed: bool) -> dict[str, Any]:
        keys = {"namespace": store.namespace, "name": store.name}
        result = {"changed": changed, "initialized": True, "cluster_id": cluster_id, "keys_secret": keys}
        return {**result, **self._diff("keys not saved in their place")} if changed else result

    def _diff(self, before: str) -> dict[str, Any]:
        after = f"initialised with {self.threshold} of {self.shares} keys, which are saved on Harvester"
        return {"diff": {"before": f"{before}\n", "after": f"{after}\n"}}


def refuse_apart(doing: str, ids: Mapping[str, str]) -> None:
    """Servers of one Vault tell one cluster id."""
    if len(set(ids.values())) > 1:
        told = ", ".join(f"{name} is {cluster_id}" for name, cluster_id in sorted(ids.items()))
        raise PlatformError(
            doing,
            f"the servers were initialised apart from each other: {told}",
            "Keep the one whose keys are stored; delete the claims of the others with their pods, and they join it.",
        )
