-- The data model. Words: docs/glossary.md. Reasons: docs/how-it-works.md.
--
-- Every text that somebody else chooses is indexed by a 16-byte digest, never by itself:
-- a legal callbackData of 2,000 characters does not fit into a btree.

create table tenant (
    id          smallint generated always as identity,
    name        text not null,
    forward_to  text,                             -- where receipts go on to that have no notifyurl of a client's own
    forwards    boolean not null default false,   -- whether any receipt of it may have to go on
    created_at  timestamptz not null default now(),
    constraint tenant_pk primary key (id),
    constraint tenant_name_unique unique (name)
);

create table api_key (
    id            bigint generated always as identity,
    tenant        smallint not null,
    name          text not null,
    prefix        text not null,
    hash          bytea not null,
    scopes        text[] not null,
    created_at    timestamptz not null default now(),
    expires_at    timestamptz,
    revoked_at    timestamptz,
    last_used_at  timestamptz,   -- to the minute or so: not each call is written down
    rate          integer,       -- requests a minute; null: as the settings say
    constraint api_key_pk primary key (id),
    constraint api_key_prefix_unique unique (prefix),
    constraint api_key_tenant_fk foreign key (tenant) references tenant (id),
    constraint api_key_hash_is_sha256 check (octet_length(hash) = 32),
    constraint api_key_rate_positive check (rate > 0)
);

-- The weeks that have partitions. [first_id, end_id) bounds the ids born in the week.
create table week (
    starts_on  date not null,
    first_id   uuid not null,
    end_id     uuid not null,
    constraint week_pk primary key (starts_on),
    constraint week_is_not_empty check (first_id < end_id)
);

-- What retention dropped: the counts that the ledger still needs. Of the platform's receipts alone (feeds 1 to 4):
-- `receipts` stood in the week, `copied` of them twice after a merge; `counted` is what its ledger rows called applied
-- or late. Until `dropped_at` its tables are detached, still there and not counted.
create table dropped_week (
    starts_on   date not null,
    messages    bigint not null default 0,
    receipts    bigint not null default 0,
    copied      bigint not null default 0,
    counted     bigint not null default 0,
    dropped_at  timestamptz,
    constraint dropped_week_pk primary key (starts_on)
);

