# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""A cluster's kubeconfig on disk, kept while it works (private to this collection)."""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
from pathlib import Path
from typing import Any

from ._errors import NoConnection, PlatformError
from ._kube_client import ApiError, KubeClient
from ._kubeconfig import direct, load
from ._yaml import yaml

MODE = 0o600
# How the descriptions of our tokens in Rancher begin.
OURS = "harvester_rke2.platform: kubeconfig of"


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


def document(name: str, server: str, ca: str, token: str) -> str:
    """The kubeconfig of one cluster and one token."""
    cluster: dict[str, Any] = {"server": server}
    if ca:
        cluster["certificate-authority-data"] = base64.b64encode(direct(server, token, ca).ca.encode()).decode()
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return str(yaml.safe_dump(content, sort_keys=False))


def leads_to(path: str) -> str:
    """The server of a kubeconfig, or an empty string."""
    try:
        return load(path).server
    except PlatformError:
        return ""


def token_name(path: str) -> str:
    """The public half of the token in a kubeconfig, or an empty string."""
    try:
        return load(path).token.partition(":")[0]
    except PlatformError:
        return ""


def _note(path: str) -> Path:
    target = Path(path)
    return target.with_name(f".{target.name}.making")


def announce(path: str, cluster: str) -> str:
    """Write down, before a token is made, by which description a later run finds it."""
    mark = f"{OURS} {cluster} {secrets.token_hex(8)}"
    _write(_note(path), mark, path)
    return mark


def announced(path: str) -> str:
    """What was announced by a run that has not come to its end."""
    try:
        return _note(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def done(path: str) -> None:
    _note(path).unlink(missing_ok=True)


def write(path: str, text: str) -> None:
    """In one step and for its owner alone: a killed run leaves the old file or the new one, and a part of a fixed name
    that the next one writes over."""
    _write(Path(path), text, path)


def _write(target: Path, text: str, path: str) -> None:
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(descriptor, MODE)
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)
        os.replace(part, target)
    except OSError as exc:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        mend = "Make room and give the user who runs this the right to write there, or set platform_kubeconfig."
        raise PlatformError(f"Writing the kubeconfig {path}", exc.strerror or str(exc), mend) from exc


def mode_is_right(path: str) -> bool:
    return os.stat(path).st_mode & 0o777 == MODE
