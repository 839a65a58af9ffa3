"""What holds of every reading, whatever the body: for hypothesis in `make test` and for atheris in `make fuzz`."""

from receiver.ids import MessageId, new_id
from receiver.messages.lattice import NEGATIVE, RANK, clash
from receiver.messages.told import Told
from receiver.receipts.body import utf8
from receiver.receipts.receipt import Reading, read
from tests.receipts.reading import source

FRESH = MessageId(new_id())
REASONS = frozenset(["empty", "xml", "not_json", "no_receipt", "nested_too_deeply", "too_many"])


def assert_storable(raw: bytes, reading: Reading) -> None:
    """What was read of a body can be stored, and nothing of it was lost without a word."""
    assert reading.receipts or reading.rejects
    for receipt in reading.receipts:
        assert_sound(receipt)
        assert_bounded(receipt, 16 * len(raw) + 64)
    for reject in reading.rejects:
        assert reject.reason in REASONS
        assert len(reject.digest) == 16
        assert "\0" not in (reject.detail or "")
        (reject.detail or "").encode()
        assert isinstance(reject.body, bytes)


def assert_sound(told: Told) -> None:
    for name, value in told._asdict().items():
        if isinstance(value, str):
            assert "\0" not in value, name
            value.encode()
    keys = (told.transid_key, told.leg_key, told.issued_leg_key, told.destination_key, told.fingerprint)
    optional = (told.code_key, told.correlation_key, told.callback_key)
    assert {len(key) for key in (*keys, *filter(None, optional))} == {16}
    assert told.rank is RANK[told.fact]
    assert told.clash == clash(told.channel, told.fact)
    negative = bool(told.fact & NEGATIVE)
    assert (told.reason_key is not None) is negative
    assert (told.reason_class is not None) is negative
    assert told.reason_key is None or len(told.reason_key) == 19
    pairs = (
        (told.code, told.code_key),
        (told.correlationid, told.correlation_key),
        (told.callback_data, told.callback_key),
    )
    assert all((text is None) == (key is None) for text, key in pairs)
    texts = (told.code, told.description, told.destination, told.subtid, told.device, told.carrier, told.transid)
    assert "" not in texts  # silence has one spelling
    assert told.raw


def assert_bounded(told: Told, most: int) -> None:
    """No text is longer than its body explains: nothing multiplies."""
    for name, value in told._asdict().items():
        if isinstance(value, str):
            assert len(value) <= most, name


def assert_steady(raw: bytes) -> None:
    """A second reading is the first one again, and a wrapper changes neither receipts nor fingerprints."""
    first, second = read(raw, source()), read(raw, source())
    assert second.rejects == first.rejects
    assert [_lasting(told) for told in second.receipts] == [_lasting(told) for told in first.receipts]
    if first.rejects:
        return
    wrapped = read(b'{"requestData":' + utf8(raw) + b"}", source())
    if not wrapped.rejects:  # a wrapper more may be one too many
        assert [_unwrapped(told) for told in wrapped.receipts] == [_unwrapped(told) for told in first.receipts]


def _lasting(told: Told) -> Told:
    return told._replace(fresh=FRESH)


def _unwrapped(told: Told) -> Told:
    return told._replace(fresh=FRESH, raw=b"")
