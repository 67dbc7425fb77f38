"""What runs on a GPU, beside the same on a CPU; started by hand where there is one."""
