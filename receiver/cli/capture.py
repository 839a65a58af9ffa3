"""`receiver capture`: a real sequence of receipts without anybody's name, for support and for tests."""

from pathlib import Path
from typing import Annotated

import typer

from receiver.capture.capturing import capture_of
from receiver.capture.stored import MOST_MESSAGES, Rows, load
from receiver.cli.of_tenant import Opened, for_tenant
from receiver.errors import ReceiverError
from receiver.sandbox.capture import written

STATEMENT_MILLISECONDS = 60_000


def capture(
    message: Annotated[str, typer.Argument(help="A message's id, or the platform's transid.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file in place of standard output.")] = None,
    tenant: Annotated[str, typer.Option("--tenant", help="The tenant whose message it is.")] = "default",
) -> None:
    """Write what was told of a message as a scenario that names nobody: for a bug report, a test, the sandbox.

    Numbers, addresses and ids are replaced, in texts as well. Look before you send it: a name that nobody has told the
    receiver stays where it stands in a text of the platform.
    """

    async def work(opened: Opened) -> tuple[Rows, Rows]:
        return await load(opened.connection, opened.tenant, message)

    messages, receipts = for_tenant(tenant, "capture", work, statement_milliseconds=STATEMENT_MILLISECONDS)
    if not messages:
        raise ReceiverError("there is no message of that id or transid")
    if len(messages) >= MOST_MESSAGES:
        raise ReceiverError(f"that names {MOST_MESSAGES} messages or more: give the id of one")
    if not receipts:
        raise ReceiverError("nothing has been told of that message yet")
    found = capture_of(messages, receipts)
    text = written(found)
    if out is None:
        typer.echo(text.decode(), nl=False)
    else:
        try:
            out.write_bytes(text)
        except OSError as error:
            raise ReceiverError(f"{out} can't be written: {error.strerror}") from None
    told = sum(bool(step.body) for step in found.steps)
    made_anew = sum(step.rebuilt for step in found.steps)
    typer.echo(
        f"{told} receipts of {len(messages)} messages, {made_anew} of them rebuilt; look before you send it: "
        "a name that the receiver does not know is not hidden",
        err=True,
    )
