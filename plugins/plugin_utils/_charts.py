# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""What a chart is, and what it would do to its release (private to this collection)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError

PENDING_INSTALL = frozenset({"pending-install", "uninstalling"})
PENDING_CHANGE = frozenset({"pending-upgrade", "pending-rollback"})


@dataclass(frozen=True)
class Chart:
    """One release as it is wanted."""

    name: str
    namespace: str
    repository: str
    chart: str
    version: str
    values: Mapping[str, Any]
    local: str = ""
    upgrade_crds: bool = False

    @property
    def source(self) -> list[str]:
        """The same as helm's arguments."""
        version = [] if self.local else ["--version", self.version]
        if not self.local and not self.repository.startswith("oci://"):
            version += ["--repo", self.repository]
        return [self.reference, *version]

    @property
    def reference(self) -> str:
        """What helm is told to install."""
        if self.local:
            return self.local
        if self.repository.startswith("oci://"):
            return f"{self.repository.rstrip('/')}/{self.chart}"
        return self.chart

    @property
    def digest(self) -> str:
        """Chart, version and values; of a chart on disk also its content, but not where it lies."""
        about: dict[str, Any] = {"chart": self.chart, "version": self.version, "values": self.values}
        if self.local:
            about["content"] = content(Path(self.local))
        else:
            about["repository"] = self.repository
        text = json.dumps(about, sort_keys=True, separators=(",", ":"), default=str)
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    def arguments(self) -> dict[str, Any]:
        """For kubernetes.core.helm."""
        arguments: dict[str, Any] = {
            "release_name": self.name,
            "release_namespace": self.namespace,
            "chart_ref": self.reference,
            "release_values": dict(self.values),
            "wait": False,
        }
        if not self.local:
            arguments["chart_version"] = self.version
            if not self.repository.startswith("oci://"):
                arguments["chart_repo_url"] = self.repository
        return arguments


def content(path: Path) -> str:
    """A hash over a packaged chart, or over the names and contents of a chart's directory."""
    digest = hashlib.sha256()
    if path.is_file():
        digest.update(path.read_bytes())
        return digest.hexdigest()
    for file in sorted(entry for entry in path.rglob("*") if entry.is_file()):
        data = file.read_bytes()
        digest.update(f"{file.relative_to(path).as_posix()}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def find_local(directory: str, chart: str, version: str) -> str:
    """The chart in the user's directory: the packaged one of just this version, else the unpacked one."""
    if not directory:
        return ""
    base = Path(directory).expanduser()
    for candidate in (base / f"{chart}-{version}.tgz", base / f"{chart}-{version.removeprefix('v')}.tgz"):
        if candidate.is_file():
            return str(candidate.resolve())
    unpacked = base / chart
    if not (unpacked / "Chart.yaml").is_file():
        return ""
    found = str(yaml.safe_load((unpacked / "Chart.yaml").read_text(encoding="utf-8")).get("version", ""))
    if found.removeprefix("v") != version.removeprefix("v"):
        raise PlatformError(
            f"Looking for the chart {chart} {version}",
            f"{unpacked} has version {found}",
            "Put the right version into the directory, or set the version variable to that one.",
        )
    return str(unpacked.resolve())


def merged(base: Any, over: Any) -> Any:
    """Values as Helm merges them: mappings by key, everything else replaced."""
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        result = dict(base)
        for key, value in over.items():
            result[key] = merged(base[key], value) if key in base else value
        return result
    return over


def failure(doing: str, result: Mapping[str, Any]) -> str:
    """One sentence of a failed helm: the last error that it printed; all of it stays in the result's ``stderr``."""
    said = str(result.get("stderr") or result.get("msg") or "").strip()
    errors = [line.removeprefix("Error:").strip() for line in said.splitlines() if line.startswith("Error:")]
    why = (errors or said.splitlines() or ["it says nothing"])[-1]
    mend = "Mend that and run again: what helm has left half done is recovered first."
    return str(PlatformError(doing, f"helm failed: {why}", mend))


def current(releases: Iterable[Mapping[str, Any]], chart: Chart) -> Mapping[str, Any]:
    """What the cluster has of this release."""
    for release in releases:
        if (release["name"], release["namespace"]) == (chart.name, chart.namespace):
            return release
    return {}
