# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Logs in the runtime's format, and probes."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path

from lab.agent import logs
from lab.agent.probes import Probe, Target, attempt


def pump(log: logs.Log, source: str, *chunks: bytes) -> None:
    async def run() -> None:
        reader = asyncio.StreamReader()
        for chunk in chunks:
            reader.feed_data(chunk)
        reader.feed_eof()
        await log.pump(source, reader)

    asyncio.run(run())


def test_lines_have_time_stream_and_tag(tmp_path: Path) -> None:
    log = logs.Log(tmp_path, "main")
    log.open()
    pump(log, "stdout", b"one\ntw", b"o\n\nlast")
    lines = log.path.read_text().splitlines()
    assert [line.split(" ", 3)[1:] for line in lines] == [["stdout", "F", w] for w in ("one", "two", "", "last")]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", lines[0].split()[0])


def test_a_long_line_is_written_in_parts(tmp_path: Path) -> None:
    log = logs.Log(tmp_path, "main")
    log.open()
    pump(log, "stderr", b"x" * (2 * logs.LINE + 5) + b"\n")
    tags = [line.split(" ", 3)[2] for line in log.path.read_text().splitlines()]
    assert tags == ["P", "P", "F"]


def test_the_log_before_the_restart_is_kept(tmp_path: Path) -> None:
    log = logs.Log(tmp_path, "main")
    for word in ("first", "second"):
        log.open()
        log.write("stdout", word.encode(), True)
    assert "second" in log.path.read_text() and "first" in log.previous.read_text()


def test_a_log_does_not_grow_for_ever(tmp_path: Path) -> None:
    log = logs.Log(tmp_path, "main")
    log.open()
    log.size = logs.ROTATE + 1
    log.write("stdout", b"fresh", True)
    assert log.path.read_text().endswith("fresh\n") and log.path.with_suffix(".1.log").exists()


def target(code: int = 0) -> Target:
    async def execute(argv: list[str], timeout: float) -> tuple[int, str]:
        return code, "words"

    return Target("127.0.0.1", {"ports": [{"name": "web", "containerPort": 1}]}, execute)


async def answer(status: str) -> tuple[asyncio.Server, int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status}\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


def test_http_probes_judge_by_the_status() -> None:
    async def run(status: str) -> str | None:
        server, port = await answer(status)
        async with server:
            return await attempt(target(), {"httpGet": {"port": port, "path": "/x"}}, 2)

    assert asyncio.run(run("204 No Content")) is None
    assert asyncio.run(run("302 Found")) is None
    assert asyncio.run(run("503 No")) == "HTTP probe failed with statuscode: 503"


def test_other_probes() -> None:
    assert asyncio.run(attempt(target(0), {"exec": {"command": ["x"]}}, 1)) is None
    assert asyncio.run(attempt(target(1), {"exec": {"command": ["x"]}}, 1)) == "words"
    refused = asyncio.run(attempt(target(), {"tcpSocket": {"port": "web"}}, 1))
    assert refused is not None and "refused" in refused.lower()
    assert "no port named" in str(asyncio.run(attempt(target(), {"tcpSocket": {"port": "nope"}}, 1)))


def test_thresholds_decide_when_a_result_is_told() -> None:
    codes = iter([0, 1, 1, 1, 0, 1, 1, 0, 0])
    told: list[bool] = []

    async def execute(argv: list[str], timeout: float) -> tuple[int, str]:
        return next(codes), ""

    async def result(kind: str, good: bool) -> None:
        told.append(good)

    async def failed(kind: str, words: str) -> None:
        return

    async def run() -> None:
        spec = {"exec": {"command": ["x"]}, "periodSeconds": 0.001, "failureThreshold": 2, "successThreshold": 2}
        probe = Probe("readiness", spec, Target("", {}, execute), result, failed)
        await asyncio.wait_for(probe.run(), 2)

    # the list of codes ends
    with contextlib.suppress(RuntimeError):
        asyncio.run(run())
    assert told == [False, False, True]
