# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Calls to one Vault server, on ``hvac`` (private to this collection).

Nothing that an HTTP layer says about a failed call leaves this file unread: answers of Vault can repeat what was
sent to it, so only its list of errors is passed on, and every secret that this process knows is blanked in it.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import hvac
import requests
from requests.adapters import HTTPAdapter

from ._errors import PlatformError, Unreachable

_LOOPBACK = ("127.", "localhost", "::1")
# Standby, disaster recovery and performance standbys, uninitialised, sealed, removed from the Raft cluster.
_HEALTH = frozenset((429, 472, 473, 501, 503, 530))
_AGAIN = frozenset((412, 429, 500, 502, 503))
_SEALED = "Vault is sealed"
_DELAY = 0.3


class VaultError(PlatformError):
    """Vault answered with a refusal."""

    def __init__(self, doing: str, status: int, errors: Sequence[str], mend: str = "") -> None:
        self.status = status
        self.errors = list(errors)
        super().__init__(doing, f"{'; '.join(self.errors) or 'no reason given'} (HTTP {status})", mend, status=status)


class VaultUnreachable(Unreachable):
    """No connection, no verified TLS, or the answer did not arrive; ``sent`` says whether Vault may have acted."""

    def __init__(self, doing: str, why: str, mend: str = "", *, sent: bool = True) -> None:
        self.sent = sent
        super().__init__(doing, why, mend)


class VaultNotReady(PlatformError):
    """There is a way to the pods, but no unsealed leader: not deployed, not initialised, or sealed."""


class _VerifyingAdapter(HTTPAdapter):
    """Verifies against one context only; sends nothing twice."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def build_connection_pool_key_attributes(self, *args: Any, **kwargs: Any) -> Any:
        host, pool = super().build_connection_pool_key_attributes(*args, **kwargs)
        # Requests would add its own bundle of public CAs to the context.
        pool.pop("ca_certs", None)
        return host, pool

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        conn.cert_reqs = "CERT_REQUIRED"


def tls_context(ca_certificate: str) -> ssl.SSLContext:
    """Trust the given CA only, or the machine's CAs when none is given."""
    try:
        context = ssl.create_default_context(cadata=ca_certificate or None)
    except ssl.SSLError as exc:
        raise PlatformError("Reading the option ca_certificate", f"it is not PEM ({exc.reason})") from None
    # CAs made outside this collection often lack the identifiers which Python 3.13 asks for beyond RFC 5280's chain.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    return context


