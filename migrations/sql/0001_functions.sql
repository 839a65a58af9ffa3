-- The writers. Each is VOLATILE plpgsql under READ COMMITTED, so that every statement inside has a
-- snapshot of its own: lock first, apply in the NEXT statement. One statement that locks and updates
-- reads stale values and writes a wrong change log (docs/decisions/0002-lock-then-apply.md).
--
-- Lock order of every writer: key generation, transids, keys, messages by id (all in one statement), receipts, forwards,
-- changes.
-- A group takes each kind once, in order, so that no two of them wait for each other in a ring: a deadlock costs a
-- second to be noticed, and with six writers one of them once waited for more than six.
-- The names end in a version: an older service goes on with the older function while a newer one is rolled out.

-- One receipt, read and ready to be applied. Written by receiver/messages/told.py, field by field in this order.
create type told_v1 as (
    tenant            smallint,
    submission_id     uuid,       -- of the notifyurl it came in by; null: the tenant's own URL
    candidate         uuid,       -- our message id, if the correlationid can be one
    transid_key       bytea,
    leg_key           bytea,      -- (subtid, destination)
    issued_leg_key    bytea,      -- ('', destination): the leg under which an answer files a message
    fresh             uuid,       -- the id it gets if it turns out to be the first of an observed message
    fingerprint       bytea,
    channel           smallint,
    fact              integer,
    rank              smallint,
    clash             integer,
    reason_key        bytea,
    reason_class      smallint,
    received_at       timestamptz,
    told_at           timestamptz,
    status            text,
    code              text,
    code_key          bytea,
    description       text,
    destination       text,
    destination_type  text,
    destination_key   bytea,
    subtid            text,
    device            text,
    carrier           text,
    message_count     integer,
    transid           text,
    correlationid     text,
    correlation_key   bytea,
    callback_data     text,
    callback_key      bytea,
    country           text,       -- of its destination, where that is a phone number
    raw               bytea
);

-- A body in which no receipt could be read.
create type reject_v1 as (
    tenant         smallint,
    digest         bytea,
    reason         text,
    detail         text,
    body           bytea,
    headers        text,
    at             timestamptz,
    submission_id  uuid        -- of the notifyurl it came in by
);

-- A message that wants a key. `issued`: ours, under what the platform calls it; else the first of an observed one.
create type claim_v1 as (
    tenant          smallint,
    transid_key     bytea,
    leg_key         bytea,
    issued_leg_key  bytea,
    message_id      uuid,
    issued          boolean,
    event_id        uuid        -- the event of ours whose child it is
);

-- Under which key a child of an event is filed: beside (event, this) nobody else has keys.
create function child_leg_v1(p_channel smallint, p_leg_key bytea) returns bytea language sql immutable
return substr(sha256(int2send(p_channel) || p_leg_key), 1, 16);

-- What became of a message, as its writer sees it: one row of the change log. old_state null: born; new_state null: merged.
create type changed_v1 as (
    message_id    uuid,
    tenant        smallint,
    origin        smallint,
    channel       smallint,
    old_state     smallint,
    new_state     smallint,
    reason_key    bytea,
    reason_class  smallint,
    accepted_at   timestamptz,
    delivered_at  timestamptz
);

-- When an id was minted, and the least that can be minted at a time (ids.born_at, ids.first_id_at).
create function born_at_v1(p_id uuid) returns timestamptz language sql immutable
return to_timestamp(('x' || translate(left(p_id::text, 13), '-', ''))::bit(48)::bigint / 1000.0);

