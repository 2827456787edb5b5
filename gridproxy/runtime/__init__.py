"""What asyncio and pymongo need from this package: tasks, sessions, state for each client."""
