"""Every file of a run: where it lies, its schema, how it is read and written."""
