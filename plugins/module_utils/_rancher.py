# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Rancher's own API, as far as it is needed to find and to reach clusters (private to this collection)."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ._errors import PlatformError
from ._kube_client import ApiError, KubeClient
from ._kubeconfig import direct

# The management cluster's name in Rancher's proxy; there are Cluster, HarvesterConfig and the Secrets they name.
LOCAL = "local"
_LIFETIME = "kubeconfig-default-token-ttl-minutes"
_MONTH = 30 * 24 * 60  # what Rancher has where nobody has set it


class Rancher:
    """One Rancher server as the holder of one token."""

    def __init__(
        self, url: str, token: str, ca: str = "", *, attempts: int = 6, variable: str = "platform_rancher_token"
    ) -> None:
        self.url, self._token, self._ca, self._attempts = url.rstrip("/"), token, ca, attempts
        self._variable = variable
        self.client = KubeClient(direct(self.url, token, ca), attempts=attempts)
        self._clusters: dict[str, KubeClient] = {}

    @classmethod
    def from_options(cls, params: Mapping[str, Any], **kwargs: Any) -> Rancher:
        token, ca = params["rancher_token"] or "", params["rancher_ca_certificate"] or ""
        return cls(params["rancher_url"], token, ca, **kwargs)

    def address(self, cluster: str) -> str:
        return f"{self.url}/k8s/clusters/{cluster}"

    def kubernetes(self, cluster: str) -> KubeClient:
        """The Kubernetes API of a cluster, through Rancher's proxy; asked again, with the connections it has."""
        if cluster not in self._clusters:
            config = direct(self.address(cluster), self._token, self._ca)
            self._clusters[cluster] = KubeClient(config, attempts=self._attempts)
        return self._clusters[cluster]

    def cluster(self, name: str) -> dict[str, Any] | None:
        """A cluster as Rancher manages it, by the name that people know."""
        answer = self._get(f"/v3/clusters?name={quote(name, safe='')}", f"Looking for the cluster {name} in Rancher")
        found = [entry for entry in answer.get("data") or [] if entry.get("name") == name]
        if len(found) > 1:
            ids = ", ".join(str(entry.get("id")) for entry in found)
            raise PlatformError(
                f"Looking for the cluster {name} in Rancher", f"there are several ({ids})", "Rename all but one."
            )
        return found[0] if found else None

    def cluster_id(self, name: str) -> str:
        """The id of a cluster that must be there."""
        found = self.cluster(name)
        if found is not None:
            return str(found["id"])
        answer = self._get("/v3/clusters", "Listing the clusters of Rancher")
        known = sorted(str(entry.get("name")) for entry in answer.get("data") or [])
        raise PlatformError(
            f"Looking for the cluster {name} in Rancher {self.url}",
            "there is none of that name that the token's user can see",
            f"There are: {', '.join(known) or 'none'}. Correct the name, or import the cluster into Rancher.",
        )

    def version(self) -> str:
        answer = self._get("/v3/settings/server-version", "Reading Rancher's version")
        return str(answer.get("value") or answer.get("default") or "")

    def releases(self) -> list[str]:
        """The versions of RKE2 that this Rancher can install; none where it does not say."""
        try:
            answer = self._get("/v1-rke2-release/releases", "Listing the versions of RKE2 that Rancher offers")
        except ApiError as exc:
            if exc.status in (403, 404):
                return []
            raise
        return [str(entry.get("version") or entry.get("id")) for entry in answer.get("data") or []]

    def token_days(self, now: datetime.datetime | None = None) -> float | None:
        """Days until the token ends; None for one that does not, or that may not look at itself."""
        try:
            return days_left(self.own_token(), now)
        except ApiError as exc:
            if exc.status in (403, 404):
                return None
            raise

    def own_token(self) -> dict[str, Any]:
        """The token's own entry, which has its user but not its secret."""
        name = self._token.partition(":")[0]
        return self._get(f"/v3/tokens/{quote(name, safe='')}", f"Reading the token of {self._variable}")

    def holder(self) -> dict[str, Any]:
        """Who works with this token (`user`), and for how many days (`days`, -1 without an end)."""
        doing = f"Reading the token of {self._variable} in Rancher {self.url}"
        mend = f"As the user it is for, make a key without a scope under Account & API Keys, and set {self._variable}."
        try:
            token = self.own_token()
        except ApiError as exc:
            if exc.status in (403, 404):
                raise PlatformError(doing, f"its user may not read it (HTTP {exc.status})", mend) from exc
            raise
        if token.get("clusterId"):
            raise PlatformError(doing, f"it is for the cluster {token['clusterId']} only", mend)
        days = days_left(token)
        return {"user": str(token["userId"]), "days": -1.0 if days is None else round(days, 1)}

    def kubeconfig_minutes(self) -> int:
        """How long Rancher lets the token of a kubeconfig live; 0 is for ever."""
        try:
            answer = self._get(f"/v3/settings/{_LIFETIME}", "Reading Rancher's settings")
        except ApiError as exc:
            if exc.status not in (403, 404):
                raise
            return _MONTH
        value = str(answer.get("value") or answer.get("default") or "")
        return int(value) if value.isdigit() else _MONTH

    def make_token(self, description: str, cluster: str, minutes: int) -> str:
        """A new token that is good for one cluster only."""
        doing = f"Making a token for the cluster {cluster} in Rancher"
        wanted = {"type": "token", "description": description, "clusterId": cluster, "ttl": minutes * 60_000}
        token = str(self._call("POST", "/v3/tokens", doing, wanted).get("token") or "")
        if not token:
            raise PlatformError(doing, "the answer holds none", "Look at Rancher's log.")
        return token

    def tokens(self, description: str) -> list[str]:
        """Names of the user's tokens with just this description."""
        path = f"/v3/tokens?description={quote(description, safe='')}"
        answer = self._get(path, "Listing the tokens of Rancher")
        found = answer.get("data") or []
        return [str(entry["id"]) for entry in found if entry.get("description") == description]

    def token_description(self, name: str) -> str:
        """What is written on a token; nothing for one that is not there or not ours to look at."""
        try:
            answer = self._get(f"/v3/tokens/{quote(name, safe='')}", "Reading a token")
        except ApiError as exc:
            if exc.status not in (403, 404):
                raise
            return ""
        return str(answer.get("description") or "")

    def delete_token(self, name: str) -> None:
        """Delete a token; that it has gone already is as good."""
        try:
            self._call("DELETE", f"/v3/tokens/{quote(name, safe='')}", "Deleting a token in Rancher")
        except ApiError as exc:
            if exc.status != 404:
                raise

    def _get(self, path: str, doing: str) -> dict[str, Any]:
        return self._call("GET", path, doing)

    def _call(self, method: str, path: str, doing: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            answer = self.client.request(method, path, body=body) or {}
        except ApiError as exc:
            if exc.status == 401:
                raise PlatformError(
                    f"{doing} ({self.url})",
                    "Rancher does not take the token (HTTP 401)",
                    "It has expired, was deleted, or is of another Rancher: make one under Account & API Keys, and set "
                    f"{self._variable}.",
                ) from exc
            raise
        if not isinstance(answer, dict):
            raise PlatformError(
                f"{doing} ({self.url})", "what answers is not Rancher's API", "Correct platform_rancher_url."
            )
        return answer


def days_left(token: Mapping[str, Any], now: datetime.datetime | None = None) -> float | None:
    """Days until a token ends; None for one that does not."""
    if token.get("expired"):
        return 0.0
    ends = str(token.get("expiresAt") or "")
    if not ends:
        return None
    moment = datetime.datetime.fromisoformat(ends.replace("Z", "+00:00"))
    return (moment - (now or datetime.datetime.now(datetime.UTC))).total_seconds() / 86400
