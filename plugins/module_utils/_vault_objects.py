# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Objects inside Vault as data: read, compare, write only what differs, read again (private to this collection)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ._errors import PlatformError
from ._vault_client import VaultError
from ._vault_compare import MASK, PKI_ROLE_DEFAULTS, differing, same, shown
from ._vault_leader import Leader, upgrading

_LAG = 10.0
_DELAY = 0.3
_KEPT_POLICIES = ("default", "root")
# kind -> template of the path that is both read and written.
_PATHS = {
    "policy": "sys/policies/acl/{name}",
    "auth_config": "auth/{path}/config",
    "auth_role": "auth/{path}/role/{name}",
    "pki_urls": "{path}/config/urls",
    "pki_auto_tidy": "{path}/config/auto-tidy",
    "pki_role": "{path}/roles/{name}",
    "write": "{path}",
}
_TABLES = {"mount": "sys/mounts", "auth": "sys/auth", "audit": "sys/audit"}
_REMOVABLE = ("policy", "auth_role", "pki_role", "mount", "auth", "audit", "write")


@dataclass
class Change:
    """What became of one object. ``before`` and ``after`` hold differing fields only, secrets masked."""

    kind: str
    name: str
    result: str
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def changed(self) -> bool:
        return self.result not in ("unchanged", "unsupported")

    def summary(self) -> dict[str, str]:
        said = {"kind": self.kind, "name": self.name, "result": self.result}
        return {**said, "note": self.note} if self.note else said


