"""The demo, and the private Postgres that it shares with the tests. Never imported by the daemon."""
