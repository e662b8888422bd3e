# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""A cluster's kubeconfig on disk, kept while it works (private to this collection)."""

from __future__ import annotations

import base64
import os
import tempfile
from pathlib import Path
from typing import Any

from ._errors import NoConnection, PlatformError
from ._kube_client import ApiError, KubeClient
from ._kubeconfig import direct, load
from ._yaml import LOADER, yaml

MODE = 0o600


def why_not(path: str, server: str) -> str:
    """Why the file cannot be used for this server, in a few words; empty if it can. No answer at all is an error."""
    try:
        config = load(path)
    except NoConnection:
        return "there is none"
    except PlatformError as exc:
        return exc.why
    if config.server != server:
        return f"it leads to {config.server}"
    try:
        # Every user who is somebody may read this; it changes nothing and mints nothing.
        KubeClient(config).request("GET", "/api")
    except ApiError as exc:
        if exc.status == 401:
            return "its token is not taken any more"
        if exc.status != 403:
            raise
    return ""


def minted(path: str, rancher: str) -> tuple[str, str]:
    """The server of a kubeconfig, and its token if this Rancher has made that for a kubeconfig."""
    try:
        config = load(path)
    except PlatformError:
        return "", ""
    token = config.token or ""
    ours = config.server.startswith(f"{rancher}/k8s/clusters/") and token.startswith("kubeconfig-")
    return config.server, token if ours else ""


def completed(text: str, server: str, ca: str, doing: str) -> str:
    """Rancher's answer with the CA that Rancher is verified with, proved to be of use to a machine."""
    document: dict[str, Any] = yaml.load(text, Loader=LOADER)
    if not isinstance(document, dict) or not document.get("clusters") or not document.get("users"):
        raise PlatformError(doing, "the answer is no kubeconfig", "Look at the cluster in Rancher.")
    token = str((document["users"][0].get("user") or {}).get("token") or "")
    if not token:
        raise PlatformError(
            doing,
            "the kubeconfig holds no token",
            "Set Rancher's setting kubeconfig-generate-token to true: a run has nobody who could log in.",
        )
    cluster = document["clusters"][0].setdefault("cluster", {})
    if str(cluster.get("server", "")).rstrip("/") != server:
        raise PlatformError(
            doing,
            f"it leads to {cluster.get('server')} and not to {server}",
            "Correct Rancher's setting server-url, or platform_rancher_url.",
        )
    if ca and not cluster.get("certificate-authority-data"):
        pem = direct(server, token, ca).ca
        cluster["certificate-authority-data"] = base64.b64encode(pem.encode()).decode()
        return str(yaml.safe_dump(document, sort_keys=False))
    return text


def write(path: str, text: str) -> None:
    """In one step and for its owner alone: a killed run leaves the old file or the new one."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, part = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(descriptor, MODE)
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)
        os.replace(part, target)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def mode_is_right(path: str) -> bool:
    return os.stat(path).st_mode & 0o777 == MODE
