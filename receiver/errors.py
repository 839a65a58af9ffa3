"""What goes wrong on purpose: errors that carry a sentence for the person who must act."""


class ReceiverError(Exception):
    """A failure that one sentence explains; the command line prints it without a traceback."""


class SettingsError(ReceiverError):
    """One or more settings are wrong: every one is named, a line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class DatabaseError(ReceiverError):
    """The database does not answer, or has not the schema that this version needs."""
