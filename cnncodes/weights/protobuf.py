"""The wire format of Protocol Buffers, as far as reading weights needs it: fields, and arrays of numbers.

https://protobuf.dev/programming-guides/encoding. A message is a range of bytes; nothing is copied,
nesting is as deep as the caller goes, and every length is checked against what encloses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MOST_FIELDS = 100_000  # in one file; real ones have thousands, a file of tiny fields would take for ever


class WireError(ValueError):
    """Bytes that are no message; the text says why, in a few words."""


@dataclass
class Budget:
    """Fields that may still be read from a file."""

    left: int = MOST_FIELDS

    def spend(self) -> None:
        """Count a field; raises WireError when there were too many."""
        self.left -= 1
        if self.left < 0:
            raise WireError(f"it has more than {MOST_FIELDS:,} fields")


@dataclass(frozen=True)
class Message:
    """The bytes from ``start`` to ``end`` of a buffer."""

    buffer: memoryview
    start: int
    end: int
    budget: Budget = field(default_factory=Budget)

    def fields(self) -> Iterator[Field]:
        """The fields in order; raises WireError where the bytes end too early or make no sense."""
        place = self.start
        while place < self.end:
            self.budget.spend()
            began = place
            tag, place = self._varint(place)
            number, wire = tag >> 3, tag & 7
            value = 0
            if wire == VARINT:
                value, end = self._varint(place)
            elif wire == BYTES:
                length, place = self._varint(place)
                end = place + length
            elif wire in (FIXED32, FIXED64):
                end = place + (4 if wire == FIXED32 else 8)
            else:  # groups, which Caffe never had
                raise WireError(f"a field has type {wire} at byte {began}")
            if number == 0 or end > self.end:
                raise WireError(f"a field at byte {began} goes beyond its end, byte {self.end}")
            count = self._repeats(began, place, end) if wire in (FIXED32, FIXED64) else 1
            found = Field(number, wire, value, Message(self.buffer, place, end, self.budget), began, count)
            place = began + count * (end - began) if count > 1 else end
            yield found

    def _varint(self, place: int) -> tuple[int, int]:
        """A number of up to 64 bits, seven to a byte, and the place behind it."""
        value = 0
        for shift in range(0, 70, 7):
            if place >= self.end:
                break
            byte = self.buffer[place]
            place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & (2**64 - 1), place
        raise WireError(f"a number at byte {place} does not end")

    def _repeats(self, began: int, place: int, end: int) -> int:
        """How many fields of the same tag and size follow each other: unpacked numbers, millions maybe."""
        import numpy as np

        length, count, step = end - began, 1, 64
        tag = np.frombuffer(self.buffer[began:place], np.uint8)
        while rows := min(step, (self.end - began) // length - count):
            first = began + count * length
            block = np.frombuffer(self.buffer[first : first + rows * length], np.uint8).reshape(rows, length)
            same = (block[:, : len(tag)] == tag).all(axis=1)
            if not same.all():
                return count + int(same.argmin())
            count, step = count + rows, min(2 * step, 1 << 20)
        return count

    def text(self) -> str:
        """The bytes as UTF-8, what is not UTF-8 replaced, at most the first 200."""
        return bytes(self.buffer[self.start : min(self.end, self.start + 200)]).decode(errors="replace")

    def integers(self) -> list[int]:
        """Packed varints."""
        values, place = [], self.start
        while place < self.end:
            self.budget.spend()
            value, place = self._varint(place)
            values.append(value)
        return values


@dataclass(frozen=True)
class Field:
    """One field: its number, its wire type, and its value as an integer (VARINT) or as bytes (all others).

    ``count`` fields of fixed size that follow each other are one; ``content`` is then that of the first.
    """

    number: int
    wire: int
    value: int
    content: Message
    began: int
    count: int

    def integers(self) -> list[int]:
        """One integer, or packed ones."""
        if self.wire == VARINT:
            return [self.value]
        if self.wire != BYTES:
            raise WireError(f"field {self.number} at byte {self.began} is no integer")
        return self.content.integers()

    def message(self) -> Message:
        """The nested message, or text."""
        if self.wire != BYTES:
            raise WireError(f"field {self.number} at byte {self.began} is no message")
        return self.content

    def numbers(self, dtype: str) -> np.ndarray:
        """Floating point numbers of a numpy dtype such as ``<f4``, packed or each a field of its own."""
        import numpy as np

        size = np.dtype(dtype).itemsize
        start, end = self.content.start, self.content.end
        if self.wire == BYTES and (end - start) % size == 0:
            return np.frombuffer(self.content.buffer[start:end], dtype)
        if self.wire != (FIXED32 if size == 4 else FIXED64):
            raise WireError(f"field {self.number} at byte {self.began} holds no numbers of {size} bytes")
        length = end - self.began
        run = np.frombuffer(self.content.buffer[self.began : self.began + self.count * length], np.uint8)
        return np.ascontiguousarray(run.reshape(self.count, length)[:, -size:]).view(dtype).ravel()
