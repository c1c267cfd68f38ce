"""One small module per trigger or kind of event: parse, translate, call, answer. `events.py` has the table of the events."""
