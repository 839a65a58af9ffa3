"""Which answers make the platform tell a receipt again: its documented list, in this one place.

It waits 10 seconds for an answer, tries three times more, about a minute apart, and then drops the receipt for ever.
"""

TAKEN = frozenset({200, 201})
# 202 to 208 and 226 too: whether they count as taken is not documented, so they are never to be answered.
GIVEN_UP_AT_ONCE = frozenset(
    {*range(202, 209), 226, *range(300, 400), 400, 402, *range(404, 412), 414, 415, 416, 418, 505}
)


def tells_again(status: int) -> bool:
    """Whether the platform tells a receipt again that was answered `status`."""
    return status not in TAKEN and status not in GIVEN_UP_AT_ONCE
