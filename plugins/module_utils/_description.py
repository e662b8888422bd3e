# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The shape of a service's description (roles/<service>/meta/service.yml): one closed, typed specification."""

from __future__ import annotations

import re
from typing import Any, cast

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

Spec = dict[str, Any]

POD_SECURITY_LEVELS = ("restricted", "baseline", "privileged")
AUTHENTICATION = ("native", "basic", "forward_auth", "none")
ENTITIES = ("cluster", "world")
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def _text(**more: Any) -> Spec:
    return {"type": "str", **more}


def _list_of(options: Spec) -> Spec:
    return {"type": "list", "elements": "dict", "default": [], "options": options}


_REFERENCE: Spec = {
    "api_version": _text(required=True),
    "kind": _text(required=True),
    "name": _text(required=True),
    "namespace": _text(),
}

_CHART: Spec = {
    "name": _text(required=True),
    "repository": _text(required=True),
    "chart": _text(required=True),
    "version": _text(required=True),
    "namespace": _text(),
    "values": _text(),
    "extra_values": {"type": "dict", "default": {}},
    "upgrade_crds": {"type": "bool", "default": False},
}

_SECRET: Spec = {
    "name": _text(required=True),
    "namespaces": {"type": "list", "elements": "str", "default": []},
    "type": _text(default="Opaque"),
    "keys": {"type": "dict", "required": True, "no_log": False},
}

# A key of a secret, as the module generated_secret takes it.
_KEY: Spec = {
    "length": {"type": "int"},
    "alphabet": _text(),
    "format": _text(choices=["password", "hex", "base64", "fixed", "htpasswd"], default="password"),
    "value": _text(no_log=False),
    "user": _text(),
    "of": _text(),
}
_KEY_NEEDS = [("format", "fixed", ["value"]), ("format", "htpasswd", ["user", "of"])]

_POSTGRESQL: Spec = {
    "name": _text(required=True),
    "version": {"type": "int", "required": True},
    "instances": {"type": "int", "default": 3},
    "size": _text(required=True),
    "database": _text(required=True),
    "owner": _text(required=True),
    "secret": _text(required=True),
    "parameters": {"type": "dict", "default": {}},
    "extensions": {"type": "list", "elements": "str", "default": []},
    "backup": {"type": "dict", "default": {}},
}

_VALKEY: Spec = {
    "name": _text(required=True),
    "replicas": {"type": "int", "default": 3},
    "sentinels": {"type": "int", "default": 3},
    "size": _text(required=True),
    "master": _text(default="mymaster"),
    "secret": _text(required=True),
    "secret_key": _text(default="password"),
}

_BUCKET: Spec = {
    "name": _text(required=True),
    "store": _text(required=True),
    "secret": _text(required=True),
    "access_key": _text(default="accesskey"),
    "secret_key": _text(default="secretkey"),
}

_ROUTE: Spec = {
    "host": _text(required=True),
    "rules": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "paths": {"type": "list", "elements": "str", "default": ["/"]},
            "service": _text(required=True),
            "port": {"type": "int", "required": True},
        },
    },
    "authentication": _text(choices=list(AUTHENTICATION), required=True),
    "groups": {"type": "list", "elements": "str", "default": []},
    "timeout": _text(),
}

_OIDC: Spec = {
    "client_id": _text(required=True),
    "redirect_uris": {"type": "list", "elements": "str", "required": True},
    "public": {"type": "bool", "default": False},
}

_ALLOWANCE: Spec = {
    "services": {"type": "list", "elements": "str", "default": []},
    "cidrs": {"type": "list", "elements": "str", "default": []},
    "entities": {"type": "list", "elements": "str", "choices": list(ENTITIES), "default": []},
    "ports": {"type": "list", "elements": "int", "default": []},
}

_AUTOSCALE: Spec = {
    "kind": _text(choices=["Deployment", "StatefulSet"], required=True),
    "name": _text(required=True),
    "minimum": {"type": "int", "required": True},
    "maximum": {"type": "int", "required": True},
    "cpu_percent": {"type": "int", "required": True},
}

_METRICS: Spec = {
    "job": _text(required=True),
    "port": {"type": "int", "required": True},
    "path": _text(default="/metrics"),
    "scheme": _text(choices=["http", "https"], default="http"),
    "selector": {"type": "dict", "default": {}},
    "namespaces": {"type": "list", "elements": "str", "default": []},
    "honor_labels": {"type": "bool", "default": False},
    "node": {"type": "bool", "default": False},
    "labels": {"type": "dict", "default": {}},
    "drop": {"type": "list", "elements": "str", "default": []},
}

_BACKUP: Spec = {
    "name": _text(required=True),
    "method": _text(choices=["raft_snapshot", "base_backup", "volume", "git"], required=True),
    "schedule": _text(required=True),
    "keep": {"type": "int", "required": True},
}

_LEFT_TO: Spec = {
    "kind": _text(required=True),
    "name": _text(),
    "fields": {"type": "list", "elements": "str", "required": True},
    "manager": _text(required=True),
}

_KIND: Spec = {"api_version": _text(required=True), "kind": _text(required=True)}

_CHECK: Spec = {"that": {"type": "bool", "required": True}, "message": _text(required=True)}

