-- A table with a column of every built-in type, and of each kind of type made from them.
-- Loads on PostgreSQL 15 and newer into a database that has none of these names.
-- Left out: types whose values only the server makes (pg_node_tree, pg_mcv_list and the like),
-- and aclitem[], which PostgreSQL itself cannot send in binary (docs/values.md).
-- Every table, type and function name is pinned, the time zone too, so that two loads are equal.

SET TIME ZONE 'UTC';

CREATE TYPE every_mood AS ENUM ('sad', 'so so', 'happy, "very"');
CREATE DOMAIN every_positive AS integer CHECK (VALUE > 0);
CREATE DOMAIN every_small_positive AS every_positive CHECK (VALUE < 100);
CREATE DOMAIN every_tags AS text[];
CREATE TYPE every_pair AS (number integer, "the text" text);
CREATE TYPE every_nest AS (pair every_pair, pairs every_pair[], mood every_mood, at timestamptz);
CREATE TYPE every_span AS RANGE (subtype = float8, multirange_type_name = every_spans);

CREATE TABLE every_type (
    id                    bigint PRIMARY KEY,
    -- numbers
    boolean_column        boolean,
    smallint_column       smallint,
    integer_column        integer,
    bigint_column         bigint,
    real_column           real,
    double_column         double precision,
    numeric_column        numeric,
    numeric_scale_column  numeric(18, 2),
    money_column          money,
    -- text
    text_column           text,
    varchar_column        varchar(40),
    char_column           char(6),
    single_char_column    "char",
    name_column           name,
    xml_column            xml,
    json_column           json,
    jsonb_column          jsonb,
    jsonb_value_column    jsonb,
    jsonpath_column       jsonpath,
    refcursor_column      refcursor,
    -- bytes and bits
    bytea_column          bytea,
    bit_column            bit(5),
    varbit_column         bit varying,
    uuid_column           uuid,
    -- time
    date_column           date,
    time_column           time,
    timetz_column         timetz,
    timestamp_column      timestamp,
    timestamptz_column    timestamptz,
    interval_column       interval,
    -- network
    inet_column           inet,
    cidr_column           cidr,
    macaddr_column        macaddr,
    macaddr8_column       macaddr8,
    -- geometry
    point_column          point,
    line_column           line,
    lseg_column           lseg,
    box_column            box,
    path_column           path,
    polygon_column        polygon,
    circle_column         circle,
    -- text search
    tsvector_column       tsvector,
    tsquery_column        tsquery,
    -- the system's own
    oid_column            oid,
    regclass_column       regclass,
    regcollation_column   regcollation,
    regconfig_column      regconfig,
    regdictionary_column  regdictionary,
    regnamespace_column   regnamespace,
    regoper_column        regoper,
    regoperator_column    regoperator,
    regproc_column        regproc,
    regprocedure_column   regprocedure,
    regrole_column        regrole,
    regtype_column        regtype,
    xid_column            xid,
    xid8_column           xid8,
    cid_column            cid,
    tid_column            tid,
    pg_lsn_column         pg_lsn,
    pg_snapshot_column    pg_snapshot,
    txid_snapshot_column  txid_snapshot,
    int2vector_column     int2vector,
    oidvector_column      oidvector,
    aclitem_column        aclitem,
    gtsvector_column      gtsvector,
    -- ranges
    int4range_column      int4range,
    int8range_column      int8range,
    numrange_column       numrange,
    daterange_column      daterange,
    tsrange_column        tsrange,
    tstzrange_column      tstzrange,
    span_column           every_span,
    int4multirange_column int4multirange,
    int8multirange_column int8multirange,
    nummultirange_column  nummultirange,
    datemultirange_column datemultirange,
    tsmultirange_column   tsmultirange,
    tstzmultirange_column tstzmultirange,
    spans_column          every_spans,
    -- types made from types
    mood_column           every_mood,
    positive_column       every_positive,
    small_positive_column every_small_positive,
    tags_column           every_tags,
    pair_column           every_pair,
    nest_column           every_nest,
    -- arrays
    boolean_array         boolean[],
    integer_array         integer[],
    integer_matrix        integer[][],
    bigint_array          bigint[],
    real_array            real[],
    double_array          double precision[],
    numeric_array         numeric[],
    text_array            text[],
    bytea_array           bytea[],
    uuid_array            uuid[],
    date_array            date[],
    timestamptz_array     timestamptz[],
    interval_array        interval[],
    inet_array            inet[],
    point_array           point[],
    jsonb_array           jsonb[],
    int4range_array       int4range[],
    int4multirange_array  int4multirange[],
    mood_array            every_mood[],
    positive_array        every_positive[],
    pair_array            every_pair[]
);

