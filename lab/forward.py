# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Forward ports of 127.0.0.1 on the host into the lab's namespace.

The listening sockets are opened on the host by whoever starts this; the process itself runs inside the namespace.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
from typing import cast


class Pipe(asyncio.Protocol):
    """One direction of a forwarded connection."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.peer: Pipe | None = None
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.peer is None or self.peer.transport is None:
            self.early.append(data)
        else:
            self.peer.transport.write(data)

    def eof_received(self) -> bool:
        if self.peer and self.peer.transport and self.peer.transport.can_write_eof():
            self.peer.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self.peer and self.peer.transport:
            self.peer.transport.close()

    def pause_writing(self) -> None:
        if self.peer and self.peer.transport:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer and self.peer.transport:
            self.peer.transport.resume_reading()


class Accepted(Pipe):
    """The side of the client: connects to the target as soon as it is there."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self.target = (host, port)
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.task = asyncio.get_running_loop().create_task(self._join())

    async def _join(self) -> None:
        assert self.transport is not None
        try:
            _, other = await asyncio.get_running_loop().create_connection(Pipe, *self.target)
        except OSError:
            self.transport.close()
            return
        other.peer, self.peer = self, other
        assert other.transport is not None
        if self.transport.is_closing():
            other.transport.close()
            return
        for data in self.early:
            other.transport.write(data)
        self.early.clear()


async def serve(pairs: list[tuple[int, str, int]]) -> None:
    loop = asyncio.get_running_loop()
    for descriptor, host, port in pairs:
        listener = socket.socket(fileno=descriptor)
        await loop.create_server(lambda host=host, port=port: Accepted(host, port), sock=listener)  # type: ignore[misc]
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pair", nargs="+", help="descriptor=host:port")
    pairs = []
    for word in parser.parse_args().pair:
        descriptor, target = word.split("=")
        host, port = target.split(":")
        pairs.append((int(descriptor), host, int(port)))
    asyncio.run(serve(pairs))


if __name__ == "__main__":
    main()
