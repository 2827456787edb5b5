"""How fast this package is, beside pymongo's and Motor's GridFS buckets: `python -m tests.benchmarks`.

| file | what |
|---|---|
| `__main__.py` | the command: what is measured, printed and written |
| `work.py` | the kinds of work that are timed, in turns |
| `streaming.py` | memory, loop stalls and CPU of a long stream, each in a process of its own |
| `interface.py` | what every contender can do |
| `contenders.py` | ours, pymongo's and Motor's buckets |
| `ceiling.py` | the driver alone: what can be reached through it |
| `servers.py` | the server, at a distance |
| `stub.py` | a server that answers at once: what remains is the client's cost |
| `wire.py` | the same bytes through a plain socket: everybody's ceiling |
| `results.py` | rows, the goals beside them, the table |
| `plot.py` | the picture |
"""