class Objects:
    """Brings objects to what their specifications say, in the order given."""

    def __init__(
        self, leader: Leader, secret: Callable[[Mapping[str, str]], str | None], *, check: bool = False
    ) -> None:
        self.leader, self.secret, self.check = leader, secret, check

    def settle(self, spec: Mapping[str, Any]) -> Change:
        kind = spec["kind"]
        if spec.get("state") == "absent":
            return self._remove(spec)
        needed = "policy" if kind == "policy" else "type" if kind in _TABLES else ""
        if needed and not spec.get(needed):
            raise PlatformError(f"Comparing {kind} {title(spec)} of Vault", f"its {needed} is not given")
        if kind in _TABLES:
            return self._entry(spec)
        if kind == "kv":
            return self._kv(spec)
        return self._plain(spec)

    def _plain(self, spec: Mapping[str, Any]) -> Change:
        """An object that is read and written at one path."""
        kind, path = spec["kind"], path_of(spec)
        wanted, unknown = self._wanted(spec)
        secret = [*(spec.get("secret_fields") or []), *(spec.get("data_from") or {})]
        # What Vault never gives back cannot be compared: it is written along with what can.
        compared = {key: value for key, value in wanted.items() if key not in secret}
        current = self._read(path)
        if kind == "pki_role" and current is not None:
            compared = {**{key: PKI_ROLE_DEFAULTS[key] for key in PKI_ROLE_DEFAULTS if key in current}, **compared}
        differ = differing(compared, current or {})
        if current is not None and not differ:
            return Change(kind, title(spec), "unchanged")
        names = differ if current is not None else list(wanted)
        change = Change(
            kind,
            title(spec),
            "changed" if current is not None else "created",
            shown(current or {}, names, secret),
            shown({**compared, **dict.fromkeys(secret, MASK)}, names, secret),
        )
        if self.check:
            return change
        if unknown:
            why = f"the Secret entries for {', '.join(unknown)} do not exist"
            raise PlatformError(f"Writing {kind} {title(spec)} to Vault", why, "Create them before.")
        method = "PUT" if kind == "policy" else "POST"
        self._write(method, path, wanted, kind, spec)
        self._verify(spec, path, compared)
        return change

    def _wanted(self, spec: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        if spec["kind"] == "policy":
            return {"policy": spec["policy"]}, []
        wanted = dict(spec.get("data") or {})
        unknown = []
        for name, reference in (spec.get("data_from") or {}).items():
            value = self.secret(reference)
            if value is None:
                unknown.append(name)
            else:
                wanted[name] = value
                self.leader.hide({value})
        self.leader.hide({str(wanted[name]) for name in spec.get("secret_fields") or [] if name in wanted})
        return {key: value for key, value in wanted.items() if value is not None}, unknown

    def _verify(self, spec: Mapping[str, Any], path: str, wanted: Mapping[str, Any]) -> None:
        """Standbys of OpenBao answer reads themselves and lag; and a value that reads back otherwise never settles."""
        deadline = time.monotonic() + _LAG
        while differ := differing(wanted, self._read(path) or {}):
            if time.monotonic() > deadline:
                fields = ", ".join(differ)
                raise PlatformError(
                    f"Writing {spec['kind']} {title(spec)} to Vault",
                    f"it was accepted, but does not read back as written: {fields}",
                    "Write the value in the form in which Vault gives it back, or list what it never gives back "
                    "under secret_fields.",
                )
            time.sleep(_DELAY)

    def _entry(self, spec: Mapping[str, Any]) -> Change:
        """A row of the tables of secret engines, auth methods and audit devices."""
        kind, table, name = spec["kind"], _TABLES[spec["kind"]], title(spec)
        row = (self._read(table) or {}).get(f"{spec['path']}/")
        wanted = {key: spec[key] for key in ("description", "config", "options") if spec.get(key) is not None}
        if row is None:
            change = Change(kind, name, "created", {}, {"type": spec["type"], **wanted})
            if kind == "audit" and spec.get("optional") and self.leader.is_openbao():
                return Change(kind, name, "unsupported", note="OpenBao takes them from its configuration only")
            if not self.check:
                method = "PUT" if kind == "audit" else "POST"
                self._write(method, f"{table}/{spec['path']}", {"type": spec["type"], **wanted}, kind, spec)
            return change
        doing = f"Comparing {kind} {name} of Vault"
        if row["type"] != spec["type"]:
            why = f"it is of type {row['type']}, wanted is {spec['type']}"
            raise PlatformError(doing, why, "Its data would be lost: choose another path, or remove it yourself.")
        differ = [key for key in wanted if not same(wanted[key], row.get(key))]
        if not differ:
            return Change(kind, name, "unchanged")
        if kind == "audit":
            why = f"it differs in {', '.join(differ)}, and an audit device cannot be changed"
            raise PlatformError(doing, why, "Add one under another name first, then remove this one.")
        change = Change(kind, name, "changed", shown(row, differ, []), shown(wanted, differ, []))
        if not self.check:
            tuning = {**(wanted.get("config") or {})}
            tuning.update({key: wanted[key] for key in ("description", "options") if key in differ})
            self._write("POST", f"{table}/{spec['path']}/tune", tuning, kind, spec)
        return change

    def _kv(self, spec: Mapping[str, Any]) -> Change:
        """Created once with check-and-set; an entry that is there is nobody's to overwrite."""
        name, doing = title(spec), f"Creating the kv entry {title(spec)} in Vault"
        known = self._read(f"{spec['path']}/metadata/{spec['name']}")
        if known is not None:
            version = (known.get("versions") or {}).get(str(known.get("current_version")), {})
            if version.get("deletion_time") or version.get("destroyed"):
                mend = "Undelete it, or delete its metadata to have it made anew."
                raise PlatformError(doing, "its newest version was deleted", mend)
            return Change("kv", name, "unchanged")
        wanted, unknown = self._wanted(spec)
        change = Change("kv", name, "created", {}, dict.fromkeys(sorted([*wanted, *unknown]), MASK))
        if self.check:
            return change
        if unknown:
            why = f"the Secret entries for {', '.join(unknown)} do not exist"
            raise PlatformError(doing, why, "Create them before.")
        self.leader.hide({str(value) for value in wanted.values()})
        body = {"data": wanted, "options": {"cas": 0}}
        try:
            self._write("POST", f"{spec['path']}/data/{spec['name']}", body, "kv", spec)
        except PlatformError:
            # Lost answers and runs beside this one: what counts is whether the entry is there now.
            if self._read(f"{spec['path']}/metadata/{spec['name']}") is None:
                raise
        return change

    def _remove(self, spec: Mapping[str, Any]) -> Change:
        kind, name = spec["kind"], title(spec)
        if kind not in _REMOVABLE:
            raise PlatformError(f"Removing {kind} {name} from Vault", "objects of this kind are never removed here")
        if kind in _TABLES:
            path = f"{_TABLES[kind]}/{spec['path']}"
            present = f"{spec['path']}/" in (self._read(_TABLES[kind]) or {})
        else:
            path = path_of(spec)
            present = self._read(path) is not None
        if present and not self.check:
            self.leader.call("DELETE", path, doing=f"Removing {kind} {name} from Vault")
        return Change(kind, name, "removed" if present else "unchanged", {"present": True} if present else {})

    def purge(self, kinds: Sequence[str], specs: Sequence[Mapping[str, Any]]) -> list[Change]:
        """Remove what is not listed, of the kinds asked for, and only below the mounts that are listed."""
        changes = []
        for kind in kinds:
            listed = [spec for spec in specs if spec["kind"] == kind]
            if kind == "policy":
                lists = {"sys/policies/acl": ""}
            else:
                below = "auth/{path}/role" if kind == "auth_role" else "{path}/roles"
                lists = {below.format(path=spec["path"]): spec["path"] for spec in listed}
            kept = {(spec.get("path") or "", spec["name"]) for spec in listed}
            for path, mount in lists.items():
                for name in self.leader.names(path):
                    if (mount, name) in kept or (kind == "policy" and name in _KEPT_POLICIES):
                        continue
                    changes.append(self._remove({"kind": kind, "path": mount or None, "name": name}))
        return changes

    def _read(self, path: str) -> dict[str, Any] | None:
        deadline = time.monotonic() + _LAG
        while True:
            try:
                return self.leader.read(path)
            except VaultError as exc:
                if not upgrading(exc) or time.monotonic() > deadline:
                    raise
            time.sleep(_DELAY)

    def _write(self, method: str, path: str, body: Mapping[str, Any], kind: str, spec: Mapping[str, Any]) -> None:
        doing = f"Writing {kind} {title(spec)} to Vault"
        deadline = time.monotonic() + _LAG
        while True:
            try:
                self.leader.call(method, path, body, doing=doing)
                return
            except VaultError as exc:
                if not upgrading(exc) or time.monotonic() > deadline:
                    raise
            time.sleep(_DELAY)


def masked(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The specification without what is secret in it."""
    data = dict(spec.get("data") or {})
    secret = data if spec["kind"] == "kv" else spec.get("secret_fields") or []
    return {**spec, "data": {key: MASK if key in secret else data[key] for key in data}}


def path_of(spec: Mapping[str, Any]) -> str:
    return _PATHS[spec["kind"]].format(path=spec.get("path"), name=spec.get("name"))


def title(spec: Mapping[str, Any]) -> str:
    return "/".join(str(spec[key]) for key in ("path", "name") if spec.get(key))
