"""Client processes of a run: started, killed, replaced, and what they say."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from chaos.history import Record
from chaos.leaks import leaked
from chaos.load import Spec
from chaos.processes import Holdings

READY_S = 120.0
# For the operations that are under way when no more are begun; one that hangs is told of before.
END_S = 240.0


class ClientProcess:
    """tell: called with each record, by a thread of this object."""

    def __init__(self, spec: Spec, folder: Path, tell: Callable[[Record], None]) -> None:
        self.name = spec.name
        self._tell = tell
        self.said: dict[str, Any] = {}
        self.ready = threading.Event()
        path = folder / f"{spec.name}.json"
        path.write_text(json.dumps(spec.as_json()))
        with (folder / f"{spec.name}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "chaos.client_process", str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def end(self) -> None:
        """Nothing new is begun."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def wrong(self) -> list[str]:
        """After `end`: what was the matter with the process itself."""
        try:
            status = self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return [f"{self.name} had not ended {END_S:.0f} s after it was told to"]
        self._reader.join()
        if "warm" not in self.said:
            stuck = self.said.get("stuck")
            return [f"{self.name}: {'threads hang: ' + ', '.join(stuck) if stuck else f'exit status {status}'}"]
        tasks = [f"{self.name} has the task {one}" for one in self.said.get("tasks", [])]
        return tasks + leaked(self.name, Holdings(**self.said["warm"]), Holdings(**self.said["end"]))

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                told = json.loads(line)
            except ValueError:
                continue  # cut short by its death
            if "outcome" in told:
                self._tell(Record(**told))
                continue
            self.said |= told
            if "ready" in told:
                self.ready.set()
        self.ready.set()


class Clients:
    """Those that stay, and one that is killed time and again. spec: of all; each has a name and a seed of its own."""

    def __init__(self, spec: Spec, count: int, folder: Path, tell: Callable[[Record], None]) -> None:
        self._spec, self._folder, self._tell = spec, folder, tell
        self._lock = threading.Lock()
        self._lives = 0
        self.victim = ""
        self._steady = [self._started(f"client-{number}") for number in range(count)]
        self._mortal = self._next()

    def wait(self) -> None:
        """Until all have begun."""
        for one in (*self._steady, self._mortal):
            one.ready.wait(READY_S)

    def draw(self, rng: random.Random) -> tuple[str, int]:
        """The name and process of one that stays."""
        one = rng.choice(self._steady)
        return one.name, one.process.pid

    def replace(self) -> None:
        """Kills the mortal one, once it has begun; another takes its place."""
        with self._lock:
            self._mortal.ready.wait(READY_S)
            self._mortal.kill()
            self._mortal = self._next()

    def end(self) -> list[str]:
        """Lets all end; what was the matter."""
        self._mortal.ready.wait(READY_S)
        running = [*self._steady, self._mortal]
        for one in running:
            one.end()
        return [sentence for one in running for sentence in one.wrong()]

    def kill(self) -> None:
        """For a run that goes no further."""
        for one in (*self._steady, self._mortal):
            one.kill()

    def _next(self) -> ClientProcess:
        self._lives += 1
        self.victim = f"victim-{self._lives}"
        return self._started(self.victim)

    def _started(self, name: str) -> ClientProcess:
        spec = replace(self._spec, name=name, seed=f"{self._spec.seed} {name}")
        return ClientProcess(spec, self._folder, self._tell)
