"""What ``psctl chaos`` does: harms a job's processes at random times, as a bad night would, and says what it did."""
