"""Figures: what is scraped, compared with the page that lists it and with what the database holds."""
