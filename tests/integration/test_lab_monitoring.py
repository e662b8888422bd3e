# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Phase 3 on the lab, judged by the real Prometheus and the real Traefik. Needs the site on the lab."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils._dashboard import dashboard
from ansible_collections.harvester_rke2.platform.tests.integration.platform_lab import (
    NOT_THERE,
    THERE,
    Browser,
    password,
    prometheus,
    rules,
    until,
    value,
    with_service,
)

from lab.kube import Client
from lab.settings import REPOSITORY
from tests.tools import alerts

# Their programs run for real.
UP = {
    "apiserver", "kubelet", "cadvisor", "etcd", "kube-scheduler", "kube-controller-manager", "coredns", "traefik",
    "node-exporter", "kube-state-metrics", "kube-state-metrics-telemetry", "vault", "node-labeler",
    "prometheus", "alertmanager", "storage-autoscaler",
}  # fmt: skip
# Its controllers run for real, its webhook and cainjector are simulated.
PARTLY = {"cert-manager"}
# Their pods are simulated: found, and down.
DOWN = {"cilium-agent", "hubble", "cilium-operator", "hubble-relay", "grafana", "loki", "alloy", "cnpg-operator"}

pytestmark = [pytest.mark.skipif(not THERE, reason=NOT_THERE), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def api() -> Client:
    return with_service("prometheus")


def health(api: Client) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for target in prometheus(api, "targets", state="active")["activeTargets"]:
        found.setdefault(target["labels"]["job"], Counter())[target["health"]] += 1
    return found


def test_every_target_is_found_and_those_that_are_real_are_up(api: Client) -> None:
    def settled() -> bool:
        """At once: on a busy machine one of so many may just have answered too late."""
        found = health(api)
        nodes = len(api.request("GET", "/api/v1/nodes")["items"])
        return (
            set(found) >= UP | DOWN | PARTLY
            and all(set(found[job]) == {"up"} for job in UP)
            and all("up" not in found[job] for job in DOWN)
            and all("up" in found[job] for job in PARTLY)
            and found["kubelet"]["up"] == found["node-exporter"]["up"] == nodes
        )

    try:
        until(settled, 240, "the targets")
    finally:
        for job, counts in sorted(health(api).items()):
            print(f"{job:30} {', '.join(f'{number} {state}' for state, number in counts.items())}")


def test_a_target_answers_to_those_who_may_read_metrics_only(api: Client) -> None:
    """That Prometheus's own rights let it in, and not an open door."""
    node = api.request("GET", "/api/v1/nodes")["items"][0]["metadata"]["name"]
    review: dict[str, Any] = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": "system:serviceaccount:monitoring:prometheus",
            "resourceAttributes": {"resource": "nodes", "subresource": "metrics", "verb": "get", "name": node},
        },
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    assert api.request("POST", path, review)["status"]["allowed"]
    review["spec"]["resourceAttributes"] = {"resource": "secrets", "verb": "get", "namespace": "vault"}
    assert not api.request("POST", path, review)["status"]["allowed"]


def alerts_of(api: Client, *, deployed: bool) -> set[str]:
    """The alerts in the roles of services that are, or are not, deployed."""
    found: set[str] = set()
    for path in REPOSITORY.glob("roles/*/files/alerts/*.yml"):
        slug = path.parents[2].name.replace("_", "-")
        there = api.get(f"/api/v1/namespaces/kube-system/configmaps/applyset-{slug}") is not None
        found |= set(yaml.safe_load(path.read_text())) if there is deployed else set()
    return found


def test_every_rule_is_loaded_and_evaluates(api: Client) -> None:
    wanted = alerts_of(api, deployed=True)
    until(lambda: set(rules(api)) >= wanted, 120, "the rules")
    until(lambda: all(rule["health"] == "ok" for of in rules(api).values() for rule in of), 90, "their evaluation")
    assert value(api, 'prometheus_config_last_reload_successful{job="prometheus"}') == 1
    print(f"{sum(map(len, rules(api).values()))} rules of {len(rules(api))} alerts")


