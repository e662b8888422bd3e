# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The streaming proxy of /k8s/clusters/<id>: watches, upgrades and large bodies pass as they come."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from lab.kube import Client
from lab.rancher import http
from lab.rancher.http import Head, Reader, Writer

# of the connection, not of the message; and what only this proxy may say
DROPPED = {"authorization", "connection", "host", "cookie", "keep-alive", "proxy-connection", "expect"}
SMALL = 2**20


class Unreachable(Exception):
    """The API server behind does not answer."""


@dataclass
class Backend:
    """One API server, under the proxy's own identity."""

    host: str
    port: int
    context: ssl.SSLContext

    @classmethod
    def read(cls, kubeconfig: Path) -> Backend:
        client = Client(kubeconfig)
        return cls(client.host, client.port, client.context)

    async def connect(self) -> tuple[Reader, Writer]:
        try:
            return await asyncio.open_connection(self.host, self.port, ssl=self.context, limit=http.LIMIT * 4)
        except OSError as error:
            raise Unreachable(str(error)) from error


@dataclass
class Upstream:
    """The connections kept for one client's connection."""

    kept: dict[str, tuple[Reader, Writer]] = field(default_factory=dict)

    def close(self) -> None:
        for _, writer in self.kept.values():
            writer.close()
        self.kept.clear()

    def drop(self, name: str) -> None:
        _, writer = self.kept.pop(name, (None, None))
        if writer is not None:
            writer.close()


def outgoing(head: Head, path: str, host: str, user: str, groups: tuple[str, ...]) -> Head:
    headers = [(name, value) for name, value in head.headers if name.lower() not in DROPPED]
    headers.append(("Host", host))
    headers.append(("Connection", "Upgrade" if head.upgrade else "keep-alive"))
    headers.append(("Impersonate-User", user))
    headers.extend(("Impersonate-Group", group) for group in groups)
    return Head((head.words[0], path, "HTTP/1.1"), headers)


async def forward(
    head: Head,
    request: Head,
    client: tuple[Reader, Writer],
    upstream: Upstream,
    name: str,
    backend: Backend,
) -> tuple[int, bool]:
    """Send `request` for the client's `head`; returns the status and whether the connection can be used again."""
    reader, writer = client
    if head.get("expect").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    whole = not head.chunked and head.length <= SMALL
    body = await reader.readexactly(head.length) if whole and head.length else b""
    if head.upgrade or not whole:
        upstream.drop(name)
    answer: Head | None = None
    for fresh in [False, True] if name in upstream.kept else [True]:
        if fresh:
            upstream.drop(name)
            upstream.kept[name] = await backend.connect()
        source, target = upstream.kept[name]
        try:
            target.write(request.render() + body)
            if not whole:
                await _send_large(head, reader, target)
            else:
                await target.drain()
            answer = await http.read_head(source)
            while answer and answer.words[1].startswith("1") and answer.words[1] != "101":
                answer = await http.read_head(source)
        except (ConnectionError, ssl.SSLError, http.Bad):
            answer = None
        if answer is not None:
            break
    if answer is None:
        upstream.drop(name)
        raise Unreachable(f"{name} closed the connection")
    source, target = upstream.kept[name]
    status = int(answer.words[1])
    if status == 101:
        upstream.kept.pop(name)
        writer.write(answer.render())
        await _both_ways(reader, writer, source, target)
        return status, False
    bodiless = head.words[0] == "HEAD" or status in {204, 304}
    framed = bodiless or answer.chunked or bool(answer.get("content-length"))
    answer.headers = [(word, value) for word, value in answer.headers if word.lower() != "connection"]
    answer.headers.append(("Connection", "keep-alive" if framed else "close"))
    writer.write(answer.render())
    try:
        if not bodiless:
            await http.copy_body(answer, source, writer, to_end=not framed)
        await writer.drain()
    except BaseException:
        # a client that went in the middle of a watch must not leave it behind
        upstream.drop(name)
        raise
    if not framed:
        upstream.drop(name)
    return status, framed


async def _send_large(head: Head, reader: Reader, target: Writer) -> None:
    """An API server may answer before it has read all, and hang up: the client's rest is read, its answer kept."""
    sink = _Sink(target)
    await http.copy_body(head, reader, sink)


class _Sink:
    """A writer that goes on when nobody listens any more."""

    def __init__(self, target: Writer) -> None:
        self.target = target
        self.broken = False

    def write(self, data: bytes) -> None:
        if not self.broken:
            self.target.write(data)

    async def drain(self) -> None:
        if self.broken:
            return
        try:
            await self.target.drain()
        except (ConnectionError, ssl.SSLError):
            self.broken = True


async def _both_ways(reader: Reader, writer: Writer, source: Reader, target: Writer) -> None:
    tasks = [asyncio.create_task(http.pipe(reader, target)), asyncio.create_task(http.pipe(source, writer))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError, ssl.SSLError):
                await task
        target.close()
        writer.close()
