BEGIN TRANSACTION;
CREATE TABLE agents (session int, name text, type text, primary key (session, name)) without rowid;
CREATE TABLE calls (key text primary key, session int, agent text, kind text, place int, ts int,
    model text, variant text, input int, output int, write_short int, write_long int, read int,
    searches int, usd int, assumed int, sidechain int) without rowid;
INSERT INTO "calls" VALUES('msg_mock000001',3,'','call',2,1795433446754,'claude-sonnet-5-5','',11,701,500,1500,30000,0,17282000000,0,0);
INSERT INTO "calls" VALUES('msg_mock000002',3,'','call',2,1795433446992,'claude-sonnet-5-5','',11,702,500,1500,30000,0,17292000000,0,0);
INSERT INTO "calls" VALUES('msg_mock000003',3,'','call',2,1795433447356,'claude-sonnet-5-5','',11,703,500,1500,30000,0,17302000000,0,0);
INSERT INTO "calls" VALUES('msg_mock000004',4,'','call',2,1795433447721,'claude-sonnet-5-5','',11,704,500,1500,30000,0,17312000000,0,0);
INSERT INTO "calls" VALUES('resp_mock000001',1,'','call',1,1795433451319,'gpt-5.5','',5001,601,0,0,15000,0,50535000000,0,0);
INSERT INTO "calls" VALUES('resp_mock000002',1,'','call',1,1795433451496,'gpt-5.5','',5002,602,0,0,15000,0,50570000000,0,0);
INSERT INTO "calls" VALUES('resp_mock000003',1,'','call',1,1795433451723,'gpt-5.5','',5003,603,0,0,15000,0,50605000000,0,0);
INSERT INTO "calls" VALUES('resp_mock000004',1,'','call',1,1795433451888,'gpt-5.5','',5004,604,0,0,15000,0,50640000000,0,0);
INSERT INTO "calls" VALUES('resp_mock000005',2,'','call',2,1795433452071,'gpt-5.5','',5005,605,0,0,15000,0,50675000000,0,0);
INSERT INTO "calls" VALUES('~rest claude-code 355fd91b-45d5-4630-b8f4-e8155a0c7e8e 1795433448152 claude-sonnet-5-5',3,'','untranscribed',2,1795433448152,'claude-sonnet-5-5','',22,1411,1000,3000,60000,0,34654000000,0,0);
CREATE TABLE copies (session int, key text, primary key (session, key)) without rowid;
INSERT INTO "copies" VALUES(4,'msg_mock000001');
INSERT INTO "copies" VALUES(4,'msg_mock000002');
INSERT INTO "copies" VALUES(4,'msg_mock000003');
CREATE TABLE files (path text primary key, ino int, size int, changed_ns int, malformed int) without rowid;
CREATE TABLE folders (path text primary key, cli text,
    changed_ns int,                  -- as it was listed last; -1: list it again
    compressed int                   -- logs in it that can't be read here
    ) without rowid;
CREATE TABLE marks (session int, ts int, place int, totals text, primary key (session, ts, totals)) without rowid;
INSERT INTO "marks" VALUES(3,1795433446992,2,'{"claude-sonnet-5-5": [22, 1403, 1000, 3000, 60000, 0]}');
INSERT INTO "marks" VALUES(3,1795433447356,2,'{"claude-sonnet-5-5": [33, 2106, 1500, 4500, 90000, 0]}');
INSERT INTO "marks" VALUES(3,1795433448152,2,'{"claude-sonnet-5-5": [55, 3517, 2500, 7500, 150000, 0]}');
INSERT INTO "marks" VALUES(4,1795433447721,2,'{"claude-sonnet-5-5": [44, 2810, 2000, 6000, 120000, 0]}');
CREATE TABLE meta (key text primary key, value) without rowid;
INSERT INTO "meta" VALUES('created',1795586461552);
CREATE TABLE models (name text primary key, digest text) without rowid;
INSERT INTO "models" VALUES('claude-sonnet-5-5','83454510');
INSERT INTO "models" VALUES('gpt-5.5','547e47d9');
CREATE TABLE notices (key text primary key, ts int) without rowid;
INSERT INTO "notices" VALUES('["s","acme","alert"]',1795600000000);
CREATE TABLE places (id integer primary key, cwd text unique, path text, root text, is_repo int, inner text);
INSERT INTO "places" VALUES(0,'','','',0,'');
INSERT INTO "places" VALUES(1,'/home/op/clients/beta','/home/op/clients/beta','/home/op/clients/beta',0,'');
INSERT INTO "places" VALUES(2,'/home/op/clients/acme','/home/op/clients/acme','/home/op/clients/acme',0,'');
CREATE TABLE readings (path text primary key, cli text, ino int,
    offset int,                      -- behind the last line that was read
    tail int,                        -- a checksum of the bytes before it
    state text) without rowid;
CREATE TABLE reservations (key text primary key, session text, agent text, tool text, arm text, ts int,
    usd int, background int, transcript text) without rowid;
CREATE TABLE sessions (id integer primary key, cli text, name text, began int, family int,
    dirty int default 0,             -- its untranscribed rest has to be worked out again
    unique (cli, name));
INSERT INTO "sessions" VALUES(1,'codex','01a2082c-4ed4-74f3-af25-c3f334c0c62e',1795433451232,NULL,0);
INSERT INTO "sessions" VALUES(2,'codex','01a2082c-51dd-7d53-b538-ffd56c07e60a',1795433452002,NULL,0);
INSERT INTO "sessions" VALUES(3,'claude-code','355fd91b-45d5-4630-b8f4-e8155a0c7e8e',1795433446667,1795433446449,0);
INSERT INTO "sessions" VALUES(4,'claude-code','49ae621d-3426-448d-b63b-314aa2d43314',1795433447644,1795433446449,0);
CREATE TABLE spend (place int, bucket int, usd int, untranscribed_usd int, assumed_usd int, calls int,
    input int, output int, cache_write int, cache_read int, searches int, dearest_usd int,
    primary key (place, bucket)) without rowid;
INSERT INTO "spend" VALUES(1,1994926,202350000000,0,0,4,20010,2410,0,60000,0,50640000000);
INSERT INTO "spend" VALUES(2,1994926,154517000000,34654000000,0,5,5071,4826,12000,195000,0,50675000000);
CREATE INDEX sessions_dirty on sessions (dirty) where dirty;
CREATE INDEX sessions_family on sessions (family) where family is not null;
CREATE INDEX sessions_name on sessions (name);
CREATE INDEX calls_session on calls (session, agent, ts);
CREATE INDEX calls_spawned on calls (place, ts) where agent <> '';
COMMIT;
pragma user_version = 1;
