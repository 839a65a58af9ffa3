"""What an operator looks at and is woken by: dashboards, alert rules and their provisioning."""
