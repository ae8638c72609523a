"""The Postgres engine: any number of relay processes on one database, which take turns to write."""
