"""The platform's doors that take what we send: their numbers are stored with each submission."""

from enum import IntEnum


class Api(IntEnum):
    """Which of the platform's doors a submission goes to. The numbers are stored: added to, never changed."""

    MESSAGING = 1
    MESSAGING_V2 = 2
    EVENTS = 3
    CAMPAIGN = 4

    @property
    def word(self) -> str:
        """The api as codes and metrics name it."""
        return self.name.lower()
