"""Where things are kept: pools, the embedded Postgres, migrations, partitions."""
