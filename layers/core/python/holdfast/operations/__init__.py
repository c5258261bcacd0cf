"""The story of a session, a restore, maintenance and reports: one operation per handler, over ports alone."""
