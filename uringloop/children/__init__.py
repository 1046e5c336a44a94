"""Child processes: started without stalling the loop."""
