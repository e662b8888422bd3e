# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The shape of a service's description: what is taken, what is completed, what is refused and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils._description import DESCRIPTION, validate

LEAST: dict[str, Any] = {
    "name": "demo",
    "summary": "Shows the least",
    "phase": 3,
    "namespace": "demo",
    "pod_security": "restricted",
}
CHART = {"name": "demo", "repository": "https://charts.example", "chart": "demo", "version": "1.0.0"}
RULE = {"service": "demo", "port": 80}
ROUTE = {"host": "demo", "rules": [RULE], "authentication": "native"}
SECRET = {"name": "demo-db", "keys": {"username": {"format": "fixed", "value": "demo"}, "password": {"length": 32}}}
POSTGRESQL = {"name": "demo-pg", "version": 16, "size": "5Gi", "database": "demo", "owner": "demo", "secret": "demo-db"}
VALKEY = {"name": "demo-valkey", "size": "1Gi", "secret": "demo-db"}
BUCKET = {"name": "demo", "store": "minio", "secret": "demo-s3"}
AUTOSCALE = {"kind": "Deployment", "name": "demo", "minimum": 1, "maximum": 3, "cpu_percent": 70}


def test_the_least() -> None:
    """Five keys suffice; everything else is there, and empty."""
    service = validate(LEAST, "service.yml")
    assert set(service) == set(DESCRIPTION)
    assert service["pool"] is None
    assert service["network"] == {"ingress": [], "egress": []}
    empty = {key for key, option in DESCRIPTION.items() if option["type"] == "list"}
    assert all(service[key] == [] for key in empty)


def test_basic_authentication_brings_its_secret() -> None:
    """Of the one type of which Traefik reads a name and a password; other routes bring none."""
    routes = [{**ROUTE, "authentication": "basic"}, {**ROUTE, "host": "other"}]
    [secret] = validate({**LEAST, "routes": routes}, "service.yml")["secrets"]
    assert (secret["name"], secret["type"], secret["namespaces"]) == (
        "demo-basic-auth",
        "kubernetes.io/basic-auth",
        ["demo"],
    )
    assert set(secret["keys"]) == {"username", "password"}


def test_what_is_completed() -> None:
    """A chart's namespace and values file, a secret's namespace, the parts of lists of mappings."""
    service = validate(
        {
            **LEAST,
            "charts": [CHART, {**CHART, "name": "other", "namespace": "elsewhere", "values": "mine.yml.j2"}],
            "secrets": [SECRET],
            "routes": [ROUTE],
            "postgresql": [POSTGRESQL],
            "valkey": [VALKEY],
            "network": {"egress": [{"cidrs": ["0.0.0.0/0"]}]},
            "metrics": [{"job": "demo", "port": 8080}],
        },
        "service.yml",
    )
    assert [(chart["namespace"], chart["values"]) for chart in service["charts"]] == [
        ("demo", "demo.yml.j2"),
        ("elsewhere", "mine.yml.j2"),
    ]
    assert service["secrets"][0]["namespaces"] == ["demo"]
    assert service["routes"][0]["rules"][0]["paths"] == ["/"]
    assert (service["postgresql"][0]["instances"], service["postgresql"][0]["parameters"]) == (3, {})
    assert (service["valkey"][0]["master"], service["valkey"][0]["sentinels"]) == ("mymaster", 3)
    assert service["network"]["egress"] == [{"services": [], "cidrs": ["0.0.0.0/0"], "entities": [], "ports": []}]
    assert service["network"]["ingress"] == []
    assert (service["metrics"][0]["path"], service["metrics"][0]["scheme"]) == ("/metrics", "http")


