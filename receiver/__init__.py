"""Webhook receipt collector and delivery status tracker for Webex Connect / IMIconnect."""

__version__ = "0.1.0"
