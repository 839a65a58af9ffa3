"""The dashboard Find a message: by any name that somebody has of it, and then all that was told of it."""

from grafana_foundation_sdk.builders import dashboard, table
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

from grafana import parts, postgres
from grafana.panels import linked, measured, tabled
from grafana.postgres import FROM, TENANTS, TO, given

# A box for each name, and what the platform calls it.
NAMES = {
    "destination": ("Destination", "A phone number in any spelling, an e-mail address, a customer's id"),
    "correlationid": ("correlationid", "The client's own id, or ours as the platform's console shows it"),
    "transid": ("transid", "The platform's id"),
    "callback": ("callbackData", "What the client handed in, exactly"),
}
SHOWN = """m.created_at as "born", m.id::text as "id", m.tenant, m.channel, m.state, m.final,
       m.reason_class as "class", m.reason_code as "code", m.reason_description as "reason", m.destination, m.sender,
       m.correlationid, m.transid, m.callback_data as "callbackData", m.changed_at as "last changed" """.rstrip()

FOUND = f"""
select {SHOWN}
  from receiver_v1.find(
         p_destination => {given("destination")}, p_correlationid => {given("correlationid")},
         p_transid => {given("transid")}, p_callback_data => nullif(${{callback:sqlstring}}, ''),
         p_from => {FROM}, p_to => {TO}, p_tenants => {TENANTS}, p_most => 200) f
  join receiver_v1.messages m on m.id = f.id
 order by m.id desc
"""
ONE = f"""
select m.id::text as "id", m.tenant, m.origin, m.channel, m.state, m.final, m.conflict, m.reason_class as "class",
       m.reason_code as "code", m.reason_description as "reason", m.destination, m.country, m.carrier, m.sender,
       m.template, m.correlationid, m.transid, m.callback_data as "callbackData", m.created_at as "born",
       m.sent_at as "sent",
       m.accepted_at as "accepted", m.submitted_at as "submitted", m.delivered_at as "delivered", m.read_at as "read",
       m.failed_at as "failed", m.batch_id::text as "batch", m.parent_id::text as "event",
       m.resend_of::text as "resend of"
  from receiver_v1.messages m
 where m.id = receiver_v1.parse_id(${{message:sqlstring}}) and m.tenant = any({TENANTS})
"""
TIMELINE = f"""
select told.received_at as "we knew", told.told_at as "it happened",
       extract(epoch from told.received_at - told.told_at)::float8 as "late by", told.feed, told.what, told.state,
       told.reason_class as "class", told.code, told.description, told.channel, told.destination, told.carrier,
       told.device, told.subtid, told.message_count as "parts"
  from (
    select m.created_at as received_at, null::timestamptz as told_at, 'own' as feed,
           case m.origin when 'issued' then 'handed in' else 'first heard of' end as what, null as state,
           null as reason_class, null as code, null as description, m.channel, m.destination, null as carrier,
           null as device, null as subtid, null::integer as message_count
      from receiver_v1.messages m
     where m.id = receiver_v1.parse_id(${{message:sqlstring}}) and m.tenant = any({TENANTS})
    union all
    select r.received_at, r.told_at, r.feed, r.status, r.state, r.reason_class, r.code, r.description, r.channel,
           r.destination, r.carrier, r.device, r.subtid, r.message_count
      from receiver_v1.receipts r
     where r.message_id = receiver_v1.parse_id(${{message:sqlstring}}) and r.tenant = any({TENANTS})) told
 order by coalesce(told.told_at, told.received_at), told.received_at
 limit 1000
"""
FAILED = f"""
select {SHOWN}
  from receiver_v1.failed(
         p_code => case {given("code")} when 'other' then null when 'none' then '' else {given("code")} end,
         p_from => {FROM}, p_to => {TO}, p_tenants => {TENANTS}, p_most => 100) f
  join receiver_v1.messages m on m.id = f.id
 order by m.id desc
"""


def find() -> dashboard.Dashboard:
    """The dashboard: what bears the names, one message, its timeline, and the newest failures."""
    made = parts.frame(
        parts.FIND,
        "Receiver / Find a message",
        "A message by destination, correlationid, transid or callbackData, and all that was told of it.",
        figures=False,
        since="now-7d",
    ).refresh("")
    made.with_variable(parts.column("tenant", "Tenant", "select tenant from receiver_v1.tenants order by 1"))
    for name, (label, description) in NAMES.items():
        made.with_variable(_box(name, label, description))
    made.with_variable(_box("message", "Message id", "Our id: chosen by a click in a table, or typed"))
    made.with_variable(_box("code", "Failed with code", "Of the newest failures, only those; empty: all"))
    return made.with_panel(_found()).with_panel(_one()).with_panel(_timeline()).with_panel(_failed())


def _box(name: str, label: str, description: str) -> dashboard.TextBoxVariable:
    empty = model.VariableOption(text="", value="", selected=True)
    return dashboard.TextBoxVariable(name).label(label).description(description).default_value("").current(empty)


def _table(title: str, description: str, statement: str, high: int) -> table.Panel:
    panel = tabled(title, description, postgres.Query(statement), unit=units.String, source=postgres.SOURCE, high=high)
    if statement == TIMELINE:
        return panel
    kept = ("tenant", *NAMES, "code")
    show = parts.lead("Show all that was told of it", parts.FIND, "var-message=${__value.raw}", *kept)
    return linked(panel, "id", show)


def _found() -> table.Panel:
    return _table(
        "Which messages bear these names?",
        "The newest 200 that were born in the time range and bear all the names above; a box that is empty asks for "
        "nothing. None: widen the time range, then see whether the name is spelled as the client sent it. A "
        "destination is found as it was asked for and as any receipt told it. Click an id for its timeline below. "
        "It holds phone numbers: mind who looks.",
        FOUND,
        7,
    )


def _one() -> table.Panel:
    return _table(
        "What do we believe of this message?",
        "The message whose id is chosen, whenever it was born: its state is the fold of all receipts below. final: "
        "nothing more is expected. conflict: receipts contradict each other. class says who can mend a failure. Why "
        "each receipt counted or not: GET /v1/messages/{id}/explain. None: no id is chosen, it is another tenant's, "
        "or it is gone.",
        ONE,
        4,
    )


def _timeline() -> table.Panel:
    panel = _table(
        "What was told of this message, and when?",
        "All receipts, the platform's answer and our own words, in the order in which they happened. late by: from "
        "the platform's time to ours; minutes point at its queue, or at our door. feed: push and poll are the "
        "platform's, answer is its reply to the call, own is ours. Nothing after `accepted` for longer than usual: "
        "it is overdue.",
        TIMELINE,
        8,
    )
    return measured(panel, units.Seconds, "late by")


def _failed() -> table.Panel:
    return _table(
        "Which messages failed last?",
        "The newest 100 failures (some are normal) among the messages that were born in the time range, with the "
        "code that is chosen above. Other dashboards' codes lead here. reason is the platform's word. Take three of "
        "them to the platform's support, with their transids.",
        FAILED,
        9,
    ).links([parts.way("How many fail, and why?", parts.OVERVIEW)])
