# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The agent: follows the pods and gives each of its own a task."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import signal
import sys
from pathlib import Path

from lab.agent.api import Api, Failure
from lab.agent.config import Config, ConfigError
from lab.agent.images import Images
from lab.agent.pod import Pod, Services
from lab.agent.sandbox import Addresses, Tools
from lab.kube import Object

log = logging.getLogger(__name__)

SWEEP = 60.0
AGAIN = 5.0
PATIENCE = 5.0  # for containers when the agent ends; what is left then dies with it
FINISHED = ("Succeeded", "Failed")


class Agent:
    def __init__(self, config: Config) -> None:
        for folder in ("pods", "images", "volumes", "nodes"):
            (config.run / folder).mkdir(parents=True, exist_ok=True)
        config.logs.mkdir(parents=True, exist_ok=True)
        # tokens and Secrets lie below
        config.run.chmod(0o700)
        pool = Addresses(config.pods, config.run / "addresses.json")
        self.services = Services(config, Api(config.kubeconfig), Images(config), Tools(config), pool)
        self.pods: dict[str, Pod] = {}
        self.known: dict[str, Object] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        loop, end = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end.set)
        self._forget_unknown(await self._present())

        def told(kind: str, pod: Object) -> None:
            if not end.is_set():
                loop.call_soon_threadsafe(self.seen, kind, pod)

        self.services.api.follow(told, lambda: dict(self.known))
        sweeper = asyncio.create_task(self._sweep())
        await end.wait()
        sweeper.cancel()
        # the pods stay in the API, and the next agent starts them again: no status is written any more
        log.info("ending with %d pods", len(self.pods))
        await asyncio.gather(*(pod.abandon(PATIENCE) for pod in self.pods.values()))
        tasks = list(self.tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # threads that still wait for the API server must not hold this up
        logging.shutdown()
        os._exit(0)

    async def _present(self) -> set[str]:
        while True:
            try:
                return {
                    item["metadata"]["uid"] for item in (await self.services.api.call("GET", "/api/v1/pods"))["items"]
                }
            except Failure as error:
                log.info("waiting for the API server: %s", error)
                await asyncio.sleep(1)

    def _forget_unknown(self, present: set[str]) -> None:
        """What an agent before this one left of pods that are gone."""
        config, pool = self.services.config, self.services.pool
        for folder in (*(config.run / "pods").iterdir(), *config.logs.iterdir()):
            if folder.name not in present:
                shutil.rmtree(folder, ignore_errors=True)
        for uid in set(pool.given) - present:
            pool.free(uid)

    def seen(self, kind: str, obj: Object) -> None:
        uid = obj["metadata"]["uid"]
        pod = self.pods.get(uid)
        if kind == "DELETED":
            self.known.pop(uid, None)
            if pod is not None:
                pod.vanished()
            elif self.services.images.real(obj):
                shutil.rmtree(self.services.config.logs / uid, ignore_errors=True)
            return
        if pod is not None:
            pod.update(obj)
        elif self.services.images.real(obj) and uid not in self.known:
            self.known[uid] = obj
            if obj.get("status", {}).get("phase") not in FINISHED or "deletionTimestamp" in obj["metadata"]:
                self.pods[uid] = Pod(self.services, obj)
                self.tasks[uid] = asyncio.create_task(self._live(self.pods[uid]))

    async def _live(self, pod: Pod) -> None:
        try:
            while True:
                try:
                    await pod.run()
                    break
                except Exception:
                    log.exception("%s: the agent failed, beginning again", pod.label)
                    await asyncio.sleep(AGAIN)
                    again = Pod(self.services, pod.obj)
                    if pod.gone.is_set():
                        again.vanished()
                    pod = self.pods[pod.uid] = again
        finally:
            self.pods.pop(pod.uid, None)
            self.tasks.pop(pod.uid, None)
            if pod.gone.is_set():
                shutil.rmtree(self.services.config.logs / pod.uid, ignore_errors=True)

    async def _sweep(self) -> None:
        """Data of volumes that are no folders of a provisioner goes with the PersistentVolume."""
        while True:
            await asyncio.sleep(SWEEP)
            for folder in (self.services.config.run / "volumes").iterdir():
                try:
                    if await self.services.api.get(f"/api/v1/persistentvolumes/{folder.name}") is None:
                        shutil.rmtree(folder, ignore_errors=True)
                except Failure as error:
                    log.info("looking at volume %s: %s", folder.name, error)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="lab.agent", description="Run the pods of known images as processes of this machine."
    )
    parser.add_argument("--config", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    if sys.version_info < (3, 12):
        # one descriptor a process instead of one thread
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
    try:
        asyncio.run(Agent(Config.load(options.config)).run())
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
