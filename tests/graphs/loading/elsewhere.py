"""Sets the variables of a database of its own, which is not there."""

import os

from loading import graph

os.environ.update(
    PGHOST="elsewhere.invalid", PGHOSTADDR="127.0.0.9", PGPORT="1", PGDATABASE="other", PGUSER="nobody",
    PGPASSWORD="wrong", PGOPTIONS="-c search_path=nowhere", PGSSLMODE="verify-full", PGSSLROOTCERT="/none",
    PGCLIENTENCODING="rubbish", PGTARGETSESSIONATTRS="standby", PGREQUIREAUTH="none", PGPASSFILE="/none",
)  # fmt: skip
seen = graph()
