# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Values out of the configuration that Rancher gives to machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def values_of(config: Mapping[str, Any], name: str) -> list[str]:
    """Every value of one RKE2 option, global or by selector."""
    places = [config.get("machineGlobalConfig") or {}]
    places += [entry.get("config") or {} for entry in config.get("machineSelectorConfig") or []]
    return [str(place[name]) for place in places if place.get(name)]
