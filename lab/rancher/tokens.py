# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Rancher's tokens: objects of the management API whose secret is kept as a digest only."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any

from lab.kube import Object
from lab.nodes import NAMES
from lab.rancher import settings

PATH = "/apis/management.cattle.io/v3/tokens"


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def stamp(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def parse(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def word(length: int, letters: str = NAMES) -> str:
    return "".join(secrets.choice(letters) for _ in range(length))


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def make(
    name: str, ttl: datetime.timedelta, description: str, *, user: str = settings.USER, kind: str = ""
) -> tuple[Object, str]:
    """A token object and its secret. A time to live of nothing never expires."""
    secret = word(54)
    began = now()
    return {
        "apiVersion": "management.cattle.io/v3",
        "kind": "Token",
        "metadata": {
            "name": name,
            "labels": {
                "authn.management.cattle.io/token-userId": user,
                **({"authn.management.cattle.io/kind": kind} if kind else {}),
            },
        },
        "authProvider": "local",
        "userId": user,
        "description": description,
        "ttl": int(ttl.total_seconds() * 1000),
        "expiresAt": stamp(began + ttl) if ttl else "",
        "isDerived": True,
        "current": False,
        "enabled": True,
        "token": digest(secret),
    }, secret


def expired(token: Object, moment: datetime.datetime | None = None) -> bool:
    until = str(token.get("expiresAt") or "")
    return bool(until) and parse(until) <= (moment or now())


def bearer(header: str) -> str:
    """The token of an Authorization header: a bearer, or name and secret by basic authentication."""
    scheme, _, rest = header.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest).decode()
        except ValueError:
            return ""
    return ""


def name_of(text: str) -> str:
    return text.partition(":")[0]


def accepts(token: Object | None, text: str, moment: datetime.datetime | None = None) -> bool:
    if token is None or not token.get("enabled", True) or expired(token, moment):
        return False
    return hmac.compare_digest(str(token.get("token")), digest(text.partition(":")[2]))


def shown(token: Object, base: str, moment: datetime.datetime | None = None) -> dict[str, Any]:
    """As /v3 gives it: never with its secret."""
    name = token["metadata"]["name"]
    created = str(token["metadata"].get("creationTimestamp") or stamp(now()))
    return {
        "authProvider": token.get("authProvider", "local"),
        "baseType": "token",
        "clusterId": token.get("clusterName") or None,
        "created": created,
        "createdTS": int(parse(created).timestamp() * 1000),
        "current": token.get("current", False),
        "description": token.get("description", ""),
        "enabled": token.get("enabled", True),
        "expired": expired(token, moment),
        "expiresAt": token.get("expiresAt", ""),
        "id": name,
        "isDerived": token.get("isDerived", True),
        "labels": token["metadata"].get("labels", {}),
        "links": {word: f"{base}/v3/tokens/{name}" for word in ("remove", "self", "update")},
        "name": name,
        "ttl": token.get("ttl", 0),
        "type": "token",
        "userId": token.get("userId"),
        "userPrincipal": "map[displayName:Lab administrator loginName:admin]",
        "uuid": token["metadata"].get("uid", ""),
    }


def from_request(body: Mapping[str, Any], user: str) -> tuple[Object, str]:
    ttl = datetime.timedelta(milliseconds=float(body.get("ttl") or 0))
    token, secret = make(f"token-{word(5)}", ttl, str(body.get("description", "")), user=user)
    if body.get("clusterId"):
        token["clusterName"] = str(body["clusterId"])
    return token, secret