-- 1: ordinary values.
INSERT INTO every_type VALUES (
    1,
    true, 12, 34567, 8901234567, 0.1, 0.1, 12.50, 1234.50, '12.34',
    'Zürich, 東京 🚀', 'a "quoted" \ text', 'ab', 'x', 'a_name', '<a b="c">ä</a>',
    E'{"b": 1.50,\n  "a": [null, "ü"]}', '{"b": 1.50, "a": [null, "ü"], "big": 9007199254740993}',
    '"scalar"', '$.a[*] ? (@ > 2)', 'a_cursor',
    '\x00ff10', B'10110', B'101100111', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
    '2024-02-29', '04:05:06.789', '04:05:06.789-08:30', '2024-02-29 23:59:59.999999',
    '2024-02-29 12:00:00.5+02', '1 year 2 months 3 days 04:05:06.789',
    '192.168.0.1/24', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05',
    '(1.5,-2)', '{1,-1,0.5}', '[(0,0),(1,1)]', '(2,3),(0,1)', '[(0,0),(1,1),(2,0)]',
    '((0,0),(1,1),(2,0))', '<(1,2),3>',
    'fat:2,11A cat:3B', 'fat:AB & (rat:* | !cat)',
    1259, 'pg_catalog.pg_class', 'pg_catalog."C"', 'pg_catalog.simple', 'pg_catalog.simple',
    'pg_catalog', 'pg_catalog.||/', 'pg_catalog.+(integer,integer)', 'pg_catalog.boolin',
    'pg_catalog.abs(integer)', 'pg_monitor', 'pg_catalog.int4',
    '7', '4294967296', '7', '(42,7)', '16/B374D848', '10:20:10,14,15', '10:20:10,14,15',
    '1 2 3', '23 25', 'pg_monitor=r/pg_monitor', NULL,
    '[1,5]', '[1,5]', '(1.50,2.5]', '[2024-01-01,2024-02-01)', '[2024-01-01 00:00,2024-01-01 12:00]',
    '[2024-01-01 00:00+00,2024-01-01 12:00:00.5+00)', '[0.5,1.5)',
    '{[1,3),[5,7)}', '{[1,3),[5,7)}', '{(1.5,2.5],[3,3]}', '{[2024-01-01,2024-02-01),[2025-01-01,)}',
    '{[2024-01-01 00:00,2024-01-01 12:00]}', '{[2024-01-01 00:00+00,2024-01-01 12:00+00)}',
    '{[0.5,1.5)}',
    'so so', 5, 50, '{red,green}', ROW(1, 'x'),
    ROW(ROW(1, 'x'), ARRAY[ROW(2, 'y'), ROW(3, NULL)]::every_pair[], 'sad', '2024-01-01 00:00+00'),
    '{t,f}', '{1,2,3}', '{{1,2},{3,4}}', '{9007199254740993}', '{0.5,-1,0.1}', '{0.5,-1,0.1}',
    '{1.50,2}', '{a,"b c","\"",""}', '{"\\x00ff"}', '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}',
    '{2024-02-29}', '{2024-02-29 12:00+00}', '{1 day}', '{10.0.0.1,::1}', '{"(1,2)","(3,4)"}',
    ARRAY['{"a": 1}', '{"a": 2}']::jsonb[], '{"[1,5)","[7,9)"}', '{"{[1,3),[5,7)}"}',
    '{sad,"so so"}', '{1,2}', ARRAY[ROW(1, 'x'), ROW(2, 'y')]::every_pair[]
);

