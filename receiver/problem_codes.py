"""Problems as clients read them: their shape, and what each stable code means (docs/errors.md has the same words)."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta


class ProblemField(msgspec.Struct, rename=None):
    """One broken field of a request."""

    pointer: Annotated[
        str, Meta(description="A JSON pointer into the body, or a parameter's name; empty: the whole.", examples=["to"])
    ]
    code: Annotated[
        str,
        Meta(
            description="What is wrong with it: a field code of docs/errors.md. Four digits are the platform's own.",
            examples=["bad_parameter", "7003"],
        ),
    ]
    detail: Annotated[str, Meta(description="What to do, for people.")]


class ProblemBody(msgspec.Struct):
    """RFC 9457: what every failure looks like. Build on `code`, which is stable, never on `title` or `detail`."""

    type: Annotated[str, Meta(description="Always about:blank: `code` tells what kind it is.")]
    status: Annotated[int, Meta(description="The HTTP status.", ge=400, le=599)]
    code: Annotated[str, Meta(description="What is wrong, stable and for programs.")]
    title: Annotated[str, Meta(description="The same for people. Its wording may change.")]
    errors: Annotated[list[ProblemField], Meta(description="Every broken field at once; empty where none is to blame.")]
    request_id: Annotated[str | None, Meta(description="The id under which the log has this request.")]
    state: Annotated[
        str | msgspec.UnsetType, Meta(description="Of `too_late` alone: the state in which the message is.")
    ] = msgspec.UNSET


MEANINGS = {
    "not_json": "The body is not JSON.",
    "body_cut_off": "The connection ended before the body was complete. Seldom read: the client is gone.",
    "not_an_export": (
        "The file at the import door is neither JSON nor CSV with a known header: nothing was taken. Or none of "
        "its first 1,024 bodies holds a receipt: then it is not read on, lest it fill the quarantine."
    ),
    "damaged_export": "The gzip ends too early or is damaged. What came before was taken.",
    "too_many_groups": "Statistics in more than 5,000 groups were asked for.",
    "bad_parameter": "A query parameter is wrong.",
    "bad_id": "The path holds no id.",
    "bad_event_id": (
        "The stream was to resume from what is no event's id, or one of another database: it may have been"
        " restored, or a standby took over."
    ),
    "bad_idempotency_key": "The `Idempotency-Key` is none.",
    "key_in_url": "An API key stands in the URL.",
    "unauthorized": "No API key, or not a good one: `title` says whether it is missing, unknown, expired or revoked.",
    "forbidden": "The key is good but has not the scope.",
    "quarantine_not_found": "No body of this tenant in quarantine has this id.",
    "not_found": "There is no such door.",
    "message_not_found": "No message of this tenant has this id.",
    "batch_not_found": "No batch of this tenant has this id, or it was dropped with its week.",
    "method_not_allowed": "The door does not take that method.",
    "already_recorded": "A transid of the answer is that of a message which was sent or recorded before.",
    "idempotency_conflict": "The `Idempotency-Key` came with another request within the last 24 hours.",
    "not_issued": "The message to be cancelled was not sent from here.",
    "too_late": "The message to be cancelled is being sent, or was. `state` in the answer is its present state.",
    "import_stalled": "Nothing of the file came for 30 seconds. What came before was taken.",
    "event_too_old": "The stream was to resume from an event that is older than 24 hours.",
    "import_too_large": "The file at the import door is over `RECEIVER_IMPORT_MB`. What came before was taken.",
    "body_too_large": "The body is over `RECEIVER_MAX_BODY`.",
    "unknown_encoding": "The `Content-Encoding` is not one that is undone.",
    "rule_broken": "The request was read and breaks a rule of the platform.",
    "tenant_cannot_send": "The tenant has no address or no credentials for what this door sends to.",
    "imports_under_way": "Two files are being imported by this process.",
    "rate_limited": "The API key called more often than it may.",
    "internal_error": "A fault of ours.",
    "too_many_streams": "`RECEIVER_STREAMS` streams are open at this process, or it is ending.",
    "too_many_waiters": "`RECEIVER_WAITERS` clients wait at this process already.",
    "batch_too_large": "The figures of the batch took longer than 5 seconds to add up.",
    "import_cut_short": "The receiver ends, or the database has been away for a minute. What came before was taken.",
    "exports_under_way": "As many exports as `RECEIVER_EXPORTS` are under way in this process.",
    "reads_under_way": "Too many costly searches at once: there was no place for this one within 3 seconds.",
    "statistics_too_long": "The figures took ten seconds to read and were stopped.",
    "search_too_long": "The search read for ten seconds and was stopped.",
    "database_away": "The database does not answer.",
}

# What is wrong with a field, where a problem names one.
_FIELDS = {
    "bad_parameter": ("limit", "bad_parameter", "it takes a number from 1 to 1000"),
    "bad_id": ("id", "bad_id", "a message's id looks like 0199c3f2-5a1b-7c3d-8e4f-0123456789ab"),
    "not_json": ("", "7000", "JSON is malformed: invalid character (byte 0)"),
    "rule_broken": ("/channels/sms/text", "7003", "it needs text, or a template"),
    "tenant_cannot_send": ("", "7007", "missing for this tenant: the key of the platform"),
    "bad_idempotency_key": ("Idempotency-Key", "bad_idempotency_key", "1 to 255 visible ASCII characters"),
    "already_recorded": ("/answer", "already_recorded", "this transid is known"),
}


def example_of(status: int, codes: Sequence[str]) -> dict[str, Any]:
    """A problem as it looks, of the last of its codes: the first are those that every door has."""
    code = codes[-1]
    fields = [dict(zip(("pointer", "code", "detail"), _FIELDS[code], strict=True))] if code in _FIELDS else []
    title = MEANINGS.get(code, code).split(". ")[0].rstrip(".") + "."
    return {
        "type": "about:blank",
        "status": status,
        "code": code,
        "title": title,
        "errors": fields,
        "request_id": "7ee39fffefd5486f",
    }
