"""Who owns which page of the KV cache. No torch: the pages themselves are the runner's.

A block holds BLOCK_SIZE tokens of one or more sequences. Full blocks are entered under a chained digest of all tokens
up to their end (vLLM's and nano-vllm's prefix caching), so that a prompt that begins like an earlier one takes its
blocks over. A block that nobody owns stays in the cache until it is needed: least recently freed first.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence as Tokens

HOLE = -1  # a logical block that a sliding window has left behind
BLOCK_SIZE = 16


def block_digest(parent: bytes, tokens: Tokens[int]) -> bytes:
    """Digest of a full block: of everything before it, and of its tokens. 128 bits: no second look at the tokens."""
    return hashlib.blake2b(parent + array("q", tokens).tobytes(), digest_size=16).digest()


class BlockManager:
    """Allocates a pool's blocks. A block is free (no owner) or owned; block tables are lists that callers keep."""

    def __init__(self, count: int, *, reuse: bool = True) -> None:
        self.count = count
        self.reuse = reuse
        self._owners = [0] * count
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(count))  # next to take at the front
        self._by_digest: dict[bytes, int] = {}
        self._digest: list[bytes | None] = [None] * count

    @property
    def free(self) -> int:
        """Blocks that nobody owns, cached ones included."""
        return len(self._free)

    def owners(self, block: int) -> int:
        return self._owners[block]

    def missing(self, table: list[int], tokens: int) -> int:
        """Blocks that a table lacks to hold so many tokens."""
        return max(0, -(-tokens // BLOCK_SIZE) - len(table))

    def allocate(self, table: list[int], tokens: int) -> bool:
        """Make room for so many tokens; all or nothing."""
        lacking = self.missing(table, tokens)
        if lacking > len(self._free):
            return False
        for _ in range(lacking):
            block, _ = self._free.popitem(last=False)
            self._forget(block)
            self._owners[block] = 1
            table.append(block)
        return True

    def find_cached(self, tokens: Tokens[int]) -> list[tuple[int, bytes]]:
        """Cached blocks that begin this prompt, with their digests; at least its last token is left to compute."""
        cached: list[tuple[int, bytes]] = []
        parent = b""
        for begin in range(0, (len(tokens) - 1) // BLOCK_SIZE * BLOCK_SIZE, BLOCK_SIZE) if self.reuse else ():
            parent = block_digest(parent, tokens[begin : begin + BLOCK_SIZE])
            block = self._by_digest.get(parent)
            if block is None:
                break
            cached.append((block, parent))
        return cached

    def share(self, block: int) -> None:
        """One more owner of a cached block."""
        if self._owners[block] == 0:
            del self._free[block]
        self._owners[block] += 1

    def cache_full_blocks(self, table: list[int], digests: list[bytes], tokens: Tokens[int], computed: int) -> None:
        """Enter the full blocks whose keys and values are stored; `digests` grows with them."""
        while self.reuse and (len(digests) + 1) * BLOCK_SIZE <= computed:
            place = len(digests)
            part = tokens[place * BLOCK_SIZE : (place + 1) * BLOCK_SIZE]
            digests.append(block_digest(digests[-1] if digests else b"", part))
            block = table[place]
            if block != HOLE and self._digest[block] is None and digests[-1] not in self._by_digest:
                self._digest[block] = digests[-1]
                self._by_digest[digests[-1]] = block

    def release(self, table: list[int]) -> None:
        """Give all blocks of a table back; the table is empty then."""
        for block in reversed(table):  # the end of a prompt is the least likely to be met again
            self._drop(block)
        table.clear()

    def release_before(self, table: list[int], place: int) -> None:
        """Give back the blocks whose tokens all stand before `place`: a sliding window sees them no more."""
        for i in range(min(place // BLOCK_SIZE, len(table)) - 1, -1, -1):
            if table[i] == HOLE:
                break
            self._drop(table[i])
            table[i] = HOLE

    def _drop(self, block: int) -> None:
        if block == HOLE:
            return
        assert self._owners[block] > 0, f"block {block} is given back twice"
        self._owners[block] -= 1
        if self._owners[block] == 0:
            self._free[block] = None
            if self._digest[block] is None:
                self._free.move_to_end(block, last=False)  # holds nothing worth keeping

    def _forget(self, block: int) -> None:
        digest = self._digest[block]
        if digest is not None:
            del self._by_digest[digest]
            self._digest[block] = None
