"""A file of recipients and a template: what is read from them, and what is wrong with them, in a sentence."""

import json
from pathlib import Path

import pytest

from receiver.cli.body_template import BodyTemplate
from receiver.cli.chunks import Chunk, Reading
from receiver.cli.rows import RowFile
from receiver.errors import ReceiverError

SMS = {"deliverychannel": "sms", "channels": {"sms": {"text": "Hello {name}"}}}


def made(folder: Path, text: str | bytes, name: str = "messages.csv") -> Path:
    file = folder / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def template(folder: Path, body: object = SMS) -> BodyTemplate:
    return BodyTemplate(made(folder, json.dumps(body), "body.json"))


def chunks_of(file: Path, body: BodyTemplate, id_type: str | None = None, separator: str = ",") -> list[Chunk]:
    rows = RowFile(file, separator)
    return list(Reading(rows.columns, body, id_type).chunks(rows.rows()))


def only_fields(file: Path, separator: str = ",") -> list[dict[str, str]]:
    return [dict(row.fields) for row in RowFile(file, separator).rows() if row.fault is None]


def test_a_field_may_hold_separators_quotes_and_line_breaks_and_a_mark_in_front_is_no_part_of_a_name(
    tmp_path: Path,
) -> None:
    file = made(tmp_path, '\ufeffmsisdn, name \r\n1,"O""Neil, Ann\r\nSmith"\r\n\r\n2,Bö\r\n')
    assert only_fields(file) == [{"msisdn": "1", "name": 'O"Neil, Ann\r\nSmith'}, {"msisdn": "2", "name": "Bö"}]


def test_json_lines_hold_texts_and_numbers_as_they_were_written(tmp_path: Path) -> None:
    lines = '{"msisdn": 447700900001, "name": null, "sum": 12.50}\n\n{"msisdn": "2", "name": true, "sum": 1e3}'
    assert only_fields(made(tmp_path, lines, "m.jsonl")) == [
        {"msisdn": "447700900001", "name": "", "sum": "12.50"},
        {"msisdn": "2", "name": "true", "sum": "1e3"},
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no header"),
        ("\n1,2\n", "has no header"),
        ("msisdn,,name\n", "column 2 of the header has no name"),
        ("msisdn,name,name\n", "names 'name' twice"),
        ("msisdn;name\n1;Ann\n", "separated by semicolons: give --separator ';'"),
        ("msisdn\tname\n1\tAnn\n", "separated by tabs: give --separator tab"),
        (b"msisdn,name\n1,B\xf6\n", "is not UTF-8"),
        ("msisdn,name\n1,Ann\n".encode("utf-16"), "is not UTF-8"),
        ('msisdn,name\n1,Ann\n2,"open\n3,Eve\n', "row 2 .* can't be read: .*quote"),
        ('msisdn,name\n1,"a"b\n', "row 1 .* can't be read"),
        ("number,name\n1,Ann\n", "no column names the recipient"),
        ("email,msisdn,name\na@b,1,Ann\n", "email and msisdn may both be the recipient: say which with --id-type"),
        ("msisdn,first\n1,Ann\n", r"names \{name\}: the file has only msisdn, first"),
    ],
)
def test_a_file_that_can_not_be_sent_is_told_in_one_sentence(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(ReceiverError, match=says) as caught:
        chunks_of(made(tmp_path, text), template(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_quote_that_is_never_closed_does_not_read_the_whole_file_into_memory(tmp_path: Path) -> None:
    text = 'msisdn,name\n1,"open\n' + "2,Eve\n" * 100_000
    with pytest.raises(ReceiverError, match=r"row 1 .*field larger"):
        chunks_of(made(tmp_path, text), template(tmp_path))


def test_other_separators_can_be_told(tmp_path: Path) -> None:
    for separator, told in ((";", ";"), ("\t", "tab")):
        file = made(tmp_path, f"msisdn{separator}name\n1{separator}Ann, Eve\n")
        assert only_fields(file, told) == [{"msisdn": "1", "name": "Ann, Eve"}]
    with pytest.raises(ReceiverError, match="--separator"):
        RowFile(file, ";;")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1", "the row has 1 fields, the header 3"),
        ("1,Ann,x,y", "the row has 4 fields, the header 3"),
        (" ,Ann,x", "msisdn is empty"),
        (f"1,Ann,{'ö' * 26}", "the correlationid has 52 bytes, 50 at most"),
    ],
)
def test_a_bad_row_is_set_aside_with_its_number_and_the_others_are_kept(tmp_path: Path, row: str, reason: str) -> None:
    file = made(tmp_path, f"msisdn,name,correlationid\n1,Ann,a\n{row}\n2,Eve,b\n")
    [chunk] = chunks_of(file, template(tmp_path))
    assert [(rejected.number, why) for rejected, why in chunk.rejected] == [(2, reason)]
    assert [entry.row.number for call in chunk.calls for entry in call.entries] == [1, 3]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("nonsense", "no JSON"),
        ("[1]", "no JSON object"),
        ('{"msisdn": ["1"], "name": "x"}', "msisdn is an object or a list"),
        ('{"msisdn": "1"}', "the row has no name"),
        ('{"msisdn": "1", "name": "\\ud800"}', "surrogate"),
    ],
)
def test_a_bad_line_of_json_is_set_aside_too(tmp_path: Path, line: str, reason: str) -> None:
    file = made(tmp_path, f'{{"msisdn": "1", "name": "Ann"}}\n{line}\n', "m.jsonl")
    [chunk] = chunks_of(file, template(tmp_path))
    [(row, why)] = chunk.rejected
    assert row.number == 2
    assert reason in why


