"""Transactions over files and documents."""
