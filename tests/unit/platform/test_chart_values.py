# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Every value that a role gives to a chart is one that the real chart knows: Helm ignores others without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.harvester_rke2.platform.tests.unit.lab_agent.test_chart_values import (
    REAL,
    VALUELESS,
    commented,
    has,
    leaves,
    real,
    root_of,
)
from ansible_collections.harvester_rke2.platform.tests.unit.platform.conftest import ROOT, Play

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason=f"the real charts' values are not here: {REAL}")
# Role and chart of each template of values that the collection has.
TEMPLATES = sorted(
    (path.parents[2].name, path.name.removesuffix(".yml.j2")) for path in ROOT.glob("roles/*/templates/values/*.yml.j2")
)
# RKE2's chart is Traefik's own with a few changes.
REAL_NAMES = {"rke2-traefik": "traefik"}
# Maps that the user fills, though the real chart has something in them.
OPEN = {"nodeSelector", "extraArgs"}
PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.include_vars: {file: "{{ item }}"}
      loop: >-
        {{ query('ansible.builtin.fileglob', roles ~ '/platform/defaults/main.yml', folder ~ '/defaults/main.yml',
                 folder ~ '/vars/main.yml') }}
    - ansible.builtin.copy:
        content: "{{ lookup('ansible.builtin.template', folder ~ '/templates/values/' ~ chart ~ '.yml.j2') }}"
        dest: "{{ playbook_dir }}/{{ inventory_hostname }}.yml"
        mode: "0600"
      vars:
        platform_domain: lab.example.com
        platform_cluster_name: lab
        platform_rancher_url: https://rancher.example.com
        platform_rancher_ca_certificate: "-----BEGIN CERTIFICATE-----"
        platform_root_ca_certificate: none
        cluster_autoscaler_token: none
        traefik_ca_bundle: true
"""


@pytest.fixture(scope="module")
def rendered(play: Play, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Chart to the values that its role gives it."""
    folder = tmp_path_factory.mktemp("values")
    roles = str(ROOT / "roles")
    hosts = {
        f"h{number}": {"roles": roles, "folder": f"{roles}/{role}", "chart": chart}
        for number, (role, chart) in enumerate(TEMPLATES)
    }
    done = play(folder, PLAYBOOK, hosts)
    assert done.returncode == 0, done.stdout
    return {about["chart"]: yaml.safe_load((folder / f"{host}.yml").read_text()) for host, about in hosts.items()}


@pytest.mark.parametrize("chart", [chart for _, chart in TEMPLATES])
def test_the_real_chart_knows_each_value(rendered: dict[str, Any], chart: str) -> None:
    name = REAL_NAMES.get(chart, chart)
    values, schema = real(name)
    told = commented((REAL / name / "values.yaml").read_text())
    paths = [[str(part) for part in path] for path, _ in leaves(rendered[chart])]
    assert len(paths) > 5
    unknown = [
        ".".join(path)
        for path in paths
        if not OPEN & set(path[:-1])
        and not has(values, root_of(schema), schema, path)
        and not any(".".join(path[: number + 1]) in told for number in range(len(path)))
    ]
    assert not unknown


def test_no_chart_is_left_out() -> None:
    """Of each chart that a description names, the values are looked at."""
    named: set[str] = set()
    for path in Path(ROOT / "roles").glob("*/meta/service.yml"):
        named |= {chart["chart"] for chart in (yaml.safe_load(path.read_text()).get("charts") or [])}
    assert named - VALUELESS <= {chart for _, chart in TEMPLATES}
