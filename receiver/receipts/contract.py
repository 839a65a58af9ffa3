"""The receipts door in the contract (/openapi.json)."""

from collections.abc import Sequence

from receiver.openapi import Header, Operation, Parameter

TOKEN = Parameter(
    "token", "The token of `receiver notify-url`, or of a submission's notifyurl.", "path", {"type": "string"}
)
NOTIFICATION = {
    "deliveryInfoNotification": {
        "deliveryInfo": {
            "timeStamp": "2026-11-21T10:00:05Z",
            "Description": "Unknown subscriber",
            "code": "7203",
            "deliveryChannel": "SMS",
            "destination": "447700900321",
            "destinationType": "msisdn",
            "deliveryStatus": "Undelivered",
        },
        "subtid": "",
        "transid": "3f09295d-7c1e-4a52-9d0e-2f6c3b8a1d44",
        "callbackData": "",
        "correlationid": "invoice-12",
    }
}
NOT_OURS = "this address is not one of ours: ask for it with `receiver notify-url`\n"
RETRY = Header("Retry-After", "Seconds after which to tell it again.", {"type": "integer"})

OPERATIONS: Sequence[Operation] = (
    Operation(
        "POST",
        "/notify/{token}",
        "tell_receipts",
        "The platform's receipts. 200 only once they are durable, understood or not.",
        {
            200: ("Durable. Without a body.", None),
            401: ("No token of ours, or not the header or signature that the tenant asks for.", "text/plain"),
            413: ("Over the limit.", "text/plain"),
            503: ("Not durable: tell it again.", "text/plain"),
        },
        description="Takes any body; what holds no receipt is kept in the quarantine. Any method but HEAD, GET and"
        " OPTIONS is taken for POST, and any path below /notify for a token. What it answers is no problem document:"
        " the platform reads the status alone.",
        parameters=[TOKEN],
        body={"description": "deliveryInfoNotification, in any of its dialects."},
        body_example=NOTIFICATION,
        examples={401: NOT_OURS, 413: "the body is over the limit\n", 503: "not stored: tell it again\n"},
        headers={503: (RETRY,)},
    ),
    Operation(
        "GET",
        "/notify/{token}",
        "test_notifyurl",
        "Test the address by hand.",
        {200: ("The token is good.", "text/plain"), 401: ("No token of ours.", "text/plain")},
        parameters=[TOKEN],
        examples={200: "ready\n", 401: NOT_OURS},
    ),
    Operation(
        "HEAD",
        "/notify/{token}",
        "head_notifyurl",
        "How the platform tests the address.",
        {200: ("The token is good.", None), 401: ("No token of ours.", None)},
        parameters=[TOKEN],
    ),
)
