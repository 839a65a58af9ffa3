-- Finding messages by name, for people who ask in SQL. The indexes hold digests (receiver/ids.py) of a kind for which
-- Postgres has no function: here they are made once more. tests/database/test_sql_find.py compares them with the service's.

-- ids.digest: BLAKE2b (RFC 7693) of 16 bytes, without a key. A block of 128 bytes takes about half a millisecond.
create function digest_v1(p_octets bytea) returns bytea language plpgsql immutable strict parallel safe as $f$
declare
    -- Roots of the first primes, as for SHA-512; the first is mixed with the length of the digest.
    iv constant bigint[] := array[7640891576956012808, -4942790177534073029, 4354685564936845355, -6534734903238641935,
                                  5840696475078001361, -7276294671716946913, 2270897969802886507, 6620516959819538809];
    sigma constant integer[] := array[
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,  14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3,
        11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4,  7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8,
        9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13,  2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9,
        12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11,  13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10,
        6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5,  10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0];
    low constant bigint := 4294967295;
    size constant integer := octet_length(p_octets);
    blocks constant integer := greatest(1, (size + 127) / 128);
    padded constant bytea := p_octets || decode(repeat('00', blocks * 128 - size), 'hex');
    h bigint[] := array[iv[1] # 16842768] || iv[2:8];
    m bigint[]; v bigint[];
    a bigint; b bigint; c bigint; d bigint; s bigint;
    ia integer; ib integer; ic integer; id integer; at integer;
    swapped bytea := '';
begin
    for block in 0 .. blocks - 1 loop
        for n in 0 .. 15 loop
            s := 0;
            for octet in reverse 7 .. 0 loop
                s := s << 8 | get_byte(padded, block * 128 + n * 8 + octet);
            end loop;
            m[n] := s;
        end loop;
        v := h || iv;
        v[13] := v[13] # least(size, (block + 1) * 128);
        if block = blocks - 1 then
            v[15] := ~v[15];
        end if;
        for turn in 0 .. 95 loop   -- twelve rounds of eight: four columns, four diagonals
            ia := turn % 4 + 1;
            at := turn / 4 % 2;
            ib := (turn + at) % 4 + 5;
            ic := (turn + 2 * at) % 4 + 9;
            id := (turn + 3 * at) % 4 + 13;
            a := v[ia]; b := v[ib]; c := v[ic]; d := v[id];
            for half in 0 .. 1 loop
                -- sums are modulo 2^64, and bigint overflows: added by halves
                at := turn / 8 % 10 * 16 + turn % 8 * 2 + half + 1;
                s := (a & low) + (b & low) + (m[sigma[at]] & low);
                a := (((a >> 32) + (b >> 32) + (m[sigma[at]] >> 32) + (s >> 32)) << 32) | (s & low);
                d := d # a;
                d := case half when 0 then (d << 32) | (d >> 32 & low) else (d << 48) | (d >> 16 & 281474976710655) end;
                s := (c & low) + (d & low);
                c := (((c >> 32) + (d >> 32) + (s >> 32)) << 32) | (s & low);
                b := b # c;
                b := case half when 0 then (b << 40) | (b >> 24 & 1099511627775) else (b << 1) | (b >> 63 & 1) end;
            end loop;
            v[ia] := a; v[ib] := b; v[ic] := c; v[id] := d;
        end loop;
        for n in 1 .. 8 loop
            h[n] := h[n] # v[n] # v[n + 8];
        end loop;
    end loop;
    for n in 1 .. 2 loop
        for octet in reverse 7 .. 0 loop
            swapped := swapped || substr(int8send(h[n]), octet + 1, 1);
        end loop;
    end loop;
    return swapped;
end $f$;

-- ids.normalise_destination: one spelling for one recipient. Of e-mail addresses it folds what lower() folds.
create function normalise_destination_v1(p_destination text) returns text language plpgsql immutable strict parallel safe
as $f$
declare
    number constant text := '^\+?[0-9\s().-]*[0-9][0-9\s().-]*$';
    spelled text := regexp_replace(p_destination, '^\s+|\s+$', '', 'g');
    schemes constant text := substring(spelled from '(?i)^(?:(?:tel|sms|sips?|mailto):\s*)+');
    who text;
begin
    if schemes is not null then
        spelled := substr(spelled, length(schemes) + 1);
        who := split_part(spelled, '@', 1);
        if schemes !~* 'mailto:\s*$' and length(who) <= 64 and who ~ number then
            spelled := who;
        end if;
    end if;
    if length(spelled) <= 64 and spelled ~ number then
        return regexp_replace(regexp_replace(spelled, '[^0-9]', '', 'g'), '^00(?=[1-9])', '');
    end if;
    return case when strpos(spelled, '@') > 0 then lower(spelled) else spelled end;
end $f$;

-- ids.transid_root: a transid as its key holds it.
create function transid_root_v1(p_transid text) returns text language sql immutable strict parallel safe
return (select case when length(r.root) > 512 then r.root
                    else coalesce(nullif(regexp_replace(r.root, '(_[0-9]+)+$', ''), ''), r.root) end
          from (select regexp_replace(lower(regexp_replace(p_transid, '^\s+|\s+$', '', 'g')), '^urn:uuid:', '') as root) r);

-- ids.parse_id: a text as one of our ids, in any case and with `urn:uuid:` in front; null: it can't be one.
create function receiver_v1.parse_id(p_text text) returns uuid language sql immutable strict parallel safe
return (select case when i.text ~ '^([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}|[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15})$'
                    then i.text::uuid end
          from (select regexp_replace(lower(regexp_replace(p_text, '^\s+|\s+$', '', 'g')), '^urn:uuid:', '') as text) i);

-- The ids of messages that bear all the names given (null: not given), the latest first. Without any name: none. The
-- first name of transid, correlationid, destination and callbackData leads to its latest 10,000 messages, by an index;
-- the others are held against those. It runs as its owner, or the role for reports could not use the indexes, so each
-- name in it is bound when it is made, and it gives ids alone: the view tells the rest.
create function receiver_v1.find(
    p_destination text default null, p_correlationid text default null, p_transid text default null,
    p_callback_data text default null, p_from timestamptz default null, p_to timestamptz default null,
    p_tenants text[] default null, p_most integer default 100
) returns table (id uuid) language sql stable security definer set search_path = pg_catalog, pg_temp rows 100
begin atomic
    with k as materialized (
        select digest_v1(convert_to(normalise_destination_v1(p_destination), 'UTF8')) as destination,
               digest_v1(convert_to(p_correlationid, 'UTF8')) as correlation,
               receiver_v1.parse_id(p_correlationid) as ours,
               digest_v1('\x7400'::bytea || convert_to(transid_root_v1(p_transid), 'UTF8')) as transid,
               digest_v1(convert_to(p_callback_data, 'UTF8')) as callback,
               coalesce(first_id_at_v1(p_from), '00000000-0000-0000-0000-000000000000') as low,
               coalesce(first_id_at_v1(p_to), 'ffffffff-ffff-ffff-ffff-ffffffffffff') as high
    ), w as (
        select x.id from k cross join lateral (
            select i.message_id as id from message_key i
             where i.transid_key = k.transid and i.message_id >= k.low and i.message_id < k.high
             order by i.message_id desc limit 10000) x
        union all
        select x.id from k cross join lateral (
            select i.id from message i
             where p_transid is null and i.correlation_key = k.correlation and i.id >= k.low and i.id < k.high
             order by i.id desc limit 10000) x
        union all
        select k.ours from k where p_transid is null and k.ours >= k.low and k.ours < k.high
        union all
        select x.id from k cross join lateral (
            select i.id from message i
             where p_transid is null and p_correlationid is null
               and i.destination_key = k.destination and i.id >= k.low and i.id < k.high
             order by i.id desc limit 10000) x
        union all
        select x.message_id from k cross join lateral (
            select i.message_id from receipt i
             where p_transid is null and p_correlationid is null and i.elsewhere
               and i.destination_key = k.destination and i.message_id >= k.low and i.message_id < k.high
             order by i.message_id desc limit 10000) x
        union all
        select x.id from k cross join lateral (
            select i.id from message i
             where p_transid is null and p_correlationid is null and p_destination is null
               and i.callback_key = k.callback and i.id >= k.low and i.id < k.high
             order by i.id desc limit 10000) x
    )
    select m.id
      from (select distinct w.id from w) d
     cross join k
     cross join lateral (select * from message i where i.id = d.id offset 0) m   -- one look by the primary key each
      join tenant t on t.id = m.tenant
     where (p_tenants is null or t.name = any(p_tenants))
       and (k.correlation is null or m.correlation_key = k.correlation or m.id = k.ours)
       and (k.destination is null or m.destination_key = k.destination
            or exists (select from receipt i where i.message_id = m.id and i.elsewhere and i.destination_key = k.destination))
       and (k.callback is null or m.callback_key = k.callback)
     order by m.id desc limit p_most;
end;

-- The ids of messages that failed, the latest first. By the index of what needs attention: the many that went well are
-- not looked at. `p_code`: of the reason; '' where it has none. Its rights are those of `find`, for the same reasons.
create function receiver_v1.failed(
    p_code text default null, p_from timestamptz default null, p_to timestamptz default null,
    p_tenants text[] default null, p_most integer default 100
) returns table (id uuid) language sql stable security definer set search_path = pg_catalog, pg_temp rows 100
begin atomic
    select s.id
      from message_state s
      join tenant t on t.id = s.tenant
     where s.attention and (s.state between 42 and 46 or s.state = 65) and s.merged_into is null
       and s.id >= coalesce(first_id_at_v1(p_from), '00000000-0000-0000-0000-000000000000')
       and s.id < coalesce(first_id_at_v1(p_to), 'ffffffff-ffff-ffff-ffff-ffffffffffff')
       and (p_tenants is null or t.name = any(p_tenants))
       and (p_code is null or p_code = coalesce((
                select i.code from receipt i
                 where i.message_id = s.id and i.fingerprint = substring(s.reason_key from 4)), ''))
     order by s.id desc limit p_most;
end;
