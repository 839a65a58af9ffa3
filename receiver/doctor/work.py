"""What is under way in the database: who does the background duties, what waits, what is held up, what was not read."""

from collections.abc import Sequence
from datetime import timedelta

from receiver.doctor.check import Installation, Verdict, failure, ok, warning
from receiver.receipts import quarantine_bounds

# A duty that nobody has had for a week was given up by the operator: with a setting, or with a version.
DUTIES = """
select name, place, until > now() as held, until > now() - interval '7 days' as lately from duty order by name
"""
STOPPED = """
select t.name as tenant, l.family, l.stopped_code, extract(epoch from now() - l.stopped_at)::bigint as seconds,
       (select coalesce(sum(o.message_count), 0) from outbox o
         where (o.tenant, o.family) = (l.tenant, l.family)) as waiting
  from lane l join tenant t on t.id = l.tenant where l.stopped_at is not null order by 1, 2
"""
# What waits behind a stopped lane is told there. What a dead process had in hand waits, too.
WAITING = """
select t.name as tenant, sum(o.message_count) as messages, extract(epoch from now() - min(o.due_at))::bigint as seconds
  from outbox o join tenant t on t.id = o.tenant
  left join lane l on (l.tenant, l.family) = (o.tenant, o.family)
 where o.due_at < now() - $1::interval and l.stopped_at is null
   and (o.lease_until is null or o.lease_until < now() - interval '1 minute')
 group by 1 order by 1
"""
QUEUED = "select coalesce(sum(message_count), 0)::bigint from outbox"
UNREAD = """
select t.name as tenant, q.reason, count(*) as bodies
  from quarantine q join tenant t on t.id = q.tenant
 where q.last_at > now() - interval '1 day' and q.replay_result is distinct from 'applied'
 group by 1, 2 order by 1, 2
"""
PROBES = """
select count(result) as judged, count(result) filter (where result <> 'arrived') as failed,
       (array_agg(result order by posted_at desc) filter (where result is not null))[1] as last,
       extract(epoch from now() - max(posted_at) filter (where result is not null))::bigint as seconds
  from probe where posted_at > now() - interval '1 day'
"""

FAMILIES = {1: "the platform", 2: "Webex Campaign"}
OLD_MINUTES = 15
NEARLY_FULL = 0.8
MISSING_PROBES = 5  # rounds without a judged probe: one may be lost with the process that made it


async def duties(installation: Installation) -> Sequence[Verdict]:
    """Whether a living process does each background duty."""
    async with installation.connection() as connection:
        rows = await connection.fetch(DUTIES)
    held = [row["name"] for row in rows if row["held"]]
    lost = [row["name"] for row in rows if row["lately"] and not row["held"]]
    cure = "Start `receiver serve` with the role upkeep (all roles, by default), and see duty_taken in its log."
    if not held:
        return [warning("no process does the background duties: partitions run out, nothing is dropped", cure)]
    if lost:
        return [warning(f"nobody does: {', '.join(lost)}; it may be in between two processes", cure)]
    places = sorted({row["place"] for row in rows if row["held"]})
    return [ok(f"{', '.join(held)}: done by {', '.join(places)}")]


async def lanes(installation: Installation) -> Sequence[Verdict]:
    """Whether a tenant's messages wait because its credentials were refused."""
    async with installation.connection() as connection:
        rows = await connection.fetch(STOPPED)
    return [
        failure(
            f"{FAMILIES.get(row['family'], row['family'])} has refused the credentials for {_long(row['seconds'])}"
            f" (code {row['stopped_code'] or 'none'}); {row['waiting']} messages wait",
            "Correct the key, or activate the service on the platform; one message a minute tries by itself.",
            row["tenant"],
        )
        for row in rows
    ] or [ok("no tenant's way out is stopped")]


async def outbox(installation: Installation) -> Sequence[Verdict]:
    """Whether messages have waited to be sent for long."""
    async with installation.connection() as connection:
        rows = await connection.fetch(WAITING, timedelta(minutes=OLD_MINUTES))
        queued = await connection.fetchval(QUEUED)
    cure = "Start a process with the role dispatch, or see its /readyz: a rate may be too low, or the platform away."
    return [
        warning(f"{row['messages']} messages wait, the oldest for {_long(row['seconds'])}", cure, row["tenant"])
        for row in rows
    ] or [ok(f"{queued} messages wait, none of them for over {OLD_MINUTES} minutes")]


async def quarantine(installation: Installation) -> Sequence[Verdict]:
    """Whether receipts come in that can't be read, and whether the quarantine has room."""
    async with installation.connection() as connection:
        measured = await quarantine_bounds.measure(connection)
        rows = await connection.fetch(UNREAD)
    found = [
        warning(
            f"{row['bodies']} bodies came in within a day that were not understood ({row['reason']})",
            f"`receiver quarantine list --reason {row['reason']}`; docs/quarantine.md says what to do about each.",
            row["tenant"],
        )
        for row in rows
    ]
    size, most = sum(size for _, size in measured.values()), installation.chosen.quarantine_mb * 1024 * 1024
    if size > most * NEARLY_FULL:
        found.append(
            warning(
                f"it holds {size // 2**20} MB of {most // 2**20}: the oldest leave soon",
                "Replay what can be read by now, or raise RECEIVER_QUARANTINE_MB.",
            )
        )
    if not measured:
        return [ok("empty")]
    return found or [ok(f"{sum(bodies for bodies, _ in measured.values())} bodies, none of them of the last day")]


async def probes(installation: Installation) -> Sequence[Verdict]:
    """Whether the receiver's own probes of the public address arrive."""
    every = installation.chosen.probe_seconds
    if not every:
        return [ok("off: RECEIVER_PROBE_SECONDS is 0")]
    async with installation.connection() as connection:
        row = await connection.fetchrow(PROBES)
    assert row is not None
    if not row["judged"] or row["seconds"] > MISSING_PROBES * every + 60:
        when = f"for {_long(row['seconds'])}" if row["judged"] else "within a day"
        cure = "Start `receiver serve` with the role upkeep and RECEIVER_PROBE_SECONDS, and see duty_taken in its log."
        return [warning(f"no probe was made {when}", cure)]
    if row["last"] != "arrived":
        cure = "docs/probe.md says what each result means; probe_failed in the log has the reason."
        return [failure(f"the last probe did not arrive ({row['last']})", cure)]
    ago = _long(row["seconds"])
    return [ok(f"the last one arrived, {ago} ago; of {row['judged']} within a day {row['failed']} did not")]


def _long(seconds: int) -> str:
    """A time in words."""
    for size, word in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size} {word}"
    return f"{seconds} s"
