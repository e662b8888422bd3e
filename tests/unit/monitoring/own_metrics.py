# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Names of metrics that the facts lack: of the platform's own controllers, and of real programs of the lab."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
# Of the lab's real API server, node-exporter and kube-state-metrics.
OF_REAL_PROGRAMS = {
    "authorization_attempts_total",
    "kube_cronjob_created",
    "kube_cronjob_next_schedule_time",
    "kube_cronjob_status_last_schedule_time",
    "kube_horizontalpodautoscaler_spec_min_replicas",
    "node_disk_write_time_seconds_total",
    "node_network_transmit_packets_total",
}


def own_metrics() -> set[str]:
    """A program writes a name whole, or as prefix and rest; what all have in common stands in controller.py."""
    shared = re.findall(r'f"\{prefix\}(_\w+)"', (ROOT / "roles/service/files/controller.py").read_text())
    names: set[str] = set()
    for program in ROOT.glob("roles/*/files/*.py"):
        text = program.read_text()
        names |= set(re.findall(r'"([a-z]+_[a-z_]+)"', text))
        for prefix in re.findall(r'^METRIC = "([a-z_]+)"', text, re.MULTILINE):
            names |= {prefix + rest for rest in re.findall(r'"([a-z_]+)"', text)}
        for component in re.findall(r'^COMPONENT = "([a-z-]+)"', text, re.MULTILINE):
            names |= {component.replace("-", "_") + rest for rest in shared}
    return names
