# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Reading a kubeconfig into what an HTTP client needs (private to this collection).

Only what a machine can use unattended is accepted: a token, a token file or a client certificate.
Everything else is refused by its name instead of failing later as an anonymous request.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ._errors import NoConnection, PlatformError
from ._yaml import LOADER, yaml

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_REFUSED_USER = {
    "exec": "an exec plugin",
    "auth-provider": "an auth-provider plugin",
    "username": "basic authentication",
    "password": "basic authentication",
}


@dataclass(frozen=True)
class KubeConfig:
    """One cluster and one identity."""

    source: str
    context: str
    server: str
    ca: str = ""
    server_name: str = ""
    token: str = field(default="", repr=False)
    token_file: str = ""
    certificate: str = field(default="", repr=False)
    key: str = field(default="", repr=False)

    @property
    def title(self) -> str:
        """As messages name it."""
        return f"context '{self.context}' in {self.source}" if self.context else self.source

    def bearer(self) -> str:
        """The token, read again from its file each time because files are rotated in place."""
        if self.token_file:
            try:
                return Path(self.token_file).read_text(encoding="utf-8").strip()
            except OSError as exc:
                raise PlatformError(
                    f"Reading the token of kubeconfig {self.source}", f"{self.token_file}: {exc.strerror}"
                ) from exc
        return self.token

    def ssl_context(self) -> ssl.SSLContext:
        """A context that always verifies the server, and presents the client certificate if there is one."""
        try:
            context = ssl.create_default_context(cadata=self.ca or None)
        except ssl.SSLError as exc:
            raise PlatformError(
                f"Reading the CA of {self.title}", f"it is not PEM ({exc.reason})", "Correct it, or leave it out."
            ) from exc
        # Python 3.13 also asks for RFC 5280 niceties (an authority key identifier) that the CAs made by RKE2, K3s and
        # Rancher do not have; chain, dates and host name are verified as before.
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        if self.certificate:
            self._load_pair(context)
        return context

    def _load_pair(self, context: ssl.SSLContext) -> None:
        """OpenSSL reads key pairs from files only: an anonymous memory file leaves nothing behind, even if killed."""
        pair = f"{self.certificate}\n{self.key}\n".encode()
        memory = getattr(os, "memfd_create", None)
        if memory is not None and os.path.isdir("/proc/self/fd"):
            descriptor, path = memory("key"), ""
            name = f"/proc/self/fd/{descriptor}"
        else:
            descriptor, path = tempfile.mkstemp(prefix=".key-")
            name = path
        try:
            with os.fdopen(descriptor, "wb", closefd=False) as stream:
                stream.write(pair)
            context.load_cert_chain(name, password=_no_password)
        except (ssl.SSLError, ValueError) as exc:
            raise PlatformError(
                f"Reading kubeconfig {self.source}",
                "its client certificate and key are not a pair of unencrypted PEM blocks",
                f"Check the user of context '{self.context}'.",
            ) from exc
        finally:
            os.close(descriptor)
            if path:
                os.unlink(path)


def _no_password() -> bytes:
    raise ValueError("the key is encrypted")


def from_options(options: Mapping[str, Any]) -> KubeConfig:
    """By address and token when there is `host`, else by kubeconfig."""
    if options.get("host"):
        return direct(str(options["host"]), str(options.get("api_key") or ""), str(options.get("ca_cert") or ""))
    return load(options.get("kubeconfig"), options.get("context"))


def direct(host: str, token: str, ca: str = "") -> KubeConfig:
    """An address, a bearer token and, unless the system trusts it anyway, the CA: its PEM text or a file of it."""
    doing = f"Connecting to {host}"
    if not token:
        raise PlatformError(doing, "there is no token", "Set `api_key` beside `host`.")
    if ca and "-----BEGIN" not in ca:
        ca = _pem({"ca_cert": os.path.expanduser(ca)}, "ca_cert", doing)
    return _build(host, "", {"server": host}, {"token": token}, doing, ca)


def find(option: str | None) -> list[str]:
    """The kubeconfig files to use: the option, else what kubectl would use."""
    if option:
        return [os.path.expanduser(option)]
    for name in ("K8S_AUTH_KUBECONFIG", "KUBECONFIG"):
        files = [os.path.expanduser(part) for part in os.environ.get(name, "").split(os.pathsep) if part]
        if files:
            return files
    return [os.path.expanduser("~/.kube/config")]


