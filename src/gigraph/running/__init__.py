"""How a job is run: its arguments, log, GPU and end. Imported by the scripts and the rules only."""
