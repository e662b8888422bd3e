# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""A run is killed at random moments of its whole length; the next run converges, the one after it changes nothing.

Some lives, each from an empty cluster. In a life the run is killed again and again, each time from the beginning, at
moments drawn from its whole length, earlier ones first, so that early phases are redone and late ones reached; one
moment a life is drawn from the seconds in which Vault is initialised. SITE_SEED repeats a series of moments.
"""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass, field

import pytest

from tests.fault._site import PODS, Running, Site, site, until

SEED = int(os.environ.get("SITE_SEED") or random.SystemRandom().randrange(10**6))
KILLS, KILLS_A_LIFE = 20, 7
INIT = "Initialise Vault once and keep its keys"
LOST = "Vault is initialized, but no keys are stored"


@dataclass
class Life:
    """One cluster from empty to converged."""

    lab: Site
    moments: random.Random
    length: float
    killed: list[str] = field(default_factory=list)
    kept: dict[str, dict[str, bytes]] = field(default_factory=dict)
    lost: int = 0

    def kill_at(self, moment: float) -> bool:
        """Start a run and kill it then; False when it ended before."""
        run = self.lab.start()
        while time.monotonic() - run.began < moment and run.process.poll() is None:
            time.sleep(0.01)
        return self._kill(run, f"{moment:5.1f} s")

    def kill_in_init(self) -> bool:
        """Start a run and kill it while Vault is being initialised."""
        run = self.lab.start()
        if not run.reaches(INIT):
            return self._kill(run, "")
        moment = self.moments.uniform(0.0, 4.0)
        time.sleep(moment)
        return self._kill(run, f"init + {moment:.1f} s")

    def _kill(self, run: Running, when: str) -> bool:
        if run.process.poll() is not None:
            ended = run.finish()
            if LOST in ended.said:
                self._start_vault_over()
                return False
            assert ended.returncode == 0, ended.tail
            return False
        self.killed.append(f"{when}: {run.kill()}")
        run.finish()
        print(f"  killed at {self.killed[-1]}", flush=True)
        self.nothing_is_lost()
        return True

    def nothing_is_lost(self) -> None:
        """What has been stored once stays as it is."""
        for name in ("root-ca", "vault-init"):
            there = self.lab.secret(name)
            if name in self.kept:
                assert there == self.kept[name], f"{name} is gone or another one"
            elif there is not None:
                self.kept[name] = there

    def _start_vault_over(self) -> None:
        """The one window of docs/vault.md: killed while the answer of sys/init was on the wire. Nothing can be in that
        Vault yet; the run has said so and changed nothing, and the person does what it has told them."""
        self.lost += 1
        assert "vault-init" not in self.kept, "the keys had been saved"
        print("  the answer of sys/init was on the wire: Vault is started over as the message says", flush=True)
        for pod in PODS:
            self.lab.cluster.delete(f"/api/v1/namespaces/vault/persistentvolumeclaims/data-{pod}")
            self.lab.cluster.delete(f"/api/v1/namespaces/vault/pods/{pod}")
        until(
            lambda: not any(self.lab.vault(pod, "GET", "sys/seal-status")["initialized"] for pod in PODS),
            "empty servers",
        )

    def converge(self) -> None:
        run = self.lab.run()
        if LOST in run.said and "vault-init" not in self.kept:
            self._start_vault_over()
            run = self.lab.run()
        assert run.returncode == 0, run.tail
        self.nothing_is_lost()
        again = self.lab.again()
        self.lab.check()
        assert self.kept.keys() == {"root-ca", "vault-init"} and not self.lab.sealed()
        assert not list((self.lab.home / ".local").rglob("*.json")), "the spool was left"
        print(f"  converged in {run.seconds:.0f} s, again in {again.seconds:.0f} s: changed 0", flush=True)


# About an hour on two cores that another file keeps busy.
@pytest.mark.timeout(7200)
def test_killed_at_random_moments_the_next_run_converges_and_the_one_after_changes_nothing() -> None:
    print(f"\nSITE_SEED={SEED}")
    moments, lab = random.Random(SEED), site()
    began = time.monotonic()
    lab.empty()
    length = lab.converged().seconds
    print(f"an undisturbed run from empty takes {length:.0f} s")
    killed: list[str] = []
    lost = 0
    while len(killed) < KILLS:
        lab.empty()
        life = Life(lab, moments, length)
        drawn = sorted(moments.uniform(0.5, length) for _ in range(KILLS_A_LIFE - 1))
        before = [moment for moment in drawn if moment < length / 2]
        for moment in before:
            life.kill_at(moment)
        life.kill_in_init()
        for moment in drawn[len(before) :]:
            # What is done already is quick: the later half of a first run is the later half of a shorter one.
            if not life.kill_at(moment):
                life.kill_at(moments.uniform(length / 4, length / 2))
        life.converge()
        killed += life.killed
        lost += life.lost
    print(f"{len(killed)} kills in {time.monotonic() - began:.0f} s; answers of sys/init lost: {lost}")
    assert sum(INIT in moment for moment in killed) >= 1, "none has hit the initialisation"
