"""What happened: recording, the run directory, joins and attribution."""
