"""The GridFS engine: bytes in, bytes out. It knows no proxies and no documents."""
