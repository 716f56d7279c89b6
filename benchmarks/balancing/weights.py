"""What each client knows of its servers, and the weights that gRPC makes of it (gRFC A58). Times are in seconds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# As lossd's client sets them.
BLACKOUT_S, UPDATE_S, EXPIRATION_S = 1.0, 0.5, 10.0
# gRPC keeps weights within these times their mean.
LEAST, MOST = 0.01, 10.0
FULL = 65_535

Rows = npt.NDArray[np.int64] | slice


class Weights:
    """weight: calls a second over utilisation, as last told. heard_s: when. since_s: from when on it has been told.

    Arrays of (clients, servers).
    """

    def __init__(self, clients: int, servers: int) -> None:
        self.weight = np.zeros((clients, servers), np.float32)
        self.heard_s = np.full((clients, servers), -np.inf, np.float32)
        self.since_s = np.full((clients, servers), np.inf, np.float32)
        # From 0 to FULL; all alike where a client knows of fewer than two servers.
        self.scaled = np.full((clients, servers), FULL, np.uint16)

    def tell(self, client: int, server: int, weight: float, now_s: float) -> None:
        """An answer's report."""
        if self.heard_s[client, server] < now_s - EXPIRATION_S or self.since_s[client, server] == np.inf:
            self.since_s[client, server] = now_s
        self.weight[client, server] = weight
        self.heard_s[client, server] = now_s

    def tell_all(self, heard: npt.NDArray[np.bool_], weights: npt.NDArray[np.float64], now_s: float) -> None:
        """The same of all that were heard, (clients, servers). weights: of each server."""
        anew = heard & ((self.heard_s < now_s - EXPIRATION_S) | np.isinf(self.since_s))
        self.since_s[anew] = now_s
        np.copyto(self.weight, weights.astype(np.float32), where=heard)
        self.heard_s[heard] = now_s

    def forget(self, which: npt.NDArray[np.bool_]) -> None:
        """Connections that have ended, (clients, servers)."""
        self.since_s[which] = np.inf
        self.heard_s[which] = -np.inf

    def update(self, rows: Rows, now_s: float) -> None:
        """The weights of some clients, by what they know now."""
        usable = (self.heard_s[rows] > now_s - EXPIRATION_S) & (self.since_s[rows] <= now_s - BLACKOUT_S)
        weight = np.where(usable, self.weight[rows], 0.0)
        count = (weight > 0).sum(1, keepdims=True)
        mean = weight.sum(1, keepdims=True) / np.maximum(count, 1)
        weight = np.clip(np.where(weight > 0, weight, mean), LEAST * mean, MOST * mean)
        greatest = weight.max(1, keepdims=True)
        scaled = np.where(count >= 2, weight / np.maximum(greatest, 1e-30), 1.0) * FULL
        self.scaled[rows] = np.maximum(scaled, 1).astype(np.uint16)
