"""One run at a time, in order of arrival, and how many wait before you. Knows nothing of models, traces or pages."""

from __future__ import annotations

from collections import deque
from threading import Condition
from types import TracebackType
from typing import Self


class Turns:
    """A queue of tickets; the one at its front may work. Not tied to threads: several may use one ticket."""

    def __init__(self) -> None:
        self._tickets: deque[Ticket] = deque()
        self._changed = Condition()

    def ticket(self) -> Ticket:
        ticket = Ticket(self._tickets, self._changed)
        with self._changed:
            self._tickets.append(ticket)
        return ticket

    def __len__(self) -> int:
        """Tickets held, the one at work included."""
        with self._changed:
            return len(self._tickets)


class Ticket:
    """A place in the queue. Leaving it, by `leave` or at the end of a `with`, lets the next one work."""

    def __init__(self, tickets: deque[Ticket], changed: Condition) -> None:
        self._tickets = tickets
        self._changed = changed

    def ahead(self) -> int:
        """How many tickets come first; 0 when it is this one's turn, or when it has left."""
        with self._changed:
            return self._tickets.index(self) if self in self._tickets else 0

    def wait(self, seconds: float) -> bool:
        """True as soon as it is this ticket's turn, False after `seconds`."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._tickets) and self._tickets[0] is self, seconds)

    def leave(self) -> None:
        with self._changed:
            if self in self._tickets:
                self._tickets.remove(self)
                self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
