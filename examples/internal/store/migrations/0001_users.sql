CREATE TABLE users (
	seq          INTEGER PRIMARY KEY,
	id           TEXT NOT NULL UNIQUE,
	name         TEXT NOT NULL,
	email        TEXT NOT NULL,
	email_key    TEXT NOT NULL UNIQUE,
	created_unix INTEGER NOT NULL -- nanoseconds
) STRICT;
