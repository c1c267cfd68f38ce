"""
Predict how diabetes progresses within a year.

One module per step of the pipeline (prepare, train, evaluate, register), and `table` for what they share.
"""
