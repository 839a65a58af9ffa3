"""Tests of the room `database`, on a real Postgres."""
