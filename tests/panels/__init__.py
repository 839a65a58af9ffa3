"""The panel test: a day of generated history, and every question of the dashboards and rules asked of it."""
