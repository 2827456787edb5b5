"""Helpers around asyncio and pymongo: tasks, sessions and the state of each client."""
