-- The contract for people who ask in SQL: views that stay as they are while the tables below them change. What would
-- break a reader comes as a new schema, receiver_v2, beside this one. Column by column: docs/sql.md, which a test holds
-- against these views.

create schema receiver_v1;
comment on schema receiver_v1 is 'Read-only views of receiver, for reports. See docs/sql.md.';

create function receiver_v1.state_word(p_state smallint) returns text language sql immutable parallel safe
return case p_state when 0 then 'queued' when 5 then 'uncertain' when 10 then 'accepted' when 20 then 'submitted'
    when 25 then 'ended' when 30 then 'no_receipt' when 40 then 'cancelled' when 41 then 'expired' when 42 then 'refused'
    when 43 then 'invalid' when 44 then 'not_verified' when 45 then 'undelivered' when 46 then 'failed'
    when 60 then 'delivered' when 65 then 'bounced' when 70 then 'read' end;

create function receiver_v1.channel_word(p_channel smallint) returns text language sql immutable parallel safe
return case p_channel when 0 then 'other' when 1 then 'sms' when 2 then 'voice' when 3 then 'push' when 4 then 'rt'
    when 5 then 'messenger' when 6 then 'twitter' when 7 then 'wechat' when 8 then 'whatsapp' when 9 then 'rcs'
    when 10 then 'email' when 11 then 'apple' when 12 then 'mms' when 13 then 'instagram' when 14 then 'event'
    when 15 then 'campaign' end;

create function receiver_v1.origin_word(p_origin smallint) returns text language sql immutable parallel safe
return case p_origin when 1 then 'issued' when 2 then 'observed' when 3 then 'recorded' end;

create function receiver_v1.feed_word(p_feed smallint) returns text language sql immutable parallel safe
return case p_feed when 1 then 'push' when 2 then 'import' when 3 then 'poll' when 4 then 'replay' when 5 then 'answer'
    when 6 then 'own' end;

create function receiver_v1.class_word(p_class smallint) returns text language sql immutable parallel safe
return case p_class when 0 then 'unknown' when 1 then 'recipient' when 2 then 'content' when 3 then 'policy'
    when 4 then 'configuration' when 5 then 'temporary' when 6 then 'platform' end;

-- The least id of messages born at that time or later: `where id >= receiver_v1.first_id('2026-11-01')` reads the weeks
-- since then, and a condition on created_at reads them all. Immutable, as it is for a moment: so that weeks are left out
-- when the plan is made.
create function receiver_v1.first_id(p_at timestamptz) returns uuid language sql immutable parallel safe
return first_id_at_v1(p_at);

create view receiver_v1.messages as
select m.id,
       t.name as tenant,
       receiver_v1.origin_word(m.origin) as origin,
       receiver_v1.channel_word(m.channel) as channel,
       receiver_v1.state_word(s.state) as state,
       is_final_v1(s.state, s.channel) as final,
       case when s.state not in (60, 70) then receiver_v1.class_word(s.reason_class) end as reason_class,
       case when s.state not in (60, 70) then r.code end as reason_code,
       case when s.state not in (60, 70) then r.description end as reason_description,
       s.conflict,
       m.destination, m.destination_type, s.country, s.carrier, m.sender, m.template,
       s.transid, m.correlationid, m.callback_data, m.batch_id, m.parent_id, m.resend_of,
       m.created_at, u.sent_at, s.accepted_at, s.submitted_at, s.delivered_at, s.read_at, s.failed_at, s.changed_at,
       s.clicks, s.complaints
  from message m
  join message_state s on s.id = m.id
  join tenant t on t.id = m.tenant
  left join submission u on u.id = m.submission_id
  left join receipt r on r.message_id = m.id and r.fingerprint = substring(s.reason_key from 4)
 where s.merged_into is null;

create view receiver_v1.receipts as
select r.message_id,
       t.name as tenant,
       receiver_v1.feed_word(r.feed) as feed,
       r.received_at, r.told_at, r.status,
       case when r.rank > 0 then receiver_v1.state_word(r.rank) end as state,
       receiver_v1.class_word(r.reason_class) as reason_class,
       r.code, r.description,
       receiver_v1.channel_word(r.channel) as channel,
       r.destination, r.carrier, r.subtid, r.device, r.message_count, r.transid,
       encode(r.fingerprint, 'hex') as fingerprint
  from receipt r
  join message_state s on s.id = r.message_id
  join tenant t on t.id = s.tenant
 where s.merged_into is null;

create view receiver_v1.delivery_hourly as
select c.at as hour,
       t.name as tenant,
       receiver_v1.channel_word(c.channel) as channel,
       nullif(c.country, '') as country,
       receiver_v1.origin_word(c.origin) as origin,
       receiver_v1.state_word(c.state) as state,
       is_final_v1(c.state, c.channel) as final,
       case when c.class <> 0 then receiver_v1.class_word(c.class) end as reason_class,
       c.conflict,
       c.messages
  from cohort c
  join tenant t on t.id = c.tenant
 where c.hours = 1 and c.side = 0 and c.messages <> 0;

create view receiver_v1.tenants as
select t.name as tenant, t.created_at from tenant t;
