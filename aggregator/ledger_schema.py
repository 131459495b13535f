"""The ledger's tables, and the statement that writes each kind of record.

Each statement must change exactly one row, so that a record about something unknown, or told twice, fails.
"""

from collections.abc import Mapping

from aggregator import records

_FIRST_TABLES = """
CREATE TABLE state (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE runs (
    run TEXT PRIMARY KEY, task TEXT NOT NULL, settings TEXT NOT NULL, seed INTEGER NOT NULL,
    parent TEXT, request TEXT, started_unix_s REAL NOT NULL,
    theta TEXT, program TEXT, layout TEXT, parameters INTEGER,
    outcome TEXT, reason TEXT, ended_unix_s REAL
);
CREATE TABLE rounds (
    run TEXT NOT NULL REFERENCES runs, round INTEGER NOT NULL,
    target INTEGER NOT NULL, quorum INTEGER NOT NULL, opened_unix_s REAL NOT NULL,
    outcome TEXT, reason TEXT, theta TEXT, metrics TEXT, federated TEXT, closed_unix_s REAL,
    PRIMARY KEY (run, round)
);
CREATE TABLE participants (
    run TEXT NOT NULL, round INTEGER NOT NULL, device TEXT NOT NULL, joined_unix_s REAL NOT NULL,
    PRIMARY KEY (run, round, device), FOREIGN KEY (run, round) REFERENCES rounds
);
CREATE TABLE updates (
    run TEXT NOT NULL, round INTEGER NOT NULL, device TEXT NOT NULL,
    digest TEXT NOT NULL, size INTEGER NOT NULL, examples INTEGER NOT NULL,
    metrics TEXT NOT NULL, validation TEXT NOT NULL,
    seconds REAL NOT NULL, accepted_unix_s REAL NOT NULL,
    PRIMARY KEY (run, round, device), FOREIGN KEY (run, round) REFERENCES rounds
);
CREATE TABLE refusals (
    run TEXT NOT NULL, round INTEGER NOT NULL, device TEXT NOT NULL,
    outcome TEXT NOT NULL, reason TEXT, refused_unix_s REAL NOT NULL,
    PRIMARY KEY (run, round, device)
);
CREATE TABLE reports (
    run TEXT NOT NULL, round INTEGER NOT NULL, device TEXT NOT NULL,
    metrics TEXT NOT NULL, reported_unix_s REAL NOT NULL,
    PRIMARY KEY (run, round, device), FOREIGN KEY (run, round) REFERENCES rounds
);
CREATE TABLE declines (
    run TEXT NOT NULL, round INTEGER NOT NULL, device TEXT NOT NULL,
    reason TEXT NOT NULL, detail TEXT NOT NULL, declined_unix_s REAL NOT NULL,
    PRIMARY KEY (run, round, device), FOREIGN KEY (run, round) REFERENCES rounds
);
CREATE TABLE transitions (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, round INTEGER,
    source TEXT NOT NULL, target TEXT NOT NULL, reason TEXT NOT NULL, unix_s REAL NOT NULL
);
CREATE TABLE requests (
    id TEXT PRIMARY KEY, user TEXT NOT NULL, verb TEXT NOT NULL, arguments TEXT NOT NULL,
    "before" TEXT NOT NULL, "after" TEXT NOT NULL, reply BLOB NOT NULL, answered_unix_s REAL NOT NULL
);
CREATE TABLE blobs (
    digest TEXT PRIMARY KEY, size INTEGER NOT NULL, chunk_bytes INTEGER NOT NULL, dropped INTEGER
);
"""

_INCIDENTS = """
CREATE TABLE incidents (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, run TEXT, round INTEGER,
    subject TEXT NOT NULL, detail TEXT NOT NULL, unix_s REAL NOT NULL
);
"""

_DECISIONS = """
CREATE TABLE decisions (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, round INTEGER NOT NULL, device TEXT,
    decision TEXT NOT NULL, reason TEXT NOT NULL, unix_s REAL NOT NULL
);
"""

_DEVICE_KEYS = """
CREATE TABLE device_keys (device TEXT PRIMARY KEY, key TEXT NOT NULL, since_unix_s REAL NOT NULL);
"""

_EXCLUSIONS = """
CREATE TABLE exclusions (device TEXT PRIMARY KEY, reason TEXT NOT NULL, excluded_unix_s REAL NOT NULL);
"""

_COURSES = """
CREATE TABLE courses (
    run TEXT NOT NULL, round INTEGER NOT NULL, device TEXT NOT NULL,
    steps TEXT NOT NULL, bytes_down INTEGER NOT NULL,
    PRIMARY KEY (run, round, device), FOREIGN KEY (run, round) REFERENCES rounds
);
"""

# The nth brings a ledger of version n to the next; what was released once is never changed again.
MIGRATIONS = (_FIRST_TABLES, _INCIDENTS + _DECISIONS, _DEVICE_KEYS + _EXCLUSIONS, _COURSES)
VERSION = len(MIGRATIONS)

