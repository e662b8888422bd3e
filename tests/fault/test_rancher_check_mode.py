# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The whole site where phase 0 makes the nodes through Rancher: `--check --diff` stores nothing on an empty and on a
converged lab, a second run changes nothing. Rancher's own API is counted too: tokens, and what passes its proxy."""

from __future__ import annotations

import collections
import json
import pathlib
from collections.abc import Iterator

import pytest

from tests.fault._rancher import TOKENS, Cluster, rancher_call
from tests.fault._site import AUDITED, Audit, Run, Site, site
from tests.fault.test_site_check_mode import CHECK, VaultWatch

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def lab() -> Iterator[Site]:
    where = site()
    where.empty(nodes="rancher")
    yield where


def tokens(lab: Site) -> int:
    return len(lab.client("rancher").request("GET", TOKENS)["items"])


def figures(run: Run) -> str:
    totals = run.report["totals"]
    return json.dumps({key: totals[key] for key in sorted(totals)})


def by_server(counted: collections.Counter[str]) -> dict[str, int]:
    return {server: sum(n for what, n in counted.items() if what.startswith(f"{server}: ")) for server in AUDITED}


def test_on_an_empty_lab_nothing_is_stored(lab: Site) -> None:
    audit, before = Audit(lab), tokens(lab)
    run = lab.run(*CHECK)
    assert run.returncode == 0, run.tail
    assert not audit.stored(), audit.stored()
    # The measure sees something: Harvester was asked for dry runs through Rancher's proxy.
    asked = by_server(audit.asked())
    assert asked["harvester"] > 3 and asked["rancher-server"] == 0, asked
    assert tokens(lab) == before
    assert not pathlib.Path(lab.directory, "kubeconfig", "platform.yaml").exists()
    for planned in ("HarvesterConfig", "platform-lab-controlplane", "NetworkAttachmentDefinition", "Root CA"):
        assert planned in run.output, planned
    print(f"empty: {figures(run)}; dry runs {asked}")


def test_the_site_makes_its_nodes_and_a_second_run_changes_nothing(lab: Site) -> None:
    first = lab.converged()
    again = lab.again()
    lab.check()
    reference = Cluster(lab, "platform-lab", None)
    reference.variables["platform_kubeconfig"] = str(lab.directory / "kubeconfig" / "platform.yaml")
    assert len(reference.nodes()) == 11
    reference.sound()
    print(f"first: {first.seconds:.0f} s, {figures(first)}; again: {again.seconds:.0f} s, {figures(again)}")


def test_on_a_converged_lab_nothing_is_changed_and_nothing_stored(lab: Site) -> None:
    audit, before = Audit(lab), tokens(lab)
    with VaultWatch(lab) as watch:
        run = lab.run(*CHECK)
    assert run.returncode == 0 and run.changed == 0, run.tail
    assert "\n+++ " not in run.output, "a diff although nothing changes"
    assert not audit.stored(), audit.stored()
    assert not watch.requests, watch.requests
    assert tokens(lab) == before
    print(f"converged: {run.seconds:.0f} s, {figures(run)}; dry runs {by_server(audit.asked())}")


def test_the_measure_sees_a_token_and_what_passes_the_proxy(lab: Site) -> None:
    audit = Audit(lab)
    made = rancher_call(lab, "POST", "/v3/tokens", {"type": "token", "description": "seen", "ttl": 60_000})
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seen"}}
    for cluster in ("local", rancher_call(lab, "GET", "/v3/clusters?name=harvester")["data"][0]["id"]):
        space = f"/k8s/clusters/{cluster}/api/v1/namespaces/default/configmaps"
        rancher_call(lab, "POST", space, body)
        rancher_call(lab, "DELETE", f"{space}/seen")
    rancher_call(lab, "DELETE", f"/v3/tokens/{made['id']}")
    stored = audit.stored()
    assert stored[f"rancher-server: create tokens/{made['id']}"] == 1, stored
    for server in ("rancher", "harvester"):
        assert stored[f"{server}: create default/configmaps/seen"] == 1, stored