def test_the_given_is_left_alone() -> None:
    """The caller's own data is not completed in place: it is read once and used many times."""
    raw = {**LEAST, "charts": [dict(CHART)]}
    validate(raw, "service.yml")
    assert raw["charts"] == [CHART]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"name": None}, "missing required arguments: name"),
        ({"phase": "three"}, "phase"),
        ({"phase": 12}, "phase is 12, phases are 0 to 11"),
        ({"phase": -1}, "phase is -1, phases are 0 to 11"),
        ({"namespace": "De_mo"}, "namespace 'De_mo' is no DNS label"),
        ({"pod_security": "none"}, "pod_security must be one of: restricted, baseline, privileged, got: none"),
        ({"ports": [80]}, "ports"),
        ({"charts": [{**CHART, "version": None}]}, "missing required arguments: version found in charts"),
        ({"charts": [{**CHART, "vesion": "2"}]}, "charts.vesion"),
        ({"routes": [{**ROUTE, "host": "demo.lab.example"}]}, "route host 'demo.lab.example' is no DNS label"),
        ({"routes": [{**ROUTE, "authentication": "maybe"}]}, "authentication must be one of: native, basic"),
        ({"routes": [{**ROUTE, "rules": None}]}, "missing required arguments: rules"),
        (
            {"routes": [{**ROUTE, "authentication": "none", "groups": ["developers"]}]},
            "route 'demo' is for groups ['developers'] but nobody is authenticated",
        ),
        ({"autoscale": [{**AUTOSCALE, "minimum": 4}]}, "'demo' has minimum 4 above maximum 3"),
        ({"autoscale": [{**AUTOSCALE, "kind": "Job"}]}, "kind must be one of: Deployment, StatefulSet"),
        ({"secrets": [{"name": "demo-db"}]}, "missing required arguments: keys"),
        ({"secrets": [{"name": "s", "keys": {"a": {"lenght": 3}}}]}, "key 'a' of secret 's': lenght"),
        ({"secrets": [{"name": "s", "keys": {"a": "b"}}]}, "key 'a' of secret 's': it is no mapping"),
        ({"secrets": [{"name": "s", "keys": {"a": {"length": "long"}}}]}, "key 'a' of secret 's'"),
        ({"secrets": [{"name": "s", "keys": {"a": {"format": "uuid"}}}]}, "format must be one of: password, hex"),
        ({"secrets": [{"name": "s", "keys": {"a": {"format": "fixed"}}}]}, "format is fixed but"),
        (
            {"secrets": [{"name": "s", "keys": {"a": {"format": "htpasswd", "user": "u", "of": "b"}}}]},
            "key 'a' of secret 's': it is made of 'b', which the secret lacks",
        ),
        ({"secrets": [{"name": "s", "keys": {"a": {"format": "htpasswd", "user": "u"}}}]}, "format is htpasswd but"),
        ({"postgresql": [POSTGRESQL]}, "postgresql 'demo-pg' names the secret 'demo-db', which 'secrets' lacks"),
        (
            {"postgresql": [POSTGRESQL], "secrets": [{"name": "demo-db", "keys": {"password": {}}}]},
            "postgresql 'demo-pg' wants the key 'username' of secret 'demo-db', which lacks it",
        ),
        (
            {"valkey": [{**VALKEY, "secret_key": "REDIS"}], "secrets": [SECRET]},
            "valkey 'demo-valkey' wants the key 'REDIS' of secret 'demo-db', which lacks it",
        ),
        ({"buckets": [BUCKET]}, "bucket 'demo' names the secret 'demo-s3', which 'secrets' lacks"),
        ({"metrics": [{"job": "demo", "port": "http"}]}, "port"),
        ({"backup": [{"name": "b", "method": "rsync", "schedule": "x", "keep": 1}]}, "method must be one of"),
        ({"left_to": [{"kind": "Deployment", "fields": [".spec.replicas"]}]}, "missing required arguments: manager"),
        ({"waits_for": [{"kind": "Pod", "name": "p"}]}, "missing required arguments: api_version"),
        ({"operates": [{"kind": "Cluster"}]}, "missing required arguments: api_version"),
        ({"checks": [{"that": "perhaps", "message": "m"}]}, "that"),
        ({"checks": [{"that": True}]}, "missing required arguments: message"),
    ],
)
def test_refused(change: dict[str, Any], fault: str) -> None:
    """Each fault is named, with the file and what to do."""
    raw = {key: value for key, value in {**LEAST, **change}.items() if value is not None}
    for items in raw.values():
        if isinstance(items, list) and items and isinstance(items[0], dict):
            items[0] = {key: value for key, value in items[0].items() if value is not None}
    with pytest.raises(ValueError, match="cannot be used") as caught:
        validate(raw, "roles/demo/meta/service.yml")
    message = str(caught.value)
    assert message.startswith("The description roles/demo/meta/service.yml cannot be used: ")
    assert fault in message
    assert message.endswith("Mend that file, or the variable that the value comes from.")


@pytest.mark.parametrize("raw", [None, [], "name: demo"])
def test_no_mapping(raw: object) -> None:
    """An empty file, for example."""
    with pytest.raises(ValueError, match=r"service\.yml is not a mapping; begin it with 'name:'\."):
        validate(raw, "service.yml")


def test_all_faults_at_once() -> None:
    """Nobody wants to mend them one by one."""
    with pytest.raises(ValueError, match="phase is 12") as caught:
        validate({**LEAST, "phase": 12, "namespace": "De_mo", "autoscale": [{**AUTOSCALE, "minimum": 9}]}, "s")
    assert str(caught.value).count("; ") == 2


def test_every_key_is_documented() -> None:
    """docs/descriptions.md has a line for each, and names the keys below it."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "descriptions.md").read_text(encoding="utf-8")
    lines = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    assert set(lines) == set(DESCRIPTION)
    for key, option in DESCRIPTION.items():
        assert all(f"`{below}`" in lines[key] for below in option.get("options", {})), key
