"""Time stamps in all the spellings in which the platform tells them."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.platform.times import moment

EAST = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2016-07-20T17:13:17.908", "2016-07-20T15:13:17.908000+00:00"),
        ("2016-07-20T17:13:17", "2016-07-20T15:13:17+00:00"),
        ("2016-07-20 17:13:17", "2016-07-20T15:13:17+00:00"),
        ("2016-07-20", "2016-07-19T22:00:00+00:00"),
        ("2019-03-04T09:49:24.849Z", "2019-03-04T09:49:24.849000+00:00"),
        ("2023-02-07T03:51:52.322+05:30", "2023-02-06T22:21:52.322000+00:00"),
        ("2023-02-07T03:51:52.322+0530", "2023-02-06T22:21:52.322000+00:00"),
        ("2015-04-12T18:30:19.456+5:30", "2015-04-12T13:00:19.456000+00:00"),
        ("2015-04-12T18:30:19.456+530", "2015-04-12T13:00:19.456000+00:00"),
        ("2015-04-12T18:30:19-4:00", "2015-04-12T22:30:19+00:00"),
        ("2024-05-14T10:14:30.000-04:00", "2024-05-14T14:14:30+00:00"),
        ("2023-01-01T00:30:00+05:30", "2022-12-31T19:00:00+00:00"),
        ("2016-07-20T17:13:17.9", "2016-07-20T15:13:17.900000+00:00"),
        ("2016-07-20T17:13:17.908123456Z", "2016-07-20T17:13:17.908123+00:00"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00+00:00"),
        ("Mon, 16 Aug 2010 03:45:01 UTC", "2010-08-16T03:45:01+00:00"),
        ("Mon, 16 Aug 2010 03:45:01 +0200", "2010-08-16T01:45:01+00:00"),
        ("Mon, 16 Aug 2010 03:45:01", "2010-08-16T01:45:01+00:00"),
        ("Mon, 16 Aug 10 03:45:01 GMT", "2010-08-16T03:45:01+00:00"),
        ("2016-07-20T17:13:17 UTC", "2016-07-20T17:13:17+00:00"),
        ("2016-07-20 17:13:17 GMT", "2016-07-20T17:13:17+00:00"),
        ("2016-07-20 17:13:17 +0530", "2016-07-20T11:43:17+00:00"),
        ("2016-07-20 17:13:17.5 +5:30", "2016-07-20T11:43:17.500000+00:00"),
        ("2016-07-20T17:13:17-0:30", "2016-07-20T17:43:17+00:00"),
        ("20160720171317", "2016-07-20T15:13:17+00:00"),
        ("20160720T171317Z", "2016-07-20T17:13:17+00:00"),
        ("1469034797", "2016-07-20T17:13:17+00:00"),
        ("1469034797908", "2016-07-20T17:13:17.908000+00:00"),
        ("1990-01-01T00:00:00Z", "1990-01-01T00:00:00+00:00"),
        ("2099-12-31T23:59:59Z", "2099-12-31T23:59:59+00:00"),
    ],
)
def test_a_time_stamp_is_told_in_utc(text: str, utc: str) -> None:
    when = moment(text, EAST)
    assert when is not None
    assert when.isoformat() == utc


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "yesterday",
        "16-07-20T17:13:17",  # a year of two digits may be any of three numbers
        "20/07/2016 17:13:17",
        "2023-02-29T00:00:00Z",
        "2023-13-01T00:00:00Z",
        "2023-02-07T25:00:00Z",
        "2023-02-07T03:51:61Z",
        "2023-02-07T03:51:52+99:99",
        "2023-02-07T03:51:52Z and more",
        "2023-02-07T03:51:52+05:60",
        "2023-02-07T03:51:52+5:99",
        "2023-02-07T03:51:52+25:00",
        "2023-02-07T03:51:52 CET",
        "2016-07-20T17:13:17 UTC+1",
        "20160230171317",
        "201607201123456",
        "1469034797908123",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "1989-12-31T23:59:59Z",
        "2100-01-01T00:00:00Z",
        "Mon, 99 Aug 2010 03:45:01 UTC",
        "Mon, 16 Aug 9999 23:59:59 -1400",
        "0000000000",
        "9999999999999",
        "146903479",
        "²016-07-20",
        "٢٠١٦-٠٧-٢٠",
        "T17:13:17",
        "-1469034797",
        "nan",
        "2016-07-20T17:13:17.908" + "0" * 60,
        "1" * 1_000_000,
    ],
    ids=lambda text: text[:24],
)
def test_what_is_no_time_or_out_of_all_bounds_is_none(text: str) -> None:
    assert moment(text, UTC) is None


def test_a_bare_time_stamp_follows_the_summer_of_its_zone() -> None:
    london = ZoneInfo("Europe/London")
    summer, winter = moment("2016-07-20T12:00:00", london), moment("2016-01-20T12:00:00", london)
    assert summer is not None
    assert winter is not None
    assert (summer.hour, winter.hour) == (11, 12)


def test_an_hour_that_the_zone_skips_is_still_a_time() -> None:
    assert moment("2016-03-27T01:30:00", ZoneInfo("Europe/London")) is not None


@given(st.text(st.sampled_from("0123456789-+:.TZ, MonAugUTC()/é²"), max_size=70))
@settings(max_examples=500, deadline=None)
def test_reading_a_time_never_raises(text: str) -> None:
    when = moment(text, EAST)
    assert when is None or when.tzinfo is UTC


@given(st.datetimes(datetime(1990, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC)))
@settings(deadline=None)
def test_a_time_that_we_write_is_read_as_it_was(when: datetime) -> None:
    assert moment(str(when), EAST) == when


@given(
    st.from_regex(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9]\.[0-9]{3}(Z|[+-][0-9]{2}:[0-9]{2})")
)
@settings(max_examples=500)
def test_a_stamp_of_today_is_read_as_one_with_a_blank_in_it(text: str) -> None:
    """The blank keeps it from the short way."""
    text = text.strip()
    assert moment(text, EAST) == moment(text.replace("T", " "), EAST)
