# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The names of metrics that the platform's own controllers export, as their sources have them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


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
