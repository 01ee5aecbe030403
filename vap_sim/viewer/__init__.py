"""Looking at dreams: videos, sheets, and later replay and teleoperation."""
