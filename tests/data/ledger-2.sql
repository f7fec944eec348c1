BEGIN TRANSACTION;
CREATE TABLE agents (session int, name text, type text, tool_use_id text, path text, finished int,
    foreground int, pair int, ts int, primary key (name, session)) without rowid;
CREATE TABLE calls (id integer primary key, key text, request text, session int, agent text,
    standing int, kind text, ts int, pair int, model int, variant text, input int, output int,
    write_short int, write_long int, read int, searches int, usd int, assumed int,
    owned int,                   -- 1: it counts; 0: another session's, copied; null: told twice
    told text                    -- the usages that its lines told, if there were several
    );
INSERT INTO "calls" VALUES(1,'msg_mock000002','req_mock000002',2,'',0,'call',1795433446992,1,1,'',11,702,500,1500,30000,0,17292000000,0,0,'');
INSERT INTO "calls" VALUES(2,'msg_mock000004','req_mock000004',2,'',0,'call',1795433447721,1,1,'',11,704,500,1500,30000,0,17312000000,0,1,'');
INSERT INTO "calls" VALUES(3,'msg_mock000001','req_mock000001',2,'',0,'call',1795433446754,1,1,'',11,701,500,1500,30000,0,17282000000,0,0,'');
INSERT INTO "calls" VALUES(4,'resp_mock000004','',3,'',0,'call',1795433451888,2,2,'',5004,604,0,0,15000,0,50640000000,0,1,'');
INSERT INTO "calls" VALUES(5,'01a2082c-51dd-7d53-b538-ffd56c07e60a:0:[20005, 15000, 0, 605]','',4,'',0,'echo',1795433452072,1,2,'',0,0,0,0,0,0,0,0,NULL,'');
INSERT INTO "calls" VALUES(6,'msg_mock000001','req_mock000001',1,'',0,'call',1795433446754,1,1,'',11,701,500,1500,30000,0,17282000000,0,1,'');
INSERT INTO "calls" VALUES(7,'msg_mock000003','req_mock000003',1,'',0,'call',1795433447356,1,1,'',11,703,500,1500,30000,0,17302000000,0,1,'');
INSERT INTO "calls" VALUES(8,'msg_mock000003','req_mock000003',2,'',0,'call',1795433447356,1,1,'',11,703,500,1500,30000,0,17302000000,0,0,'');
INSERT INTO "calls" VALUES(9,'resp_mock000002','',3,'',0,'call',1795433451496,2,2,'',5002,602,0,0,15000,0,50570000000,0,1,'');
INSERT INTO "calls" VALUES(10,'01a2082c-4ed4-74f3-af25-c3f334c0c62e:0:[80010, 60000, 0, 2410]','',3,'',0,'echo',1795433451888,2,2,'',0,0,0,0,0,0,0,0,NULL,'');
INSERT INTO "calls" VALUES(11,'resp_mock000005','',4,'',0,'call',1795433452071,1,2,'',5005,605,0,0,15000,0,50675000000,0,1,'');
INSERT INTO "calls" VALUES(12,'resp_mock000001','',3,'',0,'call',1795433451319,2,2,'',5001,601,0,0,15000,0,50535000000,0,1,'');
INSERT INTO "calls" VALUES(13,'01a2082c-4ed4-74f3-af25-c3f334c0c62e:0:[20001, 15000, 0, 601]','',3,'',0,'echo',1795433451480,2,2,'',0,0,0,0,0,0,0,0,NULL,'');
INSERT INTO "calls" VALUES(14,'01a2082c-4ed4-74f3-af25-c3f334c0c62e:0:[60006, 45000, 0, 1806]','',3,'',0,'echo',1795433451723,2,2,'',0,0,0,0,0,0,0,0,NULL,'');
INSERT INTO "calls" VALUES(15,'msg_mock000002','req_mock000002',1,'',0,'call',1795433446992,1,1,'',11,702,500,1500,30000,0,17292000000,0,1,'');
INSERT INTO "calls" VALUES(16,'resp_mock000003','',3,'',0,'call',1795433451723,2,2,'',5003,603,0,0,15000,0,50605000000,0,1,'');
INSERT INTO "calls" VALUES(17,'01a2082c-4ed4-74f3-af25-c3f334c0c62e:0:[40003, 30000, 0, 1203]','',3,'',0,'echo',1795433451707,2,2,'',0,0,0,0,0,0,0,0,NULL,'');
INSERT INTO "calls" VALUES(18,NULL,'3',1,'',0,'untranscribed',1795433448152,1,1,'',22,1411,1000,3000,60000,0,34654000000,0,1,'');
CREATE TABLE files (path text primary key, agent text, ino int,
    offset int,                  -- behind the last line that was read
    seam int,                    -- a checksum of its beginning, and of what is before the offset
    skipped int, state text) without rowid;
CREATE TABLE folders (path text primary key, agent text,
    changed_ns int,              -- as it was listed last; -1: list it again
    compressed int,              -- logs in it that can't be read here
    entries text                 -- {"/name": [size, changed_ns]} of its logs, as last read
    ) without rowid;
