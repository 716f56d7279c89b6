"""Certificates and tokens that change while they are used: two authorities that clients trust, and a file of tokens."""

from __future__ import annotations

import os
import random
import threading
import time
from contextlib import suppress
from pathlib import Path

from chaos.history import Fault, Faults
from lossd.command_line.make_certificates import make_certificates
from lossd.command_line.token_line import add_token, token_line

AUTHORITIES = 2
# A server looks at its files once a second, and remembers what a head said until then.
SEEN_S = 2.0


class Credentials:
    """cert, key, ca, tokens: paths for a server and its clients. token: that all clients show. fit: see Server."""

    def __init__(self, folder: Path, faults: Faults, target: str) -> None:
        self._folder, self._faults, self._target = folder, faults, target
        self.cert, self.key = folder / "server.pem", folder / "server.key"
        self.ca, self.tokens = folder / "ca.pem", folder / "tokens"
        folders = [folder / str(number) for number in range(AUTHORITIES)]
        for one in folders:
            make_certificates(one, [], "chaos", days=1)
        self.ca.write_bytes(b"".join((one / "ca.pem").read_bytes() for one in folders))
        self._pairs = [((one / "server.pem").read_bytes(), (one / "server.key").read_bytes()) for one in folders]
        self._put(self.cert, self._pairs[0][0])
        self._put(self.key, self._pairs[0][1])
        self.token = add_token("chaos", self.tokens)
        self._line = token_line("chaos", self.token)
        self.fit = threading.Lock()

    def change(self, rng: random.Random, wait: float) -> None:
        """One change, in one of the ways in which files are changed. wait: seconds until the next may follow."""
        acts = (self._replace, self._half_written, self._mismatched, self._tokens_renewed, self._token_gone)
        act = rng.choices(acts, (5, 2, 2, 3, 1))[0]
        with self.fit:
            act(rng, wait)

    def restore(self) -> None:
        """A pair that fits, and the token."""
        self._put(self.cert, self._pairs[0][0])
        self._put(self.key, self._pairs[0][1])
        self._put(self.tokens, self._line.encode())

    def _replace(self, rng: random.Random, wait: float) -> None:
        chain, key = rng.choice(self._pairs)
        fault = self._begin("certificates changed", "replaced")
        self._put(self.key, key)
        self._put(self.cert, chain)
        self._end(fault, wait)

    def _half_written(self, rng: random.Random, wait: float) -> None:
        """Written in place, of which a reader may see the half, or gone for a moment."""
        chain, key = rng.choice(self._pairs)
        fault = self._begin("certificates changed", "half written")
        self.cert.write_bytes(chain[: rng.randrange(len(chain))])
        if rng.random() < 0.5:
            self.key.unlink()
        time.sleep(wait)
        self.key.write_bytes(key)
        self.cert.write_bytes(chain)
        self._end(fault, 0.0)

    def _mismatched(self, rng: random.Random, wait: float) -> None:
        """A key that belongs to another certificate, for a while."""
        fault = self._begin("certificates changed", "mismatched")
        self._put(self.cert, self._pairs[0][0])
        self._put(self.key, self._pairs[1][1])
        time.sleep(wait)
        self._put(self.key, self._pairs[0][1])
        self._end(fault, 0.0)

    def _tokens_renewed(self, rng: random.Random, wait: float) -> None:
        """Other tokens come and go beside ours."""
        fault = self._begin("certificates changed", "tokens renewed")
        others = [token_line(f"other-{n}", str(rng.random())) for n in range(rng.randrange(200))]
        self._put(self.tokens, "\n".join([*others, self._line]).encode())
        self._end(fault, wait)

    def _token_gone(self, rng: random.Random, wait: float) -> None:
        fault = self._begin("token taken away", "")
        self._put(self.tokens, token_line("other", "another").encode())
        time.sleep(wait + SEEN_S)
        self._put(self.tokens, self._line.encode())
        self._end(fault, SEEN_S)

    def _begin(self, kind: str, detail: str) -> Fault:
        return self._faults.add(Fault(kind, self._target, time.monotonic(), detail=detail))

    @staticmethod
    def _end(fault: Fault, wait: float) -> None:
        time.sleep(wait)
        fault.end = time.monotonic()

    @staticmethod
    def _put(path: Path, content: bytes) -> None:
        """In the place of what was there, at once."""
        beside = path.with_name(f".{path.name}")
        with suppress(FileNotFoundError):
            beside.unlink()
        beside.write_bytes(content)
        beside.chmod(0o600)
        os.replace(beside, path)
