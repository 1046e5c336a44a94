"""One application in each framework: /loop, /echo, /bytes?count=N, /static/ and /events?count=N; no N is endless."""
