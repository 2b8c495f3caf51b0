"""The resident process: observe, decide, act, report. Standard library and ec2_metadata only."""