-- Which process does a background duty now; nobody, once `until` has passed.
create table duty (
    name      text not null,
    holder    uuid not null,
    place     text not null,             -- host and process id, for people
    taken_at  timestamptz not null,
    until     timestamptz not null,
    constraint duty_pk primary key (name)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- The self-probe: the prober makes a row and posts; whoever takes the probe at the receipts door marks it. No receipt.
create table probe (
    id          uuid not null,
    posted_at   timestamptz not null,
    arrived_at  timestamptz,
    result      text,                    -- once it was judged: arrived, dns, tls, connection, refused, lost
    constraint probe_pk primary key (id)
);

-- How far each spool has been drained: advanced by the transaction that applies what was drained.
create table spool (
    id          uuid not null,
    last_seq    bigint not null,
    drained_at  timestamptz not null,
    constraint spool_pk primary key (id)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- What a client handed us in one call. A call with an Idempotency-Key is found again by it for a day.
create table batch (
    id               uuid not null,
    tenant           smallint not null,
    created_at       timestamptz not null,
    first_id         uuid not null,
    last_id          uuid not null,
    message_count    integer not null,
    idempotency_key  bytea,
    request_digest   bytea,
    answer_status    smallint,     -- of a drop-in door, which answers with the platform's word
    answer           bytea,
    constraint batch_pk primary key (id),
    constraint batch_range_in_order check (first_id <= last_id),
    constraint batch_idempotency_key_is_16_bytes check (octet_length(idempotency_key) = 16),
    constraint batch_request_digest_is_16_bytes check (octet_length(request_digest) = 16)
) partition by range (id);

create index batch_by_idempotency_key on batch (idempotency_key, id) where idempotency_key is not null;

-- One HTTP call to the platform. `content` is what every recipient gets; erased with the final answer, or once it is
-- clear whether it is sent again.
create table submission (
    id             uuid not null,
    tenant         smallint not null,
    batch_id       uuid not null,
    api            smallint not null,
    notifyurl      text,           -- the client's own: receipts go on to it
    created_at     timestamptz not null,
    first_id       uuid not null,
    last_id        uuid not null,
    message_count  integer not null,
    content        bytea,
    sent_at        timestamptz,
    answered_at    timestamptz,
    constraint submission_pk primary key (id),
    constraint submission_range_in_order check (first_id <= last_id)
) partition by range (id);

-- Each call to the platform, whatever came of it. An answer that will be tried again is only this, no fact.
create table attempt (
    submission_id  uuid not null,
    number         smallint not null,
    at             timestamptz not null,
    outcome        text not null,
    http_status    smallint,
    code           text,
    description    text,
    constraint attempt_pk primary key (submission_id, number)
) partition by range (submission_id);

-- What is still to be sent. A row leaves with the last word on its submission.
create table outbox (
    submission_id  uuid not null,
    tenant         smallint not null,
    family         smallint not null,             -- with the tenant: its lane
    priority       smallint not null,
    message_count  integer not null,
    due_at         timestamptz not null,
    expires_at     timestamptz,
    attempts       smallint not null default 0,   -- claims: fences those that were taken over
    failures       smallint not null default 0,   -- tries that count for the backoff
    lease_until    timestamptz,
    in_line        boolean not null default false,   -- a door sends it itself and tells its caller: never sent later
    constraint outbox_pk primary key (submission_id)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200);

create index outbox_due on outbox (tenant, family, priority, due_at, submission_id) where lease_until is null;
create index outbox_leased on outbox (lease_until) where lease_until is not null;

-- What may be sent again, and when: submissions with uncertain messages, of tenants that want that. `priority` and
-- `expires_at` are what the outbox knew. A row leaves when it is due.
create table resend (
    submission_id  uuid not null,
    tenant         smallint not null,
    priority       smallint not null,
    expires_at     timestamptz,
    due_at         timestamptz not null,
    constraint resend_pk primary key (submission_id)
);

create index resend_due on resend (due_at);

-- What all processes share of a tenant's way out: its rate, and what holds it up. No row: nothing ever did.
create table lane (
    tenant        smallint not null,
    family        smallint not null,                     -- 1 the platform, 2 Webex Campaign: each has its credentials
    tokens        double precision not null default 0,   -- messages that may go out now; negative: a large call is paid off
    refilled_at   timestamptz not null default now(),
    pauses        smallint not null default 0,           -- times in a row that the platform was too busy
    paused_until  timestamptz,
    stopped_at    timestamptz,                            -- since the platform refused the credentials
    stopped_code  text,
    probe_at      timestamptz,                            -- when one queued submission may try again
    constraint lane_pk primary key (tenant, family),
    constraint lane_tenant_fk foreign key (tenant) references tenant (id)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Receipts that go on to a client's own notifyurl, or to the tenant's, and failure notices. A receipt's row is born with it;
-- one leaves when it was taken; one that was given up stays, due never. `host` is what of the url may be shown: scheme, name
-- and port. A notice has the id of its message, or a digest one of its own, and a fingerprint of its change.
create table forward (
    id           bigint generated always as identity,
    tenant       smallint not null,
    message_id   uuid not null,
    fingerprint  bytea not null,
    url          text not null,
    host         text not null generated always as
                 (regexp_replace(lower(coalesce(substring(url from '^[^:/?#]+://[^/?#]*'), '')), '//.*@', '//')) stored,
    created_at   timestamptz not null,
    due_at       timestamptz not null,
    expires_at   timestamptz not null,            -- when it is given up
    attempts     smallint not null default 0,     -- claims: fences those that were taken over, and counts for the rhythm
    lease_until  timestamptz,
    last_status  smallint,
    last_error   text,
    body         bytea,                           -- of a failure notice: what is told; null: the receipt has it
    constraint forward_pk primary key (id),
    constraint forward_once unique (message_id, fingerprint)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200);

create index forward_due on forward (host, due_at, id) where lease_until is null;
create index forward_leased on forward (lease_until) where lease_until is not null;

-- A phone number from its end, its last nine digits: who knows how it ends finds it by a range. Null for what is none.
create function tail_v1(p_destination text) returns text language sql immutable parallel safe
return case when p_destination ~* '^((tel|sms|sips?):\s*)*\+?[0-9][0-9 ().-]*$'
            then reverse(right(regexp_replace(p_destination, '[^0-9]', '', 'g'), 9)) collate "C" end;

-- Written once at birth; carries what is searched for.
create table message (
    id                uuid not null,
    tenant            smallint not null,
    origin            smallint not null,
    channel           smallint not null,
    created_at        timestamptz not null,
    batch_id          uuid,
    submission_id     uuid,
    parent_id         uuid,
    resend_of         uuid,
    late_of           uuid,
    destination       text not null,
    destination_type  text not null,
    destination_key   bytea not null,
    correlationid     text,
    correlation_key   bytea,
    callback_data     text,
    callback_key      bytea,
    sender            text,
    template          text,
    constraint message_pk primary key (id),
    constraint message_origin_known check (origin in (1, 2, 3)),
    constraint message_issued_has_submission check (origin <> 1 or submission_id is not null),
    constraint message_destination_key_is_16_bytes check (octet_length(destination_key) = 16),
    constraint message_correlation_key_is_16_bytes check (octet_length(correlation_key) = 16),
    constraint message_callback_key_is_16_bytes check (octet_length(callback_key) = 16)
) partition by range (id);

create index message_by_destination on message (destination_key, id);
create index message_by_correlation on message (correlation_key, id) where correlation_key is not null;
create index message_by_tail on message ((tail_v1(destination) collate "C"), id);
create index message_by_callback on message (callback_key, id) where callback_key is not null;

-- What changes. The one index is on `attention`, which stays false for a message that goes well: its updates are HOT.
create table message_state (
    id             uuid not null,
    tenant         smallint not null,
    origin         smallint not null,
    channel        smallint not null,
    state          smallint not null default 0,
    facts          integer not null default 0,
    reason_key     bytea,
    reason_class   smallint,
    conflict       boolean not null default false,
    attention      boolean not null default false,
    version        integer not null default 0,
    clicks         integer not null default 0,
    complaints     integer not null default 0,
    clicked_at     timestamptz,
    complained_at  timestamptz,
    accepted_at    timestamptz,
    submitted_at   timestamptz,
    delivered_at   timestamptz,
    read_at        timestamptz,
    failed_at      timestamptz,
    changed_at     timestamptz not null,
    transid        text,
    country        text,      -- of a phone number: what ISO 3166 calls it
    carrier        text,      -- the least of those that receipts name
    lags           integer not null default 0,   -- how long after its birth, in classes of lag_v1: accepted, submitted << 8, delivered << 16
    merged_into    uuid,
    constraint message_state_pk primary key (id),
    constraint message_state_state_not_negative check (state >= 0),
    constraint message_state_reason_key_is_19_bytes check (octet_length(reason_key) = 19)
) partition by range (id);

create index message_state_attention on message_state (id) where attention;

-- Each fact that anybody told of a message: the platform, its answer to the submission, or ourselves.
create table receipt (
    message_id       uuid not null,
    fingerprint      bytea not null,
    feed             smallint not null,
    copied           boolean not null default false,
    elsewhere        boolean not null default false,
    joined           smallint not null default 0,   -- how its message was found: 1 our id, 2 the notifyurl, 3 a key, 4 it was the first; 0 it needed no finding
    channel          smallint not null,
    fact             integer not null,
    rank             smallint not null,
    clash            integer not null,
    reason_key       bytea,
    reason_class     smallint,
    received_at      timestamptz not null,
    told_at          timestamptz,
    status           text not null,
    code             text,
    code_key         bytea,
    description      text,
    destination      text,
    destination_key  bytea not null,
    subtid           text,
    device           text,
    carrier          text,
    message_count    integer,
    transid          text,
    raw              bytea not null,
    constraint receipt_pk primary key (message_id, fingerprint),
    constraint receipt_fingerprint_is_16_bytes check (octet_length(fingerprint) = 16),
    constraint receipt_feed_known check (feed between 1 and 6)
) partition by range (message_id);

create index receipt_by_code on receipt (code_key, message_id) where reason_key is not null;
create index receipt_told_elsewhere on receipt (destination_key, message_id) where elsewhere;
create index receipt_told_elsewhere_by_tail on receipt ((tail_v1(destination) collate "C"), message_id) where elsewhere;

-- Finds a message by what the platform calls it. Weekly generations: a week is dropped whole.
create table message_key (
    generation   integer not null,
    tenant       smallint not null,
    transid_key  bytea not null,
    leg_key      bytea not null,
    message_id   uuid not null,
    constraint message_key_pk primary key (transid_key, leg_key, tenant, generation),
    constraint message_key_transid_key_is_16_bytes check (octet_length(transid_key) = 16),
    constraint message_key_leg_key_is_16_bytes check (octet_length(leg_key) = 16)
) partition by list (generation);

-- One row: the generation in which keys are born now.
create table key_generation (
    one_row     boolean not null default true,
    current     integer not null,
    rotated_at  timestamptz not null,
    constraint key_generation_pk primary key (one_row),
    constraint key_generation_is_one_row check (one_row)
);

-- The generations before, and since when no key is born in them: they go when the messages of that time have gone.
create table past_generation (
    number    integer not null,
    ended_at  timestamptz not null,
    constraint past_generation_pk primary key (number)
);

create table message_key_g1 partition of message_key for values in (1);
insert into key_generation (current, rotated_at) values (1, now());

-- The one change log: statistics fold it, streams read it. seq is drawn under the row's lock (CACHE 1).
create sequence change_seq cache 1;

create table change (
    at            timestamptz not null,
    seq           bigint not null default nextval('change_seq'),
    xid           xid8 not null default pg_current_xact_id(),
    message_id    uuid not null,
    version       integer not null,
    tenant        smallint not null,
    origin        smallint not null,
    channel       smallint not null,
    feed          smallint,          -- who told it; null: nobody, it was handed in or merged away
    country       text,
    old_state     smallint,
    new_state     smallint,
    old_class     smallint,
    new_class     smallint,
    old_conflict  boolean,
    new_conflict  boolean,
    old_lags      integer,           -- as message_state has them; null: nothing has happened yet
    new_lags      integer,
    told_lag      smallint,          -- how late the platform told by push that it arrived or failed, in a class of lag_v1
    old_carrier   text,
    new_carrier   text,
    constraint change_pk primary key (seq, at)
) partition by range (at);

create index change_by_xid on change (xid);

-- How far the change log has been folded into `cohort_state` and `cohort_lag`: all that `snapshot` sees. A snapshot is good in
-- its own cluster alone: restored into another (`cluster`), everything is counted anew, and what stood in the log then
-- (up to `floor_seq`) is folded. Streams pass by that too.
create table folded (
    one_row    boolean not null default true,
    cluster    bigint not null,
    snapshot   pg_snapshot not null,
    floor_seq  bigint not null default 0,
    at         timestamptz not null,
    constraint folded_pk primary key (one_row),
    constraint folded_is_one_row check (one_row)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

insert into folded (cluster, snapshot, at)
select system_identifier, pg_current_snapshot(), now() from pg_control_system();

-- How far the change log has been looked through for failure notices: all that `snapshot` sees. `floor_seq`: what is
-- numbered below was there before, and is told of by nobody. No row: nobody ever wanted any.
create table noticed (
    one_row    boolean not null default true,
    cluster    bigint not null,
    snapshot   pg_snapshot not null,
    floor_seq  bigint not null,
    at         timestamptz not null,
    constraint noticed_pk primary key (one_row),
    constraint noticed_is_one_row check (one_row)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Failures that wait for the end of their tenant's span, counted: then they go on as one notice.
create table failure_digest (
    tenant    smallint not null,
    began_at  timestamptz not null,
    figures   jsonb not null,
    constraint failure_digest_pk primary key (tenant)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- How many messages born in an hour or a day (`hours` 1 or 24, from `at`) are in which state now: the change log, added up.
-- `side` 0 counts them all by country, 4 all countries together (country ''); 1 by sender, 2 by template, 3 by carrier count
-- those that have a `value`, by country. Country and value '': none. A column a state, n45_1 the undelivered of class 1
-- (0: none known), as receiver/messages/cells.py has them: one row is read where the view below has a dozen.
create table cohort_state (
    at        timestamptz not null,
    hours     smallint not null,
    tenant    smallint not null,
    side      smallint not null,
    value     text collate "C" not null,
    channel   smallint not null,
    country   text collate "C" not null,
    origin    smallint not null,
    conflict  boolean not null,
    n0 integer not null default 0, n5 integer not null default 0, n10 integer not null default 0, n20 integer not null default 0,
    n25 integer not null default 0, n30 integer not null default 0,
    n40_0 integer not null default 0, n40_1 integer not null default 0, n40_2 integer not null default 0, n40_3 integer not null default 0,
    n40_4 integer not null default 0, n40_5 integer not null default 0, n40_6 integer not null default 0,
    n41_0 integer not null default 0, n41_1 integer not null default 0, n41_2 integer not null default 0, n41_3 integer not null default 0,
    n41_4 integer not null default 0, n41_5 integer not null default 0, n41_6 integer not null default 0,
    n42_0 integer not null default 0, n42_1 integer not null default 0, n42_2 integer not null default 0, n42_3 integer not null default 0,
    n42_4 integer not null default 0, n42_5 integer not null default 0, n42_6 integer not null default 0,
    n43_0 integer not null default 0, n43_1 integer not null default 0, n43_2 integer not null default 0, n43_3 integer not null default 0,
    n43_4 integer not null default 0, n43_5 integer not null default 0, n43_6 integer not null default 0,
    n44_0 integer not null default 0, n44_1 integer not null default 0, n44_2 integer not null default 0, n44_3 integer not null default 0,
    n44_4 integer not null default 0, n44_5 integer not null default 0, n44_6 integer not null default 0,
    n45_0 integer not null default 0, n45_1 integer not null default 0, n45_2 integer not null default 0, n45_3 integer not null default 0,
    n45_4 integer not null default 0, n45_5 integer not null default 0, n45_6 integer not null default 0,
    n46_0 integer not null default 0, n46_1 integer not null default 0, n46_2 integer not null default 0, n46_3 integer not null default 0,
    n46_4 integer not null default 0, n46_5 integer not null default 0, n46_6 integer not null default 0,
    n60 integer not null default 0,
    n65_0 integer not null default 0, n65_1 integer not null default 0, n65_2 integer not null default 0, n65_3 integer not null default 0,
    n65_4 integer not null default 0, n65_5 integer not null default 0, n65_6 integer not null default 0,
    n70 integer not null default 0,
    constraint cohort_state_pk primary key (tenant, hours, side, value, at, channel, country, origin, conflict)
) partition by range (at);

-- The same as rows: one a cell, a state and a class.
create view cohort as
select c.at, c.hours, c.tenant, c.side, c.value, c.channel, c.country, c.origin, n.state::smallint as state,
       n.class::smallint as class, c.conflict, n.messages::bigint as messages
  from cohort_state c
 cross join lateral (
  values (0, 0, c.n0), (5, 0, c.n5), (10, 0, c.n10), (20, 0, c.n20), (25, 0, c.n25), (30, 0, c.n30),
         (40, 0, c.n40_0), (40, 1, c.n40_1), (40, 2, c.n40_2), (40, 3, c.n40_3), (40, 4, c.n40_4),
         (40, 5, c.n40_5), (40, 6, c.n40_6), (41, 0, c.n41_0), (41, 1, c.n41_1), (41, 2, c.n41_2),
         (41, 3, c.n41_3), (41, 4, c.n41_4), (41, 5, c.n41_5), (41, 6, c.n41_6), (42, 0, c.n42_0),
         (42, 1, c.n42_1), (42, 2, c.n42_2), (42, 3, c.n42_3), (42, 4, c.n42_4), (42, 5, c.n42_5),
         (42, 6, c.n42_6), (43, 0, c.n43_0), (43, 1, c.n43_1), (43, 2, c.n43_2), (43, 3, c.n43_3),
         (43, 4, c.n43_4), (43, 5, c.n43_5), (43, 6, c.n43_6), (44, 0, c.n44_0), (44, 1, c.n44_1),
         (44, 2, c.n44_2), (44, 3, c.n44_3), (44, 4, c.n44_4), (44, 5, c.n44_5), (44, 6, c.n44_6),
         (45, 0, c.n45_0), (45, 1, c.n45_1), (45, 2, c.n45_2), (45, 3, c.n45_3), (45, 4, c.n45_4),
         (45, 5, c.n45_5), (45, 6, c.n45_6), (46, 0, c.n46_0), (46, 1, c.n46_1), (46, 2, c.n46_2),
         (46, 3, c.n46_3), (46, 4, c.n46_4), (46, 5, c.n46_5), (46, 6, c.n46_6), (60, 0, c.n60), (65, 0, c.n65_0),
         (65, 1, c.n65_1), (65, 2, c.n65_2), (65, 3, c.n65_3), (65, 4, c.n65_4), (65, 5, c.n65_5),
         (65, 6, c.n65_6), (70, 0, c.n70)) n(state, class, messages)
 where n.messages <> 0;

-- How long it took, in classes of lag_v1: the decimal digits 12 n to 12 n + 11 of `counts` count those of class n, so adding two
-- numbers adds up all classes at once, and what nobody has takes no place. `kind`: 1 accepted, 2 submitted, 3 delivered,
-- all since the birth of a message that was sent; 4 how late we were told.
create table cohort_lag (
    at        timestamptz not null,
    hours     smallint not null,
    tenant    smallint not null,
    side      smallint not null,
    value     text collate "C" not null,
    channel   smallint not null,
    country   text collate "C" not null,
    origin    smallint not null,
    kind      smallint not null,
    counts    numeric not null,
    constraint cohort_lag_pk primary key (tenant, hours, side, value, at, channel, country, origin, kind)
) partition by range (at);

-- Messages past their channel's usual time without a final word, until they have one or are given up. Filled by a walk over
-- the messages, in the order of their age; `push_count` says what became of those that needed no waiting.
create table awaited (
    message_id   uuid not null,
    tenant       smallint not null,
    channel      smallint not null,
    country      text,
    look_at      timestamptz not null,          -- when what we know of it is looked at next
    poll_at      timestamptz,                   -- when the platform may be asked next
    polls        smallint not null default 0,
    overdue_at   timestamptz,                   -- since when it is later than nearly all of its channel and country
    constraint awaited_pk primary key (message_id)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

create index awaited_by_look on awaited (look_at);
create index awaited_by_poll on awaited (tenant, poll_at) where poll_at is not null;
create index awaited_by_overdue on awaited (overdue_at) where overdue_at is not null;

-- How far a walk over the messages has come, oldest first.
create table walk (
    name     text not null,
    last_id  uuid not null,
    at       timestamptz not null,
    figures  jsonb,                    -- what it has counted so far
    constraint walk_pk primary key (name)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Messages with a final receipt, by the hour of their birth: how many of them were told of by push, and how many we had
-- to find out by asking, or from an export.
create table push_count (
    hour     timestamptz not null,
    tenant   smallint not null,
    channel  smallint not null,
    pushed   bigint not null default 0,
    missed   bigint not null default 0,
    constraint push_count_pk primary key (hour, tenant, channel)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- How long it takes to hear the final word, learned from what was told: 99 in 100 are heard by then. Country '': all.
create table usual_time (
    channel     smallint not null,
    country     text not null,
    seconds     double precision not null,
    messages    integer not null,
    learned_at  timestamptz not null,
    constraint usual_time_pk primary key (channel, country)
);

-- Files of receipts that were imported, or are: how far each has been read, and what came of it.
create table import (
    tenant       smallint not null,
    identity     bytea not null,           -- digest of the file's size, beginning and end; the door's: an id
    name         text not null,
    bytes        bigint not null,
    position     bigint not null default 0,
    received     bigint not null default 0,
    applied      bigint not null default 0,
    duplicate    bigint not null default 0,
    quarantined  bigint not null default 0,
    forged       bigint not null default 0,
    late         bigint not null default 0,
    began_at     timestamptz not null,
    at           timestamptz not null,
    done_at      timestamptz,
    constraint import_pk primary key (tenant, identity),
    constraint import_identity_is_16_bytes check (octet_length(identity) = 16)
);

-- The ledger: one row a committed group and feed. The id is the group's batch key.
create table intake (
    id           uuid not null,
    feed         smallint not null,
    at           timestamptz not null,
    received     integer not null,
    applied      integer not null,
    duplicate    integer not null,
    quarantined  integer not null,
    forged       integer not null,
    late         integer not null,
    constraint intake_pk primary key (id, feed),
    constraint intake_balances check (received = applied + duplicate + quarantined + forged + late)
) partition by range (id);

-- A span of time is what is asked for, and a drained group is younger than its id. Rows stand in the order of `at`, so
-- this costs next to nothing.
create index intake_by_at on intake using brin (at) with (autosummarize = on);

-- What the independent count said, each time: the receipts that are there or were dropped, and those that the ledger
-- counted. `difference` is counted - receipts.
create table ledger_check (
    at          timestamptz not null,
    difference  bigint not null,
    receipts    bigint not null,
    counted     bigint not null,
    seconds     double precision not null,
    constraint ledger_check_pk primary key (at),
    constraint ledger_check_subtracts check (difference = counted - receipts)
);

-- Bodies in which no receipt could be read or believed. The same body again only counts.
create table quarantine (
    week           date not null,
    digest         bytea not null,
    tenant         smallint not null,
    submission_id  uuid,
    reason         text not null,
    detail         text,
    body           bytea not null,
    headers        jsonb not null,
    first_at       timestamptz not null,
    last_at        timestamptz not null,
    told           integer not null default 1,
    replayed_at    timestamptz,
    replay_result  text,
    constraint quarantine_pk primary key (digest, tenant, week),
    constraint quarantine_digest_is_16_bytes check (octet_length(digest) = 16)
) partition by range (week);