-- 2: the highest and widest values.
INSERT INTO every_type VALUES (
    2,
    true, 32767, 2147483647, 9223372036854775807, 3.4028235e38, 1.7976931348623157e308,
    repeat('9', 120)::numeric + 0.123456789012345678901234567890, 9999999999999999.99,
    '92233720368547758.07',
    repeat('x', 5000), repeat('ü', 40), 'abcdef', '\377', repeat('n', 63),
    '<?xml version="1.0"?><a>&lt;&amp;</a>',
    '{"deep": [[[[1]]]], "number": 123456789012345678901234567890.123456789}',
    '{"deep": [[[[1]]]], "number": 123456789012345678901234567890.123456789}',
    '[1, "two", null]', 'strict $.a.b ? (@.c like_regex "^x" flag "i")', 'a "cursor"',
    decode(repeat('ff', 300), 'hex'), B'11111', repeat('1', 70)::varbit,
    'ffffffff-ffff-ffff-ffff-ffffffffffff',
    '5874897-12-31', '24:00:00', '24:00:00-15:59:59', '294276-12-31 23:59:59.999999',
    '294276-12-31 23:59:59.999999+00', '178000000 years 11 months 30 days 23:59:59.999999',
    'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'ffff::/16', 'ff:ff:ff:ff:ff:ff',
    'ff:ff:ff:ff:ff:ff:ff:ff',
    '(1e300,-1e300)', '{1e300,1,0}', '[(1e300,0),(0,1e300)]', '(1e300,1e300),(-1e300,-1e300)',
    '((0,0),(1,1),(2,0))', '((0,0),(0,1),(1,1),(1,0))', '<(1e300,1e300),1e300>',
    'a:16383A b:1A,2B,3C,4D ''it''''s'':5 ''back\\slash'':6',
    '(a & b) <-> c <2> (d <-> ''e\\''''f'') | !!(g | h:*ABCD)',
    4294967295, '4294967295', '4294967295', '4294967295', '4294967295', '4294967295',
    '4294967295', '4294967295', '4294967295', '4294967295', '4294967295', '4294967295',
    '4294967295', '18446744073709551615', '4294967295', '(4294967295,65535)',
    'FFFFFFFF/FFFFFFFF', '9223372036854775806:9223372036854775807:9223372036854775806',
    '9223372036854775806:9223372036854775807:9223372036854775806',
    '32767 -32768', '4294967295', 'pg_monitor=arwdDxt*/pg_monitor', NULL,
    '[2147483646,2147483647)', '[9223372036854775806,9223372036854775807)',
    '[99999999999999999999.99,Infinity]', '[2024-01-01,infinity]', '[2024-01-01,infinity)',
    '[9999-12-31 23:59:59.999999+00,12026-01-01 00:00+00]', '[1e300,infinity]',
    '{(,1),[5,)}', '{(,1),[5,)}', '{(,1),[5,)}', '{(,2024-01-01),[2025-01-01,)}',
    '{(,2024-01-01 00:00),[2025-01-01 00:00,)}', '{(,2024-01-01 00:00+00),[2025-01-01 00:00+00,)}',
    '{(,1),[5,)}',
    'happy, "very"', 2147483647, 99, '{"a,b","c\"d",NULL}', ROW(2147483647, E'tab\tand\nline'),
    ROW(ROW(NULL, NULL), '{}', 'happy, "very"', 'infinity'),
    '{t,NULL,f}', '{1,NULL,3}', '[2:3][-1:0]={{1,2},{3,4}}',
    '{9223372036854775807,-9223372036854775808}', '{3.4028235e38,1e-45,-0}',
    '{1.7976931348623157e308,5e-324,-0}', '{99999999999999999999.99,NULL}',
    '{{a,b},{c,NULL}}', ARRAY[decode(repeat('ab', 40), 'hex')], '{ffffffff-ffff-ffff-ffff-ffffffffffff,NULL}',
    '{infinity,9999-12-31,10000-01-01}', '{infinity,10000-01-01 00:00:00.000001+00}',
    '{100 hours,-1 mon}', '{192.168.0.1/24,NULL}', '{"(1e300,0)",NULL}',
    ARRAY['{"a": "x"}', NULL]::jsonb[], '{empty,"(,)","[1,)"}', '{"{}","{(,)}"}',
    '{"happy, \"very\"",NULL}', '{2147483647,NULL}', ARRAY[ROW(NULL, NULL), NULL]::every_pair[]
);

