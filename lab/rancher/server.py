# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Rancher's HTTPS server: authentication, faults, and the way to /v3, /v1 and the proxy."""

from __future__ import annotations

import argparse
import asyncio
import http.client
import logging
import re
import ssl
import urllib.parse
from pathlib import Path

from lab.kube import Client, Refused
from lab.rancher import http as wire
from lab.rancher import settings, v1, v3
from lab.rancher.http import Answer, Head, Reader, Writer
from lab.rancher.proxy import Backend, Unreachable, Upstream, forward, outgoing
from lab.rancher.state import State, connected

log = logging.getLogger("rancher")
PROXIED = re.compile(r"/k8s/clusters/([^/?]+)(/[^?]*)?(\?.*)?$")
CONTENDED = re.compile(r"/(clusters|harvesterconfigs|[a-z.-]*\.(clusters|harvesterconfigs))/[^/]+(/[^/]+)?$")
OWN_NAMES = (settings.NAME, settings.ADDRESS, "localhost", "127.0.0.1")


class Server:
    def __init__(self, files: settings.Files) -> None:
        self.state = State(files)
        self.backends = {
            name: Backend.read(files.kubeconfig(name, "rancher-proxy")) for name in ("cluster", "harvester", "rancher")
        }
        headers = [("Impersonate-User", settings.USER), *(("Impersonate-Group", name) for name in settings.GROUPS)]
        self.steve = Client(files.kubeconfig("rancher", "rancher-proxy"), headers)

    async def serve(self, reader: Reader, writer: Writer) -> None:
        upstream = Upstream()
        try:
            while (head := await wire.read_head(reader)) is not None:
                if not await self._one(head, reader, writer, upstream):
                    break
        except (wire.Bad, asyncio.IncompleteReadError, ConnectionError, ssl.SSLError) as error:
            log.info("connection: %s", error)
        except asyncio.CancelledError:
            pass  # the client is gone
        finally:
            upstream.close()
            writer.close()

    async def _one(self, head: Head, reader: Reader, writer: Writer, upstream: Upstream) -> bool:
        """One request; whether another may follow on this connection."""
        method, target, _ = head.words
        await self._silence()
        path = urllib.parse.urlsplit(target).path
        early = self._refusal(head, path)
        proxied = PROXIED.match(target)
        if early is None and proxied:
            early = await asyncio.to_thread(self._cluster_refusal, proxied[1], proxied[2] or "/")
            if early is None:
                return await self._proxy(head, proxied, reader, writer, upstream)
        if head.get("expect").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await wire.read_body(head, reader)
        answer = early if early else await asyncio.to_thread(self._answer, head, path, body)
        keep = head.get("connection").lower() != "close"
        writer.write(answer.render(keep))
        await writer.drain()
        log.info("%s %s %d", method, path, answer.status)
        return keep

    async def _silence(self) -> None:
        while seconds := self.state.faults.lasts("rancher_silent"):
            await asyncio.sleep(min(seconds, 0.5))

    def _refusal(self, head: Head, path: str) -> Answer | None:
        method = head.words[0]
        if self.state.faults.lasts("rancher_500"):
            return v3.error(500, "ServerError", "failed to find healthy server: context deadline exceeded")
        if method in {"PUT", "PATCH"} and CONTENDED.search(path) and self.state.faults.take("conflict_500"):
            name = path.rsplit("/", 1)[1]
            message = f'Operation cannot be fulfilled on {path.rsplit("/", 2)[1]} "{name}": {v1.MODIFIED}'
            return v3.error(500, "ServerError", message)
        return None

    def _cluster_refusal(self, identity: str, path: str) -> Answer | None:
        cluster = self.state.cluster(identity)
        if cluster is None or not connected(cluster):
            return v3.error(503, "ClusterUnavailable", "cluster not found")
        if identity == settings.HARVESTER_ID and path.startswith("/v1/harvester/"):
            # Harvester 1.7.2 does so to administrators of Rancher
            return v3.error(401, "Unauthorized", "Unauthorized 401: must authenticate")
        return None

    async def _proxy(
        self, head: Head, match: re.Match[str], reader: Reader, writer: Writer, upstream: Upstream
    ) -> bool:
        name = {"local": "rancher", settings.HARVESTER_ID: "harvester"}.get(match[1], "cluster")
        user = await asyncio.to_thread(self.state.user, head.get("authorization"), match[1])
        refused: Answer | None = None
        if not user:
            refused = v3.error(401, "Unauthorized", "must authenticate")
        elif any(word.lower().startswith("impersonate-") for word, _ in head.headers):
            refused = v3.error(403, "Forbidden", "impersonation through the lab's Rancher is not emulated")
        if refused is None:
            backend = self.backends[name]
            path = (match[2] or "/") + (match[3] or "")
            host = f"{backend.host}:{backend.port}"
            request = outgoing(head, path, host, user, settings.GROUPS)
            try:
                status, keep = await forward(head, request, (reader, writer), upstream, name, backend)
                log.debug("%s %s %d", head.words[0], head.words[1], status)
                return keep and head.get("connection").lower() != "close"
            except Unreachable as error:
                writer.write(v3.error(502, "BadGateway", str(error)).render(keep=False))
                await writer.drain()
                return False
        await wire.read_body(head, reader)
        writer.write(refused.render())
        await writer.drain()
        return True

    def _answer(self, head: Head, path: str, body: bytes) -> Answer:
        if path in {"/ping", "/healthz"}:
            ready = self.state.ready()
            return Answer(200 if ready else 503, b"pong" if path == "/ping" else b"ok", "text/plain")
        if path == "/rancherversion":
            return Answer(200, {"Version": settings.VERSION, "GitCommit": "lab", "RancherPrime": "false"})
        if path == "/cacerts":
            return Answer(200, self.state.files.authority.read_bytes(), "text/plain")
        user = self.state.user(head.get("authorization"))
        if not user:
            return v3.error(401, "Unauthorized", "must authenticate")
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(head.words[1]).query))
        call = v3.Call(head.words[0], path, query, body, user, base(head.get("host")))
        try:
            if path == "/v1-rke2-release/releases":
                return v3.releases(call)
            if path == "/v3" or path.startswith("/v3/"):
                return v3.answer(self.state, call)
            if path.startswith("/v1/") and user != settings.USER:
                return v3.error(403, "Forbidden", "the lab's /v1 knows its administrator only")
            if path.startswith("/v1/"):
                return v1.answer(self.steve, call)
        except Refused as refused:
            return v3.error(refused.status, refused.reason or "ServerError", str(refused))
        except (OSError, http.client.HTTPException) as error:
            return v3.error(500, "ServerError", str(error))
        return v3.error(404, "NotFound", "not found")


def base(host: str) -> str:
    """The address by which the client came, where it is one of ours; else the setting server-url."""
    name, _, port = host.partition(":")
    if name not in OWN_NAMES:
        return settings.URL
    return f"https://{host}" if port not in {"", "443"} else f"https://{name}"


async def run(files: settings.Files) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.pki / "server.crt", files.pki / "server.key")
    context.set_alpn_protocols(["http/1.1"])
    server = Server(files)
    async with await wire.listen(server.serve, settings.ADDRESS, settings.PORT, context) as listening:
        log.info("listening on %s:%d", settings.ADDRESS, settings.PORT)
        await listening.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="the lab's directory")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.INFO)
    asyncio.run(run(settings.Files(options.directory)))


if __name__ == "__main__":
    main()