def test_nothing_that_is_not_deployed_can_fire(api: Client) -> None:
    theirs = alerts_of(api, deployed=False)
    assert theirs, "everything is deployed"
    assert not theirs & set(rules(api))


def test_what_vaults_alerts_watch_is_there_all_the_time(api: Client) -> None:
    """Vault forgets a metric that it has not told for a minute: an alert that reads it as it is would never be pending
    long enough. What comes with requests only is left out."""
    [source] = [source for source in alerts.sources() if source.group == "vault"]
    read = {
        name
        for rule in source.alerts.values()
        for name in re.findall(r"vault_\w+(?=\{[^}]*\}(?!\[))", str(rule["expr"]))
    }
    read -= {"vault_core_handle_request"}
    there = "count_over_time(up{job='vault'}[2m])"
    seen = {
        name: value(api, f"max(count_over_time({name}{{job='vault'}}[2m]) / on (pod, instance) group_left () {there})")
        for name in sorted(read)
    }
    print("\n".join(f"{name:50} {share}" for name, share in seen.items()))
    always = {"vault_core_unsealed", "vault_core_active", "vault_autopilot_node_healthy", "vault_autopilot_healthy"}
    assert always <= {name for name, share in seen.items() if share}
    assert {name: share for name, share in seen.items() if share is not None and share < 0.7} == {}


def boards() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(REPOSITORY.glob("roles/*/files/dashboards/*.yml")):
        namespace = alerts.namespace(path.parents[2])
        yield path.stem, dashboard(path.stem, yaml.safe_load(path.read_text()), namespace=namespace)


def plain(expression: str) -> str:
    """With everything for each variable."""
    text = expression.replace("$__rate_interval", "2m").replace("$__range", "15m").replace("$__interval", "1m")
    # Not $1, which is label_replace's own.
    return re.sub(r"\$\{?[a-zA-Z_]\w*\}?", ".*", text)


def test_every_query_of_every_dashboard_is_taken(api: Client) -> None:
    """By the real parser; how many return data on the lab is printed, as what is simulated has none."""
    bad, total, filled = [], 0, 0
    for uid, board in boards():
        panels, queries, with_data = 0, 0, 0
        for panel in board["panels"]:
            panels += panel["type"] != "row"
            for target in panel.get("targets", []):
                if target["datasource"]["type"] != "prometheus":
                    continue
                queries += 1
                try:
                    with_data += bool(prometheus(api, "query", query=plain(target["expr"]))["result"])
                except Exception as error:  # every bad query is to be told at once
                    bad.append(f"{uid}, {panel['title']}: {error}")
        print(f"{uid:20} {panels:3} panels {queries:3} queries {with_data:3} with data")
        total, filled = total + queries, filled + with_data
    print(f"{'all':20} {'':10} {total:3} queries {filled:3} with data")
    assert not bad, "\n".join(bad)
    # Cilium, CNPG and Loki are simulated: theirs cannot.
    assert filled > total / 2


@pytest.mark.parametrize(
    ("host", "namespace", "path", "through"),
    [
        ("prometheus", "monitoring", "/-/ready", {200}),
        ("alertmanager", "monitoring", "/-/ready", {200}),
        ("traefik", "kube-system", "/api/version", {200}),
        # Simulated behind Traefik: nobody answers.
        ("hubble", "kube-system", "/", {502, 503, 504}),
    ],
)
def test_an_address_without_a_login_is_closed(
    api: Client, host: str, namespace: str, path: str, through: set[int]
) -> None:
    browser = Browser(api)
    until(lambda: browser.get(host, path)[0] == 401, 60, f"{host} is closed")
    assert browser.get(host, path, password(api, namespace, host))[0] in through
    assert browser.get(host, path, ("admin", "guessed"))[0] == 401


@pytest.mark.parametrize(
    ("host", "path", "through"), [("vault", "/v1/sys/health", {200}), ("grafana", "/", {502, 503, 504})]
)
def test_an_address_with_a_login_of_its_own_is_open(api: Client, host: str, path: str, through: set[int]) -> None:
    browser = Browser(api)
    until(lambda: browser.get(host, path)[0] in through, 60, f"{host} answers")
