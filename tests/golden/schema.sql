application_id 1668637793
user_version 4

CREATE TABLE binaries (
  id                  INTEGER PRIMARY KEY,
  specialization_hash TEXT NOT NULL,
  compiler            TEXT NOT NULL,
  architecture        TEXT NOT NULL,
  resources           TEXT NOT NULL,
  compile_seconds     REAL,
  log                 TEXT NOT NULL,
  created             TEXT NOT NULL,
  image_hash          TEXT NOT NULL,
  image               BLOB NOT NULL,
  UNIQUE (specialization_hash, compiler)
);

CREATE TABLE claims (
  id              INTEGER PRIMARY KEY,
  op              TEXT NOT NULL,
  device_kind     TEXT NOT NULL,
  tuning_key      TEXT NOT NULL,
  token           TEXT NOT NULL UNIQUE,
  host            TEXT NOT NULL,
  boot            TEXT NOT NULL,
  process_numbers TEXT NOT NULL,
  process         INTEGER NOT NULL,
  process_start   INTEGER NOT NULL,
  heartbeat       REAL NOT NULL,
  created         TEXT NOT NULL,
  UNIQUE (op, device_kind, tuning_key)
);

CREATE TABLE problems (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  op           TEXT NOT NULL,
  problem_key  TEXT NOT NULL,
  device_kind  TEXT NOT NULL,
  tuning_key   TEXT NOT NULL,
  description  TEXT NOT NULL,
  UNIQUE (op, problem_key, device_kind)
);

CREATE TABLE runs (
  id                INTEGER PRIMARY KEY,
  problem           INTEGER NOT NULL REFERENCES problems (id) ON DELETE CASCADE,
  started           TEXT NOT NULL,
  machine           TEXT NOT NULL,
  version           TEXT NOT NULL,
  device_name       TEXT NOT NULL,
  driver            TEXT NOT NULL,
  uuid              TEXT NOT NULL,
  device_facts      TEXT NOT NULL,
  compiler          TEXT NOT NULL,
  measurement       TEXT NOT NULL,
  strategy          TEXT NOT NULL,
  seed              INTEGER NOT NULL,
  stopped_by        TEXT NOT NULL,
  candidates        INTEGER NOT NULL,
  measured          INTEGER NOT NULL,
  failed            INTEGER NOT NULL,
  recalled          INTEGER NOT NULL,
  isolated          INTEGER NOT NULL,
  worker_restarts   INTEGER NOT NULL,
  flops             REAL,
  bytes             REAL,
  elapsed           REAL,
  enumerate_seconds REAL,
  compile_seconds   REAL,
  measure_seconds   REAL,
  verify_seconds    REAL,
  search_seconds    REAL,
  idle_seconds      REAL, objective TEXT NOT NULL DEFAULT 'seconds', prepare_seconds REAL DEFAULT 0,
  UNIQUE (problem, started, machine)
);

CREATE TABLE sqlite_sequence(name,seq);

CREATE TABLE trials (
  id                  INTEGER PRIMARY KEY,
  problem             INTEGER NOT NULL REFERENCES problems (id) ON DELETE CASCADE,
  kernel_template     TEXT NOT NULL,
  template_hash       TEXT NOT NULL,
  configuration       TEXT NOT NULL,
  compiler            TEXT NOT NULL,
  measurement         TEXT NOT NULL,
  specialization_hash TEXT NOT NULL,
  status              TEXT NOT NULL,
  message             TEXT NOT NULL,
  samples             TEXT NOT NULL,
  median              REAL,
  spread              REAL,
  error               REAL,
  compile_seconds     REAL,
  resources           TEXT NOT NULL,
  created             TEXT NOT NULL, figures TEXT NOT NULL DEFAULT '{}',
  UNIQUE (problem, template_hash, configuration, compiler, measurement)
);

CREATE TABLE winners (
  id                  INTEGER PRIMARY KEY,
  op                  TEXT NOT NULL,
  device_kind         TEXT NOT NULL,
  tuning_key          TEXT NOT NULL,
  problem_key         TEXT NOT NULL,
  description         TEXT NOT NULL,
  kernel_template     TEXT NOT NULL,
  template_hash       TEXT NOT NULL,
  configuration       TEXT NOT NULL,
  seconds             REAL,
  default_seconds     REAL,
  compiler            TEXT NOT NULL,
  specialization_hash TEXT NOT NULL,
  device_name         TEXT NOT NULL,
  driver              TEXT NOT NULL,
  uuid                TEXT NOT NULL,
  created             TEXT NOT NULL, objective TEXT NOT NULL DEFAULT 'seconds',
  UNIQUE (op, device_kind, tuning_key)
);
