"""Everything SQL: schema, writer, runs, attempts, answers, charges, migrations."""