class Vault:
    """One server. ``name`` is what messages call it; ``token`` is only sent once it is set."""

    def __init__(self, name: str, url: str, *, ca_certificate: str = "", patience: float = 30.0) -> None:
        parts = urlsplit(url)
        plain = parts.scheme == "http" and (parts.hostname or "").startswith(_LOOPBACK)
        if not parts.hostname or (parts.scheme != "https" and not plain):
            raise PlatformError(
                f"Reaching Vault {name}",
                f"{url or 'its address'} is not an https:// address",
                "Unseal keys and tokens are only sent over verified TLS or through the Kubernetes API.",
            )
        self.name, self.url, self.patience = name, url.rstrip("/"), patience
        session = requests.Session()
        # Proxies, .netrc and CA bundles of the environment must not decide where keys are sent.
        session.trust_env = False
        session.mount("https://", _VerifyingAdapter(tls_context(ca_certificate)))
        session.mount("http://", HTTPAdapter(max_retries=0))
        self._client = hvac.Client(url=self.url, token="", session=session, timeout=30, verify=True)
        self._secrets: set[str] = set()

    @property
    def token(self) -> str:
        return str(self._client.token or "")

    @token.setter
    def token(self, value: str) -> None:
        self.hide([value])
        self._client.token = value

    def hide(self, secrets: Iterable[str]) -> None:
        """Blank these in whatever Vault may answer."""
        self._secrets.update(secret for secret in secrets if len(secret) >= 4)

    def close(self) -> None:
        self._client.adapter.close()

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        retry: bool = True,
        timeout: float = 30.0,
        accept: frozenset[int] = frozenset(),
        doing: str = "",
    ) -> dict[str, Any]:
        """Send a request and return its JSON ({} for an empty answer).

        With ``retry`` broken connections and passing refusals (a leader being elected, overload) are tried again for
        ``patience`` seconds: only for requests that may arrive twice. Without it nothing is sent a second time.
        """
        doing = doing or f"Calling {method} /v1/{path} of Vault {self.name}"
        deadline = time.monotonic() + self.patience
        while True:
            try:
                return self._once(method, path, body, params, timeout, accept, doing)
            except VaultError as exc:
                passing = exc.status in _AGAIN and not any(_SEALED in error for error in exc.errors)
                if not retry or not passing or time.monotonic() + _DELAY > deadline:
                    raise
            except VaultUnreachable:
                if not retry or time.monotonic() + _DELAY > deadline:
                    raise
            time.sleep(_DELAY)

    def _once(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        params: Mapping[str, Any] | None,
        timeout: float,
        accept: frozenset[int],
        doing: str,
    ) -> dict[str, Any]:
        try:
            answer = self._client.adapter.request(
                method, f"/v1/{path}", json=body, params=params, timeout=(5.0, timeout), raise_exception=False
            )
        except requests.exceptions.SSLError as exc:
            why = f"its certificate does not verify: {_reason(exc)}"
            raise VaultUnreachable(doing, why, "Check ca_certificate and the address.", sent=False) from None
        except requests.exceptions.ConnectTimeout:
            raise VaultUnreachable(doing, f"{self.url} does not answer", sent=False) from None
        except requests.exceptions.ConnectionError as exc:
            refused = "NewConnectionError" in repr(exc) or "NameResolutionError" in repr(exc)
            raise VaultUnreachable(doing, _reason(exc), sent=not refused) from None
        except requests.exceptions.RequestException as exc:
            raise VaultUnreachable(doing, f"no answer arrived ({type(exc).__name__})") from None
        if isinstance(answer, dict):
            return answer
        if answer.status_code < 300 or answer.status_code in accept:
            return _json(answer)
        raise VaultError(doing, answer.status_code, [self.scrub(error) for error in _errors(answer)])

    def scrub(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "********")
        return text

    def health(self, *, retry: bool = False) -> dict[str, Any]:
        """The server's own view, whatever its state; ``active`` is added to it."""
        answer = self.call("GET", "sys/health", retry=retry, accept=_HEALTH, timeout=10.0)
        if "sealed" not in answer:
            raise VaultUnreachable(f"Asking Vault {self.name} for its health", "something else than Vault answers")
        answer["active"] = bool(answer.get("initialized") and not answer["sealed"] and not answer.get("standby"))
        return answer

    def seal_status(self, *, retry: bool = False) -> dict[str, Any]:
        return self.call("GET", "sys/seal-status", retry=retry, timeout=10.0)


def _json(answer: requests.Response) -> dict[str, Any]:
    try:
        decoded = answer.json()
    except ValueError:
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _errors(answer: requests.Response) -> list[str]:
    found = _json(answer).get("errors") or []
    # A body that is not Vault's (a proxy's page) says nothing that is worth the risk of quoting it.
    return [str(error).strip().replace("\n", " ") for error in found]


def _reason(exc: BaseException) -> str:
    """The innermost cause: what wraps it only repeats addresses of Python objects."""
    text = str(exc)
    for part in ("[SSL: CERTIFICATE_VERIFY_FAILED] ", "Connection refused", "Connection reset by peer",
                 "Remote end closed connection without response", "Name or service not known"):  # fmt: skip
        if part in text:
            rest = text.split(part, 1)[1].split(" (_ssl", 1)[0] if part.startswith("[SSL") else ""
            return rest or part[0].lower() + part[1:]
    return f"the connection failed ({type(exc).__name__})"
