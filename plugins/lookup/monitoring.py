# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lookup of what a service brings to monitoring."""

from __future__ import annotations

DOCUMENTATION = r"""
name: monitoring
author: The harvester_rke2.platform authors (@harvester-rke2)
version_added: 0.1.0
short_description: What a service brings to monitoring
description:
  - Returns the ConfigMaps that carry a service's scrape jobs (C(metrics) of its description), its alerts
    (C(files/alerts/) of its role) and its dashboards (C(files/dashboards/)), labelled for the sidecars of Prometheus
    and Grafana to collect.
  - The variable C(platform_alerts) changes single alerts by name, C(platform_runbooks_url) says where their pages are.
options:
  _terms:
    description: The service's description, as the lookup P(harvester_rke2.platform.services#lookup) returns it.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what Vault brings
  ansible.builtin.debug:
    msg: "{{ query('harvester_rke2.platform.monitoring', *query('harvester_rke2.platform.services', 'vault')) }}"
"""

RETURN = r"""
_raw:
  description: ConfigMaps, without a namespace.
  type: list
  elements: dict
"""

import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible_collections.harvester_rke2.platform.plugins.lookup.services import (
    COLLECTION_ROLES,
    SHARED_ROLE,
    read,
    role_directories,
)
from ansible_collections.harvester_rke2.platform.plugins.module_utils._yaml import LOADER, yaml
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils._alerts import TUNABLE, rule_group
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils._dashboard import dashboard
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils._scrape import scrape_configs

_GROUP = "monitoring.harvester-rke2.io"


def _config_map(name: str, collect: str, key: str, text: str, **annotations: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "labels": {f"{_GROUP}/collect": collect}}
    if annotations:
        metadata["annotations"] = {f"{_GROUP}/{word}": value for word, value in annotations.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {key: text}}


def _yaml(content: Any) -> str:
    # By way of JSON, as Ansible's strings are of a kind of their own.
    return str(yaml.safe_dump(json.loads(json.dumps(content)), sort_keys=False, width=200))


class LookupModule(LookupBase):
    """See DOCUMENTATION."""

    @staticmethod
    def _files(role: Path, kind: str) -> Iterator[tuple[str, Any]]:
        for path in sorted((role / "files" / kind).glob("*.yml")):
            # Not by Ansible's loader: {{ }} in these files is Prometheus's and Grafana's own.
            yield path.stem, yaml.load(path.read_text(), Loader=LOADER)

    def _refuse_unknown(self, tuning: Mapping[str, Any]) -> None:
        known = [
            alert
            for role in role_directories().values()
            for source in dict(self._files(role, "alerts")).values()
            for alert in source
        ]
        for alert, wanted in tuning.items():
            if alert not in known:
                near = get_close_matches(alert, known, 1)
                mend = f"Did you mean {near[0]}?" if near else "The pages in docs/runbooks name them all."
                raise AnsibleError(f"platform_alerts has '{alert}', but no alert is named so. {mend}")
            if not isinstance(wanted, Mapping) or set(wanted) - set(TUNABLE):
                raise AnsibleError(
                    f"platform_alerts.{alert} can have {', '.join(TUNABLE)} and nothing else, but is {wanted}. Mend it."
                )

    def _of(self, service: Mapping[str, Any], tuning: Mapping[str, Any], runbooks: str) -> Iterator[dict[str, Any]]:
        role, slug, namespace = Path(service["path"]), service["slug"], service["namespace"]
        if service["metrics"]:
            text = _yaml({"scrape_configs": scrape_configs(service["metrics"])})
            yield _config_map(f"{slug}-scrape", "prometheus", f"scrape-{slug}.yml", text)
        groups = [
            rule_group(name, source, namespace=namespace, tuning=tuning, runbooks=runbooks)
            for name, source in self._files(role, "alerts")
        ]
        if groups:
            yield _config_map(f"{slug}-alerts", "prometheus", f"rules-{slug}.yml", _yaml({"groups": groups}))
        for uid, source in self._files(role, "dashboards"):
            text = json.dumps(dashboard(uid, source, namespace=namespace), separators=(",", ":"))
            yield _config_map(f"configmap-dashboard-{uid}", "dashboards", f"{uid}.json", text, folder=source["folder"])

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        """Return the ConfigMaps."""
        self.set_options(var_options=variables, direct=kwargs)
        shared = read(COLLECTION_ROLES / SHARED_ROLE / "defaults" / "main.yml", self._loader)
        known = {**shared, **(variables or {})}
        tuning, runbooks = (
            self._templar.copy_with_new_env(available_variables=known).template(known[name])
            for name in ("platform_alerts", "platform_runbooks_url")
        )
        if tuning:
            self._refuse_unknown(tuning)
        found: list[dict[str, Any]] = []
        for service in terms:
            try:
                found += self._of(service, tuning, runbooks)
            except ValueError as error:
                # Without its cause, whose text Ansible would append: the same once more.
                raise AnsibleError(
                    f"Making what {service['name']} brings to monitoring: {error} "
                    f"Mend its file below {service['path']}/files, or platform_alerts."
                ) from None
        return found