# Refusals, reports and declines may come again: the last one stands. A refused offer may be of a run that is
# not known here, hence no foreign key.
STATEMENTS: Mapping[type[records.Record], str] = {
    records.RunStarted: """
        INSERT INTO runs (run, task, settings, seed, parent, request, started_unix_s)
        VALUES (:run, :task, :settings, :seed, :parent, :request, :unix_s)""",
    records.RunPrepared: """
        UPDATE runs SET theta = :theta, program = :program, layout = :layout, parameters = :parameters
        WHERE run = :run""",
    records.RunEnded: """
        UPDATE runs SET outcome = :outcome, reason = :reason, ended_unix_s = :unix_s
        WHERE run = :run AND ended_unix_s IS NULL""",
    records.RoundOpened: """
        INSERT INTO rounds (run, round, target, quorum, opened_unix_s)
        VALUES (:run, :round, :target, :quorum, :unix_s)""",
    records.Invited: "INSERT INTO participants VALUES (:run, :round, :device, :unix_s)",
    records.Decided: """
        INSERT INTO decisions (run, round, device, decision, reason, unix_s)
        VALUES (:run, :round, :device, :decision, :reason, :unix_s)""",
    records.UpdateAccepted: """
        INSERT INTO updates
        VALUES (:run, :round, :device, :digest, :size, :examples, :metrics, :validation, :seconds,
            :unix_s)""",
    records.UpdateLost: """
        DELETE FROM updates WHERE run = :run AND round = :round AND device = :device AND digest = :digest""",
    records.Incident: """
        INSERT INTO incidents (kind, run, round, subject, detail, unix_s)
        VALUES (:kind, :run, :round, :subject, :detail, :unix_s)""",
    records.UpdateRefused: """
        REPLACE INTO refusals VALUES (:run, :round, :device, :outcome, :reason, :unix_s)""",
    records.Reported: "REPLACE INTO reports VALUES (:run, :round, :device, :metrics, :unix_s)",
    records.Declined: "REPLACE INTO declines VALUES (:run, :round, :device, :reason, :detail, :unix_s)",
    records.Course: "INSERT INTO courses VALUES (:run, :round, :device, :steps, :bytes_down)",
    records.RoundClosed: """
        UPDATE rounds SET outcome = :outcome, reason = :reason, theta = :theta,
            metrics = :metrics, federated = :federated, closed_unix_s = :unix_s
        WHERE run = :run AND round = :round AND closed_unix_s IS NULL""",
    records.Transition: """
        INSERT INTO transitions (run, round, source, target, reason, unix_s)
        VALUES (:run, :round, :source, :target, :reason, :unix_s)""",
    records.RequestAnswered: """
        INSERT INTO requests VALUES (:id, :user, :verb, :arguments, :before, :after, :reply, :unix_s)""",
    records.DeviceExcluded: "REPLACE INTO exclusions VALUES (:device, :reason, :unix_s)",
    records.DeviceAdmitted: "DELETE FROM exclusions WHERE device = :device",
}

ACCEPTED_UPDATE = "SELECT digest FROM updates WHERE run = :run AND round = :round AND device = :device"

REJECTION = """
    SELECT reason FROM refusals WHERE run = :run AND round = :round AND device = :device
        AND outcome = 'rejected' AND reason IS NOT NULL"""

RUNS = """
    SELECT runs.*,
        (SELECT count(*) FROM rounds WHERE rounds.run = runs.run AND outcome <> 'abandoned') AS rounds_done,
        (SELECT coalesce(metrics, federated) FROM rounds
            WHERE rounds.run = runs.run AND coalesce(metrics, federated) IS NOT NULL
            ORDER BY round DESC LIMIT 1) AS metrics
    FROM runs ORDER BY started_unix_s DESC, rowid DESC LIMIT ?"""

ROUNDS = """
    SELECT *,
        (SELECT count(*) FROM participants p WHERE (p.run, p.round) = (r.run, r.round)) AS participants,
        (SELECT count(*) FROM updates u WHERE (u.run, u.round) = (r.run, r.round)) AS accepted,
        (SELECT coalesce(sum(size), 0) FROM updates u WHERE (u.run, u.round) = (r.run, r.round)) AS bytes_up,
        (SELECT coalesce(sum(bytes_down), 0) FROM courses c WHERE (c.run, c.round) = (r.run, r.round))
            AS bytes_down
    FROM rounds r WHERE run = ? AND round > ? ORDER BY round"""

# Who joined, and whoever else was heard about this round (a device that was late or not invited).
PARTICIPANTS = """
    WITH heard AS (
        SELECT device FROM participants WHERE run = :run AND round = :round
        UNION SELECT device FROM updates WHERE run = :run AND round = :round
        UNION SELECT device FROM refusals WHERE run = :run AND round = :round
        UNION SELECT device FROM declines WHERE run = :run AND round = :round
        UNION SELECT device FROM reports WHERE run = :run AND round = :round
    )
    SELECT heard.device, u.digest, u.examples, u.metrics, u.validation, u.seconds, u.size,
        c.steps, c.bytes_down,
        f.outcome AS refused, f.reason AS refused_reason, d.reason AS declined, r.metrics AS reported
    FROM heard
    LEFT JOIN updates u ON u.device = heard.device AND u.run = :run AND u.round = :round
    LEFT JOIN courses c ON c.device = heard.device AND c.run = :run AND c.round = :round
    LEFT JOIN refusals f ON f.device = heard.device AND f.run = :run AND f.round = :round
    LEFT JOIN declines d ON d.device = heard.device AND d.run = :run AND d.round = :round
    LEFT JOIN reports r ON r.device = heard.device AND r.run = :run AND r.round = :round
    ORDER BY heard.device"""
