ALTER TABLE users ADD COLUMN role TEXT NOT NULL DEFAULT 'user' CHECK (role IN ('user', 'admin'));
ALTER TABLE users ADD COLUMN password TEXT NOT NULL DEFAULT ''; -- hashed; empty: this user cannot log in

CREATE TABLE sessions (
	token_hash   BLOB PRIMARY KEY, -- SHA-256; the token itself is known to its user alone
	id           TEXT NOT NULL UNIQUE,
	user_id      TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	expires_unix INTEGER NOT NULL -- nanoseconds
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expire ON sessions (expires_unix);
