"""The receipts door in the contract (/openapi.json)."""

from collections.abc import Sequence

from receiver.openapi import Operation, Parameter

TOKEN = Parameter("token", "The token of `receiver notify-url`, or of a submission's notifyurl.", "path")
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
        parameters=[TOKEN],
        body={"description": "deliveryInfoNotification, in any of its dialects"},
    ),
    Operation(
        "GET",
        "/notify/{token}",
        "test_notifyurl",
        "Test the address by hand.",
        {200: ("The token is good.", "text/plain"), 401: ("No token of ours.", "text/plain")},
        parameters=[TOKEN],
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
