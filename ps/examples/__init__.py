"""Training scripts to run and to copy: ``psctl run -s 2 -w 4 -m ps.examples.digits``."""
