# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Faults by name, for tests: a small file that is read again when it changed.

    {"rancher_500": 30, "vm_never_reports": "database", "no_pool_label": true}

Times count from the moment the file was written. An absent file is no fault.
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

KNOWN = {
    "webhook_late": "seconds that the webhook refuses connections, from the file's or the program's start",
    "image_import_fails": "true, or a part of the URL of the images that fail",
    "vm_never_reports": "a pool's name, or true: new machines run and never check in",
    "quota_short": "nodes' worth of CPU, memory and disk that Harvester lacks; true is one",
    "token_expires_now": "true: the installer's token has expired",
    "rancher_500": "seconds that Rancher answers 500",
    "rancher_silent": "seconds that Rancher answers nothing",
    "conflict_500": "how many of the next writes to Clusters and HarvesterConfigs are answered 500",
    "no_pool_label": "true, or a pool's name: new nodes lack workload-type",
    "snapshot_fails": "true: snapshots of etcd fail",
    "credential_gone": "true: the cloud credential does not work",
}


class Faults:
    def __init__(self, file: Path) -> None:
        self.file = file
        self.stamp = 0.0
        self.values: dict[str, Any] = {}
        self.used: dict[str, int] = {}
        self.began = time.time()

    def file_stamp(self) -> float:
        try:
            return self.file.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _read(self) -> dict[str, Any]:
        stamp = self.file_stamp()
        if stamp != self.stamp:
            try:
                values = json.loads(self.file.read_text()) if stamp else {}
            except (OSError, ValueError) as error:
                log.warning("%s: %s", self.file, error)
                return self.values
            unknown = set(values) - set(KNOWN)
            if unknown:
                log.warning("%s: unknown faults %s; known: %s", self.file, sorted(unknown), sorted(KNOWN))
            self.stamp, self.values, self.used = stamp, values, {}
        return self.values

    def on(self, name: str) -> Any:
        return self._read().get(name)

    def matches(self, name: str, word: str, part: bool = False) -> bool:
        """For faults that are true for all or name one."""
        value = self.on(name)
        return value is True or (isinstance(value, str) and bool(value) and (value in word if part else value == word))

    def lasts(self, name: str) -> float:
        """Seconds that a fault with a time still lasts."""
        value = self.on(name)
        if not value:
            return 0.0
        return max(0.0, self.stamp + float(value) - time.time())

    def late(self) -> float:
        """The webhook: from the program's start or the file's writing, whichever came later."""
        value = self.on("webhook_late")
        return max(0.0, max(self.began, self.stamp) + float(value) - time.time()) if value else 0.0

    def take(self, name: str) -> bool:
        """Use up one of a number of times."""
        value = self.on(name)
        if not value or self.used.get(name, 0) >= int(value):
            return False
        self.used[name] = self.used.get(name, 0) + 1
        return True
