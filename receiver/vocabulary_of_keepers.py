"""What the fields of the keeper's answers mean, and those of the platform's own."""

from typing import Any

from receiver.openapi import ID, Word, words

COUNT: dict[str, Any] = {"minimum": 0}

OF_RECEIPTS = {
    "received": Word("All of them: the sum of the five below.", COUNT),
    "applied": Word("New, and joined to their messages.", COUNT),
    "duplicate": Word("Known already.", COUNT),
    "late": Word("Of a message whose week is gone: kept as an observed one.", COUNT),
    "quarantined": Word("Not readable: see the quarantine.", COUNT),
    "forged": Word("Claiming a message of another submission: see the quarantine.", COUNT),
}
OF_THE_QUARANTINE = {
    "quarantine": Word("The bodies, newest first."),
    "Quarantined.id": Word("Its id: the week, and a digest."),
    "ReplayResult.id": Word("The id of the body."),
    "Quarantined.reason": Word("Why it is there: docs/errors.md has every word."),
    "detail": Word("What exactly was wrong, where there is more to say."),
    "first_at": Word("When it came first."),
    "Quarantined.last_at": Word("When it came last."),
    "told": Word("How often it came, within a week.", COUNT),
    "size": Word("Its bytes.", COUNT),
    "submission_id": Word("The submission of the URL by which it came; null: the tenant's own URL.", ID),
    "headers": Word("Headers that came with it: none that can hold a secret."),
    "replayed_at": Word("When it was last replayed."),
    "replay_result": Word("What its last replay came to.", words("never", "not_applied", "partly", "applied")),
    "body": Word("What came; in a list cut short. Holds phone numbers."),
    "body_encoding": Word("How `body` is written: text, or base64 where it is not UTF-8.", words("text", "base64")),
    "body_is_cut": Word("Whether there is more of it."),
    "dry_run": Word("Whether nothing was written."),
    "believe": Word("Whether it was taken as if it had come in by the tenant's own URL."),
    "ReplayResult.result": Word(
        "Whether every receipt in it is in the books.", words("not_applied", "partly", "applied")
    ),
    "ReplayResult.receipts": Word("Each receipt in it."),
    "changes": Word("What changed."),
    "result": Word("What became of it: applied, duplicate, late, forged, refused, unreadable."),
    "message": Word("issued, observed, or new: an observed one that this replay makes."),
    "message_id": Word("The message's id.", ID),
    "matched_by": Word("How its message was found: correlationid, submission or key."),
    "state_before": Word("The state before; null: it had none."),
    "state_after": Word("The state after; null: it was merged into another."),
}
OF_THE_LEDGER = {
    "import_id": Word("The id of this import.", ID),
    "bytes": Word("Bytes, unpacked.", COUNT),
    "seconds": Word("Seconds that it took.", COUNT),
    "feeds": Word("What each feed brought."),
    "FeedFigures.groups": Word("Groups that were committed.", COUNT),
    "balanced": Word("Whether received is the sum of the others, in each feed."),
    "check": Word("The last independent check; null: there was none yet."),
    "CheckFigures.at": Word("When it was made."),
    "difference": Word("0: it balances. Above: receipts are missing. Below: receipts came in past the ledger."),
    "receipts": Word("Receipts that are there, or were dropped with their weeks.", COUNT),
    "counted": Word("What the ledger says there should be.", COUNT),
    "beside": Word("What is not in the ledger, of the process that answers."),
    "spool": Word("What waits on its disk; null: it has no spool."),
    "bodies": Word("Bodies that wait.", COUNT),
    "oldest_seconds": Word("For how long the oldest has waited.", COUNT),
    "refused_at_the_door": Word("What its receipts door refused."),
    "since": Word("When this process started."),
    "RefusedFigures.total": Word("All of them.", COUNT),
    "by_code": Word("By HTTP status."),
}
OF_THE_PLATFORM = {
    "transactionid": Word("The platform's id."),
    "api_version": Word("Always v1."),
    "type": Word("Always outbound-api."),
    "Status.from": Word("The sender."),
    "Status.to": Word("The recipient."),
    "Status.channel": Word("The channel in the platform's spelling."),
    "Status.status": Word(
        "queued, sent, delivered, failed, expired; of voice also answered, no answer, busy, rejected."
    ),
    "date_created": Word("Such as `Mon, 16 Aug 2010 03:45:01 UTC`."),
    "last_updated": Word("Such as `Mon, 16 Aug 2010 03:45:01 UTC`."),
    "error_code": Word("The platform's code; null: no failure."),
    "error_message": Word("What the platform said."),
    "ready": Word("Whether this process can make a receipt durable."),
    "warnings": Word("Whatever else is wrong, a sentence each."),
}

KEEPERS_WORDS = OF_RECEIPTS | OF_THE_QUARANTINE | OF_THE_LEDGER | OF_THE_PLATFORM
