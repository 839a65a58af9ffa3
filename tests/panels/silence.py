"""What the day has no data for, each with its reason: all else must have some."""

from typing import Final

NO_CERTIFICATE = "the service of the test is reached without TLS"
NO_WEEK = "nothing has waited for 72 hours, and a day is all there is"

PANELS: Final[dict[str, str]] = {
    "delivery: How did the newest hour end that is mature? (D)": NO_WEEK,
    "intake: What was thrown away or set aside? (A)": "the quarantine holds one body, far below its bounds",
    "intake: How long is the public certificate still good? (A)": NO_CERTIFICATE,
    "sending: How many messages are in doubt, and how many were sent again? (B)": "it is not wanted: the default",
}
"""Queries of panels, where all is chosen."""

OF_ONE: Final[dict[str, str]] = {
    "sending: What does the platform answer when asked for a message? (A)": "its messages are too young for it",
}
"""Queries of panels, where the trial's tenant alone is chosen."""

TROUBLE: Final[dict[str, str]] = {
    "receiver_public_certificate_expiry_timestamp_seconds": NO_CERTIFICATE,
    'receiver_notify_responses_total{code="503"}': "the door could always make receipts durable",
    'receiver_notify_responses_total{retried="no",code!="200"}': "no answer of the door is such, by design",
    'receiver_notify_refusals_total{reason=~"header|signature_missing|signature_wrong"}': "nobody forged a receipt",
    'receiver_receipts_total{result="forged"}': "nobody forged a receipt",
    'receiver_polls_total{result=~"answered|unknown"}': "the platform of the test has no transaction status",
    'receiver_polls_total{result=~"refused"}': "the platform of the test has no transaction status",
    'receiver_forwards_total{result=~"given_up|refused|dropped"}': "the client took what went on to him",
}
"""Selectors of alerts."""

WOKEN: Final[dict[str, dict[str, str]]] = {
    "ReceiverRouteFailing critical": {"tenant": "shop", "channel": "sms", "country": "ES"},
    "ReceiverDeliveryFailuresHigh warning": {"tenant": "shop", "channel": "sms"},
    "ReceiverFailuresRising warning": {"tenant": "shop", "channel": "sms", "class": "temporary"},
}
"""Alerts that the bad hour calls, and of what; all others stay silent all day."""

NO_SERIES: Final[dict[str, str]] = {
    "receiver_resends_total": "it is not wanted: the default",
    "receiver_quarantine_trimmed_total": "the quarantine holds one body, far below its bounds",
    "ALERTS": "Prometheus writes it of its own rules",
    "up": "Prometheus writes it of its own scrapes",
}
"""Metrics that have no series in the scrape of a service that nothing befell, or are not its own."""
