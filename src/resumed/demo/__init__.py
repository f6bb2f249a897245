"""What the demo and the tests need to stand on their own feet: a private Postgres. Never imported by the daemon."""