CREATE TABLE gates (session text, arm text, first int, last int, primary key (session, arm))
    without rowid;
CREATE TABLE marks (id integer primary key, session int, ts int, place int,
    start int,                   -- what a family of forks has in common
    is_split int, ended int,     -- when the session went on
    size int, totals text, unique (session, ts, totals));
INSERT INTO "marks" VALUES(1,1,1795433446992,1,1795433446449,1,1795433447356,65425,'{"claude-sonnet-5-5": [22, 1403, 1000, 3000, 60000, 0, 34574000000]}');
INSERT INTO "marks" VALUES(2,1,1795433447356,1,1795433446449,1,4611686018427387904,98139,'{"claude-sonnet-5-5": [33, 2106, 1500, 4500, 90000, 0, 51876000000]}');
INSERT INTO "marks" VALUES(3,1,1795433448152,1,1795433446449,1,4611686018427387904,163572,'{"claude-sonnet-5-5": [55, 3517, 2500, 7500, 150000, 0, 86530000000]}');
INSERT INTO "marks" VALUES(4,2,1795433447721,1,1795433446449,1,4611686018427387904,130854,'{"claude-sonnet-5-5": [44, 2810, 2000, 6000, 120000, 0, 69188000000]}');
CREATE TABLE meta (key text primary key, value) without rowid;
INSERT INTO "meta" VALUES('created',1795600499688);
CREATE TABLE models (id integer primary key, name text unique, digest text);
INSERT INTO "models" VALUES(1,'claude-sonnet-5-5',NULL);
INSERT INTO "models" VALUES(2,'gpt-5.5',NULL);
CREATE TABLE notices (key text primary key, ts int) without rowid;
INSERT INTO "notices" VALUES('["s","acme","alert"]',1795600000000);
CREATE TABLE pairs (id integer primary key, place int, origin int, arm text, 
    unique (place, origin));
INSERT INTO "pairs" VALUES(0,0,0,'');
INSERT INTO "pairs" VALUES(1,1,1,'/home/op/clients/acme');
INSERT INTO "pairs" VALUES(2,2,2,'/home/op/clients/beta');
CREATE TABLE places (id integer primary key, cwd text, path text, root text, is_repo int,
    inner text,
    seen int                     -- when it was last found to be so
    );
INSERT INTO "places" VALUES(0,'','','',0,'',0);
INSERT INTO "places" VALUES(1,'/home/op/clients/acme','/home/op/clients/acme','/home/op/clients/acme',0,'',1795600499697807542);
INSERT INTO "places" VALUES(2,'/home/op/clients/beta','/home/op/clients/beta','/home/op/clients/beta',0,'',1795600499698534555);
CREATE TABLE running (session text, id text, agent text, arm text, tool text, ts int, usd int,
    primary key (session, id)) without rowid;
CREATE TABLE sessions (id integer primary key, agent text, name text, began int,
    origin_ts int,
    origin int default 0,        -- the place where it began, as a line of that time tells
    pair int default 0,          -- of that place, with itself
    root text default '',        -- the session that it goes on from
    version text default '', tool_ts int, unique (agent, name));
INSERT INTO "sessions" VALUES(1,'claude-code','355fd91b-45d5-4630-b8f4-e8155a0c7e8e',1795433446667,1795433446708,1,1,'','2.1.330',1795433446754);
INSERT INTO "sessions" VALUES(2,'claude-code','49ae621d-3426-448d-b63b-314aa2d43314',1795433447644,1795433446708,1,1,'','2.1.330',1795433446754);
INSERT INTO "sessions" VALUES(3,'codex','01a2082c-4ed4-74f3-af25-c3f334c0c62e',1795433451232,1795433451232,2,2,'','0.169.0',1795433451496);
INSERT INTO "sessions" VALUES(4,'codex','01a2082c-51dd-7d53-b538-ffd56c07e60a',1795433452002,1795433452002,1,1,'','0.169.0',NULL);
CREATE INDEX files_skipped on files (skipped) where skipped;
CREATE INDEX places_cwd on places (cwd);
CREATE INDEX places_path on places (path);
CREATE INDEX pairs_arm on pairs (arm);
CREATE INDEX sessions_name on sessions (name);
CREATE INDEX sessions_pair on sessions (pair);
CREATE INDEX sessions_root on sessions (root) where root <> '';
CREATE INDEX agents_tool on agents (session, tool_use_id);
CREATE INDEX agents_pair on agents (pair, ts);
CREATE INDEX marks_start on marks (start) where start;
CREATE INDEX calls_key on calls (key, request);
CREATE INDEX calls_odd on calls (key) where standing >= 2;
CREATE INDEX calls_pair on calls (pair, ts, usd, kind, assumed) where owned;
CREATE INDEX calls_session on calls (session, agent, ts, usd);
CREATE INDEX running_arm on running (arm);
PRAGMA user_version = 2;
COMMIT;
