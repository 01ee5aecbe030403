"""Real video to prompts: cameras, alignment of drawn robots with pictures, hands."""
