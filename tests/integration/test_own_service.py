# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""A service of the user's own: one role folder (tests/data/roles/toy), one line of a playbook, no other change.

Needs the site on the lab. What it brings is seen where it is used: Prometheus, Grafana's folder, the browser.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.harvester_rke2.platform.tests.integration.platform_lab import (
    DIRECTORY,
    MONITORING,
    NOT_THERE,
    THERE,
    Browser,
    play,
    prometheus,
    rules,
    targets,
    until,
    with_service,
)

from lab.kube import Client

PLAYBOOK = """
- name: A service of the user's own
  hosts: rke2_clusters
  gather_facts: false
  vars:
    platform_network_policies: true
  roles:
    - {{role: harvester_rke2.platform.platform, platform_phase: 3}}
    - {{role: toy, vars: {{service_action: {verb}}}}}
    {wait}
"""
WAIT = "- {role: harvester_rke2.platform.service, vars: {service_action: wait, service_names: [toy]}}"
POLICY = "/apis/cilium.io/v2/namespaces/toy/ciliumnetworkpolicies/toy"

pytestmark = [pytest.mark.skipif(not THERE, reason=NOT_THERE), pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def api() -> Client:
    return with_service("prometheus")


@pytest.fixture(scope="module")
def toy(api: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("toy")
    try:
        play(folder, PLAYBOOK.format(verb="deploy", wait=WAIT))
        yield folder
    finally:
        play(folder, PLAYBOOK.format(verb="destroy", wait=""))
        # The namespace stays, as those of all services do.
        api.delete("/api/v1/namespaces/toy")
        until(lambda: api.get("/api/v1/namespaces/toy") is None, 60, "its namespace goes")


def collected(api: Client) -> list[Path]:
    """Dashboards in the folder that Grafana reads, by the eyes of the agent that runs its pod."""
    pods = api.request("GET", f"{MONITORING}/pods?labelSelector=app.kubernetes.io%2Fname%3Dgrafana")["items"]
    folders = [DIRECTORY / "pods" / "pods" / pod["metadata"]["uid"] for pod in pods]
    return [file for folder in folders for file in folder.rglob("Services/toy.json")]


@pytest.mark.usefixtures("toy")
def test_its_metrics_are_scraped(api: Client) -> None:
    [target] = until(
        lambda: [item for item in targets(api, "toy") if item["health"] == "up"], 150, "the toy's target is up"
    )
    assert target["labels"]["namespace"] == "toy"
    until(lambda: prometheus(api, "query", query="toy_played_total == 3")["result"], 60, "its metric")


@pytest.mark.usefixtures("toy")
def test_its_alert_is_loaded(api: Client) -> None:
    [rule] = until(lambda: rules(api).get("ToyDown"), 120, "the toy's alert is loaded")
    assert rule["labels"]["severity"] == "critical"
    assert rule["annotations"]["runbook_url"].endswith("/toy.md#toydown")


@pytest.mark.usefixtures("toy")
def test_its_dashboard_is_where_grafana_reads(api: Client) -> None:
    [file] = until(lambda: collected(api), 120, "the toy's dashboard is collected")
    assert json.loads(file.read_text())["uid"] == "toy"


@pytest.mark.usefixtures("toy")
def test_its_address_answers_with_a_certificate_that_verifies(api: Client) -> None:
    browser = Browser(api)
    assert until(lambda: browser.get("toy") == (200, b"a toy\n"), 60, "https://toy.<domain> answers")


@pytest.mark.usefixtures("toy")
def test_it_is_closed_but_for_what_it_names(api: Client) -> None:
    policy = api.request("GET", POLICY)
    [vault] = [rule for rule in policy["spec"]["egress"] if "8200" in json.dumps(rule)]
    assert vault["toEndpoints"][0]["matchLabels"] == {"k8s:io.kubernetes.pod.namespace": "vault"}


def test_nothing_of_it_stays_when_it_goes(api: Client, toy: Path) -> None:
    """Last in the file: the fixture takes it away again without complaint, as what is not there needs no removal."""
    play(toy, PLAYBOOK.format(verb="destroy", wait=""))
    until(lambda: not targets(api, "toy"), 120, "its target goes")
    until(lambda: "ToyDown" not in rules(api), 120, "its alert goes")
    until(lambda: not collected(api), 120, "its dashboard goes")
    assert api.get(POLICY) is None
