"""A file of receipts falls into the same bodies however it is read; what is torn costs nothing beside it."""

import gzip
import json
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.receipts.export_file import NoExport, Splitter, form_of
from receiver.receipts.pieces import HEAD, Piece
from receiver.receipts.unpacking import CHUNK, Damaged, Unpacker

LARGEST = 4096


def begun(file: bytes, largest: int = LARGEST) -> Splitter:
    splitter = form_of(file[:HEAD], largest, whole=True)
    assert splitter is not None
    return splitter


def pieces(file: bytes, cuts: Sequence[int] = (), largest: int = LARGEST) -> list[Piece]:
    """What a file falls into that comes in chunks, cut at `cuts`."""
    splitter = begun(file, largest)
    places = sorted({0, len(file), *(cut % (len(file) + 1) for cut in cuts)})
    found = [piece for start, end in pairwise(places) for piece in splitter.feed(file[start:end])]
    return [*found, *splitter.end()]


def bodies(file: bytes, cuts: Sequence[int] = (), largest: int = LARGEST) -> list[Any]:
    """The values of the whole bodies in a file."""
    return [json.loads(piece.body) for piece in pieces(file, cuts, largest) if piece.fault is None]


texts = st.one_of(st.text(max_size=12), st.sampled_from(['{"', '"}', "],[", '\\"', "\\", "{\n{", ",", '","transid":"']))
infos = st.dictionaries(st.sampled_from(["code", "deliveryStatus", "Description", "é"]), texts, max_size=3)
notifications = st.builds(
    lambda info, more: {"deliveryInfoNotification": {"deliveryInfo": info, "list": more, "transid": "t"}},
    infos,
    st.lists(st.one_of(texts, infos, st.integers(), st.none()), max_size=3),
)
exported = st.builds(lambda body, status: {"df_payload": body, "df_status": status}, notifications, texts)
values = st.lists(st.one_of(notifications, exported), min_size=1, max_size=6)
cuts = st.lists(st.integers(0, 4000), max_size=12)


def array(told: list[Any], indent: int | None) -> bytes:
    return json.dumps(told, indent=indent).encode()


def lines(told: list[Any], indent: int | None) -> bytes:
    return b"\r\n".join(json.dumps(value, indent=indent, ensure_ascii=False).encode() for value in told)


def one_behind_the_other(told: list[Any], indent: int | None) -> bytes:
    return b"\xef\xbb\xbf " + b"".join(json.dumps(value, indent=indent).encode() for value in told)


def lists_in_lines(told: list[Any], indent: int | None) -> bytes:
    return b"\n".join(json.dumps([value]).encode() for value in told) + b"\n\n"


@pytest.mark.parametrize("form", [array, lines, one_behind_the_other, lists_in_lines])
@given(told=values, indent=st.sampled_from([None, 1, 2]), cuts=cuts)
def test_every_form_of_json_falls_into_its_bodies_wherever_the_chunks_end(
    form: Any, told: list[Any], indent: int | None, cuts: list[int]
) -> None:
    file = form(told, indent)
    assert bodies(file, cuts) == told
    whole = pieces(file)
    assert pieces(file, cuts) == whole
    assert [file[piece.end - len(piece.body) : piece.end] for piece in whole] == [piece.body for piece in whole]


@pytest.mark.parametrize("form", [array, lines, one_behind_the_other, lists_in_lines])
@given(told=values, after=st.integers(0, 5), cuts=cuts)
def test_it_goes_on_behind_any_body_and_finds_the_rest(form: Any, told: list[Any], after: int, cuts: list[int]) -> None:
    file = form(told, None)
    whole = pieces(file)
    position = whole[min(after, len(whole) - 1)].end
    splitter = begun(file)
    splitter.go_on_at(position)
    places = sorted({position, len(file), *(cut for cut in cuts if position < cut < len(file))})
    rest = [piece for start, end in pairwise(places) for piece in splitter.feed(file[start:end])]
    assert [*rest, *splitter.end()] == [piece for piece in whole if piece.end > position]


@given(told=values, cut=st.integers(1, 4000), cuts=cuts, form=st.sampled_from([array, lines]))
def test_of_a_file_that_was_cut_off_all_whole_bodies_are_taken_and_the_rest_is_told(
    told: list[Any], cut: int, cuts: list[int], form: Any
) -> None:
    file = form(told, None)
    file = file[: cut % len(file) or 1]
    found = pieces(file, cuts)
    taken = [json.loads(piece.body) for piece in found if piece.fault is None]
    assert taken == told[: len(taken)]
    torn = [piece for piece in found if piece.fault is not None]
    assert len(torn) <= 1
    if torn:
        assert [piece.fault.reason for piece in torn if piece.fault] == ["cut_off"]
        assert file.rstrip().endswith(torn[0].body)


