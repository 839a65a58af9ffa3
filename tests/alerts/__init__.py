"""Alerts end to end: the service, Prometheus, Alertmanager and a pager on loopback, in time made short."""
