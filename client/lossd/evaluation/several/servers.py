"""Several servers that compute the blocks of one evaluation: each takes the next block when it is free.

What a server that goes away has not answered is computed by the others; it is asked again and again whether it is back.
Every block gives the same bits at any server of one kind, and blocks are cut as for one server, so that the sums have
the bits of one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import lossd
from lossd.evaluation.question import Question
from lossd.evaluation.several.deal import Arrays, Deal, DealtBlock, Range
from lossd.request.build import METHODS
from lossd.results import Result
from lossd.rpc.address import checked_address

# Blocks that a server has at once: one is sent while another is computed.
DEPTH = 2
# Of blocks, for each server, that are read and whose results wait for those before them.
AHEAD = 4
REACH_S = 5.0
# The first wait before a lost server is asked again, and the longest.
FIRST_S, LONGEST_S = 0.05, 1.0


@dataclass(slots=True)
class BlockServer:
    """address: as it was given. blocks, items: what it computed. lost: how often it went away, also before the first
    block. away: whether it is away now, and `why`. version, device: as it last said.
    """

    address: str
    client: lossd.Client
    blocks: int = 0
    items: int = 0
    lost: int = 0
    away: bool = False
    why: str = ""
    version: str = ""
    device: str = ""
    max_message_bytes: int = 0

    def ask(self) -> None:
        """What it is. Raises lossd.Error."""
        info = self.client.info(timeout=REACH_S)
        self.version, self.device, self.max_message_bytes = info.version, info.device, info.limits.max_message_bytes


class Servers:
    """Of one evaluation. Those that are not there at its beginning count as lost."""

    def __init__(self, servers: Sequence[BlockServer]) -> None:
        """Raises lossd.Error where none of them is there, or one of them does not want us."""
        self.all = servers
        self._lock = threading.Lock()
        with ThreadPoolExecutor(len(servers)) as pool:
            failures = [error for error in pool.map(_reached, servers) if error is not None]
        there = [server for server in servers if not server.away]
        if not there:
            raise failures[0]
        self.first = there[0]
        self.max_message_bytes = min((one.max_message_bytes for one in there if one.max_message_bytes), default=0)

    def answers(
        self,
        question: Question,
        options: Mapping[str, Any],
        ranges: Iterator[Range],
        read: Callable[[Range], Arrays],
        patience_s: float,
    ) -> Generator[tuple[Range, Arrays, Result], None, None]:
        """Each block with its result, in the file's order. Raises lossd.Error and CommandError.

        patience_s: how long no server at all may be there, in seconds.
        """
        deal = Deal(ranges, read, AHEAD * len(self.all))
        work = partial(self._work, deal=deal, method=question.method, options=options)
        threads = [threading.Thread(target=work, args=(server,)) for server in self.all for _ in range(DEPTH)]
        for thread in threads:
            thread.start()
        try:
            for block in deal.results(patience_s):
                assert isinstance(block.outcome, Result)
                yield block.range, block.arrays, block.outcome
        finally:
            deal.close()
            for server in self.all:
                server.client.close()  # which ends what is still under way
            for thread in threads:
                thread.join()

    def _work(self, server: BlockServer, deal: Deal, method: str, options: Mapping[str, Any]) -> None:
        """What each of the threads does that bring blocks to a server."""
        while True:
            losses = server.lost  # before it is seen to be there, or one loss may count as two
            if server.away:
                if self._stays_away(server, deal):
                    return
                continue
            block = deal.take()
            if block is None:
                return
            try:
                result = _computed(server.client, method, block, options)
            except (lossd.Unavailable, lossd.DeadlineExceeded) as error:
                # One that stands still is asked for its word before it has another block.
                deal.give_back(block, error, at_fault=isinstance(error, lossd.DeadlineExceeded))
                self._lose(server, deal, error, losses)
            except lossd.Overloaded as error:
                deal.give_back(block, error, at_fault=True)
            except Exception as error:
                deal.end(block, error)
            else:
                with self._lock:
                    server.blocks += 1
                    server.items += block.range[1] - block.range[0]
                deal.end(block, result)

    def _lose(self, server: BlockServer, deal: Deal, error: lossd.Error, losses: int) -> None:
        """losses: how often it had gone away when the call began: several calls that it breaks off are one loss."""
        with self._lock:
            if server.lost == losses:
                server.lost, server.away, server.why = losses + 1, True, str(error)
            if all(one.away for one in self.all):
                deal.desert(error)

    def _stays_away(self, server: BlockServer, deal: Deal) -> bool:
        """Asks a lost server until it is back; True where all was over before."""
        wait_s = FIRST_S
        while not deal.pause(wait_s):
            if not server.away:  # as another thread found
                return False
            try:
                server.ask()
            except lossd.Error:
                wait_s = min(2 * wait_s, LONGEST_S)
                continue
            with self._lock:
                server.away = False
                deal.desert(None)
            return False
        return True


@contextmanager
def open_several(address: str, timeout_s: float, credentials: Mapping[str, Any]) -> Iterator[Servers]:
    """address: that of several servers, with commas between. Raises lossd.Error."""
    with ExitStack() as stack:
        servers = []
        for one in dict.fromkeys(checked_address(address).split(",")):
            client = lossd.Client(one, timeout=timeout_s, connect_timeout=REACH_S, retry=False, **credentials)
            servers.append(BlockServer(one, stack.enter_context(client)))
        yield Servers(servers)


def _reached(server: BlockServer) -> lossd.Error | None:
    """Why it is not there, or None. Raises lossd.Error where waiting would not help."""
    try:
        server.ask()
    except (lossd.Unavailable, lossd.DeadlineExceeded) as error:
        server.lost, server.away, server.why = 1, True, str(error)
        return error
    return None


def _computed(client: lossd.Client, method: str, block: DealtBlock, options: Mapping[str, Any]) -> Result:
    rest = dict(block.arrays)
    operands = [rest.pop(name) for name in METHODS[method].tensors]
    result: Result = getattr(client, method)(*operands, **rest, **options)
    return result


def strange_servers(servers: Sequence[BlockServer]) -> Iterator[str]:
    """Sentences on those that went away, and on those that may have given other bits."""
    for one in servers:
        if one.lost:
            fate = "did not come back" if one.away else "came back"
            took = f"{one.blocks:,} blocks" if one.blocks else "no block"
            yield f"{one.address} was away and {fate}: it computed {took}, and others the rest ({one.why})"
    kinds = dict.fromkeys((one.version, one.device) for one in servers if one.blocks)
    if len(kinds) > 1:
        told = ", ".join(f"{version} on {device}" for version, device in kinds)
        yield f"the servers differ ({told}): the last digits may be others than those of one server"