create function first_id_at_v1(p_at timestamptz) returns uuid language sql stable
return (lpad(to_hex(floor(extract(epoch from p_at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;

-- How long it is from p_from (seconds since 1970) to p_to, in classes a tenth apart: class c > 0 ends at
-- (105/95)^(c - 1) milliseconds, so its middle is wrong by 5 % at most. 0: p_to has not come.
create function lag_v1(p_from double precision, p_to timestamptz) returns integer language sql stable
return case when p_to is null then 0
            else least(255, 1 + ceil(ln(greatest(1, (date_part('epoch', p_to) - p_from) * 1000)) / 0.1000834585569826))::integer end;

-- When an id was minted, in seconds since 1970.
create function minted_v1(p_id uuid) returns double precision language sql immutable
return ('x' || encode(substr(uuid_send(p_id), 1, 6), 'hex'))::bit(48)::bigint / 1000.0::double precision;

-- Whether nothing more is expected of a message: negative, positive, or at its channel's ceiling (lattice.is_final).
create function is_final_v1(p_state smallint, p_channel smallint) returns boolean language sql immutable
return p_state >= 40 or p_channel = 11 and p_state in (20, 25) or p_channel in (14, 15) and p_state in (10, 20, 25);

-- Folds new facts into their messages and writes the change log. The rows of p_ids are locked and the
-- receipts are inserted by EARLIER statements of the same transaction. The bits are receiver/messages/lattice.py.
create function fold_v1(
    p_at timestamptz, p_feed smallint, p_low uuid, p_high uuid, p_ids uuid[], p_facts integer[], p_ranks smallint[], p_reason_keys bytea[],
    p_reason_classes smallint[], p_times timestamptz[], p_transids text[], p_carriers text[]
) returns changed_v1[] language plpgsql volatile
set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_seqscan = off set enable_bitmapscan = off set enable_memoize = off as $f$
declare v_changes changed_v1[]; v_lost boolean;
begin
  with best as (
    select t.id,
           max(t.rank) as rank,
           bit_or(t.fact) as facts,
           -- the greatest reason with its class behind it, as text: before Postgres 18 there is no max of bytea
           decode(max(encode(t.reason_key || int2send(coalesce(t.reason_class, 0::smallint)), 'hex') collate "C"), 'hex') as reason,
           min(t.at) filter (where t.fact & 2 <> 0) as accepted_at,
           min(t.at) filter (where t.fact & 4 <> 0) as submitted_at,
           min(t.at) filter (where t.fact & 2048 <> 0) as delivered_at,
           min(t.at) filter (where t.fact & 8192 <> 0) as read_at,
           min(t.at) filter (where t.fact & 71648 <> 0) as failed_at,
           min(t.transid collate "C") as transid,
           min(t.carrier collate "C") as carrier
      from unnest(p_ids, p_facts, p_ranks, p_reason_keys, p_reason_classes, p_times, p_transids, p_carriers)
           as t(id, fact, rank, reason_key, reason_class, at, transid, carrier)
     group by t.id
  ),
  new as materialized (
    select m.id, m.version, m.tenant, m.origin, m.channel, m.country,
           m.state as old_state, m.reason_class as old_class, m.conflict as old_conflict,
           greatest(m.state, b.rank) as state,
           m.facts | b.facts as facts,
           greatest(m.reason_key, substr(b.reason, 1, 19)) as reason_key,
           case when substr(b.reason, 1, 19) > coalesce(m.reason_key, '')
                then (get_byte(b.reason, 19) << 8 | get_byte(b.reason, 20))::smallint else m.reason_class end as reason_class,
           case when (m.facts | b.facts) & 10240 <> 0 and (m.facts | b.facts) & 71648 <> 0
                then m.conflict or exists (      -- one leg with a positive fact and a negative one that its channel does not call normal
                       select from receipt r
                        where r.message_id = m.id and r.message_id between p_low and p_high and r.feed <= 4
                        group by r.channel, r.destination_key, r.subtid, r.device
                       having bit_or(r.fact) & bit_or(r.clash) <> 0)
                else false end as conflict,
           f.clicks, f.complaints,
           f.clicked_at, f.complained_at,
           least(m.accepted_at, b.accepted_at) as accepted_at,
           least(m.submitted_at, b.submitted_at) as submitted_at,
           least(m.delivered_at, b.delivered_at) as delivered_at,
           least(m.read_at, b.read_at) as read_at,
           least(m.failed_at, b.failed_at) as failed_at,
           least(m.transid collate "C", b.transid) as transid,
           m.carrier as old_carrier, least(m.carrier collate "C", b.carrier) as carrier,
           m.lags as old_lags,
           case when b.accepted_at < coalesce(m.accepted_at, 'infinity')
                then lag_v1(minted_v1(m.id), b.accepted_at) else m.lags & 255 end
           | case when b.submitted_at < coalesce(m.submitted_at, 'infinity')
                  then lag_v1(minted_v1(m.id), b.submitted_at) << 8 else m.lags & 65280 end
           | case when b.delivered_at < coalesce(m.delivered_at, 'infinity')
                  then lag_v1(minted_v1(m.id), b.delivered_at) << 16 else m.lags & 16711680 end as lags,
           case when p_feed = 1 and (b.delivered_at < coalesce(m.delivered_at, 'infinity')
                                     or b.failed_at < coalesce(m.failed_at, 'infinity'))
                then lag_v1(date_part('epoch', coalesce(b.delivered_at, b.failed_at)), p_at) end as told_lag
      from best b
      left join lateral (
        select * from message_state s where s.id = b.id and s.id between p_low and p_high offset 0) m on true
      left join lateral (      -- seldom: a last time may also go back, when a telling turns out to be an older one
        select count(*) filter (where r.fact & 16384 <> 0) as clicks,
               count(*) filter (where r.fact & 32768 <> 0) as complaints,
               max(coalesce(r.told_at, r.received_at)) filter (where r.fact & 16384 <> 0) as clicked_at,
               max(coalesce(r.told_at, r.received_at)) filter (where r.fact & 32768 <> 0) as complained_at
          from receipt r
         where (m.facts | b.facts) & 49152 <> 0
           and r.message_id = m.id and r.message_id between p_low and p_high and r.feed <= 4 and r.fact & 49152 <> 0
      ) f on true
  ),
  upd as (
    update message_state m
       set state = n.state, facts = n.facts, reason_key = n.reason_key, reason_class = n.reason_class,
           conflict = n.conflict,
           attention = n.conflict or n.state in (5, 30, 40, 41, 42, 43, 44, 45, 46, 65),
           version = m.version + 1,
           clicks = n.clicks, complaints = n.complaints,
           clicked_at = n.clicked_at, complained_at = n.complained_at,
           accepted_at = n.accepted_at, submitted_at = n.submitted_at, delivered_at = n.delivered_at,
           read_at = n.read_at, failed_at = n.failed_at,
           transid = n.transid, carrier = n.carrier, lags = n.lags, changed_at = p_at
      from new n
     where m.id = n.id      -- no bounds: the planner could take them for a way to the row
       and (m.state, m.facts, m.reason_key, m.conflict, m.clicks, m.complaints, m.clicked_at, m.complained_at,
            m.accepted_at, m.submitted_at, m.delivered_at, m.read_at, m.failed_at, m.transid, m.carrier)
           is distinct from
           (n.state, n.facts, n.reason_key, n.conflict, n.clicks, n.complaints, n.clicked_at, n.complained_at,
            n.accepted_at, n.submitted_at, n.delivered_at, n.read_at, n.failed_at, n.transid, n.carrier)
    returning m.id, m.version, m.tenant, m.origin, m.channel, m.country,
              case when n.version = 0 and n.origin = 2 then null else n.old_state end as old_state, m.state,
              n.old_class, m.reason_class, n.old_conflict, m.conflict, m.reason_key, m.accepted_at, m.delivered_at,
              n.old_lags, m.lags, n.told_lag, n.old_carrier, m.carrier
  ),
  log as (
    insert into change (at, message_id, version, tenant, origin, channel, feed, country, old_state, new_state,
                        old_class, new_class, old_conflict, new_conflict, old_lags, new_lags, told_lag,
                        old_carrier, new_carrier)
    select p_at, u.id, u.version, u.tenant, u.origin, u.channel, p_feed, u.country, u.old_state, u.state,
           u.old_class, u.reason_class, u.old_conflict, u.conflict, u.old_lags, u.lags, u.told_lag,
           u.old_carrier, u.carrier
      from upd u
  )
  select array_agg((u.id, u.tenant, u.origin, u.channel, u.old_state, u.state,
                    u.reason_key, u.reason_class, u.accepted_at, u.delivered_at)::changed_v1),
         (select bool_or(n.id is null) from new n)
    into v_changes, v_lost from upd u;
  if v_lost then
    raise exception 'facts of a message that is not there, or not within the bounds' using errcode = 'assert_failure';
  end if;
  return v_changes;
end $f$;

-- Locks the states of p_ids, all in one statement and in order. p_merged are those that are tombstones; raises RX001 (the
-- caller looks again) if one is gone. p_low and p_high bound the ids: a later statement that is told so opens the
-- partitions between them alone, mostly one.
create function lock_states_v1(p_ids uuid[], out p_merged uuid[], out p_low uuid, out p_high uuid) language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_memoize = off as $f$
declare v_ids uuid[] := array(select distinct i from unnest(p_ids) i where i is not null order by i); v_locked bigint;
begin
  p_low := v_ids[1];
  p_high := v_ids[cardinality(v_ids)];
  select count(m.id), coalesce(array_agg(m.id) filter (where m.merged_into is not null), '{}') into v_locked, p_merged
    from (select u.id from unnest(v_ids) with ordinality u(id, n) order by u.n) w
   cross join lateral (
     select s.id, s.merged_into from message_state s where s.id = w.id and s.id between p_low and p_high for update) m;
  if v_locked < cardinality(v_ids) then
    -- Postgres 18 locks a row that it had to wait for, and then leaves it out, where bounds closed a partition
    select count(m.id), coalesce(array_agg(m.id) filter (where m.merged_into is not null), '{}') into v_locked, p_merged
      from (select u.id from unnest(v_ids) with ordinality u(id, n) order by u.n) w
     cross join lateral (select s.id, s.merged_into from message_state s where s.id = w.id for update) m;
  end if;
  if v_locked < cardinality(v_ids) then
    raise exception 'dropped meanwhile' using errcode = 'RX001';
  end if;
end $f$;

-- Queues receipts that are new for whoever wants them told on: the notifyurl of the message's own submission (a child's
-- is its event's), else the tenant's forward_to. Those of a message that turned out to be ours only now (p_moved) were
-- queued for forward_to when they came in; a child is still the message that it was, so what has not gone there yet goes
-- to the event's notifyurl instead. The caller asks tenant.forwards first: most have nobody to tell.
create function forward_v1(p_at timestamptz, p_ids uuid[], p_fingerprints bytea[], p_moved boolean) returns void
language plpgsql volatile as $f$
begin
  insert into forward (tenant, message_id, fingerprint, url, created_at, due_at, expires_at)
  select w.tenant, w.id, w.fingerprint, w.url, p_at, p_at, p_at + interval '72 hours'
    from (select m.tenant, m.id, v.fingerprint,
                 case when p_moved then nullif(s.notifyurl, t.forward_to) else coalesce(s.notifyurl, t.forward_to) end as url
            from unnest(p_ids, p_fingerprints) as v(id, fingerprint)
            join message m on m.id = v.id
            join tenant t on t.id = m.tenant and t.forwards
            left join message e on e.id = m.parent_id
            left join submission s on s.id = coalesce(m.submission_id, e.submission_id)) w
   where w.url is not null
   order by w.id, w.fingerprint
  on conflict on constraint forward_once do update      -- one more attempt: whoever has it claimed settles it no more
    set url = excluded.url, created_at = excluded.created_at, due_at = excluded.due_at, expires_at = excluded.expires_at,
        attempts = least(forward.attempts + 1, 32767), lease_until = null, last_status = null, last_error = null
  where p_moved and forward.url <> excluded.url;
end $f$;

-- Which receipts tell of another recipient than their message's: it is searched for under both.
create function elsewhere_v1(p_low uuid, p_high uuid, p_ids uuid[], p_group told_v1[]) returns boolean[] language sql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_memoize = off as $f$
select array_agg(m.destination_key <> t.destination_key order by t.ordinality)
  from unnest(p_group) with ordinality t
  left join lateral (
    select e.destination_key from message e
     where e.id = p_ids[t.ordinality] and e.id between p_low and p_high offset 0) m on true
$f$;

-- Inserts receipts whose messages are known and locked, and folds what is new: p_new are their places in p_group.
-- Nobody else writes receipts of a message whose lock is ours: what is not there when the statement begins is new.
create function tell_v1(
    p_at timestamptz, p_feed smallint, p_low uuid, p_high uuid, p_ids uuid[], p_elsewhere boolean[], p_group told_v1[],
    out p_new bigint[], out p_changes changed_v1[]
) language plpgsql volatile
set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_seqscan = off set enable_bitmapscan = off set enable_memoize = off as $f$
declare
  v_ids uuid[]; v_facts integer[]; v_ranks smallint[]; v_reason_keys bytea[]; v_reason_classes smallint[];
  v_times timestamptz[]; v_transids text[]; v_carriers text[]; v_fingerprints bytea[];
begin
  with new as materialized (
    select distinct on (p_ids[t.ordinality], t.fingerprint) p_ids[t.ordinality] as id, t.ordinality as n, t.*
      from unnest(p_group) with ordinality t
      left join lateral (
        select true as there from receipt r
         where r.message_id = p_ids[t.ordinality] and r.message_id between p_low and p_high
           and r.fingerprint = t.fingerprint offset 0) h on true
     where h.there is null and p_ids[t.ordinality] is not null
     order by p_ids[t.ordinality], t.fingerprint, t.received_at, t.ordinality
  ),
  ins as (
    insert into receipt (message_id, fingerprint, feed, elsewhere, joined, channel, fact, rank, clash, reason_key,
                         reason_class, received_at, told_at, status, code, code_key, description, destination, destination_key,
                         subtid, device, carrier, message_count, transid, raw)
    select t.id, t.fingerprint, p_feed, p_elsewhere[t.n],
           case when p_feed not in (1, 2, 4) then 0 when t.candidate = t.id then 1 when t.fresh = t.id then 4
                when t.submission_id is not null then 2 else 3 end, t.channel, t.fact, t.rank, t.clash,
           t.reason_key, t.reason_class, t.received_at, t.told_at, t.status, t.code, t.code_key, t.description,
           t.destination, t.destination_key, t.subtid, t.device, t.carrier, t.message_count, t.transid, t.raw
      from new t
  )
  select array_agg(t.n), array_agg(t.id), array_agg(t.fact), array_agg(t.rank), array_agg(t.reason_key),
         array_agg(t.reason_class), array_agg(coalesce(t.told_at, t.received_at)), array_agg(left(t.transid, 128)),
         array_agg(left(nullif(t.carrier, ''), 64)), array_agg(t.fingerprint)
    into p_new, v_ids, v_facts, v_ranks, v_reason_keys, v_reason_classes, v_times, v_transids, v_carriers, v_fingerprints
    from new t;

  -- what was asked for (feed 3) is no notification: only what the platform told by itself goes on
  if p_feed in (1, 2, 4) and v_ids is not null and exists (select from tenant t where t.forwards) then
    perform forward_v1(p_at, v_ids, v_fingerprints, false);
  end if;

  -- A receipt without a time of its own happened when it was first heard of, whichever telling was applied first.
  if cardinality(p_new) is distinct from cardinality(p_group) and exists (select from unnest(p_group) t where t.told_at is null) then
    with heard as materialized (
      select p_ids[t.ordinality] as id, t.fingerprint, min(t.received_at) as at
        from unnest(p_group) with ordinality t
       where t.told_at is null and p_ids[t.ordinality] is not null
       group by 1, t.fingerprint
    ),
    earlier as (
      update receipt r set received_at = h.at
        from heard h
       where r.message_id = h.id and r.fingerprint = h.fingerprint and r.received_at > h.at
      returning r.message_id, r.fact, r.rank, r.received_at)
    select array_cat(v_ids, array_agg(e.message_id)), array_cat(v_facts, array_agg(e.fact)),
           array_cat(v_ranks, array_agg(e.rank)), array_cat(v_reason_keys, array_agg(null::bytea)),
           array_cat(v_reason_classes, array_agg(null::smallint)), array_cat(v_times, array_agg(e.received_at)),
           array_cat(v_transids, array_agg(null::text)), array_cat(v_carriers, array_agg(null::text))
      into v_ids, v_facts, v_ranks, v_reason_keys, v_reason_classes, v_times, v_transids, v_carriers from earlier e;
  end if;
  if v_ids is not null then
    p_changes := fold_v1(p_at, p_feed, p_low, p_high, v_ids, v_facts, v_ranks, v_reason_keys, v_reason_classes, v_times,
                         v_transids, v_carriers);
  end if;
end $f$;

-- Locks, then tells: for facts whose messages are known from the start. Returns what changed.
create function apply_known_v1(p_at timestamptz, p_feed smallint, p_ids uuid[], p_group told_v1[]) returns changed_v1[]
language plpgsql volatile as $f$
declare v_merged uuid[]; v_low uuid; v_high uuid;
begin
  select l.p_merged, l.p_low, l.p_high into v_merged, v_low, v_high from lock_states_v1(p_ids) l;
  if v_merged <> '{}' then
    raise exception 'merged meanwhile' using errcode = 'RX001';     -- the caller looks again
  end if;
  return (select d.p_changes
            from tell_v1(p_at, p_feed, v_low, v_high, p_ids, elsewhere_v1(v_low, v_high, p_ids, p_group), p_group) d);
end $f$;

-- The usual group, found by one look at each message: every receipt names a message of ours by its id, comes in under
-- the URL of its own submission or the tenant's, and tells a transid that is known. For any other group: nothing.
create function find_issued_v1(
    p_oldest uuid, p_group told_v1[], out p_ids uuid[], out p_elsewhere boolean[]
) language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_memoize = off as $f$
declare
  v_all boolean;
  v_ids uuid[] := array(select t.candidate from unnest(p_group) t where t.candidate is not null order by t.candidate);
  v_low uuid := v_ids[1];
  v_high uuid := v_ids[cardinality(v_ids)];
begin
  if cardinality(v_ids) is distinct from cardinality(p_group) then
    return;
  end if;
  select bool_and(coalesce(m.submission_id = coalesce(t.submission_id, m.submission_id) and m.channel <> 14
                           and (t.transid is null or s.answered)
                           and (t.submission_id < p_oldest) is not true, false)),      -- else it is late
         array_agg(t.candidate order by t.ordinality), array_agg(m.destination_key <> t.destination_key order by t.ordinality)
    into v_all, p_ids, p_elsewhere
    from unnest(p_group) with ordinality t
    left join lateral (
      select i.submission_id, i.channel, i.destination_key from message i
       where i.id = t.candidate and i.id between v_low and v_high and i.tenant = t.tenant and i.origin = 1 offset 0) m on true
    left join lateral (
      select i.transid is not null as answered from message_state i
       where i.id = t.candidate and i.id between v_low and v_high offset 0) s on true;
  if v_all is not true then
    p_ids := null;
  end if;
end $f$;

-- Finds the message of each receipt: our id in the correlationid; the submission of the URL with its destination or its
-- only message; the key. Never by phone number alone. Forged is what comes in under the URL of one submission and names
-- a message of another, by our id or by its key. An event (channel 14) is no message that arrives: the receipt is of
-- its child, told apart by channel, flow node and destination; event_id says so where the child is not born yet, too.
create function find_messages_v1(
    p_oldest uuid, p_group told_v1[], out p_ids uuid[], out p_forged boolean[], out p_events uuid[]
) language plpgsql volatile set enable_seqscan = off set enable_bitmapscan = off set enable_memoize = off as $f$
begin
  select array_agg(case when f.forged then null when f.event_id is null then f.id else f.child_id end order by f.n),
         array_agg(f.forged order by f.n), array_agg(f.event_id order by f.n)
    into p_ids, p_forged, p_events
    from (
  select t.ordinality as n, coalesce(a.id, b.id, c.id) as id, d.id as child_id,
         coalesce(coalesce(a.submission_id, c.submission_id) <> t.submission_id, false) as forged,
         e.event_id
    from unnest(p_group) with ordinality t
    left join lateral (
      select m.id, m.submission_id, m.channel from message m
       where m.id = t.candidate and m.tenant = t.tenant and m.origin = 1 offset 0) a on true    -- only ids of ours went out
    left join lateral (
      select m.id, m.channel
        from (select * from submission i where i.id = t.submission_id and i.tenant = t.tenant offset 0) s
       cross join lateral (
         select i.id, i.channel from message i
          where s.message_count = 1 and i.id between s.first_id and s.last_id and i.submission_id = s.id
         union all
         select i.id, i.channel from message i
          where s.message_count > 1 and i.destination_key = t.destination_key and i.id between s.first_id and s.last_id
            and i.submission_id = s.id
         limit 1) m
       where a.id is null offset 0) b on true
    left join lateral (
      -- a flow's node (subtid) tells observed messages apart; what an answer filed (ours, or recorded) is found whatever
      -- node tells of it, and an event's transid (filed without a leg) is that of all its children
      select k.message_id as id, i.channel, case when i.origin <> 2 then i.submission_id end as submission_id
        from (select k.* from message_key k
               where k.transid_key = t.transid_key and k.tenant = t.tenant and k.message_id >= p_oldest
                 and k.leg_key in (t.issued_leg_key, t.leg_key, '\x00000000000000000000000000000000') offset 0) k
        left join lateral (select * from message m where m.id = k.message_id offset 0) i on true
       where a.id is null and (b.id is null or t.transid is not null)
         and (k.leg_key = t.leg_key or i.origin <> 2)
       order by k.leg_key = t.issued_leg_key desc, k.leg_key = t.leg_key desc, k.generation limit 1) c on true
    left join lateral (
      select coalesce(a.id, b.id, c.id) as event_id where coalesce(a.channel, b.channel, c.channel) = 14) e on true
    left join lateral (
      select k.message_id as id from message_key k
       where e.event_id is not null and k.transid_key = uuid_send(e.event_id)
         and k.leg_key = child_leg_v1(t.channel, t.leg_key) and k.tenant = t.tenant and k.message_id >= p_oldest
       order by k.generation limit 1) d on true) f;
end $f$;

-- Gives keys to those who claim them; a key that somebody has stays his. The caller looks who won in its NEXT statement.
create function claim_keys_v1(p_oldest uuid, p_claims claim_v1[]) returns void language plpgsql volatile as $f$
declare v_generation integer;
begin
  -- keeps the generation still: rotation waits until every birth in flight has committed
  perform pg_advisory_xact_lock_shared(hashtext('receiver.key_generation'));
  -- a message of ours, and one observed under a flow's node (subtid), have other keys and do not collide: this lock
  -- lets the later one see the earlier
  perform pg_advisory_xact_lock(l.k)
     from (select distinct ('x' || encode(substr(c.transid_key, 1, 8), 'hex'))::bit(64)::bigint as k
             from unnest(p_claims) c where c.issued or c.leg_key <> c.issued_leg_key order by 1) l;
  select current into v_generation from key_generation;

  insert into message_key (generation, tenant, transid_key, leg_key, message_id)
  with ours as materialized (
    select distinct c.tenant, c.transid_key, c.leg_key from unnest(p_claims) c where c.issued)
  select distinct on (c.transid_key, c.leg_key, c.tenant) v_generation, c.tenant, c.transid_key, c.leg_key, c.message_id
    from unnest(p_claims) with ordinality c
    left join ours o on o.tenant = c.tenant and o.transid_key = c.transid_key and o.leg_key = c.issued_leg_key
    left join lateral (
      select bool_or(k.leg_key = c.leg_key or i.origin <> 2) filter (where k.message_id >= p_oldest) as taken,
             bool_or(k.leg_key = c.issued_leg_key) as observed
        from (select x.leg_key, x.message_id from message_key x
               where not c.issued and x.transid_key = c.transid_key and x.tenant = c.tenant
                 and x.leg_key in (c.leg_key, c.issued_leg_key) offset 0) k
        left join lateral (select m.origin from message m where m.id = k.message_id offset 0) i on true) h on true
   where c.issued
      or h.taken is not true
     and (o.tenant is null or h.observed)      -- one of ours in this group is going to have it, unless an observed one has it
   order by c.transid_key, c.leg_key, c.tenant, c.issued desc, c.ordinality
  on conflict do nothing;                                    -- waits for a birth in flight
end $f$;

-- Takes back keys that were given for a birth that did not come: what was found after the claim is another message, told
-- of meanwhile, or ours by this group. Nobody has seen them; left behind, they would lead receipts to nothing for ever.
create function drop_unborn_keys_v1(p_ids uuid[], p_claims claim_v1[]) returns void language plpgsql volatile
set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_seqscan = off set enable_bitmapscan = off set enable_memoize = off as $f$
begin
  delete from message_key k using unnest(p_claims) c
   where not c.issued and array_position(p_ids, c.message_id) is null
     and k.transid_key = c.transid_key and k.leg_key = c.leg_key and k.tenant = c.tenant and k.message_id = c.message_id
     and not exists (select from message m where m.id = c.message_id);
end $f$;

-- A key whose message was dropped with its week goes to the first who claims it. Seldom: generations are dropped too.
create function take_over_keys_v1(p_oldest uuid, p_claims claim_v1[]) returns void language plpgsql volatile as $f$
begin
  with stale as materialized (
    select k.generation, k.transid_key, k.leg_key, k.tenant
      from (select distinct c.transid_key, c.leg_key, c.tenant from unnest(p_claims) c order by 1, 2, 3) c
     cross join lateral (
       select * from message_key x
        where x.transid_key = c.transid_key and x.leg_key = c.leg_key and x.tenant = c.tenant and x.message_id < p_oldest
        order by x.generation for update) k)
  update message_key k set message_id = w.message_id
    from (select distinct on (c.transid_key, c.leg_key, c.tenant) c.*
            from unnest(p_claims) with ordinality c order by c.transid_key, c.leg_key, c.tenant, c.issued desc, c.ordinality) w
    join stale s on s.transid_key = w.transid_key and s.leg_key = w.leg_key and s.tenant = w.tenant
   where (k.generation, k.transid_key, k.leg_key, k.tenant) = (s.generation, s.transid_key, s.leg_key, s.tenant)
     and k.message_id < p_oldest;
end $f$;

-- The observed messages that turn out to be ours, by the keys that ours claim: their leg, or whatever node told of the
-- same recipient. Not locked yet.
create function find_rivals_v1(p_oldest uuid, p_claims claim_v1[])
returns table (owner uuid, ours uuid) language plpgsql volatile as $f$
begin
  return query
  with held as materialized (
    select k.tenant, k.transid_key, k.leg_key, k.message_id, m.destination_key, m.channel, m.parent_id
      from (select distinct c.tenant, c.transid_key from unnest(p_claims) c where c.issued) c
     cross join lateral (
       select * from message_key x
        where x.transid_key = c.transid_key and x.tenant = c.tenant and x.message_id >= p_oldest offset 0) k
     cross join lateral (select * from message o where o.id = k.message_id and o.origin = 2 offset 0) m
  )
  select distinct on (h.message_id) h.message_id, coalesce(k.message_id, c.message_id)
    from held h
    join unnest(p_claims) c on c.issued and c.transid_key = h.transid_key and c.tenant = h.tenant
   cross join lateral (select * from message o where o.id = c.message_id offset 0) m
    left join lateral (
      select * from message_key x
       where m.channel = 14 and x.transid_key = uuid_send(m.id)
         and x.leg_key = child_leg_v1(h.channel, h.leg_key) and x.tenant = h.tenant offset 0) k on true
   where case when m.channel = 14 then h.parent_id = m.id and k.message_id <> h.message_id   -- another is that child already
              else h.leg_key = c.leg_key or h.destination_key = m.destination_key end
   order by h.message_id, h.leg_key = c.leg_key desc, c.message_id, k.generation;
end $f$;

-- What was observed under the transid of an event of ours before its answer came is that event's child from now on.
create function adopt_v1(p_oldest uuid, p_claims claim_v1[]) returns void language plpgsql volatile as $f$
declare v_ids uuid[]; v_events uuid[]; v_told uuid[]; v_fingerprints bytea[];
begin
  select array_agg(h.id order by h.id), array_agg(h.event_id order by h.id) into v_ids, v_events
    from (with e as materialized (      -- most are no events: their claims must not meet each key of a shared transid
            select distinct c.tenant, c.transid_key, e.id
              from unnest(p_claims) c
             cross join lateral (select m.id from message m where m.id = c.message_id and m.channel = 14 offset 0) e
             where c.issued)
          select distinct on (o.id) o.id, e.id as event_id
            from e
           cross join lateral (
             select * from message_key x
              where x.transid_key = e.transid_key and x.tenant = e.tenant and x.message_id >= p_oldest offset 0) k
           cross join lateral (
             select * from message m where m.id = k.message_id and m.origin = 2 and m.parent_id is null offset 0) o
           order by o.id, e.id) h;
  if v_ids is null then
    return;
  end if;
  insert into message_key (generation, tenant, transid_key, leg_key, message_id)
  select distinct on (uuid_send(v.event_id), leg.key) g.current, k.tenant, uuid_send(v.event_id), leg.key, v.id
    from unnest(v_ids, v_events) as v(id, event_id)
    join message o on o.id = v.id
    join unnest(p_claims) c on c.issued and c.message_id = v.event_id
    join message_key k on k.transid_key = c.transid_key and k.tenant = c.tenant and k.message_id = v.id
   cross join lateral (select child_leg_v1(o.channel, k.leg_key) as key) leg
   cross join key_generation g
   where not exists (select from message_key x where x.transid_key = uuid_send(v.event_id) and x.leg_key = leg.key
                        and x.tenant = k.tenant and x.message_id >= p_oldest)
   order by uuid_send(v.event_id), leg.key, v.id
  on conflict do nothing;
  update message m set parent_id = v.event_id
    from unnest(v_ids, v_events) as v(id, event_id) where m.id = v.id;
  if exists (select from tenant t where t.forwards) then
    select array_agg(r.message_id), array_agg(r.fingerprint) into v_told, v_fingerprints
      from receipt r where r.message_id = any(v_ids) and r.feed in (1, 2, 4);
    perform forward_v1(now(), v_told, v_fingerprints, true);
  end if;
end $f$;

-- Makes observed messages tombstones of ours: their receipts are copied, their statistics leave, nothing is moved or
-- deleted. All are locked, and none is a tombstone yet. Returns what changed of ours.
create function merge_v1(
    p_at timestamptz, p_feed smallint, p_low uuid, p_high uuid, p_owners uuid[], p_ours uuid[], p_claims claim_v1[]
) returns changed_v1[]
language plpgsql volatile
set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_seqscan = off set enable_bitmapscan = off set enable_memoize = off as $f$
declare
  v_ids uuid[]; v_facts integer[]; v_ranks smallint[]; v_reason_keys bytea[]; v_reason_classes smallint[];
  v_times timestamptz[]; v_transids text[]; v_carriers text[]; v_told uuid[]; v_fingerprints bytea[];
begin
  with dead as (
    update message_state m set merged_into = v.id, version = m.version + 1, changed_at = p_at
      from unnest(p_owners, p_ours) as v(owner, id) where m.id = v.owner
    returning m.id, m.version, m.tenant, m.origin, m.channel, m.country, m.state, m.reason_class, m.conflict, m.lags, m.carrier)
  insert into change (at, message_id, version, tenant, origin, channel, country, old_state, new_state,
                      old_class, new_class, old_conflict, new_conflict, old_lags, old_carrier)
  select p_at, d.id, d.version, d.tenant, d.origin, d.channel, d.country, d.state, null, d.reason_class, null, d.conflict, null,
         d.lags, d.carrier
    from dead d where d.version > 1 order by d.id;      -- one that was born in this group has not come into the log

  update message_key k set message_id = v.id
    from unnest(p_owners, p_ours) as v(owner, id)
   where k.message_id = v.owner
     and k.transid_key in (select c.transid_key from unnest(p_claims) c
                           union select uuid_send(m.parent_id) from message m where m.id = any(p_owners));

  with ins as (
    insert into receipt as r (message_id, fingerprint, feed, copied, elsewhere, joined, channel, fact, rank, clash,
                              reason_key, reason_class, received_at, told_at, status, code, code_key, description, destination,
                              destination_key, subtid, device, carrier, message_count, transid, raw)
    select v.id, c.fingerprint, c.feed, true, m.destination_key <> c.destination_key, c.joined, c.channel, c.fact, c.rank, c.clash,
           c.reason_key, c.reason_class, c.received_at, c.told_at, c.status, c.code, c.code_key, c.description,
           c.destination, c.destination_key, c.subtid, c.device, c.carrier, c.message_count, c.transid, c.raw
      from unnest(p_owners, p_ours) as v(owner, id) join receipt c on c.message_id = v.owner join message m on m.id = v.id
     order by v.id, c.fingerprint
    on conflict do nothing
    returning r.message_id, r.fingerprint, r.feed, r.fact, r.rank, r.reason_key, r.reason_class,
              coalesce(r.told_at, r.received_at) as at, left(r.transid, 128) as transid,
              left(nullif(r.carrier, ''), 64) as carrier)
  select array_agg(i.message_id), array_agg(i.fact), array_agg(i.rank), array_agg(i.reason_key), array_agg(i.reason_class),
         array_agg(i.at), array_agg(i.transid), array_agg(i.carrier),
         array_agg(i.message_id) filter (where i.feed in (1, 2, 4)),
         array_agg(i.fingerprint) filter (where i.feed in (1, 2, 4))
    into v_ids, v_facts, v_ranks, v_reason_keys, v_reason_classes, v_times, v_transids, v_carriers, v_told, v_fingerprints
    from ins i;

  if v_told is not null and exists (select from tenant t where t.forwards) then
    perform forward_v1(p_at, v_told, v_fingerprints, true);
  end if;

  -- what both were told, without a time of its own: it happened when the first of them heard of it
  with earlier as (
    update receipt r set received_at = c.received_at
      from unnest(p_owners, p_ours) as v(owner, id) join receipt c on c.message_id = v.owner
     where r.message_id = v.id and r.fingerprint = c.fingerprint and r.told_at is null and r.received_at > c.received_at
    returning r.message_id, r.fact, r.rank, r.received_at)
  select array_cat(v_ids, array_agg(e.message_id)), array_cat(v_facts, array_agg(e.fact)),
         array_cat(v_ranks, array_agg(e.rank)), array_cat(v_reason_keys, array_agg(null::bytea)),
         array_cat(v_reason_classes, array_agg(null::smallint)), array_cat(v_times, array_agg(e.received_at)),
         array_cat(v_transids, array_agg(null::text)), array_cat(v_carriers, array_agg(null::text))
    into v_ids, v_facts, v_ranks, v_reason_keys, v_reason_classes, v_times, v_transids, v_carriers from earlier e;
  if v_ids is not null then
    return fold_v1(p_at, p_feed, p_low, p_high, v_ids, v_facts, v_ranks, v_reason_keys, v_reason_classes, v_times,
                   v_transids, v_carriers);
  end if;
  return null;
end $f$;

-- An answer tells what the platform calls our messages; what was observed under that name becomes ours.
create function connect_v1(p_at timestamptz, p_claims claim_v1[]) returns changed_v1[] language plpgsql volatile as $f$
declare v_oldest uuid; v_owners uuid[]; v_ours uuid[]; v_merged uuid[]; v_low uuid; v_high uuid;
begin
  select first_id into v_oldest from week order by starts_on limit 1;
  perform claim_keys_v1(v_oldest, p_claims);
  perform adopt_v1(v_oldest, p_claims);
  select array_agg(r.owner), array_agg(r.ours) into v_owners, v_ours from find_rivals_v1(v_oldest, p_claims) r;
  if v_owners is null then
    return null;
  end if;
  select l.p_merged, l.p_low, l.p_high into v_merged, v_low, v_high
    from lock_states_v1(v_owners || v_ours || array(select c.message_id from unnest(p_claims) c)) l;
  select array_agg(v.owner), array_agg(v.id) into v_owners, v_ours
    from unnest(v_owners, v_ours) as v(owner, id) where v.owner <> all (v_merged);
  return case when v_owners is not null then merge_v1(p_at, 5::smallint, v_low, v_high, v_owners, v_ours, p_claims) end;
end $f$;

-- The id by whose age a receipt is late: its submission's. An import came in under no URL, so there the message's own
-- decides, as the receipt names it.
create function made_under_v1(p_feed smallint, p_submission_id uuid, p_candidate uuid) returns uuid language sql immutable
return coalesce(p_submission_id, case when p_feed = 2 then p_candidate end);

-- Births: message and state of each receipt whose own id won its key. The same receipt may stand twice in a group, and a
-- try whose answer was lost may have committed meanwhile: then they are there already.
create function be_born_v1(
    p_at timestamptz, p_feed smallint, p_oldest uuid, p_ids uuid[], p_events uuid[], p_group told_v1[]
) returns void
language plpgsql volatile as $f$
begin
  insert into message (id, tenant, origin, channel, created_at, destination, destination_type, destination_key,
                       correlationid, correlation_key, callback_data, callback_key, parent_id, late_of)
  select distinct on (t.fresh) t.fresh, t.tenant, 2, t.channel, p_at, coalesce(t.destination, ''),
         coalesce(t.destination_type, ''), t.destination_key,
         t.correlationid, t.correlation_key, t.callback_data, t.callback_key, v.event_id,
         case when made_under_v1(p_feed, t.submission_id, t.candidate) < p_oldest
              then coalesce(t.candidate, t.submission_id) end
    from unnest(p_group) with ordinality t
    join unnest(p_ids, p_events) with ordinality v(id, event_id, n) on v.n = t.ordinality
   where v.id = t.fresh
   order by t.fresh, t.ordinality
  on conflict do nothing;
  insert into message_state (id, tenant, origin, channel, country, changed_at)
  select distinct on (t.fresh) t.fresh, t.tenant, 2, t.channel, t.country, p_at
    from unnest(p_group) with ordinality t join unnest(p_ids) with ordinality v(id, n) on v.n = t.ordinality
   where v.id = t.fresh
   order by t.fresh, t.ordinality
  on conflict do nothing;
end $f$;

-- Finds the messages of a group of which some are new, or are told of before their answer: files keys, then bears.
create function find_or_bear_v1(
    p_at timestamptz, p_feed smallint, p_oldest uuid, p_group told_v1[],
    out p_ids uuid[], out p_forged boolean[], out p_events uuid[], out p_claims claim_v1[]
) language plpgsql volatile as $f$
begin
  select f.p_ids, f.p_forged, f.p_events into p_ids, p_forged, p_events from find_messages_v1(p_oldest, p_group) f;

  -- Who wants a key: the first of an observed message; and ours, if a receipt tells its transid before its answer did
  -- (or in place of it), so that it can be searched for, and finds the message when it comes alone.
  -- The transid of an event is filed without a leg.
  select array_agg(w.claim order by w.n) into p_claims from (
    select t.ordinality as n,
           (t.tenant, case when v.event_id is null then t.transid_key else uuid_send(v.event_id) end,
            case when v.id is not null then t.issued_leg_key when v.event_id is null then t.leg_key
                 else child_leg_v1(t.channel, t.leg_key) end,
            case when v.event_id is null then t.issued_leg_key else child_leg_v1(t.channel, t.leg_key) end,
            coalesce(v.id, t.fresh), v.id is not null, v.event_id)::claim_v1 as claim
      from unnest(p_group) with ordinality t
     cross join lateral (
       select p_ids[t.ordinality] as id, p_forged[t.ordinality] as forged, p_events[t.ordinality] as event_id offset 0) v
      left join lateral (select * from message_state m where m.id = v.id offset 0) s on true
     where not v.forged
       and (v.id is null or t.transid is not null and s.transid is null and s.origin = 1)
    union all
    select t.ordinality, (t.tenant, t.transid_key, '\x00000000000000000000000000000000',
                          '\x00000000000000000000000000000000', p_events[t.ordinality], true, null)::claim_v1
      from unnest(p_group) with ordinality t
     cross join lateral (select * from message_state m where m.id = p_events[t.ordinality] offset 0) s
     where not p_forged[t.ordinality] and t.transid is not null and s.transid is null) w;
  if p_claims is null then
    return;
  end if;
  perform claim_keys_v1(p_oldest, p_claims);
  select f.p_ids, f.p_forged, f.p_events into p_ids, p_forged, p_events from find_messages_v1(p_oldest, p_group) f;
  if exists (select from unnest(p_ids, p_forged) as v(id, forged) where v.id is null and not v.forged) then
    perform take_over_keys_v1(p_oldest, p_claims);
    select f.p_ids into p_ids from find_messages_v1(p_oldest, p_group) f;
    if exists (select from unnest(p_ids, p_forged) as v(id, forged) where v.id is null and not v.forged) then
      raise exception 'a key went away meanwhile' using errcode = 'RX001';     -- the caller looks again
    end if;
  end if;
  perform be_born_v1(p_at, p_feed, p_oldest, p_ids, p_events, p_group);
  perform drop_unborn_keys_v1(p_ids, p_claims);
  perform adopt_v1(p_oldest, p_claims);
end $f$;

-- The whole way of a group: find; claim keys and look again; lock; merge, insert, fold; quarantine; ledger.
-- One call, one transaction, one round trip. `outcomes` of the receipts in their order: 1 applied, 2 duplicate, 3 late,
-- 4 forged; `messages`: whose they are.
create function apply_receipts_v1(
    p_intake uuid, p_at timestamptz, p_feed smallint, p_group told_v1[], p_rejects reject_v1[],
    out outcomes smallint[], out messages uuid[], out changes changed_v1[]
) language plpgsql volatile as $f$
declare
  v_oldest uuid; v_elsewhere boolean[]; v_events uuid[]; v_forged boolean[]; v_claims claim_v1[];
  v_owners uuid[]; v_ours uuid[]; v_merged uuid[]; v_low uuid; v_high uuid; v_new bigint[]; v_changes changed_v1[];
  v_size integer := coalesce(cardinality(p_group), 0); v_applied integer; v_late integer := 0; v_forgeries integer := 0;
  v_rejects integer := coalesce(cardinality(p_rejects), 0);
begin
  select first_id into v_oldest from week order by starts_on limit 1;
  select f.p_ids, f.p_elsewhere into messages, v_elsewhere from find_issued_v1(v_oldest, p_group) f;
  if messages is null then
    select f.p_ids, f.p_forged, f.p_events, f.p_claims into messages, v_forged, v_events, v_claims
      from find_or_bear_v1(p_at, p_feed, v_oldest, p_group) f;
    v_elsewhere := null;
    if v_claims is not null then
      select array_agg(r.owner), array_agg(r.ours) into v_owners, v_ours from find_rivals_v1(v_oldest, v_claims) r;
    end if;
  end if;

  select l.p_merged, l.p_low, l.p_high into v_merged, v_low, v_high
    from lock_states_v1(messages || v_owners || v_ours) l;
  if v_merged <> '{}' then
    if messages && v_merged then
      raise exception 'merged meanwhile' using errcode = 'RX001';     -- the caller looks again
    end if;
    select array_agg(v.owner), array_agg(v.id) into v_owners, v_ours
      from unnest(v_owners, v_ours) as v(owner, id) where v.owner <> all (v_merged);
  end if;
  if v_owners is not null then
    changes := merge_v1(p_at, p_feed, v_low, v_high, v_owners, v_ours, v_claims);
    -- what this group had found as observed has become ours just now
    select array_agg(coalesce(o.id, v.id) order by v.n) into messages
      from unnest(messages) with ordinality v(id, n) left join unnest(v_owners, v_ours) as o(owner, id) on o.owner = v.id;
  end if;

  select d.p_new, d.p_changes into v_new, v_changes
    from tell_v1(p_at, p_feed, v_low, v_high, messages,
                 coalesce(v_elsewhere, elsewhere_v1(v_low, v_high, messages, p_group)), p_group) d;
  changes := array_cat(changes, v_changes);
  v_applied := coalesce(cardinality(v_new), 0);
  if v_applied = v_size and v_events is null and v_forged is null then
    outcomes := array_fill(1::smallint, array[v_size]);
  else
    select array_agg(o.outcome order by o.n), count(*) filter (where o.outcome = 1), count(*) filter (where o.outcome = 3),
           count(*) filter (where o.outcome = 4)
      into outcomes, v_applied, v_late, v_forgeries
      from (select t.ordinality as n,
                   (case when v_forged[t.ordinality] then 4 when d.n is null then 2
                         when made_under_v1(p_feed, t.submission_id, t.candidate) < v_oldest then 3 else 1 end)::smallint as outcome
              from unnest(p_group) with ordinality t left join unnest(v_new) as d(n) on d.n = t.ordinality) o;
  end if;

  if v_forgeries + v_rejects > 0 then
    insert into quarantine as q (week, digest, tenant, submission_id, reason, detail, body, headers, first_at, last_at, told)
    select date_trunc('week', p_at at time zone 'UTC')::date, r.digest, r.tenant, (array_agg(r.submission_id))[1],
           min(r.reason), min(r.detail), (array_agg(r.body))[1], (array_agg(r.headers))[1]::jsonb, min(r.at), max(r.at), count(*)
      from (select r.tenant, r.digest, r.submission_id, r.reason, r.detail, r.body, r.headers, r.at from unnest(p_rejects) r
            union all
            select t.tenant, t.fingerprint, t.submission_id, 'forged',
                   'came in under the URL of one submission and claims a message of another', t.raw, '{}', t.received_at
              from unnest(p_group) with ordinality t where v_forged[t.ordinality]) r
     group by r.digest, r.tenant
     order by r.digest, r.tenant
    on conflict (digest, tenant, week) do update
       set told = q.told + excluded.told, last_at = greatest(q.last_at, excluded.last_at);
  end if;

  insert into intake (id, feed, at, received, applied, duplicate, quarantined, forged, late)
  values (p_intake, p_feed, p_at, v_size + v_rejects, v_applied, v_size - v_applied - v_late - v_forgeries, v_rejects,
          v_forgeries, v_late);
end $f$;

-- Receipts whose messages are known because somebody asked about these: nothing is joined, and nobody is born. Their row
-- in the ledger is like any other. Raises RX001 if a message was merged or dropped since it was looked at. `outcomes` in
-- their order: 1 applied, 2 duplicate.
create function apply_asked_v1(
    p_intake uuid, p_at timestamptz, p_feed smallint, p_ids uuid[], p_group told_v1[],
    out outcomes smallint[], out changes changed_v1[]
) language plpgsql volatile as $f$
declare v_merged uuid[]; v_low uuid; v_high uuid; v_new bigint[]; v_size integer := coalesce(cardinality(p_group), 0);
begin
  select l.p_merged, l.p_low, l.p_high into v_merged, v_low, v_high from lock_states_v1(p_ids) l;
  if v_merged <> '{}' then
    raise exception 'merged meanwhile' using errcode = 'RX001';     -- the caller looks again
  end if;
  select d.p_new, d.p_changes into v_new, changes
    from tell_v1(p_at, p_feed, v_low, v_high, p_ids, elsewhere_v1(v_low, v_high, p_ids, p_group), p_group) d;
  select array_agg((case when d.n is null then 2 else 1 end)::smallint order by g.n) into outcomes
    from generate_series(1, v_size) as g(n) left join unnest(v_new) as d(n) on d.n = g.n;
  insert into intake (id, feed, at, received, applied, duplicate, quarantined, forged, late)
  values (p_intake, p_feed, p_at, v_size, coalesce(cardinality(v_new), 0), v_size - coalesce(cardinality(v_new), 0), 0, 0, 0);
end $f$;

-- One receipt that means something else than what is stored. Written by receiver/upkeep/reread_meaning.py, field by field
-- in this order. raw_length: of the body that was read; who was erased meanwhile has none.
create type read_v1 as (
    message_id     uuid,
    fingerprint    bytea,
    raw_length     integer,
    channel        smallint,
    fact           integer,
    rank           smallint,
    clash          integer,
    reason_key     bytea,
    reason_class   smallint,
    told_at        timestamptz,
    status         text,
    code           text,
    code_key       bytea,
    description    text,
    device         text,
    carrier        text,
    message_count  integer
);

-- What a re-read made of a message.
create type recomputed_v1 as (
    message_id    uuid,
    channel       smallint,
    old_state     smallint,
    new_state     smallint,
    old_class     smallint,
    new_class     smallint,
    old_conflict  boolean,
    new_conflict  boolean
);

-- Stores what receipts mean now, and makes each of the messages p_ids the fold of all its receipts, as if it had been told
-- nothing before: it may be lowered. Not an apply: nothing is received, nothing goes on, and what did not change is not
-- written. Raises RX001 (the caller looks again) if a message was merged, dropped or erased since it was looked at.
create function reread_v1(p_at timestamptz, p_ids uuid[], p_read read_v1[]) returns recomputed_v1[]
language plpgsql volatile
set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
set enable_seqscan = off set enable_bitmapscan = off set enable_memoize = off as $f$
declare v_merged uuid[]; v_low uuid; v_high uuid; v_changed recomputed_v1[];
begin
  select l.p_merged, l.p_low, l.p_high into v_merged, v_low, v_high from lock_states_v1(p_ids) l;
  if v_merged <> '{}' then
    raise exception 'merged meanwhile' using errcode = 'RX001';
  end if;
  if exists (select from unnest(p_read) u
               left join lateral (
                 select octet_length(r.raw) as bytes from receipt r
                  where r.message_id = u.message_id and r.message_id between v_low and v_high
                    and r.fingerprint = u.fingerprint offset 0) r on true
              where r.bytes is distinct from u.raw_length) then
    raise exception 'erased meanwhile' using errcode = 'RX001';
  end if;

  update receipt r
     set channel = u.channel, fact = u.fact, rank = u.rank, clash = u.clash, reason_key = u.reason_key,
         reason_class = u.reason_class, told_at = u.told_at, status = u.status, code = u.code, code_key = u.code_key,
         description = u.description, device = u.device, carrier = u.carrier, message_count = u.message_count
    from unnest(p_read) u
   where r.message_id = u.message_id and r.fingerprint = u.fingerprint;

  with new as materialized (
    select m.id, m.state as old_state, m.reason_class as old_class, m.conflict as old_conflict,
           coalesce(b.rank, 0::smallint) as state, coalesce(b.facts, 0) as facts,
           substr(b.reason, 1, 19) as reason_key,
           (get_byte(b.reason, 19) << 8 | get_byte(b.reason, 20))::smallint as reason_class,
           coalesce(b.facts & 10240 <> 0 and b.facts & 71648 <> 0, false) and exists (      -- as fold_v1 has it
             select from receipt r
              where r.message_id = m.id and r.message_id between v_low and v_high and r.feed <= 4
              group by r.channel, r.destination_key, r.subtid, r.device
             having bit_or(r.fact) & bit_or(r.clash) <> 0) as conflict,
           b.clicks, b.complaints, b.clicked_at, b.complained_at,
           b.accepted_at, b.submitted_at, b.delivered_at, b.read_at, b.failed_at,
           m.carrier as old_carrier, b.carrier, m.lags as old_lags,
           lag_v1(minted_v1(m.id), b.accepted_at) | lag_v1(minted_v1(m.id), b.submitted_at) << 8
           | lag_v1(minted_v1(m.id), b.delivered_at) << 16 as lags
      from unnest(p_ids) as i(id)
     cross join lateral (
       select * from message_state s where s.id = i.id and s.id between v_low and v_high offset 0) m
     cross join lateral (
       select max(t.rank) as rank, bit_or(t.fact) as facts,
              decode(max(encode(t.reason_key || int2send(coalesce(t.reason_class, 0::smallint)), 'hex') collate "C"), 'hex') as reason,
              min(t.at) filter (where t.fact & 2 <> 0) as accepted_at,
              min(t.at) filter (where t.fact & 4 <> 0) as submitted_at,
              min(t.at) filter (where t.fact & 2048 <> 0) as delivered_at,
              min(t.at) filter (where t.fact & 8192 <> 0) as read_at,
              min(t.at) filter (where t.fact & 71648 <> 0) as failed_at,
              count(*) filter (where t.fact & 16384 <> 0 and t.feed <= 4) as clicks,
              count(*) filter (where t.fact & 32768 <> 0 and t.feed <= 4) as complaints,
              max(t.at) filter (where t.fact & 16384 <> 0 and t.feed <= 4) as clicked_at,
              max(t.at) filter (where t.fact & 32768 <> 0 and t.feed <= 4) as complained_at,
              min(t.carrier collate "C") as carrier
         from (select r.feed, r.fact, r.rank, r.reason_key, r.reason_class, coalesce(r.told_at, r.received_at) as at,
                      left(nullif(r.carrier, ''), 64) as carrier
                 from receipt r where r.message_id = m.id and r.message_id between v_low and v_high offset 0) t) b
  ),
  upd as (
    update message_state m
       set state = n.state, facts = n.facts, reason_key = n.reason_key, reason_class = n.reason_class,
           conflict = n.conflict,
           attention = n.conflict or n.state in (5, 30, 40, 41, 42, 43, 44, 45, 46, 65),
           version = m.version + 1,
           clicks = n.clicks, complaints = n.complaints,
           clicked_at = n.clicked_at, complained_at = n.complained_at,
           accepted_at = n.accepted_at, submitted_at = n.submitted_at, delivered_at = n.delivered_at,
           read_at = n.read_at, failed_at = n.failed_at, carrier = n.carrier, lags = n.lags, changed_at = p_at
      from new n
     where m.id = n.id
       and (m.state, m.facts, m.reason_key, m.reason_class, m.conflict, m.clicks, m.complaints, m.clicked_at,
            m.complained_at, m.accepted_at, m.submitted_at, m.delivered_at, m.read_at, m.failed_at, m.carrier)
           is distinct from
           (n.state, n.facts, n.reason_key, n.reason_class, n.conflict, n.clicks, n.complaints, n.clicked_at,
            n.complained_at, n.accepted_at, n.submitted_at, n.delivered_at, n.read_at, n.failed_at, n.carrier)
    returning m.id, m.version, m.tenant, m.origin, m.channel, m.country, n.old_state, m.state, n.old_class, m.reason_class,
              n.old_conflict, m.conflict, n.old_lags, m.lags, n.old_carrier, m.carrier
  ),
  log as (
    insert into change (at, message_id, version, tenant, origin, channel, feed, country, old_state, new_state,
                        old_class, new_class, old_conflict, new_conflict, old_lags, new_lags, old_carrier, new_carrier)
    select p_at, u.id, u.version, u.tenant, u.origin, u.channel, 6, u.country, u.old_state, u.state,
           u.old_class, u.reason_class, u.old_conflict, u.conflict, u.old_lags, u.lags, u.old_carrier, u.carrier
      from upd u
  ),
  awaiting as (      -- the walk that fills it may be past a message of which a final word was taken back
    insert into awaited (message_id, tenant, channel, country, look_at)
    select u.id, u.tenant, u.channel, u.country, p_at
      from upd u
     where is_final_v1(u.old_state, u.channel) and not is_final_v1(u.state, u.channel) and u.state <> 30
     order by u.id
    on conflict do nothing
  )
  select array_agg((u.id, u.channel, u.old_state, u.state, u.old_class, u.reason_class, u.old_conflict,
                    u.conflict)::recomputed_v1 order by u.id)
    into v_changed from upd u;
  return v_changed;
end $f$;

-- A message is born some time after its id was minted, and the walk of `awaited` goes by ids. It stays two seconds behind
-- whoever may still write; what is older than that at its birth is put into `awaited` by its own transaction, so none
-- is passed unseen. So is what lies before the walk: a clock that went ahead took it along, and was set back.
-- Before the first walk there is nothing to be passed by (docs/decisions/0016-what-never-came.md).
create function late_births_v1() returns trigger language plpgsql volatile as $f$
declare v_walked uuid; v_before uuid;
begin
  select w.last_id into v_walked from walk w where w.name like 'awaited %' order by w.last_id desc limit 1;
  v_before := greatest(v_walked, first_id_at_v1(clock_timestamp() - interval '2 seconds'));
  if v_walked is not null and exists (select from born b where b.id < v_before) then
    insert into awaited (message_id, tenant, channel, country, look_at)
    select b.id, b.tenant, b.channel, b.country, clock_timestamp() from born b
     where b.id < v_before
     order by b.id
    on conflict do nothing;
  end if;
  return null;
end $f$;

create trigger message_state_late_births after insert on message_state referencing new table as born
for each statement execute function late_births_v1();
