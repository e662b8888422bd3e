# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""As much of HTTP/1.1 as a server and a streaming proxy need."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

LIMIT = 2**16
Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


class Sink(Protocol):
    """What a body is passed on to."""

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...


class Bad(Exception):
    """What came is not HTTP."""


@dataclass
class Head:
    """A request's or an answer's first line and headers."""

    words: tuple[str, str, str]
    headers: list[tuple[str, str]] = field(default_factory=list)

    def get(self, name: str) -> str:
        return next((value for word, value in self.headers if word.lower() == name), "")

    @property
    def chunked(self) -> bool:
        return "chunked" in self.get("transfer-encoding").lower()

    @property
    def length(self) -> int:
        return int(self.get("content-length") or 0)

    @property
    def upgrade(self) -> bool:
        return "upgrade" in self.get("connection").lower() and bool(self.get("upgrade"))

    def render(self) -> bytes:
        lines = [" ".join(self.words), *(f"{name}: {value}" for name, value in self.headers), "", ""]
        return "\r\n".join(lines).encode("latin-1")


async def read_head(reader: Reader) -> Head | None:
    """None when the other side closed before it said anything."""
    try:
        text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise Bad("closed within a head") from error
        return None
    except asyncio.LimitOverrunError as error:
        raise Bad("head too long") from error
    first, *lines = text.rstrip("\r\n").split("\r\n")
    words = first.split(" ", 2)
    if len(words) == 2:
        words.append("")
    if len(words) != 3:
        raise Bad(first[:100])
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return Head((words[0], words[1], words[2]), [(name.strip(), value.strip()) for name, value in pairs])


async def copy_body(head: Head, reader: Reader, writer: Sink, to_end: bool = False) -> None:
    """Pass a body on as it comes, framing and all."""
    if head.chunked:
        while True:
            line = await reader.readuntil(b"\r\n")
            writer.write(line)
            size = int(line.split(b";")[0], 16)
            if size == 0:
                while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
                    writer.write(line)
                writer.write(line)
                await writer.drain()
                return
            await _copy(size + 2, reader, writer)
    elif head.get("content-length"):
        await _copy(head.length, reader, writer)
    elif to_end:
        await pipe(reader, writer)


async def _copy(size: int, reader: Reader, writer: Sink) -> None:
    while size:
        data = await reader.read(min(size, LIMIT))
        if not data:
            raise Bad("closed within a body")
        writer.write(data)
        size -= len(data)
        await writer.drain()


async def pipe(reader: Reader, writer: Sink) -> None:
    while data := await reader.read(LIMIT):
        writer.write(data)
        await writer.drain()


async def read_body(head: Head, reader: Reader) -> bytes:
    if not head.chunked:
        return await reader.readexactly(head.length)
    parts = []
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return b"".join(parts)


@dataclass
class Answer:
    status: int
    body: Any = None
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)

    def render(self, keep: bool = True) -> bytes:
        data = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        headers = [
            ("Content-Type", self.content_type),
            ("Content-Length", str(len(data))),
            ("Connection", "keep-alive" if keep else "close"),
            *self.headers.items(),
        ]
        phrase = HTTPStatus(self.status).phrase
        return Head(("HTTP/1.1", str(self.status), phrase), headers).render() + data


class Connection(asyncio.StreamReaderProtocol):
    """Ends the task that serves a connection when its client goes, in the middle of a watch too."""

    def __init__(self, serve: Any, reader: Reader) -> None:
        super().__init__(reader, self._connected)
        self.serve = serve
        self.serving: asyncio.Task[None] | None = None

    def _connected(self, reader: Reader, writer: Writer) -> None:
        self.serving = asyncio.get_running_loop().create_task(self.serve(reader, writer))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.serving:
            self.serving.cancel()


async def listen(serve: Any, host: str, port: int, context: Any) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    return await loop.create_server(
        lambda: Connection(serve, asyncio.StreamReader(LIMIT * 4, loop)), host, port, ssl=context, backlog=256
    )
