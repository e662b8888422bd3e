# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The agent's configuration file."""

from __future__ import annotations

import ipaddress
import shutil
from dataclasses import dataclass, fields
from pathlib import Path

import yaml


class ConfigError(Exception):
    """The agent cannot start; the sentence says why and what to do."""


@dataclass(frozen=True)
class Config:
    kubeconfig: Path
    run: Path
    bin: Path
    python: Path
    images: Path
    pods: ipaddress.IPv4Network
    gateway: str
    nameserver: str
    domain: str

    @classmethod
    def load(cls, path: Path) -> Config:
        given = yaml.safe_load(path.read_text())
        needed = {field.name for field in fields(cls)}
        if not isinstance(given, dict) or set(given) != needed:
            raise ConfigError(
                f"Reading the agent's configuration {path}: it must have exactly the keys {', '.join(sorted(needed))}. "
                f"Start the agent by `make lab-up`, which writes the file."
            )
        paths = {key: Path(given[key]) for key in ("kubeconfig", "run", "bin", "python", "images")}
        return cls(**{**given, **paths, "pods": ipaddress.IPv4Network(given["pods"])})

    @property
    def logs(self) -> Path:
        return self.run / "logs"

    def program(self, name: str) -> Path | None:
        """A program of the lab's own, else one of this machine."""
        if "/" in name:
            return Path(name) if Path(name).exists() else None
        own = self.bin / name
        if own.exists():
            return own.resolve()
        found = shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        return Path(found).resolve() if found else None
