"""A circuit breaker for each host: one that is down is left alone, and takes no place from the others."""

from dataclasses import dataclass

MOST_FAILURES = 5  # in a row
FIRST_OPEN = 30.0  # seconds; doubled with each probe that fails
LONGEST_OPEN = 600.0
FORGOTTEN_AFTER = 3600.0  # seconds since it could have been probed, and nothing was there to probe with


@dataclass
class _Circuit:
    failures: int = 0
    under_way: int = 0
    opened_for: float = 0.0  # seconds; 0: closed
    probe_at: float = 0.0
    is_probed: bool = False
    ended_at: float = 0.0


class Breakers:
    """Knows how many calls each host may have now. Times are seconds of a monotonic clock."""

    def __init__(self, most_at_once: int) -> None:
        self._most = most_at_once
        self._circuits: dict[str, _Circuit] = {}

    def rooms(self, now: float) -> dict[str, int]:
        """How many more calls each host may have; those that are not named may have `most_at_once`."""
        return {host: self._room(circuit, now) for host, circuit in self._circuits.items()}

    def open_hosts(self) -> list[str]:
        """The hosts that are left alone."""
        return sorted(host for host, circuit in self._circuits.items() if circuit.opened_for)

    def begin(self, host: str) -> None:
        """A call to `host` begins."""
        circuit = self._circuits.setdefault(host, _Circuit())
        circuit.under_way += 1
        circuit.is_probed = circuit.opened_for > 0

    def end(self, host: str, now: float, *, failed: bool | None) -> bool:
        """A call ended; `failed` None: it proves nothing. Returns whether this opened the circuit."""
        circuit = self._circuits[host]
        circuit.under_way -= 1
        circuit.ended_at = now
        was_probe, circuit.is_probed = circuit.is_probed, False
        if failed is False:
            circuit.failures, circuit.opened_for = 0, 0.0
        elif failed:
            circuit.failures += 1
        opens = bool(failed) and circuit.failures >= MOST_FAILURES and (was_probe or not circuit.opened_for)
        if opens:
            circuit.opened_for = min(circuit.opened_for * 2 or FIRST_OPEN, LONGEST_OPEN)
            circuit.probe_at = now + circuit.opened_for
        if not (circuit.under_way or circuit.failures):
            del self._circuits[host]
        return opens and circuit.opened_for == FIRST_OPEN

    def forget(self, now: float) -> None:
        """Drops what is known of hosts that nothing goes to any more."""
        for host, circuit in list(self._circuits.items()):
            if not circuit.under_way and max(circuit.probe_at, circuit.ended_at) + FORGOTTEN_AFTER < now:
                del self._circuits[host]

    def _room(self, circuit: _Circuit, now: float) -> int:
        if not circuit.opened_for:
            return max(self._most - circuit.under_way, 0)
        return 1 if now >= circuit.probe_at and not circuit.under_way else 0
