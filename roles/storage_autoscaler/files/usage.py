# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""How full the volumes are, as Prometheus has it from the kubelets."""

from __future__ import annotations

import http.client
import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

WINDOW = "10m"
OLDEST_SECONDS = 600.0
FEWEST_SAMPLES = 2
PREFIX = "kubelet_volume_stats_"
_USED = f"{PREFIX}used_bytes"
QUERIES = {
    "value": f'{{__name__=~"{PREFIX}(used_bytes|capacity_bytes|inodes_used|inodes)"}}',
    "samples": f"count_over_time({_USED}[{WINDOW}])",
    "age": f"time() - timestamp({_USED})",
}
_LARGEST_ANSWER = 64 * 2**20


class PrometheusError(Exception):
    """Prometheus could not be asked, or its answer is none."""


@dataclass(frozen=True)
class Usage:
    """One volume's filesystem, as one kubelet saw it."""

    used: float
    capacity: float
    inodes_used: float
    inodes: float
    age: float
    samples: float

    @property
    def usable(self) -> bool:
        """Whether it is new and steady enough to act upon: stale data must never grow a volume."""
        numbers = (self.used, self.capacity, self.age, self.samples)
        return (
            all(map(math.isfinite, numbers))
            and self.used >= 0
            and self.capacity > 0
            and self.age <= OLDEST_SECONDS
            and self.samples >= FEWEST_SAMPLES
        )

    @property
    def ratio(self) -> float:
        """The fuller of bytes and inodes; filesystems that make inodes as needed report none."""
        bytes_used = self.used / self.capacity if self.capacity > 0 else 0.0
        counted = math.isfinite(self.inodes) and math.isfinite(self.inodes_used) and self.inodes > 0
        return max(bytes_used, self.inodes_used / self.inodes if counted else 0.0)


Key = tuple[str, str]


class Prometheus:
    """Instant queries of a Prometheus server."""

    def __init__(self, url: str, timeout: float = 10.0) -> None:
        self._url = url
        self._timeout = timeout
        # A proxy that the environment names is for the way out of the cluster.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def query(self, expression: str) -> Iterator[tuple[dict[str, str], float]]:
        """The labels and the value of each series of an instant vector.

        :raises PrometheusError: whatever went wrong.
        """
        url = f"{self._url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        try:
            with self._opener.open(url, timeout=self._timeout) as response:
                answer = json.loads(response.read(_LARGEST_ANSWER))
            if answer["status"] != "success" or answer["data"]["resultType"] != "vector":
                raise PrometheusError(f"{self._url} answered {expression} with {str(answer)[:200]}")
            return iter([(series["metric"], float(series["value"][1])) for series in answer["data"]["result"]])
        except urllib.error.HTTPError as error:
            with error:
                text = error.read(200).decode(errors="replace").strip()
            raise PrometheusError(f"{self._url} refused {expression}: HTTP {error.code} {text}") from error
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, IndexError) as error:
            raise PrometheusError(f"{self._url} gave no answer to {expression}: {error!r}") from error

    def usage(self) -> dict[Key, Usage]:
        """Namespace and name of a PVC to its usage."""
        found: dict[Key, dict[tuple[str, str], dict[str, float]]] = {}
        for kind, expression in QUERIES.items():
            for labels, value in self.query(expression):
                if "namespace" in labels and "persistentvolumeclaim" in labels:
                    # A pod that moved leaves a second series behind for a while, of the node that it came from.
                    place = labels.get("instance", ""), labels.get("node", "")
                    volume = found.setdefault((labels["namespace"], labels["persistentvolumeclaim"]), {})
                    name = labels.get("__name__", "").removeprefix(PREFIX) if kind == "value" else kind
                    volume.setdefault(place, {})[name] = value
        return {key: _newest(list(places.values())) for key, places in found.items()}


def _newest(places: list[dict[str, Any]]) -> Usage:
    missing = math.nan
    seen = [
        Usage(
            used=place.get("used_bytes", missing),
            capacity=place.get("capacity_bytes", missing),
            inodes_used=place.get("inodes_used", missing),
            inodes=place.get("inodes", missing),
            age=place.get("age", math.inf),
            samples=place.get("samples", 0.0),
        )
        for place in places
    ]
    # Of two equally new ones the larger filesystem: it is the one that has grown.
    return min(seen, key=lambda usage: (not usage.usable, usage.age, -usage.capacity))
