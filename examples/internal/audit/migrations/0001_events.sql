CREATE TABLE events (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  time_unix INTEGER NOT NULL, -- nanoseconds
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  request_id TEXT NOT NULL
) STRICT;
CREATE INDEX events_subject ON events (subject, seq);