ONE, TWO, THREE = ({"deliveryInfoNotification": {"transid": t, "deliveryInfo": {"code": "1"}}} for t in "abc")
LINE = json.dumps(TWO).encode()


@pytest.mark.parametrize("length", range(1, len(LINE)))
def test_a_torn_line_costs_itself_alone(length: int) -> None:
    file = b"\n".join([json.dumps(ONE).encode(), LINE[:length], json.dumps(THREE).encode(), json.dumps(ONE).encode()])
    found = pieces(file)
    assert file.count(b"\n") == 3
    kept = [piece for piece in found if piece.fault is None]
    lost = [piece for piece in found if piece.fault is not None]
    assert json.loads(kept[0].body) == json.loads(kept[-1].body) == ONE
    if LINE[:length].rstrip()[-1:] in b"{[,:":  # then the next line could belong to it: both are kept together
        assert LINE[:length].rstrip() in b"".join(piece.body for piece in lost)
    else:
        assert [json.loads(piece.body) for piece in kept] == [ONE, THREE, ONE]
        assert [piece.body for piece in lost] == [LINE[:length].rstrip()]


@pytest.mark.parametrize(
    "garbage", [b"hello", b"}", b"12", b"<html>", b'{"a": "b', b'{"a": ]', b'{"a": {"b": 1}', b'"']
)
def test_garbage_in_an_array_costs_itself_alone(garbage: bytes) -> None:
    file = b"[" + json.dumps(ONE).encode() + b"," + garbage + b"," + json.dumps(TWO).encode() + b","
    file += json.dumps(THREE).encode() + b"]"
    for cuts in ([0], range(len(file))):
        kept = []
        for piece in pieces(file, cuts):
            try:
                kept.append(json.loads(piece.body))
            except ValueError:
                assert garbage in piece.body
        assert [value for value in kept if isinstance(value, dict)] == [ONE, TWO, THREE]


@pytest.mark.parametrize("form", [array, lines])
def test_a_body_over_the_limit_keeps_its_head_and_the_next_one_is_found(form: Any) -> None:
    huge = {"deliveryInfoNotification": {"transid": "huge", "deliveryInfo": {"Description": "x" * 3 * HEAD}}}
    file = form([ONE, huge, TWO], None)
    for cuts in ([], list(range(0, len(file), 1000))):
        found = pieces(file, cuts, HEAD)
        assert [piece.fault and piece.fault.reason for piece in found] == [None, "too_large", None]
        assert found[1].body == json.dumps(huge).encode()[:HEAD]
        assert found[1].fault is not None
        assert f"{len(json.dumps(huge))} bytes" in (found[1].fault.detail or "")
        assert json.loads(found[2].body) == TWO


def test_a_body_over_the_limit_that_never_ends_is_not_held() -> None:
    splitter = begun(b'{"a": "')
    for _ in range(200):
        assert not list(splitter.feed(b"x" * HEAD))
        assert len(vars(splitter)["_buffer"]) < 2 * HEAD
    [piece] = splitter.end()
    assert len(piece.body) <= HEAD
    assert [piece.fault and piece.fault.reason] == ["too_large"]


def test_who_goes_on_in_lines_that_end_with_commas_takes_them_for_no_array() -> None:
    one, three = json.dumps(ONE).encode(), json.dumps(THREE).encode()
    file = one + b",\n" + LINE[:40] + b"\n" + three + b",\n"
    first = pieces(file)[0].end
    splitter = begun(file)
    splitter.go_on_at(first)
    rest = [*splitter.feed(file[first:]), *splitter.end()]
    assert [piece.body for piece in rest] == [piece.body for piece in pieces(file)[1:]]
    assert three in [piece.body for piece in rest]


def test_lines_that_begin_within_a_body_are_found_after_it() -> None:
    file = b'Info": {"code": "1"}}}\n' + json.dumps(ONE).encode() + b"\n" + json.dumps(TWO).encode()
    found = pieces(file)
    assert [piece.body for piece in found] == file.split(b"\n")


# CSV

fields = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r"), max_size=12)


def csv_of(rows: list[list[str]], delimiter: str, *, always: bool) -> bytes:
    def spelled(field: str) -> str:
        quoted = always or any(sign in field for sign in f'"\n{delimiter}')
        return '"' + field.replace('"', '""') + '"' if quoted else field

    return "\r\n".join(delimiter.join(map(spelled, row)) for row in rows).encode() + b"\r\n"


