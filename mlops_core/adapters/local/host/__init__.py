"""
The local Functions host: runs what a `FunctionApp` registered, read from the app object itself.

It knows nothing of Headrace's domain. Where it differs from the genuine host: one process and one instance; keys are
asked for only when it was given some (it binds to loopback); HTTP, Event Grid, queue and timer triggers only, anything
else is refused at the start.
"""
