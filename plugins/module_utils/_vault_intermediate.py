# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""An intermediate CA whose key is made inside Vault and never leaves it (private to this collection).

Vault makes a new key at each request, so the keys that are there are looked at first: one of ours without a
certificate is what a killed run has left, and is taken up again. Names are counted, so that two runs cannot make two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509

from ._errors import PlatformError
from ._pki import Authority, day, facts, hours_left, issued_by, parse, sign_intermediate, to_pem
from ._vault_leader import Leader
from ._vault_objects import Change, Objects

_PREFIX = "platform-intermediate-"
_DOING = "Setting up the intermediate CA in Vault"


@dataclass(frozen=True)
class Issuer:
    identifier: str
    key: str
    certificate: x509.Certificate
    default: bool


@dataclass
class Intermediate:
    """One run. ``root`` gives the root CA, whose key leaves this process only as a signature."""

    leader: Leader
    objects: Objects
    root: Callable[[], Authority | None]
    mount: str
    common_name: str
    organization: str = ""
    bits: int = 4096
    ttl_hours: int = 87600
    leaf_hours: int = 720
    renew_below_hours: int = 0
    replace_foreign: bool = False
    urls: Mapping[str, Sequence[str]] = field(default_factory=dict)
    check: bool = False
    changes: list[Change] = field(default_factory=list)
    hours_left: float = 0.0

    def run(self) -> dict[str, Any]:
        if self.renew_below_hours >= self.ttl_hours:
            why = "renew_below is not shorter than ttl, so each run would make a new intermediate"
            raise PlatformError(_DOING, why, "Set it to a part of ttl.")
        root = self.root()
        if root is None:
            if self.check:
                return self.planned("the root CA does not exist yet")
            raise PlatformError(_DOING, "there is no root CA to sign it", "Make it first (--tags phase0).")
        self._settle({"kind": "mount", "path": self.mount, "type": "pki", "config": {"max_lease_ttl": self._ttl}})
        if self.check and self.changes and self.changes[0].result == "created":
            return self.planned("the secret engine does not exist yet")
        issuers = self._issuers()
        current = self._current(issuers, root.certificate)
        if current is None or hours_left(current.certificate) < self.renew_below_hours:
            if self.check:
                return self.planned("it would be made" if current is None else "it would be renewed")
            current = self._make(root, issuers)
        self._verify_lifetime(current.certificate)
        if not current.default:
            self._default(current)
        if self.urls:
            self._settle({"kind": "pki_urls", "path": self.mount, "data": dict(self.urls)})
        return self._result(current, root.certificate)

    @property
    def _ttl(self) -> str:
        return f"{self.ttl_hours}h"

    def _settle(self, spec: Mapping[str, Any]) -> None:
        change = self.objects.settle(spec)
        if change.changed:
            self.changes.append(change)

    def _issuers(self) -> list[Issuer]:
        """The issuers that have a key here; a root that was imported with the chain has none."""
        found = []
        listed = self.leader.list(f"{self.mount}/issuers")
        for identifier, info in (listed.get("key_info") or {}).items():
            if not info.get("key_id"):
                continue
            data = self.leader.read(f"{self.mount}/issuer/{identifier}") or {}
            certificate = parse(str(data.get("certificate", "")), f"Reading issuer {identifier} of {self.mount}")
            found.append(Issuer(identifier, str(info["key_id"]), certificate, bool(info.get("is_default"))))
        return found

    def _current(self, issuers: Sequence[Issuer], root: x509.Certificate) -> Issuer | None:
        """Of ours the one that lasts longest: an older one stays for what it has signed."""
        ours = [issuer for issuer in issuers if issued_by(issuer.certificate, root)]
        if not ours and issuers and not self.replace_foreign:
            subject = issuers[0].certificate.issuer.rfc4514_string()
            why = f"{self.mount} has an intermediate that was not issued by the stored root CA but by {subject}"
            mend = (
                "Put back the root CA it belongs to, or set vault_pki_replace_foreign to have another made beside it."
            )
            raise PlatformError(_DOING, why, mend)
        return max(ours, key=lambda issuer: issuer.certificate.not_valid_after_utc, default=None)

    def _make(self, root: Authority, issuers: Sequence[Issuer]) -> Issuer:
        csr = self._request({issuer.key for issuer in issuers})
        signed = sign_intermediate(root, csr, self.ttl_hours, _DOING)
        chain = {"certificate": signed + root.pem}
        doing = f"Importing the signed intermediate into {self.mount} of Vault"
        self.leader.call("POST", f"{self.mount}/intermediate/set-signed", chain, doing=doing)
        wanted = parse(signed, doing)
        for issuer in self._issuers():
            if issuer.certificate == wanted:
                subject = wanted.subject.rfc4514_string()
                self.changes.append(Change("intermediate", subject, "created", {}, {"not_after": day(wanted)}))
                return issuer
        raise PlatformError(doing, "Vault did not find the key to this certificate", "Run again; a new one is signed.")

    def _request(self, used: set[str]) -> str:
        """A CSR: for a key that an earlier run has left, else for a new one."""
        info = self.leader.list(f"{self.mount}/keys").get("key_info") or {}
        names = {str(entry.get("key_name", "")): key for key, entry in info.items()}
        ours = {name: key for name, key in names.items() if name.startswith(_PREFIX)}
        body: dict[str, Any] = {"common_name": self.common_name, "exclude_cn_from_sans": True}
        if self.organization:
            body["organization"] = self.organization
        waiting = [key for _name, key in sorted(ours.items()) if key not in used]
        doing = f"Requesting the intermediate's certificate from {self.mount} of Vault"
        if waiting:
            path = f"{self.mount}/intermediate/generate/existing"
            answer = self.leader.call("POST", path, {**body, "key_ref": waiting[0]}, doing=doing)
        else:
            body.update(key_type="rsa", key_bits=self.bits, key_name=f"{_PREFIX}{len(ours) + 1}")
            path = f"{self.mount}/intermediate/generate/internal"
            # Sent once: were its answer lost, the next run takes the key up; a second one is refused for its name.
            answer = self.leader.call("POST", path, body, retry=False, timeout=120.0, doing=doing)
        return str((answer.get("data") or {}).get("csr", ""))

    def _verify_lifetime(self, certificate: x509.Certificate) -> None:
        """With leaf_not_after_behavior `err` Vault refuses leaves that outlive their issuer: say it before it does."""
        self.hours_left = hours_left(certificate)
        if self.hours_left < self.leaf_hours:
            why = f"it ends on {day(certificate)}, before a leaf of {self.leaf_hours} h that is issued today would"
            mend = f"Renew it: set vault_pki_renew_below to at least {self.leaf_hours}h (the old issuer is kept)."
            raise PlatformError("Checking the intermediate CA", why, mend)

    def _default(self, issuer: Issuer) -> None:
        self.changes.append(Change("default issuer", self.mount, "changed", {}, {"default": issuer.identifier}))
        if not self.check:
            # A newer import must not become the default by itself: a rotation sets it when all know the new chain.
            body = {"default": issuer.identifier, "default_follows_latest_issuer": False}
            self.leader.call("POST", f"{self.mount}/config/issuers", body)

    def planned(self, why: str) -> dict[str, Any]:
        self.changes.append(Change("intermediate", self.common_name, "planned", {}, {"planned": why}))
        return {**self._changed(), "issuer_id": "", "certificate": "", "not_after": ""}

    def _changed(self) -> dict[str, Any]:
        return {"changed": bool(self.changes), "objects": [change.summary() for change in self.changes]}

    def _result(self, issuer: Issuer, root: x509.Certificate) -> dict[str, Any]:
        chain = to_pem(issuer.certificate) + to_pem(root)
        return {**self._changed(), **facts(issuer.certificate), "chain": chain, "issuer_id": issuer.identifier}