def load(option: str | None = None, context: str | None = None) -> KubeConfig:
    """Read the kubeconfig; raises NoConnection if there is none (yet)."""
    files = find(option)
    source = os.pathsep.join(files)
    doing = f"Reading kubeconfig {source}"
    merged: dict[str, Any] = {}
    found = False
    for name in files:
        document = _read(name, doing)
        if document is not None:
            found = True
            _merge(merged, document, os.path.dirname(os.path.abspath(name)))
    if not found:
        raise NoConnection(
            doing, "the file does not exist", "Run the phase that writes it, or set `kubeconfig` to another file."
        )
    wanted = context or os.environ.get("K8S_AUTH_CONTEXT") or merged.get("current-context") or ""
    if not wanted:
        raise PlatformError(doing, "it has no current-context", "Set `context`.")
    chosen = _entry(merged, "contexts", "context", wanted, doing)
    cluster = _entry(merged, "clusters", "cluster", str(chosen.get("cluster", "")), doing)
    user = _entry(merged, "users", "user", str(chosen.get("user", "")), doing) if chosen.get("user") else {}
    return _build(source, wanted, cluster, user, doing)


def _read(name: str, doing: str) -> dict[str, Any] | None:
    try:
        text = Path(name).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise PlatformError(doing, str(exc.strerror), "Make it readable for the user who runs the module.") from exc
    try:
        document = yaml.load(text, Loader=LOADER)
    except yaml.YAMLError as exc:
        # The problem's text may quote the file, which holds credentials: only the place is told.
        mark = getattr(exc, "problem_mark", None)
        raise PlatformError(doing, f"it is not YAML{f' (line {mark.line + 1})' if mark else ''}") from None
    if not isinstance(document, dict):
        raise PlatformError(doing, "it is not a kubeconfig (no mapping at the top)")
    return document


def _merge(into: dict[str, Any], document: Mapping[str, Any], folder: str) -> None:
    """As kubectl does: the first file that has an entry wins; relative paths are relative to their file."""
    into.setdefault("current-context", document.get("current-context"))
    if not into["current-context"]:
        into["current-context"] = document.get("current-context")
    for kind, inner in (("contexts", "context"), ("clusters", "cluster"), ("users", "user")):
        have = into.setdefault(kind, [])
        names = {entry["name"] for entry in have}
        for entry in document.get(kind) or []:
            if entry.get("name") in names:
                continue
            body = dict(entry.get(inner) or {})
            for key in ("certificate-authority", "client-certificate", "client-key", "tokenFile"):
                if body.get(key):
                    body[key] = os.path.join(folder, os.path.expanduser(body[key]))
            have.append({"name": entry.get("name"), inner: body})


def _entry(merged: Mapping[str, Any], kind: str, inner: str, name: str, doing: str) -> dict[str, Any]:
    for entry in merged.get(kind) or []:
        if entry["name"] == name:
            return dict(entry[inner])
    known = ", ".join(sorted(str(entry["name"]) for entry in merged.get(kind) or [])) or "none"
    raise PlatformError(doing, f"it has no {inner} '{name}'", f"It has: {known}.")


def _build(
    source: str, context: str, cluster: Mapping[str, Any], user: Mapping[str, Any], doing: str, ca: str = ""
) -> KubeConfig:
    server = str(cluster.get("server", "")).rstrip("/")
    parts = urlsplit(server)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        whose = f" of context '{context}'" if context else ""
        raise PlatformError(doing, f"the server '{server}'{whose} is not an https:// address")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise PlatformError(doing, f"the server {server} is not reached by TLS", "Use its https:// address.")
    if cluster.get("insecure-skip-tls-verify"):
        raise PlatformError(
            doing,
            "insecure-skip-tls-verify is set, and a server that is not verified is never talked to",
            "Remove it and set certificate-authority-data.",
        )
    if cluster.get("proxy-url"):
        raise PlatformError(doing, "proxy-url is not supported", "Use an address that is reached directly.")
    for key, what in _REFUSED_USER.items():
        if user.get(key):
            raise PlatformError(
                doing,
                f"the user of context '{context}' uses {what} ({key}), which this collection does not run",
                "Use a token, a tokenFile or a client certificate.",
            )
    return KubeConfig(
        source=source,
        context=context,
        server=server,
        ca=ca or _pem(cluster, "certificate-authority", doing),
        server_name=str(cluster.get("tls-server-name") or ""),
        token=str(user.get("token") or ""),
        token_file=str(user.get("tokenFile") or ""),
        certificate=_pem(user, "client-certificate", doing),
        key=_pem(user, "client-key", doing),
    )


def _pem(entry: Mapping[str, Any], key: str, doing: str) -> str:
    data = entry.get(f"{key}-data")
    if data:
        try:
            return base64.b64decode(str(data), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise PlatformError(doing, f"{key}-data is not base64 of PEM") from None
    if entry.get(key):
        try:
            return Path(str(entry[key])).read_text(encoding="utf-8")
        except OSError as exc:
            raise PlatformError(doing, f"{key} {entry[key]}: {exc.strerror}") from exc
    return ""
