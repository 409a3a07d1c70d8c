"""The head of a packed file: numbers of variable length and pieces of bytes."""

from __future__ import annotations


class Fields:
    """Numbers and bytes, one after the other, written to the end or read from the front.

    Numbers are kept as in LEB128: seven bits in a byte, the lowest first, and the eighth tells that more follow.

    Args:
        content: What to read; nothing to write.
    """

    def __init__(self, content: bytes = b""):
        self.content = bytearray(content)
        self._at = 0

    def number(self, value: int | None = None) -> int:
        """Write a number from 0 up, or read one below 2**63."""
        if value is not None:
            left = value
            while left > 127:
                self.content.append(left & 127 | 128)
                left >>= 7
            self.content.append(left)
            return value
        found = 0
        for shift in range(0, 63, 7):
            byte = self.piece(1)[0]
            found |= (byte & 127) << shift
            if byte < 128:
                return found
        raise ValueError("a number without an end")

    def number_up_to(self, most: int) -> int:
        """Read a number that is not larger than `most`."""
        found = self.number()
        if found > most:
            raise ValueError(f"a number of {found}, where {most} is the most there can be")
        return found

    def signed(self, value: int | None = None) -> int:
        """Write or read a number of either sign, kept as 0, -1, 1, -2, ..."""
        if value is not None:
            self.number(2 * value if value >= 0 else -2 * value - 1)
            return value
        found = self.number()
        return -(found + 1) // 2 if found & 1 else found // 2

    def piece(self, size: int) -> bytes:
        """Read so many bytes."""
        found = bytes(self.content[self._at : self._at + size])
        if len(found) != size:
            raise ValueError("it ends too early")
        self._at += size
        return found

    def add(self, piece: bytes) -> None:
        """Write bytes."""
        self.content += piece

    def rest(self) -> bytes:
        """Read all bytes that are left."""
        return self.piece(len(self.content) - self._at)
