"""Uploads in several parts, which survive the end of the client and of the server."""
