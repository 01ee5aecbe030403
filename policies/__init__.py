"""Who chooses actions: scripted, learned, planning, remote; and how they are scored."""
