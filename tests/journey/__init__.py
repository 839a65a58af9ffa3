"""Journeys: real processes, sockets and Postgres; counts, not times."""