@pytest.mark.parametrize(
    ("header", "id_type", "entry"),
    [
        ("msisdn,name", None, {"msisdn": ["a"]}),
        ("customerid,name", None, {"customerid": ["a"]}),
        ("destination,name", None, {"msisdn": ["a"]}),
        ("destination,name", "email", {"email": ["a"]}),
        ("destination,name,email", None, {"msisdn": ["a"]}),
        ("email,name,msisdn", "email", {"email": ["a"]}),
    ],
)
def test_the_recipient_is_the_column_of_that_name(
    tmp_path: Path, header: str, id_type: str | None, entry: dict[str, list[str]]
) -> None:
    file = made(tmp_path, f"{header}\n{','.join('abc'[: header.count(',') + 1])}\n")
    [chunk] = chunks_of(file, template(tmp_path), id_type)
    assert chunk.calls[0].entries[0].destination == entry


def test_an_id_type_that_is_none_is_told(tmp_path: Path) -> None:
    file = made(tmp_path, "msisdn,name\n1,Ann\n")
    for id_type, says in (("phone", "it takes msisdn"), ("email", "needs a column email or destination")):
        with pytest.raises(ReceiverError, match=says):
            chunks_of(file, template(tmp_path), id_type)


def test_rows_that_fill_the_body_alike_share_a_call_whatever_their_correlationid(tmp_path: Path) -> None:
    body = template(tmp_path, {**SMS, "correlationid": "{order}-x"})
    file = made(tmp_path, "msisdn,name,order,correlationid\n1,Ann,7,\n2,Eve,8,own\n3,Ann,9,\n")
    rows = RowFile(file)
    reading = Reading(rows.columns, body, None)
    [chunk] = reading.chunks(rows.rows())
    assert [reading.body(call) for call in chunk.calls] == [
        {
            "deliverychannel": "sms",
            "channels": {"sms": {"text": "Hello Ann"}},
            "destination": [
                {"msisdn": ["1"], "correlationid": "7-x"},
                {"msisdn": ["3"], "correlationid": "9-x"},
            ],
        },
        {
            "deliverychannel": "sms",
            "channels": {"sms": {"text": "Hello Eve"}},
            "destination": [{"msisdn": ["2"], "correlationid": "own"}],
        },
    ]


def test_chunks_hold_a_thousand_rows_and_end_where_they_ended_before(tmp_path: Path) -> None:
    file = made(tmp_path, "msisdn,name\n" + "".join(f"{n},Ann\n" for n in range(2_500)))
    rows = RowFile(file)
    reading = Reading(rows.columns, template(tmp_path), None)
    assert [(c.first, c.last) for c in reading.chunks(rows.rows())] == [(1, 1000), (1001, 2000), (2001, 2500)]
    cut = reading.chunks(rows.rows(), {1: 400}.get)
    assert [(c.first, c.last) for c in cut] == [(1, 400), (401, 1400), (1401, 2400), (2401, 2500)]


def test_doubled_braces_are_braces_and_a_filled_text_is_never_filled_again(tmp_path: Path) -> None:
    body = template(tmp_path, {"a": ["{{x}} { n }{n}", {"b": 1, "c": "{{}}"}], "{{t}}": True})
    assert body.columns == ("n",)
    assert body.fill({"n": "{n}"}) == {"a": ["{x} {n}{n}", {"b": 1, "c": "{}"}], "{{t}}": True}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ([], "holds no JSON object"),
        ({"destination": []}, "take it out"),
        ({"text": "a { b"}, "a lone {"),
        ({"text": "a } b"}, "a lone }"),
        ({"text": "a {} b"}, "an empty placeholder"),
        ({"a {name}": "b"}, "only texts are filled in"),
    ],
)
def test_a_template_that_is_none_is_told_in_one_sentence(tmp_path: Path, body: object, says: str) -> None:
    with pytest.raises(ReceiverError, match=says):
        template(tmp_path, body)
    with pytest.raises(ReceiverError, match="is no JSON"):
        BodyTemplate(made(tmp_path, "{", "broken.json"))
    with pytest.raises(ReceiverError, match="can't be read"):
        BodyTemplate(tmp_path)
