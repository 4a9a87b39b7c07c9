"""Migrations: one chain of revisions for the tables of every package, for PostgreSQL and DM8.

How to change a table
    1. Change the package's schema.py.
    2. Start PostgreSQL (``./bankhub up``) and run ``python -m core.migrations.make "why"``: it writes the difference
       between the migrated database and the schemas as the next file in versions/. Read it; correct what needs it.
    3. ``./bankhub test``: tests/core/test_migrations.py fails while schemas and chain disagree, and when DM8's DDL
       does not come out.
    Until the first release there is one revision, and ``python -m core.migrations.make --anew`` writes it again from
    nothing. Databases of before then have to be made anew.

Rules
    Revisions are SQL only: they are rendered as a script and then executed, on both engines the same way, so a
    revision cannot read the database. What must be computed in Python is a job that runs after the migration.
    A change goes with the version that still runs: add first, remove a release later.
"""
