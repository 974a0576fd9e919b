"""Monitor: what people and Prometheus see of a running job.

One process asks the scheduler once a second for its status and makes a snapshot of it; ``psctl top``, the live page
and ``/metrics`` show that snapshot, however many look, and the scheduler does no more for them.
"""