DESCRIPTION: Spec = {
    "name": _text(required=True),
    "summary": _text(required=True),
    "phase": {"type": "int", "required": True},
    "namespace": _text(required=True),
    "pool": _text(),
    "pod_security": _text(choices=list(POD_SECURITY_LEVELS), required=True),
    "requires": {"type": "list", "elements": "str", "default": []},
    "charts": _list_of(_CHART),
    "secrets": _list_of(_SECRET),
    "postgresql": _list_of(_POSTGRESQL),
    "valkey": _list_of(_VALKEY),
    "buckets": _list_of(_BUCKET),
    "routes": _list_of(_ROUTE),
    "oidc": _list_of(_OIDC),
    "network": {
        "type": "dict",
        "default": {},
        "options": {"ingress": _list_of(_ALLOWANCE), "egress": _list_of(_ALLOWANCE)},
    },
    "autoscale": _list_of(_AUTOSCALE),
    "metrics": _list_of(_METRICS),
    "images": {"type": "list", "elements": "str", "default": []},
    "backup": _list_of(_BACKUP),
    "left_to": _list_of(_LEFT_TO),
    "waits_for": _list_of(_REFERENCE),
    # Kinds whose objects only this service can run, and end: while there is one, it is not removed.
    "operates": _list_of(_KIND),
    # What must hold between this role's variables; a false one refuses the configuration with its message.
    "checks": _list_of(_CHECK),
}


def _key_faults(key: Any, others: dict[str, Any]) -> list[str]:
    """What is wrong with a secret's key."""
    if not isinstance(key, dict | None):
        return ["it is no mapping"]
    result = ArgumentSpecValidator(_KEY, required_if=_KEY_NEEDS).validate(key or {})
    of = result.validated_parameters["of"]
    if of and of not in others:
        return [*result.error_messages, f"it is made of '{of}', which the secret lacks"]
    return list(result.error_messages)


def _secret_problems(service: dict[str, Any]) -> list[str]:
    """Keys that cannot be made, and Secrets and keys that are named but not declared."""
    declared = {secret["name"]: secret["keys"] for secret in service["secrets"]}
    found = [
        f"key '{name}' of secret '{secret}': {fault}"
        for secret, keys in declared.items()
        for name, key in keys.items()
        for fault in _key_faults(key, keys)
    ]
    wanted = [
        *(("postgresql", item, {"username", "password"}) for item in service["postgresql"]),
        *(("valkey", item, {item["secret_key"]}) for item in service["valkey"]),
        *(("bucket", item, {item["access_key"], item["secret_key"]}) for item in service["buckets"]),
    ]
    for kind, item, keys in wanted:
        what, secret = f"{kind} '{item['name']}'", item["secret"]
        if secret not in declared:
            found.append(f"{what} names the secret '{secret}', which 'secrets' lacks")
            continue
        missing = sorted(keys - set(declared[secret]))
        found.extend(f"{what} wants the key '{key}' of secret '{secret}', which lacks it" for key in missing)
    return found


def _problems(service: dict[str, Any]) -> list[str]:
    """What types alone cannot say."""
    found = _secret_problems(service)
    if not 0 <= service["phase"] <= 11:
        found.append(f"phase is {service['phase']}, phases are 0 to 11")
    if not DNS_LABEL.fullmatch(service["namespace"]):
        found.append(f"namespace '{service['namespace']}' is no DNS label (lower-case letters, digits and '-')")
    found.extend(
        f"route host '{route['host']}' is no DNS label; the domain is appended to it"
        for route in service["routes"]
        if not DNS_LABEL.fullmatch(route["host"])
    )
    found.extend(
        f"route '{route['host']}' is for groups {route['groups']} but nobody is authenticated"
        for route in service["routes"]
        if route["groups"] and route["authentication"] == "none"
    )
    found.extend(
        f"autoscale of {item['kind']} '{item['name']}' has minimum {item['minimum']} above maximum {item['maximum']}"
        for item in service["autoscale"]
        if item["minimum"] > item["maximum"]
    )
    return found


def validate(raw: Any, source: str) -> dict[str, Any]:
    """Return the description with its defaults filled in.

    :param raw: what the file holds, strings already templated.
    :param source: the file, for the message.
    :raises ValueError: one sentence that names the file and every fault in it.
    """
    if not isinstance(raw, dict):
        raise ValueError(f"The description {source} is not a mapping; begin it with 'name:'.")
    result = ArgumentSpecValidator(DESCRIPTION).validate(raw)
    faults = list(result.error_messages)
    service = cast("dict[str, Any]", result.validated_parameters)
    if not faults:
        faults = _problems(service)
    if faults:
        mend = "Mend that file, or the variable that the value comes from."
        raise ValueError(f"The description {source} cannot be used: {'; '.join(faults)}. {mend}")
    service["network"] = {"ingress": [], "egress": [], **(service["network"] or {})}
    for chart in service["charts"]:
        chart["namespace"] = chart["namespace"] or service["namespace"]
        chart["values"] = chart["values"] or f"{chart['name']}.yml.j2"
    service["secrets"] += [_basic_auth(route) for route in service["routes"] if route["authentication"] == "basic"]
    for item in [*service["secrets"], *service["metrics"]]:
        item["namespaces"] = item["namespaces"] or [service["namespace"]]
    return service


def _basic_auth(route: Spec) -> Spec:
    """What Traefik asks for before a route: of this type it reads two keys, of any other it takes one only."""
    keys = {"username": {"format": "fixed", "value": "admin"}, "password": {}}
    return {"name": f"{route['host']}-basic-auth", "type": "kubernetes.io/basic-auth", "namespaces": [], "keys": keys}
