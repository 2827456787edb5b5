"""The suite on other implementations of MongoDB's protocol than the embedded server: `python -m tests.servers`."""