-- 3: the lowest values, and the first dates.
INSERT INTO every_type (
    id, boolean_column, smallint_column, integer_column, bigint_column, real_column, double_column,
    numeric_column, numeric_scale_column, money_column, text_column, date_column, time_column,
    timetz_column, timestamp_column, timestamptz_column, interval_column, inet_column, cidr_column,
    pg_lsn_column, xid8_column, int4range_column, daterange_column, tstzrange_column, real_array,
    timestamptz_array
) VALUES (
    3, false, -32768, -2147483648, -9223372036854775808, -3.4028235e38, -1.7976931348623157e308,
    -0.00000000000000000000000000000000000000000000000000000000000001230, -9999999999999999.99,
    '-92233720368547758.08', E'\u0001\u001f\u007f\u2028 "\\/', '4713-01-01 BC', '00:00:00',
    '00:00:00+15:59:59', '4713-01-01 00:00:00 BC', '0001-12-31 23:59:59.999999+00 BC',
    '-178000000 years -11 months -30 days -23:59:59.999999', '::', '::/0',
    '0/0', '0', '[-2147483648,-2147483647)', '[4713-01-01 BC,0044-03-15 BC)',
    '(-infinity,0044-03-15 00:00+00 BC]', '{-3.4028235e38,-1e-45,0}',
    '{-infinity,0044-03-15 00:00+00 BC}'
);

-- 4: nothing but NULL.
INSERT INTO every_type (id) VALUES (4);

-- 5: empty values, and those that are no number and no date.
INSERT INTO every_type (
    id, real_column, double_column, numeric_column, text_column, varchar_column, char_column,
    single_char_column, json_column, jsonb_column, jsonb_value_column, bytea_column, varbit_column,
    date_column, timestamp_column, timestamptz_column, interval_column, tsvector_column,
    tsquery_column, int2vector_column, oidvector_column, int4range_column, numrange_column,
    daterange_column, tstzrange_column, span_column, int4multirange_column, tags_column,
    integer_array, integer_matrix, real_array, double_array, numeric_array, text_array, mood_array,
    pair_array
) VALUES (
    5, 'NaN', 'NaN', 'NaN', '', '', '', '', '{}', '{}', 'null', '', '',
    'infinity', 'infinity', 'infinity', '0', '', '', '', '', 'empty', 'empty',
    'empty', '[infinity,infinity]', 'empty', '{}', '{}',
    '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}'
);

-- 6: the other infinities, and unbounded ranges.
INSERT INTO every_type (
    id, real_column, double_column, numeric_column, jsonb_value_column, date_column,
    timestamp_column, timestamptz_column, int4range_column, int8range_column, numrange_column,
    daterange_column, tsrange_column, tstzrange_column, span_column, int4multirange_column,
    real_array, double_array, numeric_array
) VALUES (
    6, 'Infinity', '-Infinity', '-Infinity', '-0.0', '-infinity', '-infinity', '-infinity',
    '(,)', '(,)', '(,)', '(,)', '(,)', '(,)', '(,)', '{(,)}',
    '{NaN,Infinity,-Infinity}', '{NaN,Infinity,-Infinity}', '{NaN,Infinity,-Infinity}'
);
