"""What ``psctl doctor`` looks at: one host, or a cluster, and what to do about what is wrong."""
