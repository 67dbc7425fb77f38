"""What two finished runs say differently: their concepts matched, then what these do for classes and for each other."""
