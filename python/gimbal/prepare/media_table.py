"""A map from 16-byte keys to consecutive numbers that takes 20 bytes a slot, for millions of pictures."""

from __future__ import annotations

from array import array

_MASK = (1 << 64) - 1


class MediaTable:
    """Open addressing with linear probing over three flat arrays. Keys must be well mixed (hashes)."""

    def __init__(self) -> None:
        self._size = 0
        self._allocate(1 << 10)

    def __len__(self) -> int:
        return self._size

    def find_or_add(self, key: bytes) -> tuple[int, bool]:
        """The key's number, and whether it is new; a new key gets the number of keys before it."""
        low, high = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:16], "little")
        slot = low & self._slot_mask
        while number := self._numbers[slot]:
            if self._low[slot] == low and self._high[slot] == high:
                return number - 1, False
            slot = (slot + 1) & self._slot_mask
        self._put(slot, low, high, self._size + 1)
        self._size += 1
        if 3 * self._size > 2 * (self._slot_mask + 1):
            self._grow()
        return self._size - 1, True

    def _put(self, slot: int, low: int, high: int, number: int) -> None:
        self._low[slot], self._high[slot], self._numbers[slot] = low & _MASK, high & _MASK, number

    def _allocate(self, slots: int) -> None:
        self._slot_mask = slots - 1
        self._low = array("Q", bytes(8 * slots))
        self._high = array("Q", bytes(8 * slots))
        # 0 marks a free slot, so numbers are stored plus one.
        self._numbers = array("I", bytes(4 * slots))

    def _grow(self) -> None:
        old = self._low, self._high, self._numbers
        self._allocate(2 * (self._slot_mask + 1))
        for low, high, number in zip(*old):
            if number:
                slot = low & self._slot_mask
                while self._numbers[slot]:
                    slot = (slot + 1) & self._slot_mask
                self._put(slot, low, high, number)
