"""What several tests share: jobs and members that are driven by hand, simulated or real, and files to try."""
