"""Start a whole cluster on this machine, watch it, end it, and leave a record of the run."""
