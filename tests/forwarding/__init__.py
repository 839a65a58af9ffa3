"""Receipts that go on to clients' own addresses: a real Postgres, and clients' servers at the socket."""