@given(
    rows=st.lists(st.tuples(st.from_regex("[a-z0-9]{1,8}", fullmatch=True), fields, fields), max_size=5),
    delimiter=st.sampled_from([",", ";", "\t"]),
    always=st.booleans(),
    cuts=cuts,
)
def test_csv_falls_into_bodies_of_the_platform(
    rows: list[tuple[str, str, str]], delimiter: str, always: bool, cuts: list[int]
) -> None:
    header = ["transid", "Description", "DELIVERYSTATUS"]
    file = csv_of([header, *map(list, rows)], delimiter, always=always)
    told = [
        {"deliveryInfoNotification": {"deliveryInfo": {"Description": text, "deliveryStatus": status}, "transid": t}}
        for t, text, status in rows
    ]
    assert bodies(file, cuts) == told
    assert pieces(file, cuts) == pieces(file)
    if rows:
        first = pieces(file)[0].end
        splitter = begun(file)
        splitter.go_on_at(first)
        assert [*splitter.feed(file[first:]), *splitter.end()] == pieces(file)[1:]


def faults(file: bytes) -> list[str | None]:
    return [piece.fault.reason if piece.fault else None for piece in pieces(file)]


def test_a_row_that_does_not_fit_and_an_open_quote_cost_themselves_alone() -> None:
    assert faults(b"transid,code\na,1\nb\nc,1,2\n\nd,1\n") == [None, "bad_row", "bad_row", None]
    assert faults(b'transid,code\na,1\nb,"2\nc,3\nd,4\n') == [None, "cut_off", None, None]


def test_a_file_of_open_quotes_is_read_line_by_line_in_the_end() -> None:
    """Each row's quote is open up to the end of the file: to look for the end of each takes a time that is squared."""
    rows = b'",a"b,"\n' * 40_000
    began = time.process_time()
    found = pieces(b"transid,code,c\n" + rows + b"good,1,2\n", largest=1024 * 1024)
    assert len(found) == 40_001
    assert json.loads(found[-1].body)["deliveryInfoNotification"]["transid"] == "good"
    assert time.process_time() - began < 15  # it was more than 100


def test_other_columns_are_told_but_those_of_the_export_are_not() -> None:
    file = "\ufeffTransaction ID;identityKeyHash;df_status;\nt-1;abc;2;\n".encode()
    assert bodies(file) == [
        {"deliveryInfoNotification": {"deliveryInfo": {"identityKeyHash": "abc", "transactionid": "t-1"}}}
    ]


@pytest.mark.parametrize(
    "file", [b"a,b,c\n1,2,3\n", b"hello", b"<html><body>\n</body>", b"\x89PNG\r\n\x1a\n", b"PK\3\4"]
)
def test_what_is_none_of_the_forms_is_refused(file: bytes) -> None:
    with pytest.raises(NoExport):
        form_of(file, LARGEST, whole=True)


@pytest.mark.parametrize("file", [b"", b" \n", b"[]", b"[\n]\n", b"\xef\xbb\xbf"])
def test_an_empty_export_holds_nothing(file: bytes) -> None:
    assert pieces(file) == []


# Packed files


def unpacked(file: bytes, size: int) -> Iterator[bytes]:
    unpacker = Unpacker()
    for start in range(0, len(file), size):
        yield from unpacker.feed(file[start : start + size])
    yield from unpacker.end()


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_gzip_and_utf_16_are_undone(size: int) -> None:
    text = json.dumps([ONE, TWO, {"é": "ü😀"}], ensure_ascii=False)
    half = len(text.encode()) // 2
    members = gzip.compress(text.encode()[:half]) + gzip.compress(text.encode()[half:]) + b"\0\0\0"
    for packed in (gzip.compress(text.encode()), members, text.encode("utf-16"), text.encode()):
        assert b"".join(unpacked(packed, size)).decode().removeprefix("\ufeff") == text


def test_a_little_gzip_of_much_is_never_held_whole() -> None:
    packed = gzip.compress(bytes(50_000_000))
    assert max(len(part) for part in unpacked(packed, len(packed))) <= CHUNK


def test_a_gzip_that_is_not_whole_is_told() -> None:
    packed = gzip.compress(json.dumps([ONE] * 1000).encode())
    with pytest.raises(Damaged):
        list(unpacked(packed[:-20], 100))
    with pytest.raises(Damaged):
        list(unpacked(packed[:30] + b"damaged" + packed[37:], 100))
